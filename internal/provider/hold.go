package provider

import (
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

// tellChange warns that somebody else wrote the object, when what is read now
// differs from what the state had.
func tellChange(diags *diag.Diagnostics, r record, o flag.Object, differs bool) {
	stamp := o.Stamp()
	if !differs || r.Revision == 0 || stamp.Revision == r.Revision || (stamp.OwnerID != "" && stamp.OwnerID == r.OwnerID) {
		return
	}
	on := ""
	if stamp.OwnerID != "" {
		on = " for " + flag.OwnerName(stamp.OwnerID)
	}
	diags.AddWarning(fmt.Sprintf("%s was changed by %s", title(o.Ref()), stamp.Actor),
		fmt.Sprintf("At %s%s, not by this configuration. The plan shows what an apply would change back.", stamp.Time.UTC().Format(time.RFC3339), on))
}

// title names an object at the beginning of a summary.
func title(ref flag.Ref) string {
	switch ref.Kind {
	case flag.KindFlag:
	case flag.KindOverride:
		return fmt.Sprintf("Override of %q for %q", ref.Key, ref.ID)
	case flag.KindHold:
		return fmt.Sprintf("Hold of %s on flag %q", ref.ID, ref.Key)
	}
	return fmt.Sprintf("Flag %q", ref.Key)
}
