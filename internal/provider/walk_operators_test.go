package provider

import (
	"context"
	"errors"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What operators do in a walk: at random, and to give in to a refusal.

// forget takes the object out of the state; a flag is then as if it were kept.
func (w *walker) forget(r refusal) {
	w.t.Logf("forgetting %s", r.address)
	w.d.forget(r.address)
	w.kept[r.key] = true
}

// yield lets operators take away what stands in the way of the block.
func (w *walker) yield(address string) {
	ref := addressed(w.declared, address).ref()
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

// operate lets operators do something: what the server refuses them is fine.
func (w *walker) operate(when string, most int) {
	for range rapid.IntRange(0, most).Draw(w.t, "deeds "+when) {
		key := flag.Key(w.prefix + rapid.SampledFrom(walkKeys).Draw(w.t, "at key"))
		entity := rapid.SampledFrom(walkEntities).Draw(w.t, "at entity")
		holder := rapid.SampledFrom([]string{"ops-anna", "ops-bob"}).Draw(w.t, "by")
		f := walkFlag{}
		for _, n := range []*int{&f.kind, &f.def, &f.val, &f.state, &f.layer, &f.description} {
			*n = rapid.IntRange(0, 2).Draw(w.t, "other")
		}
		c := walkConfig{flags: [walkFlags]walkFlag{f}}
		other := c.flagBlock(0, string(key), false).want
		if mine := w.look().Flag(key); mine != nil && rapid.Bool().Draw(w.t, "a little") {
			little := *mine
			little.Description += "!"
			other = &little
		}
		set := &flag.Override{FlagKey: key, EntityID: entity, State: flag.Default}
		if def, _ := f.values(); f.val > 0 {
			set.State, set.Value = flag.Enabled, mustValue(walkKinds[f.kind], def)
		}
		deeds := []struct {
			name    string
			changes []flag.Change
		}{
			{"change", []flag.Change{flag.Put(other)}},
			{"archive", []flag.Change{remove(flag.ArchiveFlag, flag.FlagRef(key))}},
			{"delete", []flag.Change{remove(flag.DeleteFlag, flag.FlagRef(key))}},
			{"recreate", []flag.Change{remove(flag.DeleteFlag, flag.FlagRef(key)), flag.Put(other)}},
			{"restore", []flag.Change{remove(flag.RestoreFlag, flag.FlagRef(key))}},
			{"kill", []flag.Change{kill(string(key), holder)}},
			{"release", []flag.Change{remove(flag.ReleaseHold, flag.HoldRef(key, holder))}},
			{"release Terraform's hold", []flag.Change{remove(flag.ReleaseHold, flag.HoldRef(key, rapid.SampledFrom([]string{"terraform", "terraform/two"}).Draw(w.t, "of")))}},
			{"set an override", []flag.Change{flag.Put(set)}},
			{"remove an override", []flag.Change{remove(flag.RemoveOverride, flag.OverrideRef(key, entity))}},
		}
		deed := rapid.SampledFrom(deeds).Draw(w.t, "deed")
		for _, change := range deed.changes {
			before := w.look().Revision.Number
			written, err := w.people.Write(context.Background(), change)
			if p, ok := errors.AsType[*flag.Problem](err); err != nil && !ok || ok && p.Kind == flag.ProblemInternal {
				w.t.Fatalf("%s: %v", deed.name, err)
			}
			w.t.Logf("%s: %s %s (%s %s): %v", when, deed.name, key, entity, holder, err)
			if err != nil || written.Revision.Number == before {
				break // refused, or so already
			}
			w.touched[key], w.drifting[key] = true, true
			if change.Ref.Kind == flag.KindFlag {
				w.rewritten[key] = true
			}
			switch change.Op {
			case flag.PlaceHold:
				w.held[change.Ref] = true
			case flag.ReleaseHold:
				delete(w.held, change.Ref)
			default:
			}
		}
	}
}
