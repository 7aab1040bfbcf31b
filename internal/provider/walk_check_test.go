package provider

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What must hold after every apply of a walk.

// gone tells whether a plan will see that the object is not there.
func (w *walker) gone(o stateObject) bool {
	is := w.truth.Object(o.ref())
	switch o.ref().Kind {
	case flag.KindFlag:
		return is == nil || w.truth.Flag(o.ref().Key).Archived()
	case flag.KindOverride:
		return is == nil
	default:
		return false // a kill switch is there without a hold
	}
}

// look gives what the server has under the walk's prefix.
func (w *walker) look() *flag.Snapshot {
	s, err := w.snapshot()
	if err != nil {
		w.t.Fatalf("look: %v", err)
	}
	return s
}

func (w *walker) snapshot() (*flag.Snapshot, error) {
	return w.people.Snapshot(context.Background(), flag.Key(strings.TrimSuffix(w.prefix, "/")))
}

// untouched checks what no apply may do: lift an operator's hold, or take a flag
// away that its plan has not named.
func (w *walker) untouched(before *flag.Snapshot, was []stateObject, actions map[string]string) {
	now := w.look()
	for ref := range w.held {
		if now.Object(ref) == nil {
			w.t.Fatalf("the apply lifted %s, an operator's", ref)
		}
	}
	for f := range before.Flags("") {
		is := now.Flag(f.Key)
		if f.Archived() || w.touched[f.Key] || is != nil && !is.Archived() {
			continue
		}
		named := slices.ContainsFunc(was, func(o stateObject) bool {
			action := actions[o.Address]
			return o.ref() == f.Ref() && (action == coreDelete || action == coreReplace || action != "" && deposed(was, o.Address))
		})
		if !named {
			w.t.Fatalf("flag %s is gone or archived, which the plan %v did not name", f.Key, actions)
		}
	}
	for _, o := range was {
		if _, alive := actions[o.Address]; alive && o.OnDestroy == destroyKeep {
			w.kept[flag.Key(o.Key)] = true
		}
	}
}

// unlost checks that what operators wrote between plan and apply, and not once
// more during it, is as they wrote it: no plan has shown that.
func (w *walker) unlost(before *flag.Snapshot, unseen map[flag.Ref]bool) {
	now := w.look()
	for ref := range unseen {
		was, is := before.Object(ref), now.Object(ref)
		if was == nil || w.rewritten[ref] {
			continue
		}
		switch f := before.Flag(ref.Key); ref.Kind {
		case flag.KindFlag:
			if f.Archived() {
				continue // declaring it restores it
			}
		default:
			if still := now.Flag(ref.Key); f == nil || still == nil || still.Stamp().Created != f.Stamp().Created {
				continue // it went with its flag
			}
		}
		if is == nil || is.Stamp().Revision != was.Stamp().Revision {
			w.t.Fatalf("the apply overwrote %s, which had been changed since its plan: %+v, now %+v", ref, was, is)
		}
	}
}

// unreleased checks that no hold was released by destroying its switch, unless it
// was told to.
func (w *walker) unreleased(before *flag.Snapshot, was []stateObject, actions map[string]string) {
	now := w.look()
	for _, o := range was {
		ref := o.ref()
		if ref.Kind != flag.KindHold || !o.Engaged || o.ReleaseOnDestroy || actions[o.Address] != coreDelete || w.touched[ref.Key] {
			continue
		}
		if before.Object(ref) != nil && now.Object(ref) == nil {
			w.t.Fatalf("destroying %s released %s", o.Address, ref)
		}
	}
}

// agree checks that the server has what is declared, and nothing else that is
// managed.
func (w *walker) agree() {
	now := w.look()
	declared := map[flag.Ref]bool{}
	for _, b := range w.declared {
		if b.want == nil {
			continue
		}
		declared[b.want.Ref()] = true
		is := now.Object(b.want.Ref())
		// What operators made anew, or archived and restored, is Terraform's again
		// with the next write only.
		if is == nil || is.Manager() == "" && is.Stamp().OwnerID != "" {
			w.t.Fatalf("%s is declared, but the server has %+v", b.address, is)
		}
		if !w.same(b, is, now) {
			w.t.Fatalf("%s declares %+v, but the server has %+v", b.address, b.want, is)
		}
	}
	check := func(o flag.Object) {
		if o.Manager() != "" && !declared[o.Ref()] && (o.Ref().Kind != flag.KindFlag || !w.kept[o.Ref().Key]) {
			w.t.Fatalf("the server has %+v, which is managed but not declared", o)
		}
	}
	for f := range now.Flags("") {
		check(f)
	}
	for o := range now.Overrides("") {
		check(o)
	}
	for h := range now.Holds("") {
		check(h)
	}
}

// same compares what is declared with what there is. A type that is not declared
// may be any that the values fit: it depends on what it was.
func (w *walker) same(b walkBlock, is flag.Object, now *flag.Snapshot) bool {
	as := func(typ flag.Type, v cty.Value) flag.Value {
		if v == cty.NilVal {
			return flag.Value{}
		}
		text, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
		if err != nil {
			w.t.Fatalf("%#v: %v", v, err)
		}
		value, err := flag.ParseValue(typ, string(text))
		if err != nil {
			w.t.Fatalf("the server's type is %s, but %s is declared: %v", typ, text, err)
		}
		return value
	}
	switch want := b.want.(type) {
	case *flag.Flag:
		f, ok := is.(*flag.Flag)
		if !ok || f.Archived() {
			return false
		}
		again := *want
		if b.attrs["type"] == cty.NilVal {
			again.Type, again.Default, again.Value = f.Type, as(f.Type, b.attrs["default_value"]), as(f.Type, b.attrs["value"])
			again.AllowedValues = nil
			if list := b.attrs["allowed_values"]; list != cty.NilVal {
				for _, v := range list.AsValueSlice() {
					again.AllowedValues = append(again.AllowedValues, as(f.Type, v))
				}
			}
		}
		again = again.Normalize()
		return again.SameDefinition(f)
	case *flag.Override:
		o, ok := is.(*flag.Override)
		again := *want
		if f := now.Flag(want.FlagKey); f != nil {
			again.Value = as(f.Type, b.attrs["value"])
		}
		return ok && again.SameDefinition(o)
	case *flag.Hold:
		h, ok := is.(*flag.Hold)
		return ok && want.SameDefinition(h) && h.StandsAt(time.Now())
	}
	return false
}
