package flag

import (
	"cmp"
	"fmt"
	"hash"
	"strings"
)

// Kind is a kind of object.
type Kind int

// The kinds of objects that a snapshot holds.
const (
	KindFlag     Kind = 1
	KindOverride Kind = 2
	KindHold     Kind = 3
)

// String gives the kind's name.
func (k Kind) String() string {
	return [...]string{"object", "flag", "override", "hold"}[max(0, min(k, KindHold))]
}

// Ref names an object: a flag by its key alone, an override by key and entity,
// a hold by key and holder.
type Ref struct {
	Kind Kind
	Key  Key
	ID   string // the entity or the holder; "" for a flag
}

// FlagRef names a flag.
func FlagRef(key Key) Ref { return Ref{Kind: KindFlag, Key: key} }

// OverrideRef names an override.
func OverrideRef(key Key, entity string) Ref {
	return Ref{Kind: KindOverride, Key: key, ID: entity}
}

// HoldRef names a hold; with holder "" all holds of the flag, where that is allowed.
func HoldRef(key Key, holder string) Ref { return Ref{Kind: KindHold, Key: key, ID: holder} }

// Compare orders refs by kind, then key, then entity or holder: as Snapshot.Objects
// gives them.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), strings.Compare(string(r.Key), string(other.Key)), strings.Compare(r.ID, other.ID))
}

// String gives the readable id: key, key:entity or key:holder. A key has no
// colon, so the first one parts the two.
func (r Ref) String() string {
	if r.Kind == KindFlag {
		return string(r.Key)
	}
	return string(r.Key) + ":" + r.ID
}

// Name names it to people, as one word for word in every text: flag "pay",
// override of "pay" for "u", hold of "ops" on flag "pay".
func (r Ref) Name() string {
	switch r.Kind {
	case KindOverride:
		return fmt.Sprintf("override of %q for %q", r.Key, r.ID)
	case KindHold:
		return fmt.Sprintf("hold of %q on flag %q", r.ID, r.Key)
	default:
		return fmt.Sprintf("flag %q", r.Key)
	}
}

// Object is a *Flag, *Override or *Hold.
type Object interface {
	Ref() Ref
	// Manager gives the Terraform owner's id; "" for none.
	Manager() string
	// Stamp says who committed the present version.
	Stamp() Stamp
	Validate() error
}

// Manager gives the flag's Terraform owner.
func (f *Flag) Manager() string { return f.OwnerID }

// Stamp says who committed the present version.
func (f *Flag) Stamp() Stamp { return f.Changed }

// Ref names the flag.
func (f *Flag) Ref() Ref { return FlagRef(f.Key) }

// Manager gives the override's Terraform owner.
func (o *Override) Manager() string { return o.OwnerID }

// Stamp says who committed the present version.
func (o *Override) Stamp() Stamp { return o.Changed }

// Ref names the override.
func (o *Override) Ref() Ref { return OverrideRef(o.FlagKey, o.EntityID) }

// Manager gives the hold's Terraform owner.
func (h *Hold) Manager() string { return h.OwnerID }

// Stamp says who committed the present version.
func (h *Hold) Stamp() Stamp { return h.Changed }

// Ref names the hold.
func (h *Hold) Ref() Ref { return HoldRef(h.FlagKey, h.Holder) }

// Op is what a change does.
type Op int

// The operations; each but PutFlag, SetOverride and PlaceHold names its object
// by Ref alone.
const (
	PutFlag        Op = iota + 1 // create or replace; an archived flag is restored
	ArchiveFlag                  // stop declaring it: callers keep what it served
	RestoreFlag                  // the opposite
	DeleteFlag                   // remove it, its overrides and its own holds
	SetOverride                  // create or replace
	RemoveOverride               // remove
	PlaceHold                    // create or replace the holder's own
	ReleaseHold                  // remove
)

var opNames = [...]string{"change", "put_flag", "archive_flag", "restore_flag", "delete_flag", "set_override", "remove_override", "place_hold", "release_hold"}

// String gives the name used in the audit log.
func (o Op) String() string { return opNames[max(0, min(o, ReleaseHold))] }

// Kind gives the kind of object that the operation changes.
func (o Op) Kind() Kind {
	switch o {
	case SetOverride, RemoveOverride:
		return KindOverride
	case PlaceHold, ReleaseHold:
		return KindHold
	default:
		return KindFlag
	}
}

// Change is one write.
type Change struct {
	Op       Op
	Ref      Ref
	Object   Object // what to put, set or place; nil for the other operations
	Expected *int64 // the object's revision as the caller knows it; 0: it must not exist; nil: whatever it is
	StoreID  string // the store that Expected was read from; "" is any
	OwnerID  string // the Terraform owner; "" for an operator
	TakeOver bool   // take the object from its present owner
}

// Put makes the change that creates or replaces the object.
func Put(o Object) Change {
	op := map[Kind]Op{KindFlag: PutFlag, KindOverride: SetOverride, KindHold: PlaceHold}[o.Ref().Kind]
	return Change{Op: op, Ref: o.Ref(), Object: o}
}

// Status says what became of a change.
type Status int32

// The statuses, with the numbers of bunting.v1.ResultStatus.
const (
	Applied   Status = 1 // committed
	Unchanged Status = 2 // it was so already; nothing was written for it
	Refused   Status = 3 // Problem says why
	Abandoned Status = 4 // fine by itself, but the batch was atomic and another was refused
)

// Result is what became of one change.
type Result struct {
	Status  Status
	Object  Object // after the change; nil when there is none
	Problem *Problem
	Holds   []*Hold // all holds of the change's flag, after the batch; a server tells them, a store does not
}

// Digest adds an object to a snapshot's checksum: kind, TAB, id, TAB, revision,
// LF. An object that is not there has the revision -1. It proves that no object
// was lost, doubled or reordered on the way; the transport's own checks keep the
// bytes.
func Digest(h hash.Hash, ref Ref, o Object) {
	revision := int64(-1)
	if o != nil {
		revision = o.Stamp().Revision
	}
	_, _ = fmt.Fprintf(h, "%s\t%s\t%d\n", ref.Kind, ref, revision) // a hash never fails
}
