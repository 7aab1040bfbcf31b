package store

import (
	"fmt"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func (j *judge) setOverride(c flag.Change) ([]flag.Edit, *flag.Problem) {
	declared, ok := c.Object.(*flag.Override)
	if !ok {
		return nil, flag.Invalid("", "the change set_override comes without an override.") // cannot be: wellFormed asked
	}
	want := *declared
	if err := want.Validate(); err != nil {
		return nil, problem(err)
	}
	f := j.state.Flag(want.FlagKey)
	switch {
	case f == nil:
		return nil, flag.NoFlag(want.FlagKey, nil)
	case f.Archived():
		return nil, flag.Invalid("flag_key", fmt.Sprintf("is %q, and that flag is archived (by %s); restore it first. In Terraform, declare the flag again.", want.FlagKey, f.Changed.Author()))
	}
	if err := want.ValidateFor(f); err != nil {
		p := *problem(err)
		p.Message += fmt.Sprintf(" The flag was last changed by %s.", f.Changed.Author())
		return nil, &p
	}
	want.FlagKey = f.Key // the same text, in memory once
	want.OwnerID, want.Changed = c.OwnerID, j.stamp(c)
	have := j.state.Override(want.FlagKey, want.EntityID)
	switch {
	case have == nil && gone(c) != nil:
		return nil, gone(c)
	case have == nil:
		return write(&want), nil
	case creates(c) && adopts(c, have, want.SameDefinition(have)):
		return write(&want), nil
	case creates(c):
		return nil, overrideExists(c, have)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	if c.OwnerID == "" {
		want.OwnerID = have.OwnerID
	}
	if want.OwnerID == have.OwnerID && want.SameDefinition(have) {
		return nil, nil
	}
	return write(&want), nil
}

func (j *judge) removeOverride(c flag.Change) ([]flag.Edit, *flag.Problem) {
	have := j.state.Override(c.Ref.Key, c.Ref.ID)
	if have == nil {
		return nil, absent(c)
	}
	if p := admit(c, have); p != nil {
		return nil, p
	}
	return remove(c.Ref), nil
}

func overrideExists(c flag.Change, have *flag.Override) *flag.Problem {
	return exists(have, "entity_id", fmt.Sprintf("%q has an override of the flag %q already, %s. %s", have.EntityID, have.FlagKey, manager(have), howToAdopt(c, have)))
}
