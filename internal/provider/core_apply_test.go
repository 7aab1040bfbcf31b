package provider

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
)

// apply applies a plan. What became of the state is kept, whatever went wrong.
func (c *core) apply(p *corePlan) outcome {
	c.t.Helper()
	if p.code != 0 {
		c.t.Fatalf("a plan with errors cannot be applied:\n%s", p.text)
	}
	w, end := c.walk(p.state)
	defer end()
	w.actions = p.actions
	if w.code == 0 {
		if cycle := c.visit(w.applyNodes(p)); cycle != "" { // the real core ends so, too
			w.add(told{Severity: "error", Summary: "Cycle: " + cycle})
		}
	}
	c.state = w.state
	return w.outcome
}

// coreStep is a node of an apply: one that makes or changes, or one that destroys.
type coreStep struct {
	*coreNode
	change  *coreChange
	refers  []string // addresses that the object or its configuration refers to
	destroy bool
	// createFirst turns the order of a destroyer and what would come after it.
	createFirst bool
}

// applyNodes gives the steps in the order that core gives them: after what a
// block refers to, after the destruction of what went before, destruction in
// reverse, and with create_before_destroy the other way around.
func (w *coreWalk) applyNodes(p *corePlan) []*coreNode {
	w.t.Helper()
	var makers, destroyers []*coreStep
	maker := map[string]*coreStep{}
	for _, change := range p.changes {
		var refers []string
		if o := p.state[change.key]; o != nil {
			refers = o.after
		}
		i := slices.IndexFunc(p.config, func(b coreBlock) bool { return b.address == change.key.address })
		deposed := new(int) // where this replacement puts the old object
		if change.action != coreDelete {
			b := &p.config[i]
			s := &coreStep{coreNode: &coreNode{name: b.address, after: map[*coreNode]bool{}}, change: change, refers: union(refers, p.follows(b))}
			s.run = func() bool { return w.make(p, b, change, deposed) }
			makers, maker[b.address] = append(makers, s), s
		}
		if change.action == coreDelete || change.action == coreReplace {
			s := &coreStep{coreNode: &coreNode{name: change.key.address + " (destroy)", after: map[*coreNode]bool{}}, change: change, refers: refers, destroy: true, createFirst: change.createFirst}
			s.run = func() bool { return w.destroy(change, *deposed) }
			destroyers = append(destroyers, s)
		}
	}
	for _, s := range makers {
		i := slices.IndexFunc(p.config, func(b coreBlock) bool { return b.address == s.name })
		for _, address := range p.follows(&p.config[i]) {
			if m := maker[address]; m != nil {
				s.follow(m.coreNode)
			}
		}
	}
	order := func(first, then *coreStep) {
		if first.destroy && first.createFirst && !then.destroy {
			first, then = then, first
		}
		then.follow(first.coreNode)
	}
	for _, d := range destroyers {
		for _, m := range makers {
			own, works := m.change.key.address == d.change.key.address, m.change.action != coreNoop
			if own || works && slices.Contains(m.refers, d.change.key.address) {
				order(d, m)
			}
			if !own && works && slices.Contains(d.refers, m.change.key.address) {
				order(d, m)
			}
		}
		for _, other := range destroyers {
			if other != d && slices.Contains(d.refers, other.change.key.address) {
				other.follow(d.coreNode)
			}
		}
	}
	var nodes []*coreNode
	for _, s := range slices.Concat(makers, destroyers) {
		nodes = append(nodes, s.coreNode)
	}
	return nodes
}

// make creates or changes an object: it plans once more, now that everything is
// known, and applies that if it is what was planned.
func (w *coreWalk) make(p *corePlan, b *coreBlock, change *coreChange, deposed *int) bool {
	w.t.Helper()
	if change.action == coreNoop {
		return true
	}
	key := change.key
	if old := w.state[key]; change.action == coreReplace && change.createFirst && old != nil {
		w.deposals++
		*deposed = w.deposals
		w.state[coreKey{b.address, *deposed}] = old
		delete(w.state, key)
	}
	ok := w.makeNow(p, b, change)
	if old := w.state[coreKey{b.address, *deposed}]; !ok && *deposed != 0 && w.state[key] == nil {
		w.state[key] = old
		delete(w.state, coreKey{b.address, *deposed})
	}
	return ok
}

func (w *coreWalk) makeNow(p *corePlan, b *coreBlock, change *coreChange) bool {
	w.t.Helper()
	all := maps.Clone(b.attrs)
	maps.Copy(all, b.later)
	o, s := w.state[change.key], w.schemas[b.kind()]
	config := w.object(s, all, nil)
	now, ok := w.planChange(b, o, config, change.createFirst, false)
	if !ok {
		return false
	}
	action := now.action
	if change.action == coreReplace && action == coreCreate {
		action = coreReplace // the old object is gone from the state by now
	}
	broken := compatible(change.after, now.after, "")
	if action != change.action && (change.action != coreUpdate || action != coreNoop) {
		broken = append(broken, "the planned action changed from "+change.action+" to "+action)
	}
	if !w.keeps(b.address, "Provider produced inconsistent final plan", broken) {
		return false
	}
	if action == coreNoop {
		return true
	}
	doing := coreCreate
	if action == coreUpdate {
		doing = coreUpdate
	} else {
		now.before = cty.NullVal(s.typ)
	}
	kept, ok := w.applyChange(doing, now, config, o)
	if kept != nil {
		kept.after, kept.createFirst = p.follows(b), change.createFirst
		kept.tainted = kept.tainted || !ok && action == coreCreate
	}
	w.put(change.key, kept)
	return ok
}

// destroy destroys an object, or the one that its replacement has deposed.
func (w *coreWalk) destroy(change *coreChange, deposed int) bool {
	w.t.Helper()
	key := change.key
	if deposed != 0 {
		key.deposed = deposed
	}
	o := w.state[key]
	if o == nil {
		return true
	}
	gone := *change
	gone.after = cty.NullVal(w.schemas[coreKind(key.address)].typ)
	if key.deposed != 0 { // core plans it once more
		again, ok := w.planDestroy(key, o)
		if !ok {
			return false
		}
		gone = *again
	}
	kept, ok := w.applyChange(coreDelete, &gone, gone.after, o)
	w.put(key, kept)
	return ok
}

func (w *coreWalk) put(key coreKey, o *coreObject) {
	if o == nil {
		delete(w.state, key)
		return
	}
	w.state[key] = o
}

// applyChange lets the provider make the change of the object (nil: there is none
// in the state), and gives what is in the state now.
func (w *coreWalk) applyChange(doing string, change *coreChange, config cty.Value, o *coreObject) (*coreObject, bool) {
	w.t.Helper()
	address := change.key.address
	kind, s := coreKind(address), w.schemas[coreKind(address)]
	if w.before != nil {
		w.before(address, doing)
	}
	resp, err := w.ApplyResourceChange(context.Background(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: kind, PriorState: w.wire(s, change.before), PlannedState: w.wire(s, change.after), Config: w.wire(s, config),
		PlannedPrivate: change.private, PlannedIdentity: change.identity,
	})
	w.called(err)
	ok := w.tell(address, resp.Diagnostics)
	v := w.value(s, resp.NewState)
	if !v.IsWhollyKnown() {
		ok = w.keeps(address, "Provider returned invalid result object after apply", []string{"unknown values are left"})
		v = cty.UnknownAsNull(v)
	}
	if ok && doing != coreDelete {
		ok = w.keeps(address, "Provider produced inconsistent result after apply", compatible(change.after, v, ""))
	}
	if ok && (doing == coreDelete) != v.IsNull() {
		ok = w.keeps(address, "Provider returned invalid result object after apply", []string{"after " + doing + " the object is " + v.GoString()})
	}
	if v.IsNull() {
		if ok {
			return nil, true
		}
		return o, false
	}
	kept := coreObject{private: resp.Private, identity: resp.NewIdentity}
	if o != nil {
		kept.after, kept.createFirst = o.after, o.createFirst
		kept.tainted = o.tainted && !ok
	}
	return w.save(address, v, kept), ok
}
