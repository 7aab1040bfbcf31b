package store

import (
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// adminScope is what an operator needs for another's hold.
const adminScope = token.Admin

func (j *judge) placeHold(c flag.Change) ([]flag.Edit, *flag.Problem) {
	declared, ok := c.Object.(*flag.Hold)
	if !ok {
		return nil, flag.Invalid("", "the change place_hold comes without a hold.") // cannot be: wellFormed asked
	}
	want := *declared
	if err := want.Validate(); err != nil {
		return nil, problem(err)
	}
	if p := holderOf(c); p != nil {
		return nil, p
	}
	if j.state.Flag(want.FlagKey) == nil {
		return nil, flag.NoFlag(want.FlagKey, nil)
	}
	want.Actor, want.Since, want.Expired = j.batch.Actor.Name, j.batch.Now, false
	want.OwnerID, want.Changed = c.OwnerID, j.stamp(c)
	if !want.ExpiresAt.IsZero() {
		want.ExpiresAt = want.ExpiresAt.UTC()
	}
	have := j.state.Hold(want.FlagKey, want.Holder)
	if have == nil {
		if p := gone(c); p != nil {
			return nil, p
		}
		if err := flag.ValidateExpiry(want.ExpiresAt, j.batch.Now); err != nil {
			return nil, problem(err)
		}
		return write(&want), nil
	}
	if p := j.mayReplace(c, have, want.SameDefinition(have)); p != nil {
		return nil, p
	}
	if want.OwnerID == have.OwnerID && want.SameDefinition(have) && !creates(c) {
		return nil, nil
	}
	if want.ExpiresAt.Equal(have.ExpiresAt) {
		want.Expired = have.Expired // one whose time has come does not stand again for a new reason
	} else if err := flag.ValidateExpiry(want.ExpiresAt, j.batch.Now); err != nil {
		return nil, problem(err)
	}
	if anew := !have.StandsAt(j.batch.Now) && want.StandsAt(j.batch.Now); !anew {
		want.Actor, want.Since = have.Actor, have.Since
	}
	return write(&want), nil
}

// mayReplace checks that the change may replace the hold; same says that it is
// declared alike.
func (j *judge) mayReplace(c flag.Change, have *flag.Hold, same bool) *flag.Problem {
	foreign := have.OwnerID != c.OwnerID
	switch {
	case creates(c) && adopts(c, have, same):
		return nil
	case creates(c), c.OwnerID != "" && foreign && !c.TakeOver && c.Expected == nil:
		return holdExists(c, have)
	case c.OwnerID != "" && foreign && !c.TakeOver:
		return owned(have)
	case c.OwnerID == "" && (foreign || have.Actor != j.batch.Actor.Name) && !j.batch.Actor.Has(adminScope):
		return othersHold(have, "change")
	case c.Expected != nil && *c.Expected != have.Changed.Revision:
		return conflict(c, have)
	}
	return nil
}

func (j *judge) releaseHold(c flag.Change) ([]flag.Edit, *flag.Problem) {
	if c.OwnerID != "" {
		if p := holderOf(c); p != nil {
			return nil, p
		}
	}
	have := j.state.Hold(c.Ref.Key, c.Ref.ID)
	switch {
	case have == nil:
		return nil, absent(c)
	case c.OwnerID != "" && have.OwnerID != c.OwnerID && !c.TakeOver:
		return nil, owned(have)
	case c.OwnerID == "" && (have.OwnerID != "" || have.Actor != j.batch.Actor.Name) && !j.batch.Actor.Has(adminScope):
		return nil, othersHold(have, "release")
	case c.Expected != nil && *c.Expected != have.Changed.Revision:
		return nil, conflict(c, have)
	}
	return remove(c.Ref), nil
}

// holderOf checks that Terraform's holders are Terraform's, both ways.
func holderOf(c flag.Change) *flag.Problem {
	switch reserved := flag.IsTerraformHolder(c.Ref.ID); {
	case c.OwnerID == "" && reserved:
		return flag.Invalid("holder", fmt.Sprintf("is %q, which is Terraform's: only a kill switch places such holds. Use a name of your own, like \"ops-anna\".", c.Ref.ID))
	case c.OwnerID != "" && !reserved:
		return flag.Invalid("holder", fmt.Sprintf("is %q, but holders of Terraform are \"terraform\" and what begins with \"terraform/\". Write holder = \"terraform/<name>\"; holds of people are placed and released with the command bunting.", c.Ref.ID))
	}
	return nil
}

// holdExists refuses to place a hold that another has: the way out is a holder
// of one's own, because two demands need two holds.
func holdExists(c flag.Change, have *flag.Hold) *flag.Problem {
	advice := "Use another holder, or change this hold without asking that it be new."
	if c.OwnerID != "" {
		advice = fmt.Sprintf("Set holder = \"terraform/<name>\" for a hold of this configuration's own, or import that one by the id %q.", have.Ref())
		if have.OwnerID == c.OwnerID {
			advice = fmt.Sprintf("It says something else than is declared here. Set holder = \"terraform/<name>\" for a second hold, or import that one by the id %q.", have.Ref())
		}
	}
	return exists(have, "holder", fmt.Sprintf("%q has a hold on the flag %q already, placed by %s at %s because %q, %s. %s",
		have.Holder, have.FlagKey, have.Actor, have.Since.UTC().Format(time.RFC3339), have.Reason, manager(have), advice))
}

// othersHold refuses an operator who has not placed the hold.
func othersHold(have *flag.Hold, what string) *flag.Problem {
	by := have.Changed
	return &flag.Problem{
		Kind: flag.ProblemDenied, By: &by, OwnerID: have.OwnerID,
		Message: fmt.Sprintf("the %s was placed by %s at %s because %q, %s. To %s a hold of others, use a token with the scope admin.",
			have.Ref().Name(), have.Actor, have.Since.UTC().Format(time.RFC3339), have.Reason, manager(have), what),
	}
}
