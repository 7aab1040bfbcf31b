package provider

import (
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What random walks have found, each as small as it could be made.

func newMiniature(t *testing.T, workspace string) (*core, operator) {
	t.Helper()
	server := buntingtest.Start(t)
	return newCore(t, server.Endpoint, server.AdminToken, workspace), newOperator(t, server, "anna")
}

// agrees asks for an empty plan.
func (c *core) agrees(t *testing.T, config []coreBlock) {
	t.Helper()
	if p := c.plan(config, coreMode{}); p.code != 0 || len(p.actions) > 0 {
		t.Fatalf("the plan is not empty: %v\n%s", p.actions, p.text)
	}
}

// Terraform 1.11 plans that a flag goes before it reads whether it is there: what
// is gone needs no protection.
func TestProtectedFlagThatIsGone(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]flag.Op{"deleted": flag.DeleteFlag, "archived": flag.ArchiveFlag} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, anna := newMiniature(t, "")
			c.orphansFirst = true
			c.apply(c.plan(payBlocks("bunting_flag.f", coreAttrs{"deletion_protection": cty.True}), coreMode{})).must(t)
			anna.does(remove(op, flag.FlagRef("pay")))
			c.apply(c.plan(nil, coreMode{})).must(t)
			c.agrees(t, nil)
		})
	}
}

// Allowed values that do not fit the type so far say that it changes, where the
// default value is not known until apply.
func TestAllowedValuesOfAnotherType(t *testing.T) {
	t.Parallel()
	c, _ := newMiniature(t, "")
	c.apply(c.plan(payBlocks("bunting_flag.f", coreAttrs{"default_value": cty.True}), coreMode{})).must(t)
	half := cty.NumberFloatVal(0.5)
	config := payBlocks("bunting_flag.f", coreAttrs{"default_value": half, "allowed_values": cty.TupleVal([]cty.Value{half, cty.NumberIntVal(1)})})
	config[0].later = coreAttrs{"default_value": half}
	p := c.plan(config, coreMode{})
	p.must(t)
	if p.actions["bunting_flag.f"] != coreReplace {
		t.Errorf("planned %v", p.actions)
	}
	c.apply(p).must(t)
	config[0].later = nil
	c.agrees(t, config)
}
