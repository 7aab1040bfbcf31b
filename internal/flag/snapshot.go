package flag

import (
	"iter"
	"strconv"
	"strings"
	"time"
)

// Snapshot is all definitions at one revision: immutable, safe to share, and
// cheap to derive a next one from, because versions share their structure (With
// costs the same with a thousand flags as with a million).
type Snapshot struct {
	Revision    Revision
	Environment string
	Supersedes  []string // the stores whose place this one has taken (Revision.Place), in the order of confirming; never changed

	flags     *tree[Flag]
	overrides *tree[Override]
	holds     *tree[Hold]
}

// NewSnapshot makes an empty snapshot.
func NewSnapshot(environment string, revision Revision) *Snapshot {
	return &Snapshot{
		Revision: revision, Environment: environment,
		flags: newTree(flagOrder), overrides: newTree(overrideOrder), holds: newTree(holdOrder),
	}
}

// Edit is one step from a snapshot to the next: the object as it is after, or,
// with a nil Object, that there is none of that name.
type Edit struct {
	Ref    Ref
	Object Object
}

// With gives the snapshot at the revision with the edits made, in order.
func (s *Snapshot) With(revision Revision, edits iter.Seq[Edit]) *Snapshot {
	next := &Snapshot{
		Revision: revision, Environment: s.Environment, Supersedes: s.Supersedes,
		flags: s.flags, overrides: s.overrides, holds: s.holds,
	}
	for e := range edits {
		switch o := e.Object.(type) {
		case *Flag:
			own(&next.flags, s.flags).objects.Set(o)
		case *Override:
			own(&next.overrides, s.overrides).objects.Set(o)
		case *Hold:
			own(&next.holds, s.holds).objects.Set(o)
		default:
			switch e.Ref.Kind {
			case KindFlag:
				own(&next.flags, s.flags).remove(e.Ref)
			case KindOverride:
				own(&next.overrides, s.overrides).remove(e.Ref)
			case KindHold:
				own(&next.holds, s.holds).remove(e.Ref)
			}
		}
	}
	return next
}

// own makes the next snapshot's tree its own while it is still the one of the
// snapshot before.
func own[T any](next **tree[T], former *tree[T]) *tree[T] {
	if *next == former {
		*next = former.copy()
	}
	return *next
}

// TookPlaceOf reports whether it was confirmed that this store takes the place of
// the one that has the revision. What that one has learnt since, like another kill,
// nobody has looked at.
func (s *Snapshot) TookPlaceOf(known Revision) bool {
	for _, place := range s.Supersedes {
		id, text, numbered := strings.Cut(place, "@")
		number, err := strconv.ParseInt(text, 10, 64)
		if id == known.StoreID && (!numbered || err == nil && known.Number <= number) {
			return true
		}
	}
	return false
}

// SupersededStores gives the ids of the stores whose place this one has taken, whatever
// revision they had.
func (s *Snapshot) SupersededStores() []string {
	ids := make([]string, len(s.Supersedes))
	for i, place := range s.Supersedes {
		ids[i], _, _ = strings.Cut(place, "@")
	}
	return ids
}

// Flag finds a flag; nil when there is none.
func (s *Snapshot) Flag(key Key) *Flag { return s.flags.find(FlagRef(key)) }

// Override finds an override; nil when there is none.
func (s *Snapshot) Override(key Key, entity string) *Override {
	return s.overrides.find(OverrideRef(key, entity))
}

// Hold finds a hold; nil when there is none.
func (s *Snapshot) Hold(key Key, holder string) *Hold { return s.holds.find(HoldRef(key, holder)) }

// Object finds what the ref names; nil when there is none.
func (s *Snapshot) Object(ref Ref) Object {
	switch ref.Kind {
	case KindFlag:
		if f := s.Flag(ref.Key); f != nil {
			return f
		}
	case KindOverride:
		if o := s.Override(ref.Key, ref.ID); o != nil {
			return o
		}
	case KindHold:
		if h := s.Hold(ref.Key, ref.ID); h != nil {
			return h
		}
	}
	return nil
}

// Flags gives the flags under the prefix in key order (by bytes).
func (s *Snapshot) Flags(prefix Key) iter.Seq[*Flag] {
	return under(s.flags, prefix, func(f *Flag) Key { return f.Key })
}

// Overrides gives the overrides of the flags under the prefix, by key, then entity.
func (s *Snapshot) Overrides(prefix Key) iter.Seq[*Override] {
	return under(s.overrides, prefix, func(o *Override) Key { return o.FlagKey })
}

// OverridesOf gives the overrides of one flag, by entity.
func (s *Snapshot) OverridesOf(key Key) iter.Seq[*Override] {
	return func(yield func(*Override) bool) {
		s.overrides.from(OverrideRef(key, ""), func(o *Override) bool { return o.FlagKey == key && yield(o) })
	}
}

// Holds gives the holds of the flags under the prefix, by key, then holder.
func (s *Snapshot) Holds(prefix Key) iter.Seq[*Hold] {
	return under(s.holds, prefix, func(h *Hold) Key { return h.FlagKey })
}

// HoldsOf gives the holds of one flag, expired ones too, by holder.
func (s *Snapshot) HoldsOf(key Key) iter.Seq[*Hold] {
	return func(yield func(*Hold) bool) {
		s.holds.from(HoldRef(key, ""), func(h *Hold) bool { return h.FlagKey == key && yield(h) })
	}
}

// under gives the objects whose keys lie under the prefix. Between them there may
// be others that begin with it: "a-b" comes between "a" and "a/b".
func under[T any](t *tree[T], prefix Key, key func(*T) Key) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		t.from(Ref{Key: prefix}, func(o *T) bool {
			k := key(o)
			return strings.HasPrefix(string(k), string(prefix)) && (!k.Under(prefix) || yield(o))
		})
	}
}

// Objects gives everything: flags, overrides, holds, each in order.
func (s *Snapshot) Objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for f := range s.Flags("") {
			if !yield(f) {
				return
			}
		}
		for o := range s.Overrides("") {
			if !yield(o) {
				return
			}
		}
		for h := range s.Holds("") {
			if !yield(h) {
				return
			}
		}
	}
}

// Killed reports whether a hold on the flag stands.
func (s *Snapshot) Killed(key Key, now time.Time) (killed bool) {
	s.holds.from(HoldRef(key, ""), func(h *Hold) bool {
		killed = h.FlagKey == key && h.StandsAt(now)
		return h.FlagKey == key && !killed
	})
	return killed
}

// Counts gives how many flags (archived ones too), overrides and holds there are.
func (s *Snapshot) Counts() (flags, overrides, holds int) {
	return s.flags.objects.Len(), s.overrides.objects.Len(), s.holds.objects.Len()
}

// Evaluate answers for one flag. An unknown flag is an answer, not an error.
func (s *Snapshot) Evaluate(key Key, caller Context, now time.Time) Answer {
	f := s.Flag(key)
	if f == nil {
		return Answer{Key: key, Source: SourceDefault, ErrorCode: ErrorFlagNotFound}
	}
	return Resolve(f, s.Killed(key, now), func(entity string) *Override { return s.Override(key, entity) }, caller)
}
