package provider

import (
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What is read while planning only to warn early keeps no plan waiting, and its
// failure is told by the apply alone.
func TestPlanningWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	newOperator(t, server, "anna").does(flag.Put(&flag.Flag{Key: "pay", Type: flag.Bool, Default: flag.BoolValue(false), Layer: "user"}))
	proxy := newFaultyProxy(t, server)
	c := newCore(t, proxy.URL, server.AdminToken, "")
	// A hang costs as much, and what must succeed has it on a busy machine, too; the plan would wait for readTimeout.
	c.setting["request_timeout"] = cty.StringVal("3s")
	c.setting["retry"] = cty.ObjectVal(map[string]cty.Value{"attempts": cty.NumberIntVal(1), "requests_per_second": cty.NullVal(cty.Number)})
	config := []coreBlock{block(t, "bunting_override.o", `{"flag_key": "pay", "entity_id": "u", "value": false}`, "")}
	plan := func(fault string, config []coreBlock, action string) {
		t.Helper()
		proxy.fails(greeting, proxy.named(t, fault))
		begin := time.Now()
		p := c.plan(config, coreMode{noRefresh: true})
		p.must(t)
		if took := time.Since(begin); took > readTimeout/2 || len(p.diags) > 0 || p.actions["bunting_override.o"] != action {
			t.Errorf("%s: after %s it plans %v and says %v", fault, took, p.actions, p.diags)
		}
		if proxy.count("GetSnapshot") != 1 {
			t.Errorf("%s: the fault was not met once: %v", fault, proxy.asked())
		}
	}
	for _, fault := range []string{"hanging", "429 for longer than there is"} {
		plan(fault, config, coreCreate)
	}
	proxy.fails("", nil)
	created := c.plan(config, coreMode{})
	created.must(t)
	c.apply(created).must(t)
	for _, fault := range []string{"hanging", "429 for longer than there is"} {
		plan(fault, nil, coreDelete)
	}
}
