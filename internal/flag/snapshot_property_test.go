package flag_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// model is what a snapshot must hold.
type model map[flag.Ref]flag.Object

// Names that are each other's prefixes, and that sort between a key and what lies
// under it.
var (
	keys = rapid.SampledFrom([]flag.Key{"a", "a-b", "a.b", "a/b", "a/b/c", "a/bc", "ab", "b", "b/a", "c"})
	ids  = rapid.SampledFrom([]string{" ", "a", "a/b", "b", "b:c", "é", "z"})
	refs = rapid.Custom(func(t *rapid.T) flag.Ref {
		switch key := keys.Draw(t, "key"); rapid.SampledFrom([]flag.Kind{flag.KindFlag, flag.KindOverride, flag.KindHold}).Draw(t, "kind") {
		case flag.KindOverride:
			return flag.OverrideRef(key, ids.Draw(t, "entity"))
		case flag.KindHold:
			return flag.HoldRef(key, ids.Draw(t, "holder"))
		default:
			return flag.FlagRef(key)
		}
	})
)

// made is an object of the name, another one each time.
func made(ref flag.Ref) flag.Object {
	switch ref.Kind {
	case flag.KindOverride:
		return &flag.Override{FlagKey: ref.Key, EntityID: ref.ID}
	case flag.KindHold:
		return &flag.Hold{FlagKey: ref.Key, Holder: ref.ID, Expired: expired(ref)}
	default:
		return &flag.Flag{Key: ref.Key}
	}
}

// expired are the holds of some holders, who come before and after the others.
func expired(ref flag.Ref) bool { return len(ref.ID) == 1 }

// edits are some steps; the bulk of objects beside the drawn names makes trees of
// several levels, from which a step may take much.
var edits = rapid.Custom(func(t *rapid.T) (all []flag.Edit) {
	remove := rapid.Bool().Draw(t, "remove")
	bulk := rapid.IntRange(0, 300).Draw(t, "bulk")
	first := rapid.IntRange(0, 300).Draw(t, "first")
	for _, ref := range rapid.SliceOfN(refs, 0, 30).Draw(t, "refs") {
		edit := flag.Edit{Ref: ref}
		if !remove || rapid.Bool().Draw(t, "put") {
			edit.Object = made(ref)
		}
		all = append(all, edit)
	}
	for i := range bulk {
		name := "n" + string(rune('0'+(first+i)%7)) + strings.Repeat("x", (first+i)%301)
		edit := flag.Edit{Ref: flag.OverrideRef("a/b", name)}
		if (first+i)%2 == 0 {
			edit.Ref = flag.FlagRef(flag.Key(name))
		}
		if !remove {
			edit.Object = made(edit.Ref)
		}
		all = append(all, edit)
	}
	return all
})

func (m model) with(edits []flag.Edit) model {
	next := maps.Clone(m)
	for _, e := range edits {
		if e.Object == nil {
			delete(next, e.Ref)
		} else {
			next[e.Ref] = e.Object
		}
	}
	return next
}

// of gives the objects of the kind that are wanted, in order.
func (m model) of(kind flag.Kind, wanted func(flag.Ref) bool) (objects []flag.Object) {
	for ref, o := range m {
		if ref.Kind == kind && wanted(ref) {
			objects = append(objects, o)
		}
	}
	slices.SortFunc(objects, func(a, b flag.Object) int {
		return cmp.Or(strings.Compare(string(a.Ref().Key), string(b.Ref().Key)), strings.Compare(a.Ref().ID, b.Ref().ID))
	})
	return objects
}

func objects[T flag.Object](sequence func(func(T) bool)) (all []flag.Object) {
	for o := range sequence {
		all = append(all, o)
	}
	return all
}

// differs says how a snapshot is not what the model says; "" is not at all.
func (m model) differs(s *flag.Snapshot) string {
	for _, prefix := range []flag.Key{"", "a", "a/b", "a/b/c", "b", "nothing"} {
		under := func(ref flag.Ref) bool { return ref.Key.Under(prefix) }
		if !slices.Equal(objects(s.Flags(prefix)), m.of(flag.KindFlag, under)) {
			return "flags under " + string(prefix)
		}
		if !slices.Equal(objects(s.Overrides(prefix)), m.of(flag.KindOverride, under)) {
			return "overrides under " + string(prefix)
		}
		if !slices.Equal(objects(s.Holds(prefix)), m.of(flag.KindHold, under)) {
			return "holds under " + string(prefix)
		}
		of := func(ref flag.Ref) bool { return ref.Key == prefix }
		if !slices.Equal(objects(s.OverridesOf(prefix)), m.of(flag.KindOverride, of)) {
			return "overrides of " + string(prefix)
		}
		holds := m.of(flag.KindHold, of)
		if !slices.Equal(objects(s.HoldsOf(prefix)), holds) || s.Killed(prefix, time.Time{}) != slices.ContainsFunc(holds, func(o flag.Object) bool { return !expired(o.Ref()) }) {
			return "holds of " + string(prefix)
		}
	}
	count := func(kind flag.Kind) int { return len(m.of(kind, func(flag.Ref) bool { return true })) }
	if f, o, h := s.Counts(); f != count(flag.KindFlag) || o != count(flag.KindOverride) || h != count(flag.KindHold) {
		return "counts"
	}
	for ref, o := range m {
		if s.Object(ref) != o {
			return "the " + ref.Name()
		}
		if other := (flag.Ref{Kind: ref.Kind, Key: ref.Key + "x", ID: ref.ID}); m[other] == nil && s.Object(other) != nil {
			return "what is not there: the " + other.Name()
		}
	}
	return ""
}

// TestSnapshotIsWhatItWasMadeOf: every version holds what its edits say, and goes
// on to hold it while others are made of it and read, all at once.
func TestSnapshotIsWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			snapshot *flag.Snapshot
			model    model
		}
		versions := []version{{flag.NewSnapshot("prod", flag.Revision{}), model{}}}
		var reading sync.WaitGroup
		wrong := make(chan string, 100)
		read := func(v version) {
			reading.Go(func() {
				if difference := v.model.differs(v.snapshot); difference != "" {
					select {
					case wrong <- difference:
					default: // enough are told
					}
				}
			})
		}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			from := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")]
			steps := edits.Draw(t, "edits")
			read(from)
			next := make([]version, 2) // two of one, at once
			var making sync.WaitGroup
			for i := range next {
				making.Go(func() {
					next[i] = version{from.snapshot.With(flag.Revision{Number: int64(len(versions))}, slices.Values(steps)), from.model.with(steps)}
				})
			}
			making.Wait()
			versions = append(versions, next...)
			read(next[0])
		}
		reading.Wait()
		for _, v := range versions {
			read(v)
		}
		reading.Wait()
		close(wrong)
		for difference := range wrong {
			t.Errorf("a version does not hold what it was made of: %s", difference)
		}
	})
}
