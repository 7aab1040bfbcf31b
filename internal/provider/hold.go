package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// tellHolds warns of every standing hold but the holder's own ("": of every
// one). The texts depend on the hold alone, so that Terraform collapses those of
// a flag that several resources read.
func tellHolds(diags *diag.Diagnostics, holds []*flag.Hold, own string) {
	now := time.Now()
	for _, h := range holds {
		if h.StandsAt(now) && h.Holder != own {
			diags.AddWarning(fmt.Sprintf("Flag %q is held killed by %s", h.FlagKey, h.Holder), holdText(h))
		}
	}
}

func holdText(h *flag.Hold) string {
	until := "until it is released"
	if !h.ExpiresAt.IsZero() {
		until = "until " + h.ExpiresAt.UTC().Format(time.RFC3339)
	}
	release := fmt.Sprintf("%s releases it with: bunting release %s. Others need the scope admin: bunting release %s --holder %s.", h.Actor, h.FlagKey, h.FlagKey, h.Holder)
	if flag.IsTerraformHolder(h.Holder) {
		release = fmt.Sprintf("Its bunting_kill_switch releases it (engaged = false); it is managed by %s.", flag.OwnerName(h.OwnerID))
	}
	return fmt.Sprintf("Reason: %s\nPlaced by %s at %s, and standing %s. While it stands the flag serves its default value, and no apply changes that. %s",
		h.Reason, h.Actor, h.Since.UTC().Format(time.RFC3339), until, release)
}

// standing reports whether any hold stands now.
func standing(holds []*flag.Hold) bool {
	now := time.Now()
	for _, h := range holds {
		if h.StandsAt(now) {
			return true
		}
	}
	return false
}

// tellChange warns that the object was written since the state was, when what is
// read now differs from it. A write under the own name is told too: it is either
// an apply whose end was not heard, or another configuration of that name.
func tellChange(diags *diag.Diagnostics, r record, o flag.Object, differs bool) {
	stamp := o.Stamp()
	if !differs || r.Revision == 0 || stamp.Revision == r.Revision {
		return
	}
	next := "The plan shows what an apply would change back."
	if manager := o.Manager(); manager != "" && manager != r.OwnerID && !r.TakeOver {
		next = fmt.Sprintf("It is managed by %s now, so an apply is refused: remove this block (terraform state rm), or import it here by the id %q to take it back.", flag.OwnerName(manager), o.Ref())
	}
	diags.AddWarning(fmt.Sprintf("%s was changed by %s", title(o.Ref()), stamp.Actor), when(stamp, r)+". "+next)
}

// tellGone warns that an object which the state has is gone, and says who removed
// it where the server knows. What its own owner removed, in an apply whose end was
// not heard, is told too: the state did not know.
func (s *session) tellGone(ctx context.Context, diags *diag.Diagnostics, ref flag.Ref, r record) {
	next := "The plan makes it anew where it is still declared."
	if ref.Kind == flag.KindHold {
		next = "The plan engages its kill switch again; set engaged = false to leave it released."
	}
	by := s.removedBy(ctx, ref)
	if by == nil {
		diags.AddWarning(title(ref)+" is gone", "It was removed, and the server does not know by whom. "+next)
		return
	}
	done := map[flag.Kind]string{flag.KindFlag: "deleted", flag.KindOverride: "removed", flag.KindHold: "released"}[ref.Kind]
	diags.AddWarning(fmt.Sprintf("%s was %s by %s", title(ref), done, by.Actor), fmt.Sprintf("%s. %s", when(*by, r), next))
}

// when says when, and for which owner, somebody wrote: "At …, not by this
// configuration".
func when(by flag.Stamp, r record) string {
	at := "At " + by.Time.UTC().Format(time.RFC3339)
	switch {
	case by.OwnerID == "":
		return at + ", not by this configuration"
	case by.OwnerID == r.OwnerID && flag.IsWorkspaceOwner(by.OwnerID):
		return at + ", by an apply for " + flag.OwnerName(by.OwnerID) + ", which is this configuration's own"
	case by.OwnerID == r.OwnerID:
		return at + ", by an apply of this configuration"
	}
	return at + " for " + flag.OwnerName(by.OwnerID) + ", not by this configuration"
}

// title names an object at the beginning of a summary.
func title(ref flag.Ref) string {
	return sentence(ref.Name())
}
