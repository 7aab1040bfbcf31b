package provider

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/msgpack"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// liar is a provider that alters what the true one answers.
type liar struct {
	tfprotov6.ProviderServer
	c     *core
	plans int
	// Each alters the value of a bunting_flag, or gives it back as it is.
	read, planned, applied func(plan int, v cty.Value) cty.Value
}

func (l *liar) alter(by func(int, cty.Value) cty.Value, kind string, d *tfprotov6.DynamicValue) *tfprotov6.DynamicValue {
	s := l.c.schemas[kind]
	if by == nil || kind != "bunting_flag" || d == nil {
		return d
	}
	v, err := msgpack.Unmarshal(d.MsgPack, s.typ)
	if err != nil || v.IsNull() {
		return d
	}
	return l.c.wire(s, by(l.plans, v))
}

func (l *liar) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	resp, err := l.ProviderServer.ReadResource(ctx, req)
	resp.NewState = l.alter(l.read, req.TypeName, resp.NewState)
	return resp, err
}

func (l *liar) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	resp, err := l.ProviderServer.PlanResourceChange(ctx, req)
	l.plans++
	resp.PlannedState = l.alter(l.planned, req.TypeName, resp.PlannedState)
	return resp, err
}

func (l *liar) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	resp, err := l.ProviderServer.ApplyResourceChange(ctx, req)
	resp.NewState = l.alter(l.applied, req.TypeName, resp.NewState)
	return resp, err
}

func with(v cty.Value, name string, to cty.Value) cty.Value {
	members := v.AsValueMap()
	members[name] = to
	return cty.ObjectVal(members)
}

func always(name string, to cty.Value) func(int, cty.Value) cty.Value {
	return func(_ int, v cty.Value) cty.Value { return with(v, name, to) }
}

func payBlocks(address string, more coreAttrs) []coreBlock {
	a := coreAttrs{"key": cty.StringVal("pay"), "default_value": cty.NumberIntVal(1), "description": cty.StringVal("one"), "layer": cty.StringVal("user")}
	maps.Copy(a, more)
	return []coreBlock{{address: address, attrs: a}}
}

// A check that cannot fail is none: each lie of a provider is caught, with the
// words of the real core, and without the lie everything passes.
func TestCoreCatchesLies(t *testing.T) {
	t.Parallel()
	const final, result, invalidPlan = "Provider produced inconsistent final plan", "Provider produced inconsistent result after apply", "Provider produced invalid plan"
	two := cty.StringVal("two")
	for name, row := range map[string]struct {
		lie  liar
		want string
	}{
		"the truth":                                {},
		"a planned value that is not configured":   {lie: liar{planned: always("description", two)}, want: invalidPlan},
		"a planned null for what is configured":    {lie: liar{planned: always("description", cty.NullVal(cty.String))}, want: invalidPlan},
		"a planned unknown for what is configured": {lie: liar{planned: always("layer", cty.UnknownVal(cty.String))}, want: invalidPlan},
		"a planned value for what is neither":      {lie: liar{planned: always("owner", two)}, want: invalidPlan},
		"another plan during apply":                {lie: liar{planned: onSecond("type", cty.StringVal("double"))}, want: final},
		"a result other than configured":           {lie: liar{applied: always("description", two)}, want: result},
		"a result of another type":                 {lie: liar{applied: always("default_value", cty.StringVal("1"))}, want: result},
		"a result that has become null":            {lie: liar{applied: always("layer", cty.NullVal(cty.String))}, want: result},
		"a result where nothing was planned":       {lie: liar{applied: always("tags", cty.SetVal([]cty.Value{two}))}, want: result},
		"an unknown result":                        {lie: liar{applied: always("killed", cty.UnknownVal(cty.Bool))}, want: "Provider returned invalid result object after apply"},
		"a null result":                            {lie: liar{applied: func(_ int, v cty.Value) cty.Value { return cty.NullVal(v.Type()) }}, want: result},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			c := newCore(t, server.Endpoint, server.AdminToken, "")
			seen := 0 // plans of both walks
			c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer {
				l := row.lie
				l.ProviderServer, l.c, l.plans = p, c, seen
				seen++
				return &l
			}
			plan := c.plan(payBlocks("bunting_flag.f", nil), coreMode{})
			o := plan.outcome
			if o.code == 0 {
				o = c.apply(plan)
			}
			if row.want == "" {
				o.must(t)
				return
			}
			if got := o.fails(t); got.Summary != row.want || got.Address != "bunting_flag.f" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// onSecond lies in the second walk.
func onSecond(name string, to cty.Value) func(int, cty.Value) cty.Value {
	return func(plan int, v cty.Value) cty.Value {
		if plan < 2 {
			return v
		}
		return with(v, name, to)
	}
}

// What is read must be known.
func TestCoreCatchesAnUnknownRead(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCore(t, server.Endpoint, server.AdminToken, "")
	c.apply(c.plan(payBlocks("bunting_flag.f", nil), coreMode{})).must(t)
	c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer {
		return &liar{ProviderServer: p, c: c, read: always("killed", cty.UnknownVal(cty.Bool))}
	}
	if got := c.plan(payBlocks("bunting_flag.f", nil), coreMode{}).fails(t); got.Summary != "Provider produced invalid object" {
		t.Errorf("got %s", got)
	}
}

// What is planned must be there after apply, and what was unknown may be
// anything of its type.
func TestCompatible(t *testing.T) {
	t.Parallel()
	one, two, text, null := cty.NumberIntVal(1), cty.NumberIntVal(2), cty.StringVal("1"), cty.NullVal(cty.Number)
	list := func(v ...cty.Value) cty.Value { return cty.ListVal(v) }
	set := func(v ...cty.Value) cty.Value { return cty.SetVal(v) }
	object := func(v cty.Value) cty.Value { return cty.ObjectVal(map[string]cty.Value{"a": v}) }
	for name, row := range map[string]struct {
		planned, actual cty.Value
		ok              bool
	}{
		"the same":                  {one, one, true},
		"another number":            {one, two, false},
		"another type":              {one, text, false},
		"null for a value":          {one, null, false},
		"a value for null":          {null, one, false},
		"unknown for a value":       {one, cty.UnknownVal(cty.Number), false},
		"a value for unknown":       {cty.UnknownVal(cty.Number), one, true},
		"null for unknown":          {cty.UnknownVal(cty.Number), null, true},
		"another type for unknown":  {cty.UnknownVal(cty.Number), text, false},
		"anything for any unknown":  {cty.DynamicVal, object(one), true},
		"null for one that is not":  {cty.UnknownVal(cty.Number).RefineNotNull(), null, false},
		"a list":                    {list(one, two), list(one, two), true},
		"a list in another order":   {list(one, two), list(two, one), false},
		"a shorter list":            {list(one, two), list(one), false},
		"a longer list":             {list(one), list(one, two), false},
		"an element that is known":  {list(cty.UnknownVal(cty.Number)), list(two), true},
		"a tuple for a list":        {list(one), cty.TupleVal([]cty.Value{one}), false},
		"a set in another order":    {set(one, two), set(two, one), true},
		"another element of a set":  {set(one), set(two), false},
		"one element more":          {set(one), set(one, two), false},
		"an object":                 {object(one), object(one), true},
		"another part of an object": {object(one), object(two), false},
	} {
		if got := compatible(row.planned, row.actual, ""); (len(got) == 0) != row.ok {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// The state is what the real core would have after the same run, failed ones too.
func TestCoreRuns(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCore(t, server.Endpoint, server.AdminToken, "w")
	var wrote []string
	c.before = func(address, doing string) { wrote = append(wrote, doing+" "+address) }
	does := func(config []coreBlock, mode coreMode, want ...string) {
		t.Helper()
		wrote = nil
		p := c.plan(config, mode)
		p.must(t)
		c.apply(p).must(t)
		if !slices.Equal(wrote, want) {
			t.Errorf("it did %q, want %q", wrote, want)
		}
		if !mode.destroy {
			if p := c.plan(config, coreMode{}); p.code != 0 || len(p.actions) > 0 {
				t.Fatalf("the plan is not empty: %v\n%s", p.actions, p.text)
			}
		}
	}
	override := coreBlock{
		address: "bunting_override.o", after: []string{"bunting_flag.f"},
		attrs: coreAttrs{"flag_key": cty.StringVal("pay"), "entity_id": cty.StringVal("u"), "value": cty.NumberIntVal(2)},
	}
	config := append([]coreBlock{override}, payBlocks("bunting_flag.f", nil)...)
	does(config, coreMode{}, "create bunting_flag.f", "create bunting_override.o")
	if got := c.attr("bunting_flag.f", "type"); got != cty.StringVal("int") {
		t.Errorf("the type is %#v", got)
	}
	config[1].attrs["description"] = cty.StringVal("two")
	does(config, coreMode{}, "update bunting_flag.f")
	both := coreMode{replace: []string{"bunting_flag.f", "bunting_override.o"}}
	does(config, both, "delete bunting_override.o", "delete bunting_flag.f", "create bunting_flag.f", "create bunting_override.o")
	config[0].createFirst = true // and so its flag is
	does(config, both, "create bunting_flag.f", "create bunting_override.o", "delete bunting_override.o", "delete bunting_flag.f")

	// A failed create leaves nothing in the state, a failed update and a failed
	// delete leave what was.
	more := coreBlock{address: "bunting_flag.g", attrs: coreAttrs{"key": cty.StringVal("taken"), "default_value": cty.True}}
	anna.does(flag.Put(boolFlag("taken")))
	wrote = nil
	config[1].attrs["description"] = cty.StringVal("three")
	p := c.plan(append([]coreBlock{more}, config...), coreMode{})
	anna.does(anna.changes("pay", func(f *flag.Flag) { f.Owner = "anna" }))
	o := c.apply(p)
	if errs := o.of("error"); len(errs) != 2 || !strings.Contains(errs[0].Detail, "is taken") || !strings.Contains(errs[1].Detail, "changed by anna") {
		t.Errorf("got %s", o.text)
	}
	if got := c.attr("bunting_flag.f", "description"); got != cty.StringVal("two") || c.attr("bunting_flag.g", "key") != cty.NilVal {
		t.Errorf("after failures the state has %#v and %v", got, c.state)
	}
	config[1].attrs["description"] = cty.StringVal("two")
	c.imports(more, "taken").must(t)
	config = append(config, more)
	does(config, coreMode{}, "update bunting_flag.f", "update bunting_flag.g") // takes over, removes anna's owner
	c.forget("bunting_flag.g")
	if c.attr("bunting_flag.g", "key") != cty.NilVal {
		t.Error("it was not forgotten")
	}
	c.imports(more, "taken").must(t)
	does(config, coreMode{destroy: true}, "delete bunting_flag.g", "delete bunting_override.o", "delete bunting_flag.f")
	if len(c.state) != 0 || !anna.sees("pay").Archived() {
		t.Errorf("after destroying, the state has %v", c.state)
	}
}
