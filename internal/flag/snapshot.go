package flag

import (
	"iter"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Snapshot is all definitions at one revision: immutable, safe to share, and
// cheap to derive a next one from, because versions share their structure (With
// costs the same with a thousand flags as with a million).
type Snapshot struct {
	Revision    Revision
	Environment string
	Supersedes  []string // ids of the stores whose place this one has taken, in the order of confirming; never changed

	flags     *iradix.Tree[*Flag]
	overrides *iradix.Tree[*Override] // by key, NUL, entity
	holds     *iradix.Tree[*Hold]     // by key, NUL, holder
}

// NewSnapshot makes an empty snapshot.
func NewSnapshot(environment string, revision Revision) *Snapshot {
	return &Snapshot{
		Revision: revision, Environment: environment,
		flags: iradix.New[*Flag](), overrides: iradix.New[*Override](), holds: iradix.New[*Hold](),
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
	flags, overrides, holds := s.flags.Txn(), s.overrides.Txn(), s.holds.Txn()
	for e := range edits {
		path := pathOf(e.Ref)
		switch o := e.Object.(type) {
		case *Flag:
			flags.Insert(path, o)
		case *Override:
			overrides.Insert(path, o)
		case *Hold:
			holds.Insert(path, o)
		default:
			switch e.Ref.Kind {
			case KindFlag:
				flags.Delete(path)
			case KindOverride:
				overrides.Delete(path)
			case KindHold:
				holds.Delete(path)
			}
		}
	}
	return &Snapshot{
		Revision: revision, Environment: s.Environment, Supersedes: s.Supersedes,
		flags: flags.Commit(), overrides: overrides.Commit(), holds: holds.Commit(),
	}
}

// Flag finds a flag; nil when there is none.
func (s *Snapshot) Flag(key Key) *Flag {
	f, _ := s.flags.Get([]byte(key))
	return f
}

// Override finds an override; nil when there is none.
func (s *Snapshot) Override(key Key, entity string) *Override {
	o, _ := s.overrides.Get(pathOf(OverrideRef(key, entity)))
	return o
}

// Hold finds a hold; nil when there is none.
func (s *Snapshot) Hold(key Key, holder string) *Hold {
	h, _ := s.holds.Get(pathOf(HoldRef(key, holder)))
	return h
}

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
	return walk(s.flags, string(prefix), func(f *Flag) bool { return f.Key.Under(prefix) })
}

// Overrides gives the overrides of the flags under the prefix, by key, then entity.
func (s *Snapshot) Overrides(prefix Key) iter.Seq[*Override] {
	return walk(s.overrides, string(prefix), func(o *Override) bool { return o.FlagKey.Under(prefix) })
}

// OverridesOf gives the overrides of one flag, by entity.
func (s *Snapshot) OverridesOf(key Key) iter.Seq[*Override] {
	return walk(s.overrides, string(key)+"\x00", func(*Override) bool { return true })
}

// Holds gives the holds of the flags under the prefix, by key, then holder.
func (s *Snapshot) Holds(prefix Key) iter.Seq[*Hold] {
	return walk(s.holds, string(prefix), func(h *Hold) bool { return h.FlagKey.Under(prefix) })
}

// HoldsOf gives the holds of one flag, expired ones too, by holder.
func (s *Snapshot) HoldsOf(key Key) iter.Seq[*Hold] {
	return walk(s.holds, string(key)+"\x00", func(*Hold) bool { return true })
}

// Killed reports whether a hold on the flag stands.
func (s *Snapshot) Killed(key Key, now time.Time) bool { return killed(s.HoldsOf(key), now) }

// Counts gives how many flags (archived ones too), overrides and holds there are.
func (s *Snapshot) Counts() (flags, overrides, holds int) {
	return s.flags.Len(), s.overrides.Len(), s.holds.Len()
}

// Evaluate answers for one flag. An unknown flag is an answer, not an error.
func (s *Snapshot) Evaluate(key Key, caller Context, now time.Time) Answer {
	f := s.Flag(key)
	if f == nil {
		return Answer{Key: key, Source: SourceDefault, ErrorCode: ErrorFlagNotFound}
	}
	return Resolve(f, s.HoldsOf(key), func(entity string) *Override { return s.Override(key, entity) }, caller, now)
}

func walk[T any](tree *iradix.Tree[T], prefix string, in func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		it := tree.Root().Iterator()
		it.SeekPrefix([]byte(prefix))
		for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
			if in(v) && !yield(v) {
				return
			}
		}
	}
}

// pathOf gives an object's place in its tree. Neither keys nor entities nor
// holders hold a NUL.
func pathOf(ref Ref) []byte {
	if ref.Kind == KindFlag {
		return []byte(ref.Key)
	}
	return []byte(string(ref.Key) + "\x00" + ref.ID)
}
