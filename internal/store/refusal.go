package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// The refusals that more than one rule gives. Each says what was expected, what
// was found, and what to do next.

// problem gives the *flag.Problem that the rules of the domain give as an error.
func problem(err error) *flag.Problem {
	if p, ok := errors.AsType[*flag.Problem](err); ok {
		return p
	}
	return &flag.Problem{Kind: flag.ProblemInternal, Message: err.Error()}
}

// manager says in words who manages an object, and who wrote it last.
func manager(o flag.Object) string {
	if o.Manager() == "" {
		return fmt.Sprintf("not managed by Terraform (last changed by %s)", o.Stamp().Author())
	}
	last := o.Stamp()
	if last.OwnerID == o.Manager() {
		last.OwnerID = "" // named already
	}
	return fmt.Sprintf("managed by %s (last changed by %s)", flag.OwnerName(o.Manager()), last.Author())
}

// again says what to do when what there is, is not what the caller has seen.
func again(c flag.Change) string {
	if c.OwnerID != "" {
		return "Plan again to see what is to be done now."
	}
	return "Read it again, then decide anew."
}

// gone refuses a change that expects a version of what is not there; nil when
// it expects none.
func gone(c flag.Change) *flag.Problem {
	if c.Expected == nil || creates(c) {
		return nil
	}
	return &flag.Problem{
		Kind:    flag.ProblemNotFound,
		Message: fmt.Sprintf("the %s does not exist, but was expected at revision %d. %s", c.Ref.Name(), *c.Expected, again(c)),
	}
}

// goneSince is gone when the audit log knows who removed it.
func goneSince(c flag.Change, by flag.Stamp) *flag.Problem {
	return &flag.Problem{
		Kind: flag.ProblemNotFound, By: &by,
		Message: fmt.Sprintf("the %s does not exist any more: it was removed by %s (revision %d; revision %d was expected). %s",
			c.Ref.Name(), by.Author(), by.Revision, *c.Expected, again(c)),
	}
}

// absent refuses to change or remove what is not there.
func absent(c flag.Change) *flag.Problem {
	if p := gone(c); p != nil {
		return p
	}
	return &flag.Problem{
		Kind:    flag.ProblemNotFound,
		Message: fmt.Sprintf("the %s does not exist, so it cannot be %s. Check the name.", c.Ref.Name(), past[c.Op]),
	}
}

var past = map[flag.Op]string{
	flag.ArchiveFlag: "archived", flag.RestoreFlag: "restored", flag.DeleteFlag: "deleted",
	flag.RemoveOverride: "removed", flag.ReleaseHold: "released",
}

// exists refuses to create what is there.
func exists(have flag.Object, field, message string) *flag.Problem {
	by := have.Stamp()
	return &flag.Problem{Kind: flag.ProblemAlreadyExists, Field: field, Message: message, By: &by, OwnerID: have.Manager()}
}

// howToAdopt says what somebody can do who wanted to create what is there.
func howToAdopt(c flag.Change, have flag.Object) string {
	switch {
	case c.OwnerID == "":
		return "Read it and change it, or choose another name."
	case have.Manager() == c.OwnerID:
		return fmt.Sprintf("It differs from what is declared here: another configuration may have the same workspace name, or create_before_destroy replaces it and changes it at once. Give one configuration a name of its own, or apply the change without replacing; else import it by the id %q.", have.Ref())
	case flag.IsObjectOwner(have.Manager()) && flag.IsObjectOwner(c.OwnerID):
		return fmt.Sprintf("If this configuration made it, in an apply that was cut off or as what create_before_destroy replaces: with the provider setting workspace both work, without it nobody can tell that it is its own. To manage it here now, import it by the id %q.", have.Ref())
	}
	return fmt.Sprintf("To manage it here, import it by the id %q.", have.Ref())
}

// otherStore refuses a change that was decided upon what another store had.
func otherStore(c flag.Change) *flag.Problem {
	return &flag.Problem{
		Kind:    flag.ProblemConflict,
		Message: "the " + c.Ref.Name() + " was read from another store than the server has now: its database was restored, or is a different one. " + again(c),
	}
}

// owned refuses to change what another manages.
func owned(have flag.Object) *flag.Problem {
	by := have.Stamp()
	return &flag.Problem{
		Kind: flag.ProblemOwned, By: &by, OwnerID: have.Manager(),
		Message: fmt.Sprintf("the %s is %s, not by this configuration. Change it there, or import it here by the id %q to take it over.", have.Ref().Name(), manager(have), have.Ref()),
	}
}

// keptBy refuses to delete a flag with an object of another owner on it.
func keptBy(o flag.Object) *flag.Problem {
	by := o.Stamp()
	return &flag.Problem{
		Kind: flag.ProblemOwned, By: &by, OwnerID: o.Manager(),
		Message: fmt.Sprintf("the flag %q cannot be deleted while there is the %s, %s. Remove that there first, or archive the flag instead.", o.Ref().Key, o.Ref().Name(), manager(o)),
	}
}

// held refuses to delete a flag that is held killed.
func held(h *flag.Hold) *flag.Problem {
	by := h.Changed
	return &flag.Problem{
		Kind: flag.ProblemHeld, By: &by, OwnerID: h.OwnerID,
		Message: fmt.Sprintf("the flag %q cannot be deleted while it is held killed by %q (placed by %s at %s because %q). Have that hold released first, or archive the flag instead: an archived flag stays killed.",
			h.FlagKey, h.Holder, h.Actor, h.Since.UTC().Format(time.RFC3339), h.Reason),
	}
}

// conflict refuses to overwrite a version that the caller has not seen.
func conflict(c flag.Change, have flag.Object) *flag.Problem {
	by := have.Stamp()
	expected := fmt.Sprintf("revision %d was expected", *c.Expected)
	if creates(c) {
		expected = "it was expected not to exist"
	}
	return &flag.Problem{
		Kind: flag.ProblemConflict, By: &by, OwnerID: have.Manager(),
		Message: fmt.Sprintf("the %s was changed by %s: it is at revision %d, but %s. %s", have.Ref().Name(), by.Author(), by.Revision, expected, again(c)),
	}
}
