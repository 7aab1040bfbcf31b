package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"github.com/zclconf/go-cty/cty/msgpack"
)

// core is Terraform core in miniature, speaking the protocol to the provider in
// this process: a plan and its apply take milliseconds. It does what the real one
// does (state as JSON between walks, a provider configured anew for each walk, the
// change planned again during apply, destroying in reverse order) and checks what
// the real one checks, so that "Provider produced inconsistent result after apply"
// and its like are found here. What it leaves out: expressions, modules, data
// sources, provisioners, -target.
//
//	c := newCore(t, server.Endpoint, server.AdminToken, "")
//	config := []coreBlock{
//		{address: "bunting_flag.f", attrs: coreAttrs{"key": cty.StringVal("pay"), "default_value": cty.False}},
//		{address: "bunting_override.o", attrs: coreAttrs{…}, after: []string{"bunting_flag.f"}},
//	}
//	plan := c.plan(config, coreMode{})
//	plan.must(t)           // an outcome, as the CLI's: actions by address, diagnostics
//	anna.does(…)           // between plan and apply
//	c.apply(plan).must(t)
//	c.plan(nil, coreMode{}) // every block is gone: destroys
type core struct {
	t       failer
	setting coreAttrs // the provider's configuration
	schemas map[string]*coreSchema
	state   coreState

	// before, when set, is called before each write of an apply, as in "during
	// apply"; doing is create, update or delete.
	before func(address, doing string)
	// choose, when set, picks which of n nodes that could be next is visited: core
	// visits them at the same time. Without it the first.
	choose func(n int) int
	// orphansFirst plans the destruction of what no block declares before it is
	// refreshed, as Terraform 1.11 does and later ones and OpenTofu do not.
	orphansFirst bool
	// wrap, when set, stands between core and the provider.
	wrap func(tfprotov6.ProviderServer) tfprotov6.ProviderServer

	deposals int
}

// failer is what a *testing.T and a *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// coreAttrs are attributes by name; what is left out is null.
type coreAttrs map[string]cty.Value

// coreBlock is one resource of a configuration.
type coreBlock struct {
	address     string    // like bunting_flag.pay
	attrs       coreAttrs // as the configuration says
	later       coreAttrs // the same, but known only during apply
	after       []string  // addresses that it refers to
	createFirst bool      // create_before_destroy
}

func (b *coreBlock) kind() string { return coreKind(b.address) }

func coreKind(address string) string { kind, _, _ := strings.Cut(address, "."); return kind }

// coreMode is how a plan is made.
type coreMode struct {
	destroy   bool // plan -destroy
	noRefresh bool // -refresh=false
	replace   []string
}

// coreState is a state file: objects by address, and those that a
// create-before-destroy has left to be destroyed.
type coreState map[coreKey]*coreObject

type coreKey struct {
	address string
	deposed int // 0: the current object
}

// coreObject is an object as the state file has it. It is never changed.
type coreObject struct {
	json        []byte
	private     []byte
	identity    *tfprotov6.ResourceIdentityData
	tainted     bool
	createFirst bool
	after       []string // what it referred to when it was written
}

// coreSchema is a schema with its type as core has types.
type coreSchema struct {
	block *tfprotov6.SchemaBlock
	typ   cty.Type
}

func newCore(t failer, endpoint, token, workspace string) *core {
	t.Helper()
	c := &core{t: t, state: coreState{}, schemas: map[string]*coreSchema{}}
	c.setting = coreAttrs{"endpoint": cty.StringVal(endpoint), "token": cty.StringVal(token)}
	if workspace != "" {
		c.setting["workspace"] = cty.StringVal(workspace)
	}
	declared, err := providerserver.NewProtocol6(&buntingProvider{})().GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatalf("get the schema: %v", err)
	}
	c.schemas[""] = c.schema(declared.Provider)
	for kind, schema := range declared.ResourceSchemas {
		c.schemas[kind] = c.schema(schema)
	}
	return c
}

func (c *core) schema(from *tfprotov6.Schema) *coreSchema {
	c.t.Helper()
	text, err := json.Marshal(from.ValueType())
	if err != nil {
		c.t.Fatalf("write the type of a schema: %v", err)
	}
	typ, err := ctyjson.UnmarshalType(text)
	if err != nil {
		c.t.Fatalf("read the type of a schema: %v", err)
	}
	for _, a := range from.Block.Attributes {
		if len(from.Block.BlockTypes) > 0 || a.NestedType != nil && a.Computed || a.WriteOnly {
			c.t.Fatalf("the schema has nested blocks, computed nested attributes or write-only ones, which this core does not know: %s", a.Name)
		}
	}
	return &coreSchema{block: from.Block, typ: typ}
}

// coreWalk is one walk through a graph. It has a provider of its own.
type coreWalk struct {
	*core
	tfprotov6.ProviderServer
	outcome
	state coreState // as far as this walk has come
}

// walk configures a provider for a walk that starts with the state. Without a
// provider the walk is over, and its outcome says why.
func (c *core) walk(state coreState) (w *coreWalk, end func()) {
	c.t.Helper()
	// With Terraform each walk is a process, which shares nothing with another; here
	// the version keeps them apart.
	p := &buntingProvider{version: "0.0.0-test." + rand.Text()}
	w = &coreWalk{core: c, ProviderServer: providerserver.NewProtocol6(p)(), state: maps.Clone(state)}
	if c.wrap != nil {
		w.ProviderServer = c.wrap(w.ProviderServer)
	}
	w.actions = map[string]string{}
	config := c.object(c.schemas[""], c.setting, nil)
	resp, err := w.ConfigureProvider(context.Background(), &tfprotov6.ConfigureProviderRequest{TerraformVersion: "1.11.4", Config: c.wire(c.schemas[""], config)})
	w.called(err)
	w.tell("", resp.Diagnostics)
	return w, p.Close
}

// called ends the test on an error of the protocol itself: a crash of the provider.
func (c *core) called(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("the provider failed: %v", err)
	}
}

// tell takes diagnostics up, and reports whether there was no error among them.
func (w *coreWalk) tell(address string, diags []*tfprotov6.Diagnostic) bool {
	ok := true
	for _, d := range diags {
		severity := "warning"
		if d.Severity == tfprotov6.DiagnosticSeverityError {
			severity, ok = "error", false
		}
		w.add(told{severity, d.Summary, d.Detail, address})
	}
	return ok
}

func (w *coreWalk) add(d told) {
	w.diags = append(w.diags, d)
	w.text += d.Address + ": " + d.String() + "\n"
	if d.Severity == "error" {
		w.code = 1
	}
}

// keeps tells of the rules of core that the provider broke, and reports whether
// there are none.
func (w *coreWalk) keeps(address, summary string, broken []string) bool {
	for _, b := range broken {
		w.add(told{"error", summary, b, address})
	}
	return len(broken) == 0
}

// object gives a value of the schema with the attributes, each of its type. Those
// in later are unknown.
func (c *core) object(s *coreSchema, with, later coreAttrs) cty.Value {
	c.t.Helper()
	members := map[string]cty.Value{}
	for name, typ := range s.typ.AttributeTypes() {
		members[name] = cty.NullVal(typ)
	}
	for name, value := range with {
		typed, err := convert.Convert(value, members[name].Type())
		if err != nil {
			c.t.Fatalf("attribute %s: %v", name, err)
		}
		members[name] = typed
	}
	for name := range later {
		members[name] = cty.UnknownVal(members[name].Type())
	}
	return cty.ObjectVal(members)
}

func (c *core) wire(s *coreSchema, v cty.Value) *tfprotov6.DynamicValue {
	c.t.Helper()
	packed, err := msgpack.Marshal(v, s.typ)
	if err != nil {
		c.t.Fatalf("write a value: %v", err)
	}
	return &tfprotov6.DynamicValue{MsgPack: packed}
}

// value reads what the provider answered; null where it answered nothing.
func (c *core) value(s *coreSchema, d *tfprotov6.DynamicValue) cty.Value {
	c.t.Helper()
	if d == nil {
		return cty.NullVal(s.typ)
	}
	v, err := msgpack.Unmarshal(d.MsgPack, s.typ)
	if err != nil {
		c.t.Fatalf("read a value of the provider: %v", err)
	}
	return v
}

// load reads an object of the state as a new process does.
func (w *coreWalk) load(address string, o *coreObject) cty.Value {
	w.t.Helper()
	s := w.schemas[coreKind(address)]
	if o == nil {
		return cty.NullVal(s.typ)
	}
	resp, err := w.UpgradeResourceState(context.Background(), &tfprotov6.UpgradeResourceStateRequest{TypeName: coreKind(address), RawState: &tfprotov6.RawState{JSON: o.json}})
	w.called(err)
	if !w.tell(address, resp.Diagnostics) {
		w.t.Fatalf("%s: the state cannot be read: %s\n%s", address, w.text, o.json)
	}
	return w.value(s, resp.UpgradedState)
}

// save writes a value as the state file has it, with the rest of the object.
func (c *core) save(address string, v cty.Value, o coreObject) *coreObject {
	c.t.Helper()
	var err error
	if o.json, err = ctyjson.Marshal(v, c.schemas[coreKind(address)].typ); err != nil {
		c.t.Fatalf("%s: the state cannot be written: %v", address, err)
	}
	return &o
}

// attr gives an attribute of the current object at the address, as the state has
// it; cty.NilVal where there is no object.
func (c *core) attr(address, name string) cty.Value {
	o := c.state[coreKey{address, 0}]
	if o == nil {
		return cty.NilVal
	}
	v, err := ctyjson.Unmarshal(o.json, c.schemas[coreKind(address)].typ)
	if err != nil {
		c.t.Fatalf("%s: %v", address, err)
	}
	return v.GetAttr(name)
}

// imports takes what is on the server into the state, as `terraform import` does.
func (c *core) imports(b coreBlock, id string) outcome {
	c.t.Helper()
	w, end := c.walk(c.state)
	defer end()
	if w.state[coreKey{b.address, 0}] != nil {
		w.add(told{"error", "Resource already managed by Terraform", id, b.address})
	}
	if w.code != 0 {
		return w.outcome
	}
	resp, err := w.ImportResourceState(context.Background(), &tfprotov6.ImportResourceStateRequest{TypeName: b.kind(), ID: id})
	w.called(err)
	if !w.tell(b.address, resp.Diagnostics) {
		return w.outcome
	}
	if len(resp.ImportedResources) != 1 {
		c.t.Fatalf("importing %q gave %d objects", id, len(resp.ImportedResources))
	}
	got := resp.ImportedResources[0]
	s := c.schemas[b.kind()]
	o, ok := w.refresh(b.address, c.save(b.address, c.value(s, got.State), coreObject{private: got.Private, identity: got.Identity, after: b.after}))
	if ok && o == nil {
		w.add(told{"error", "Cannot import non-existent remote object", id, b.address})
	}
	if w.code == 0 {
		w.state[coreKey{b.address, 0}] = o
		c.state = w.state
	}
	return w.outcome
}

// forget takes an object out of the state, with what was deposed, as `terraform
// state rm` does.
func (c *core) forget(address string) {
	maps.DeleteFunc(c.state, func(key coreKey, _ *coreObject) bool { return key.address == address })
}

// coreNode is a step of a walk. It runs when those that it is after are done; if
// one of them failed it does not, and counts as failed.
type coreNode struct {
	name  string
	after map[*coreNode]bool
	run   func() bool // false: failed
}

func (n *coreNode) follow(others ...*coreNode) {
	for _, o := range others {
		if o != nil && o != n {
			n.after[o] = true
		}
	}
}

// visit runs the nodes in an order that suits them all. Where there is none it
// runs none, and names those that wait for each other.
func (c *core) visit(nodes []*coreNode) (cycle string) {
	if waiting := c.order(nodes, func(*coreNode) {}, func(int) int { return 0 }); len(waiting) > 0 {
		return nodeNames(waiting)
	}
	choose := c.choose
	if choose == nil {
		choose = func(int) int { return 0 }
	}
	failed := map[*coreNode]bool{}
	c.order(nodes, func(n *coreNode) {
		for o := range n.after {
			failed[n] = failed[n] || failed[o]
		}
		failed[n] = failed[n] || !n.run()
	}, choose)
	return ""
}

// order goes through the nodes, each after those that it is after, and gives the
// ones that it did not get to.
func (c *core) order(nodes []*coreNode, do func(*coreNode), choose func(n int) int) []*coreNode {
	done := map[*coreNode]bool{}
	for waiting := slices.Clone(nodes); ; {
		var ready []int
		for i, n := range waiting {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(n.after)), func(o *coreNode) bool { return !done[o] }) {
				ready = append(ready, i)
			}
		}
		if len(ready) == 0 {
			return waiting
		}
		i := ready[0]
		if len(ready) > 1 {
			i = ready[choose(len(ready))]
		}
		n := waiting[i]
		waiting = slices.Delete(waiting, i, i+1)
		do(n)
		done[n] = true
	}
}

func nodeNames(nodes []*coreNode) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.name)
	}
	return strings.Join(names, ", ")
}
