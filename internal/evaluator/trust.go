package evaluator

import (
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// RefusalError is why another store's definitions are not served (DESIGN §4): a server
// that finds itself on the wrong disk or an old backup must not switch things on.
// It is an error, and stands until the store says that it supersedes the former
// one, or has what it lacked.
type RefusalError struct {
	Known, Found           flag.Revision
	KnownFlags, FoundFlags int
	LostHolds              []flag.Ref // standing holds that are known and that the store lacks
}

// Error says what was found and what to do.
func (r *RefusalError) Error() string {
	return fmt.Sprintf("the store became another one (%s) that %s: it is refused, and what was last known is served. "+
		"Bring the right store back, or, to serve this one all the same, run \"bunting resync --accept\"", r.Found.StoreID, r.lacks())
}

// lacks says what the store does not have, to go on from "it".
func (r *RefusalError) lacks() string {
	lacks := fmt.Sprintf("is empty, while %d flags are known", r.KnownFlags)
	if len(r.LostHolds) > 0 && r.FoundFlags > 0 {
		lost := r.LostHolds[0]
		lacks = fmt.Sprintf("lacks the hold of %q on %q", lost.ID, lost.Key)
		if more := len(r.LostHolds) - 1; more > 0 {
			lacks += fmt.Sprintf(" and %d more", more)
		}
	}
	return lacks
}

// distrust gives the reason to refuse another store's snapshot; nil: there is none.
func distrust(known, found *flag.Snapshot, now time.Time) *RefusalError {
	if found.TookPlaceOf(known.Revision) {
		return nil
	}
	r := &RefusalError{Known: known.Revision, Found: found.Revision}
	r.KnownFlags, _, _ = known.Counts()
	r.FoundFlags, _, _ = found.Counts()
	for h := range known.Holds("") {
		if h.StandsAt(now) && !lasts(found.Hold(h.FlagKey, h.Holder), h, now) {
			r.LostHolds = append(r.LostHolds, h.Ref())
		}
	}
	if len(r.LostHolds) == 0 && (r.KnownFlags == 0 || r.FoundFlags > 0) {
		return nil
	}
	return r
}

// lasts reports whether a hold stands for as long as the known one.
func lasts(found, known *flag.Hold, now time.Time) bool {
	switch {
	case found == nil || !found.StandsAt(now):
		return false
	case found.ExpiresAt.IsZero():
		return true
	}
	return !known.ExpiresAt.IsZero() && !found.ExpiresAt.Before(known.ExpiresAt)
}

// Refused gives why the source's definitions are not served; nil: they are.
func (e *Evaluator) Refused() *RefusalError { return e.refusal.Load() }
