package provider

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
)

// The actions of a plan, as `terraform plan -json` names them.
const (
	coreNoop, coreCreate, coreUpdate, coreReplace, coreDelete = "noop", "create", "update", "replace", "delete"
)

// corePlan is a saved plan.
type corePlan struct {
	outcome
	config  []coreBlock
	changes []*coreChange
	state   coreState // refreshed; the apply starts with it
}

// coreChange is what is planned for one object.
type coreChange struct {
	key           coreKey
	action        string
	createFirst   bool // of a replacement: the new object before the old is destroyed
	before, after cty.Value
	private       []byte
	identity      *tfprotov6.ResourceIdentityData // planned
}

// plan refreshes the state and plans the configuration.
func (c *core) plan(config []coreBlock, mode coreMode) *corePlan {
	c.t.Helper()
	p := c.planOnce(config, mode, c.state)
	if !mode.destroy || p.code != 0 {
		return p
	}
	return c.planOnce(nil, coreMode{noRefresh: true}, p.state) // as core does: a whole plan first, for its refresh
}

func (c *core) planOnce(config []coreBlock, mode coreMode, state coreState) *corePlan {
	c.t.Helper()
	w, end := c.walk(state)
	defer end()
	p := &corePlan{config: config}
	if w.code == 0 {
		if cycle := c.visit(w.planNodes(p, mode)); cycle != "" {
			c.t.Fatalf("the configuration refers to itself: %s", cycle)
		}
	}
	p.outcome, p.state = w.outcome, w.state
	return p
}

// planNodes gives a node for each block, after what it refers to, and one for
// each object that no block declares.
func (w *coreWalk) planNodes(p *corePlan, mode coreMode) []*coreNode {
	w.t.Helper()
	var nodes []*coreNode
	declared := map[string]*coreNode{}
	for i := range p.config {
		b := &p.config[i]
		n := &coreNode{name: b.address, after: map[*coreNode]bool{}, run: func() bool {
			change := w.planBlock(p, b, mode)
			return change == nil || w.planned(p, change)
		}}
		if declared[b.address] != nil {
			w.t.Fatalf("%s is declared twice", b.address)
		}
		declared[b.address] = n
		nodes = append(nodes, n)
	}
	for i := range p.config {
		for _, address := range p.config[i].after {
			if declared[address] == nil {
				w.t.Fatalf("%s refers to %s, which no block declares", p.config[i].address, address)
			}
			nodes[i].follow(declared[address])
		}
	}
	for _, key := range w.state.keys() {
		if key.deposed == 0 && declared[key.address] != nil {
			continue
		}
		nodes = append(nodes, &coreNode{name: key.address + " (orphan)", after: map[*coreNode]bool{}, run: func() bool {
			return w.planOrphan(p, key, mode)
		}})
	}
	return nodes
}

// keys gives the keys in order, of an address the current object first.
func (s coreState) keys() []coreKey {
	return slices.SortedFunc(maps.Keys(s), func(a, b coreKey) int {
		return cmp.Or(cmp.Compare(a.address, b.address), cmp.Compare(a.deposed, b.deposed))
	})
}

// planOrphan plans that an object of which there is no block goes.
func (w *coreWalk) planOrphan(p *corePlan, key coreKey, mode coreMode) bool {
	w.t.Helper()
	read := func() (o *coreObject, ok bool) {
		if mode.noRefresh {
			return w.state[key], true
		}
		return w.refreshed(key)
	}
	if w.orphansFirst && key.deposed == 0 {
		change, ok := w.planDestroy(key, w.state[key])
		if !ok {
			return false
		}
		if o, ok := read(); o == nil {
			return ok
		}
		return w.planned(p, change)
	}
	o, ok := read()
	if o == nil {
		return ok
	}
	change, ok := w.planDestroy(key, o)
	return ok && w.planned(p, change)
}

func (w *coreWalk) planned(p *corePlan, change *coreChange) bool {
	p.changes = append(p.changes, change)
	if change.action != coreNoop {
		w.actions[change.key.address] = change.action
	}
	return true
}

// planBlock refreshes a block's object and plans its change; nil after an error.
func (w *coreWalk) planBlock(p *corePlan, b *coreBlock, mode coreMode) *coreChange {
	w.t.Helper()
	key := coreKey{b.address, 0}
	o := w.state[key]
	forced := w.createFirst(p, b)
	if o != nil && !mode.noRefresh {
		var ok bool
		if o, ok = w.refreshed(key); !ok {
			return nil
		}
	}
	if o != nil {
		kept := *o
		kept.createFirst, kept.after = forced, union(p.follows(b), o.after)
		o = &kept
		w.state[key] = o
	}
	change, ok := w.planChange(b, o, w.object(w.schemas[b.kind()], b.attrs, b.later), forced, slices.Contains(mode.replace, b.address))
	if !ok {
		return nil
	}
	return change
}

// createFirst tells whether a block is create_before_destroy: by itself, or
// because one that refers to it is, or was when it was still declared.
func (w *coreWalk) createFirst(p *corePlan, b *coreBlock) bool {
	if b.createFirst {
		return true
	}
	declared := map[string]bool{}
	for _, o := range p.config {
		declared[o.address] = true
		if o.createFirst && slices.Contains(p.follows(&o), b.address) {
			return true
		}
	}
	for key, o := range w.state {
		if !declared[key.address] && o.createFirst && slices.Contains(o.after, b.address) {
			return true
		}
	}
	return false
}

// follows gives everything that a block refers to, directly or not.
func (p *corePlan) follows(b *coreBlock) []string {
	all := slices.Clone(b.after)
	for i := 0; i < len(all); i++ {
		for j := range p.config {
			if p.config[j].address == all[i] {
				all = union(all, p.config[j].after)
			}
		}
	}
	return all
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// refreshed reads the object of the key anew, into the walk's state.
func (w *coreWalk) refreshed(key coreKey) (*coreObject, bool) {
	w.t.Helper()
	o, ok := w.refresh(key.address, w.state[key])
	switch {
	case !ok:
	case o == nil:
		delete(w.state, key)
	default:
		w.state[key] = o
	}
	return o, ok
}

// refresh reads an object anew; nil when it is gone.
func (w *coreWalk) refresh(address string, o *coreObject) (*coreObject, bool) {
	w.t.Helper()
	s := w.schemas[coreKind(address)]
	resp, err := w.ReadResource(context.Background(), &tfprotov6.ReadResourceRequest{
		TypeName: coreKind(address), CurrentState: w.wire(s, w.load(address, o)), Private: o.private, CurrentIdentity: o.identity,
	})
	w.called(err)
	if !w.tell(address, resp.Diagnostics) {
		return nil, false
	}
	v := w.value(s, resp.NewState)
	if !v.IsWhollyKnown() {
		return nil, w.keeps(address, "Provider produced invalid object", []string{"the state that was read has unknown values"})
	}
	if v.IsNull() {
		return nil, true
	}
	read := *o
	read.private, read.identity = resp.Private, resp.NewIdentity
	return w.save(address, v, read), true
}

// planChange plans one object towards its configuration, as core does while
// planning and again during apply. There is no object yet where o is nil, and one
// to be replaced where it is tainted.
func (w *coreWalk) planChange(b *coreBlock, o *coreObject, config cty.Value, createFirst, replace bool) (*coreChange, bool) {
	w.t.Helper()
	s := w.schemas[b.kind()]
	valid, err := w.ValidateResourceConfig(context.Background(), &tfprotov6.ValidateResourceConfigRequest{TypeName: b.kind(), Config: w.wire(s, config)})
	w.called(err)
	if !w.tell(b.address, valid.Diagnostics) {
		return nil, false
	}
	prior, tainted := w.load(b.address, o), o != nil && o.tainted
	var private []byte
	var identity *tfprotov6.ResourceIdentityData
	if tainted {
		prior = cty.NullVal(s.typ)
	} else if o != nil {
		private, identity = o.private, o.identity
	}
	resp := w.askPlan(b, prior, config, private, identity)
	if !w.tell(b.address, resp.Diagnostics) {
		return nil, false
	}
	planned := w.value(s, resp.PlannedState)
	if !w.keeps(b.address, "Provider produced invalid plan", planBroken(s, prior, config, planned)) {
		return nil, false
	}
	change := &coreChange{key: coreKey{b.address, 0}, createFirst: createFirst, before: prior}
	eq := planned.Equals(prior)
	switch {
	case prior.IsNull():
		change.action = coreCreate
	case replace || slices.ContainsFunc(resp.RequiresReplace, replaces(prior, planned)):
		change.action = coreReplace
		resp = w.askPlan(b, cty.NullVal(s.typ), config, resp.PlannedPrivate, resp.PlannedIdentity)
		if hasError(resp.Diagnostics) { // its warnings were told already
			w.tell(b.address, resp.Diagnostics)
			return nil, false
		}
		planned = w.value(s, resp.PlannedState)
	case eq.IsKnown() && eq.True():
		change.action = coreNoop
	default:
		change.action = coreUpdate
	}
	if tainted {
		change.action, change.before = coreReplace, w.load(b.address, o)
	}
	change.after, change.private, change.identity = planned, resp.PlannedPrivate, resp.PlannedIdentity
	return change, true
}

func (w *coreWalk) askPlan(b *coreBlock, prior, config cty.Value, private []byte, identity *tfprotov6.ResourceIdentityData) *tfprotov6.PlanResourceChangeResponse {
	w.t.Helper()
	s := w.schemas[b.kind()]
	resp, err := w.PlanResourceChange(context.Background(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: b.kind(), PriorState: w.wire(s, prior), Config: w.wire(s, config), ProposedNewState: w.wire(s, proposed(s, prior, config)),
		PriorPrivate: private, PriorIdentity: identity,
	})
	w.called(err)
	return resp
}

func hasError(diags []*tfprotov6.Diagnostic) bool {
	return slices.ContainsFunc(diags, func(d *tfprotov6.Diagnostic) bool { return d.Severity == tfprotov6.DiagnosticSeverityError })
}

// planDestroy plans that an object goes.
func (w *coreWalk) planDestroy(key coreKey, o *coreObject) (*coreChange, bool) {
	w.t.Helper()
	s := w.schemas[coreKind(key.address)]
	null, prior := cty.NullVal(s.typ), w.load(key.address, o)
	resp, err := w.PlanResourceChange(context.Background(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: coreKind(key.address), PriorState: w.wire(s, prior), Config: w.wire(s, null), ProposedNewState: w.wire(s, null),
		PriorPrivate: o.private, PriorIdentity: o.identity,
	})
	w.called(err)
	if !w.tell(key.address, resp.Diagnostics) {
		return nil, false
	}
	if planned := w.value(s, resp.PlannedState); !planned.IsNull() {
		return nil, w.keeps(key.address, "Provider produced invalid plan", []string{"planned a non-null destroy value"})
	}
	return &coreChange{
		key: key, action: coreDelete, createFirst: o.createFirst || key.deposed != 0,
		before: prior, after: null, private: resp.PlannedPrivate, identity: resp.PlannedIdentity,
	}, true
}
