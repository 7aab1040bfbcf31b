package store

import (
	"fmt"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func (j *judge) putFlag(c flag.Change) ([]flag.Edit, *flag.Problem) {
	declared, ok := c.Object.(*flag.Flag)
	if !ok {
		return nil, flag.Invalid("", "the change put_flag comes without a flag.") // cannot be: wellFormed asked
	}
	want := declared.Normalize()
	if err := want.Validate(); err != nil {
		return nil, problem(err)
	}
	want.ArchivedState, want.OwnerID, want.Changed = 0, c.OwnerID, j.stamp(c)
	have := j.state.Flag(c.Ref.Key)
	switch {
	case have == nil && gone(c) != nil:
		return nil, gone(c)
	case have == nil:
		return write(&want), nil
	case creates(c) && have.Archived():
		return write(&want), nil // declaring an archived flag restores it
	case creates(c) && (adopts(c, have, want.SameDefinition(have)) || replaces(c, have, &want)):
		return write(&want), nil
	case creates(c):
		return nil, flagExists(c, have)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	if c.OwnerID == "" {
		want.OwnerID = have.OwnerID // an operator's write does not end the management: it is drift
	}
	if !have.Archived() && want.OwnerID == have.OwnerID && want.SameDefinition(have) {
		return nil, nil
	}
	return write(&want), nil
}

func (j *judge) archiveFlag(c flag.Change) ([]flag.Edit, *flag.Problem) {
	have := j.state.Flag(c.Ref.Key)
	if have == nil {
		return nil, absent(c)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	if have.Archived() {
		return nil, nil
	}
	want := *have
	want.ArchivedState = flag.Default
	if have.State == flag.Enabled && !have.Value.IsZero() && !j.state.Killed(have.Key, j.batch.Now) {
		want.ArchivedState = flag.Enabled
	}
	want.OwnerID, want.Changed = "", j.stamp(c) // archiving ends ownership
	return write(&want), nil
}

func (j *judge) restoreFlag(c flag.Change) ([]flag.Edit, *flag.Problem) {
	have := j.state.Flag(c.Ref.Key)
	if have == nil {
		return nil, absent(c)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	want := *have
	want.ArchivedState, want.Changed = 0, j.stamp(c)
	if c.OwnerID != "" {
		want.OwnerID = c.OwnerID
	}
	if !have.Archived() && want.OwnerID == have.OwnerID {
		return nil, nil
	}
	return write(&want), nil
}

// deleteFlag removes the flag with its overrides and holds, unless one of them
// is another's to keep.
func (j *judge) deleteFlag(c flag.Change) ([]flag.Edit, *flag.Problem) {
	have := j.state.Flag(c.Ref.Key)
	if have == nil {
		return nil, absent(c)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	for h := range j.state.HoldsOf(have.Key) {
		// The owner's own hold too: deleted and made anew, as a replacement does,
		// the flag would be switched on, and nobody would have asked for that.
		if h.StandsAt(j.batch.Now) {
			return nil, held(h)
		}
	}
	var edits []flag.Edit
	for o := range j.state.OverridesOf(have.Key) {
		if c.OwnerID != "" && o.OwnerID != "" && o.OwnerID != c.OwnerID {
			return nil, keptBy(o)
		}
		edits = append(edits, remove(o.Ref())...)
	}
	for h := range j.state.HoldsOf(have.Key) {
		// An operator may remove Terraform's record of an expired hold only where
		// releasing it is allowed: the kill switch would be gone behind its back.
		if h.OwnerID != "" && h.OwnerID != c.OwnerID && (c.OwnerID != "" || !j.batch.Actor.Has(adminScope)) {
			return nil, keptBy(h)
		}
		edits = append(edits, remove(h.Ref())...)
	}
	return append(edits, remove(c.Ref)...), nil
}

// flagExists refuses a create.
func flagExists(c flag.Change, have *flag.Flag) *flag.Problem {
	return exists(have, "key", fmt.Sprintf("%q is taken: the flag exists already, %s. %s", have.Key, manager(have), howToAdopt(c, have)))
}
