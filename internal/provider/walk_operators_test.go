package provider

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What operators do in a walk: at random, and to give in to a refusal.

// forget takes the objects of the address out of the state: beside the refused one
// there is another where a replacement has left one over. A flag is then as if it
// were kept; what else goes with the refused one people take away.
func (w *walker) forget(r refusal) {
	w.t.Logf("forgetting %s", r.address)
	objects := w.d.objects()
	w.d.forget(r.address)
	w.kept[r.ref.Key] = true
	for _, o := range objects {
		switch ref := o.ref(); {
		case o.Address != r.address || ref == r.ref:
		case ref.Kind == flag.KindFlag:
			w.kept[ref.Key] = true
		default:
			w.takeAway(ref)
		}
	}
}

// yield lets operators take away what stands in the way of the block.
func (w *walker) yield(address string) { w.takeAway(addressed(w.declared, address).ref()) }

// letGo lets operators take away what no block declares any more, what a replacement
// has left over too, and forgets the addresses.
func (w *walker) letGo() {
	gone := map[string]bool{}
	for _, o := range w.had {
		b := addressed(w.declared, o.Address)
		if b != nil && !deposed(w.had, o.Address) {
			continue
		}
		gone[o.Address] = true
		if b == nil || b.ref() != o.ref() { // else it is taken in again
			w.takeAway(o.ref())
		}
	}
	for address := range gone {
		w.d.forget(address)
	}
}

func (w *walker) takeAway(ref flag.Ref) {
	op := map[flag.Kind]flag.Op{flag.KindFlag: flag.ArchiveFlag, flag.KindOverride: flag.RemoveOverride, flag.KindHold: flag.ReleaseHold}[ref.Kind]
	_, err := w.people.Write(context.Background(), remove(op, ref))
	w.t.Logf("operators: %s %s: %v", op, ref, err)
	w.drifting[ref.Key] = true
	if p, ok := errors.AsType[*flag.Problem](err); err != nil && (!ok || p.Kind != flag.ProblemNotFound) {
		w.t.Fatalf("%s %s: %v", op, ref, err)
	}
}

// free lets operators take away what keeps a flag from being deleted, or a kill
// switch from being destroyed.
func (w *walker) free(key flag.Key) {
	now := w.look()
	w.drifting[key] = true
	free := func(op flag.Op, ref flag.Ref) {
		w.t.Logf("operators free %s of %s", key, ref)
		if _, err := w.people.Write(context.Background(), remove(op, ref)); err != nil {
			w.t.Fatalf("free %s of %s: %v", key, ref, err)
		}
		delete(w.held, ref)
	}
	for h := range now.HoldsOf(key) {
		free(flag.ReleaseHold, h.Ref())
	}
	for o := range now.OverridesOf(key) {
		free(flag.RemoveOverride, o.Ref())
	}
}

// takeIn imports what stands in the way of the block at the address.
func (w *walker) takeIn(address string) {
	b := addressed(w.declared, address)
	if b == nil || b.want == nil {
		w.t.Fatalf("nothing to import for %s", address)
	}
	switch is := w.look().Object(b.want.Ref()).(type) {
	case nil:
		return // the same apply has taken it away by now
	case *flag.Flag:
		if is.Archived() {
			return
		}
	}
	if o := w.d.imports(b.coreBlock, b.want.Ref().String()); o.code != 0 {
		w.t.Fatalf("import %s by %q: %s", address, b.want.Ref(), o.text)
	}
}

// deed is what an operator does to the flag of a key, or to what belongs to it.
type deed struct {
	name string
	key  flag.Key
	// changes gives what is to be written, given what there is.
	changes func(have *flag.Snapshot) []flag.Change
}

// deeds draws what operators do.
func (w *walker) deeds(when string, most int) []deed {
	all := make([]deed, evenly(most+1).Draw(w.t, "deeds "+when))
	for i := range all {
		all[i] = w.deed()
	}
	return all
}

func (w *walker) deed() deed {
	key := flag.Key(w.prefix + oneOf(w.t, "at key", walkKeys...))
	entity := oneOf(w.t, "at entity", walkEntities...)
	holder := oneOf(w.t, "by", "ops-anna", "ops-bob")
	terraforms := oneOf(w.t, "of", "terraform", "terraform/two")
	f := walkFlag{}
	for _, n := range []*int{&f.kind, &f.def, &f.val, &f.state, &f.layer, &f.description} {
		*n = evenly(3).Draw(w.t, "other")
	}
	little := rapid.Bool().Draw(w.t, "a little")
	other := func(have *flag.Snapshot) flag.Change {
		if mine := have.Flag(key); mine != nil && little {
			changed := *mine
			changed.Description += "!"
			return flag.Put(&changed)
		}
		c := walkConfig{flags: [walkFlags]walkFlag{f}}
		return flag.Put(c.flagBlock(0, string(key), false).want)
	}
	set := &flag.Override{FlagKey: key, EntityID: entity, State: flag.Default}
	if def, _ := f.values(); f.val > 0 {
		set.State, set.Value = flag.Enabled, mustValue(walkKinds[f.kind], def)
	}
	one := func(name string, change flag.Change) deed {
		return deed{name, key, func(*flag.Snapshot) []flag.Change { return []flag.Change{change} }}
	}
	return oneOf(w.t, "deed", []deed{
		{"change", key, func(have *flag.Snapshot) []flag.Change { return []flag.Change{other(have)} }},
		one("archive", remove(flag.ArchiveFlag, flag.FlagRef(key))),
		one("delete", remove(flag.DeleteFlag, flag.FlagRef(key))),
		{"recreate", key, func(have *flag.Snapshot) []flag.Change {
			return []flag.Change{remove(flag.DeleteFlag, flag.FlagRef(key)), other(have)}
		}},
		one("restore", remove(flag.RestoreFlag, flag.FlagRef(key))),
		one("kill", kill(string(key), holder)),
		one("release", remove(flag.ReleaseHold, flag.HoldRef(key, holder))),
		one("release Terraform's hold", remove(flag.ReleaseHold, flag.HoldRef(key, terraforms))),
		one("set an override", flag.Put(set)),
		one("remove an override", remove(flag.RemoveOverride, flag.OverrideRef(key, entity))),
	}...)
}

// operate lets operators do something.
func (w *walker) operate(when string, most int) {
	for _, d := range w.deeds(when, most) {
		if err := w.act(when, d); err != nil {
			w.t.Fatalf("%v", err)
		}
	}
}

// stepsIn lets operators do the deeds during an apply through the middleman: each
// just before the first write at its flag arrives.
func (w *walker) stepsIn(between *middleman, deeds []deed, apply func() outcome) outcome {
	var mu sync.Mutex // guards the walker while calls arrive
	var failed error
	armed := map[flag.Key]intervention{}
	for _, d := range deeds {
		armed[d.key] = intervention{when: func(a asked) bool { return a.op != 0 }, do: func() {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, w.act("during the apply", d))
		}}
	}
	between.arm(armed)
	applied := apply()
	between.arm(nil)
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		w.t.Fatalf("%v", failed)
	}
	return applied
}

// act does a deed. What the server refuses people is fine.
func (w *walker) act(when string, d deed) error {
	have, err := w.snapshot()
	if err != nil {
		return err
	}
	for _, change := range d.changes(have) {
		written, err := w.people.Write(context.Background(), change)
		w.t.Logf("%s: %s: %s %s: %v", when, d.name, change.Op, change.Ref, err)
		if p, ok := errors.AsType[*flag.Problem](err); ok && p.Kind != flag.ProblemInternal {
			return nil // refused
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if written.Revision.Number == have.Revision.Number {
			return nil // so already
		}
		have.Revision = written.Revision
		w.touched[d.key], w.drifting[d.key] = true, true
		w.rewritten[change.Ref] = true
		switch change.Op {
		case flag.PlaceHold:
			w.held[change.Ref] = true
		case flag.ReleaseHold:
			delete(w.held, change.Ref)
		default:
		}
	}
	return nil
}
