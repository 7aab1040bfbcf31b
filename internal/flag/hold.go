package flag

import (
	"strings"
	"time"
)

// Bounds of a hold's parts.
const (
	MaxHolderBytes = 128
	MaxReasonBytes = 1024
)

// TerraformHolder is the default holder of kill switches. It and everything
// under "terraform/" is Terraform's alone.
const TerraformHolder = "terraform"

// Hold is one holder's demand that a flag be killed. Shared like *Flag.
type Hold struct {
	FlagKey   Key       `json:"flag_key"`
	Holder    string    `json:"holder"`
	Reason    string    `json:"reason"`
	Actor     string    `json:"actor"`               // the token that placed it
	Since     time.Time `json:"since"`               // when it was placed
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: stands until released
	Expired   bool      `json:"expired,omitempty"`   // its expiry was committed; a record until released
	OwnerID   string    `json:"owner_id,omitempty"`
	Changed   Stamp     `json:"changed,omitzero"`
}

// StandsAt reports whether the hold kills at the time. The time is honoured
// even before a root has committed the expiry.
func (h *Hold) StandsAt(now time.Time) bool {
	return !h.Expired && (h.ExpiresAt.IsZero() || now.Before(h.ExpiresAt))
}

// IsTerraformHolder reports whether the holder is reserved for Terraform.
func IsTerraformHolder(holder string) bool {
	return holder == TerraformHolder || strings.HasPrefix(holder, TerraformHolder+"/")
}

// Validate checks every rule that a hold must keep by itself, whoever places it.
func (h *Hold) Validate() error {
	if _, err := ParseKey(string(h.FlagKey)); err != nil {
		return In("flag_key", err)
	}
	if err := ValidateHolder(h.Holder); err != nil {
		return err
	}
	if strings.TrimSpace(h.Reason) == "" {
		return Invalid("reason", "is empty. Say why the flag is killed: it is what the next person on call reads.")
	}
	if year := h.ExpiresAt.UTC().Year(); year > 9999 {
		// RFC 3339 has four digits for the year, and so have JSON and the wire.
		return invalidf("expires_at", "lies in the year %d. Write a time before the year 10000, or leave it out for a hold that stands until released.", year)
	}
	return CheckText("reason", h.Reason, MaxReasonBytes)
}

// ValidateHolder checks a holder's grammar: letters, digits, ".", "_", "@", "/"
// and "-", starting and ending with a letter or digit.
func ValidateHolder(holder string) error {
	bad := holder == "" || len(holder) > MaxHolderBytes || !alphanumeric(holder[0]) || !alphanumeric(holder[len(holder)-1])
	for i := range len(holder) {
		bad = bad || !alphanumeric(holder[i]) && !strings.ContainsRune("._@/-", rune(holder[i]))
	}
	if bad {
		return invalidf("holder", "is %q, but a holder is 1 to %d letters, digits, \".\", \"_\", \"@\", \"/\" and \"-\", starting and ending with a letter or digit. Write a name like \"ops-anna\".", Shorten(holder), MaxHolderBytes)
	}
	return nil
}

// ValidateExpiry checks that an expiry lies ahead. Only asked when it changes:
// a hold whose time has come is not at fault.
func ValidateExpiry(expiresAt, now time.Time) error {
	if !expiresAt.IsZero() && !expiresAt.After(now) {
		return invalidf("expires_at", "is %s, which is in the past (it is now %s). Write a later time, or leave it out for a hold that stands until released.",
			expiresAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// SameDefinition reports whether two holds demand the same.
func (h *Hold) SameDefinition(o *Hold) bool {
	return h.FlagKey == o.FlagKey && h.Holder == o.Holder && h.Reason == o.Reason && h.ExpiresAt.Equal(o.ExpiresAt)
}
