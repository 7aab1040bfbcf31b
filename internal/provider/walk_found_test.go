package provider

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

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

// failsOnce is a provider whose first destroy does not reach the server.
type failsOnce struct {
	tfprotov6.ProviderServer
	failed *bool
}

func (f failsOnce) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	if gone, err := req.PlannedState.IsNull(); err != nil || !gone || *f.failed {
		return f.ProviderServer.ApplyResourceChange(ctx, req)
	}
	*f.failed = true
	return &tfprotov6.ApplyResourceChangeResponse{
		NewState: req.PriorState, Private: req.PlannedPrivate,
		Diagnostics: []*tfprotov6.Diagnostic{{Severity: tfprotov6.DiagnosticSeverityError, Summary: "the network broke"}},
	}, nil
}

// A replacement that was cut off before it destroyed the old object leaves that
// for the next apply, which must not take the new flag away for it.
func TestLeftOverOfACutReplacement(t *testing.T) {
	t.Parallel()
	c, anna := newMiniature(t, "w")
	config := payBlocks("bunting_flag.f", nil)
	config[0].createFirst = true
	c.apply(c.plan(config, coreMode{})).must(t)
	config[0].attrs["default_value"] = cty.StringVal("x")
	failed := false
	c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer { return failsOnce{p, &failed} }
	if got := c.apply(c.plan(config, coreMode{})).fails(t); got.Summary != "the network broke" {
		t.Fatalf("got %s", got)
	}
	c.apply(c.plan(config, coreMode{})).must(t)
	if f := anna.sees("pay"); f.Archived() || f.Type != flag.String {
		t.Errorf("the server has %+v", f)
	}
	c.agrees(t, config)
}

// The same where somebody makes the flag anew before the old object is destroyed:
// then what is left over and what took its place are one flag.
func TestLeftOverOfARecreatedFlag(t *testing.T) {
	t.Parallel()
	c, anna := newMiniature(t, "w")
	config := payBlocks("bunting_flag.f", nil)
	config[0].createFirst = true
	c.apply(c.plan(config, coreMode{})).must(t)
	config[0].attrs["default_value"] = cty.StringVal("x")
	c.before = func(_, doing string) {
		if doing == coreDelete {
			anew := *anna.sees("pay")
			anew.Description = "anna's"
			anna.does(remove(flag.DeleteFlag, flag.FlagRef("pay")), flag.Put(&anew))
			c.before = nil
		}
	}
	c.apply(c.plan(config, coreMode{})).fails(t)
	c.apply(c.plan(config, coreMode{})).must(t)
	if f := anna.sees("pay"); f.Archived() || f.Description != "one" {
		t.Errorf("the server has %+v", f)
	}
	c.agrees(t, config)
}

// A block that was renamed, and whose old object could not be destroyed then,
// must not take the object of the new block away in the next apply.
func TestLeftOverOfARenamedBlock(t *testing.T) {
	t.Parallel()
	override := func(name string) []coreBlock {
		return append(payBlocks("bunting_flag.f", nil), coreBlock{
			address: "bunting_override." + name, after: []string{"bunting_flag.f"},
			attrs: coreAttrs{"flag_key": cty.StringVal("pay"), "entity_id": cty.StringVal("u"), "value": cty.NumberIntVal(2)},
		})
	}
	for name, block := range map[string]func(name string) []coreBlock{
		"flag":     func(name string) []coreBlock { return payBlocks("bunting_flag."+name, nil) },
		"override": override,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, anna := newMiniature(t, "w")
			c.apply(c.plan(block("old"), coreMode{})).must(t)
			failed := false
			c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer { return failsOnce{p, &failed} }
			c.apply(c.plan(block("new"), coreMode{})).fails(t)
			c.apply(c.plan(block("new"), coreMode{})).must(t)
			if f := anna.sees("pay"); f.Archived() || name == "override" && anna.seesOverride("pay", "u") == nil {
				t.Errorf("the server has %+v, with the override %+v", f, anna.seesOverride("pay", "u"))
			}
			c.agrees(t, block("new"))
		})
	}
}

// A replacement with another key must not archive a version of the old flag that
// its plan has not shown: core plans the destroy once more during apply.
func TestReplacementOfAChangedFlag(t *testing.T) {
	t.Parallel()
	c, anna := newMiniature(t, "w")
	config := payBlocks("bunting_flag.f", nil)
	config[0].createFirst = true
	c.apply(c.plan(config, coreMode{})).must(t)
	config[0].attrs["key"] = cty.StringVal("other")
	p := c.plan(config, coreMode{})
	anna.does(anna.changes("pay", func(f *flag.Flag) { f.Description = "anna's" }))
	c.apply(p).fails(t)
	if f := anna.sees("pay"); f.Archived() {
		t.Errorf("the server has %+v", f)
	}
	c.apply(c.plan(config, coreMode{})).must(t)
	if f := anna.sees("pay"); !f.Archived() {
		t.Errorf("the server has %+v", f)
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

// An override that says nothing of its flag's present type is set anew, also
// where none is configured and the state was refreshed before.
func TestPassedOverOverrideIsSetAnewLater(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]cty.Value{"without a value": cty.NilVal, "with a value": cty.NumberIntVal(2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, anna := newMiniature(t, "")
			override := coreBlock{address: "bunting_override.o", after: []string{"bunting_flag.f"}, attrs: coreAttrs{"flag_key": cty.StringVal("pay"), "entity_id": cty.StringVal("u")}}
			want := flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Default}
			if value != cty.NilVal {
				override.attrs["value"] = value
				want.State, want.Value = flag.Enabled, flag.IntValue(2)
			}
			config := append(payBlocks("bunting_flag.f", nil), override)
			c.apply(c.plan(config, coreMode{})).must(t)
			back := anna.changes("pay", func(*flag.Flag) {})
			two, err := flag.DoubleValue(2)
			if err != nil {
				t.Fatal(err)
			}
			anna.does(
				anna.changes("pay", func(f *flag.Flag) { f.Type, f.Default = flag.Double, two }),
				flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: two}),
				back,
			)
			c.state = c.plan(config, coreMode{}).state // as apply -refresh-only
			c.apply(c.plan(config, coreMode{})).must(t)
			if o := anna.seesOverride("pay", "u"); !o.SameDefinition(&want) {
				t.Errorf("the server has %+v", o)
			}
			c.agrees(t, config)
		})
	}
}

// Where a replacement under another key was cut off, an address has two objects, and
// who forgets it forgets both: what is left over must then be accounted for as well.
func TestForgettingWhatACutReplacementLeft(t *testing.T) {
	t.Parallel()
	flags := walkConfig{}
	flags.flags[0] = walkFlag{declared: true, first: true}
	flags.flags[1] = walkFlag{declared: true, key: 1, layer: 1}
	overrides := flags
	overrides.overrides[0] = walkOverride{declared: true, first: true, flag: 1}
	otherKey, otherEntity := flags, overrides
	otherKey.flags[0].key = 2
	otherEntity.overrides[0].entity = 1
	for name, tc := range map[string]struct {
		address       string
		before, after walkConfig
		// let is what is declared when people let go; nil: they forget the object that
		// took the other's place.
		let *walkConfig
	}{
		"a flag is forgotten":           {"bunting_flag.f0", flags, otherKey, nil},
		"an override is forgotten":      {"bunting_override.o0", overrides, otherEntity, nil},
		"people let a flag go":          {"bunting_flag.f0", flags, otherKey, &walkConfig{}},
		"people let an override go":     {"bunting_override.o0", overrides, otherEntity, &flags},
		"people let an old flag go":     {"bunting_flag.f0", flags, otherKey, &otherKey},
		"people let an old override go": {"bunting_override.o0", overrides, otherEntity, &otherEntity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			people := newClient(t, server, server.NamedToken(t, "people", "", "admin"))
			var walks atomic.Int64
			rapid.Check(t, func(rt *rapid.T) {
				if walks.Add(1) > 1 {
					return // of rapid's 100: nothing is drawn
				}
				c := newCore(rt, server.Endpoint, server.AdminToken, "w")
				w := newWalker(rt, &coreDriver{core: c}, people, "w/")
				w.owned = true
				w.settle(tc.before, false)
				failed := false
				c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer { return failsOnce{p, &failed} }
				c.apply(c.plan(coreBlocks(tc.after.blocks(w.prefix, false)), coreMode{})).fails(t)
				if !deposed(w.d.objects(), tc.address) {
					rt.Fatalf("the state has %+v", w.d.objects())
				}
				config := tc.after
				if tc.let != nil {
					config = *tc.let
				}
				w.declared, w.had = config.blocks(w.prefix, false), w.d.objects()
				if tc.let != nil {
					w.letGo()
				} else {
					w.forget(refusal{address: tc.address, ref: addressed(w.declared, tc.address).ref()})
				}
				if deposed(w.d.objects(), tc.address) {
					rt.Fatalf("the state still has %+v", w.d.objects())
				}
				w.settle(config, false)
				w.agree()
			})
		})
	}
}
