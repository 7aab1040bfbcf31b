package storetest

import (
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var placeHoldRules = []rule{
	// who may hold as whom
	{name: "Terraform's holder, by an operator", given: []act{put()}, when: place("terraform"), want: refused(flag.ProblemInvalid, "holder", "Terraform's")},
	{name: "a holder under Terraform's, by an operator", given: []act{put()}, when: place("terraform/x"), want: refused(flag.ProblemInvalid, "holder", "Terraform's")},
	{name: "Terraform's holder, by an admin", given: []act{put()}, when: place("terraform").as(admin), want: refused(flag.ProblemInvalid, "holder")},
	{name: "an operator's holder, by Terraform", given: []act{put()}, when: place("anna").in(payments), want: refused(flag.ProblemInvalid, "holder", "terraform/<name>")},
	{name: "a holder that only begins alike, by an operator", given: []act{put()}, when: place("terraformer"), want: applied()},

	// the flag
	{name: "no flag", when: place("anna"), want: refused(flag.ProblemNotFound, "flag_key", "no such flag")},
	{name: "archived flag", given: []act{put(), archive()}, when: place("anna"), want: applied()},
	{name: "another's flag", given: []act{put().in(payments)}, when: place("terraform").in(search), want: applied(managed(theHold("terraform"), search))},
	{
		name: "does not touch the flag", given: []act{put()}, when: place("anna"),
		want: applied(newerThanItsFlag("anna")),
	},

	// what it says
	{name: "no reason", given: []act{put()}, when: place("anna", reason(" ")), want: refused(flag.ProblemInvalid, "reason")},
	{name: "expiry in the past", given: []act{put()}, when: place("anna", expiring(-time.Hour)), want: refused(flag.ProblemInvalid, "expires_at", "in the past")},
	{name: "expiry beyond all calendars", given: []act{put()}, when: place("anna", expiringIn(10_000)), want: refused(flag.ProblemInvalid, "expires_at", "year")},
	{name: "expiry at the end of all calendars", given: []act{put()}, when: place("anna", expiringIn(9_999)), want: applied()},
	{name: "what the server sets is not taken", given: []act{put()}, when: place("anna", func(h *flag.Hold, begin time.Time) {
		h.Actor, h.Since, h.Expired, h.OwnerID, h.Changed = "forged", begin.Add(-time.Hour), true, payments, flag.Stamp{Revision: 99}
	}), want: applied(managed(theHold("anna"), ""), holdIs("anna", "placed now by anna", func(h *flag.Hold) bool {
		return h.Actor == "anna" && h.Since.Equal(h.Changed.Time) && !h.Expired
	}))},

	// Terraform's
	{name: "absent, to be new", given: []act{put()}, when: place("terraform").in(payments).expecting(fresh), want: applied(managed(theHold("terraform"), payments))},
	{name: "absent, though it was read", given: []act{put()}, when: place("terraform").in(payments).expecting(asRead), want: refused(flag.ProblemNotFound, "")},
	{
		name: "released since it was read", given: []act{put(), place("terraform").in(payments), release("terraform").as(admin)}, when: place("terraform").in(payments).expecting(outdated),
		want: refused(flag.ProblemNotFound, "", "removed by admin").because("admin", ""),
	},
	{name: "read from another store", given: []act{put(), place("anna")}, when: release("anna").expecting(elsewhere), want: refused(flag.ProblemConflict, "", "another store")},
	{name: "gone, and read from another store", given: []act{put()}, when: release("anna").expecting(elsewhere), want: refused(flag.ProblemConflict, "", "another store")},
	{name: "same, to be new, by its own workspace: adopted, so written anew", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(payments).expecting(fresh), want: applied(writtenAnew)},
	{name: "different, to be new, by its own workspace", given: []act{put(), place("terraform").in(payments)}, when: place("terraform", reason("other")).in(payments).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "holder", `holder = "terraform/<name>"`, "import").because("ci", payments)},
	{name: "same, to be new, by another workspace", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(search).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "holder", `holder = "terraform/<name>"`, "import", `workspace "payments"`).because("ci", payments)},
	{name: "by another workspace", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(search), want: refused(flag.ProblemAlreadyExists, "holder", `holder = "terraform/<name>"`).because("ci", payments)},
	{name: "by another workspace, as read", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(search).expecting(asRead), want: refused(flag.ProblemOwned, "", `workspace "payments"`).because("ci", payments)},
	{name: "by another workspace, with a holder of its own", given: []act{put(), place("terraform").in(payments)}, when: place("terraform/search").in(search).expecting(fresh), want: applied(managed(theHold("terraform"), payments))},
	{name: "taken over", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(search).expecting(asRead).taking(), want: applied(managed(theHold("terraform"), search), stillThe(theHold("terraform")))},
	{name: "taken over, to be new", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(search).expecting(fresh).taking(), want: refused(flag.ProblemAlreadyExists, "holder").because("ci", payments)},
	{name: "same, as read", given: []act{put(), place("terraform").in(payments)}, when: place("terraform").in(payments).expecting(asRead), want: unchanged},
	{
		name: "different, as read", given: []act{put(), place("terraform").in(payments)}, when: place("terraform", reason("other")).in(payments).expecting(asRead),
		want: applied(holdIs("terraform", "the same hold with another reason", func(h *flag.Hold) bool { return h.Reason == "other" && h.Since.Before(h.Changed.Time) })),
	},
	{name: "outdated", given: []act{put(), place("terraform").in(payments), place("terraform", reason("other")).in(payments)}, when: place("terraform").in(payments).expecting(outdated), want: refused(flag.ProblemConflict, "").because("ci", payments)},

	// operators'
	{name: "same, again", given: []act{put(), place("anna")}, when: place("anna"), want: unchanged},
	{name: "to be new, again", given: []act{put(), place("anna")}, when: place("anna").expecting(fresh), want: refused(flag.ProblemAlreadyExists, "holder").because("anna", "")},
	{name: "by who placed it", given: []act{put(), place("night")}, when: place("night", reason("other"), expiring(late)), want: applied(holdIs("night", "anna's still", func(h *flag.Hold) bool {
		return h.Actor == "anna" && h.Reason == "other" && h.Since.Before(h.Changed.Time)
	}))},
	{name: "by another operator", given: []act{put(), place("night")}, when: place("night", reason("other")).as(boris), want: deniedByAnna},
	{name: "by an admin", given: []act{put(), place("night")}, when: place("night", reason("other")).as(admin), want: applied(holdIs("night", "anna's still", func(h *flag.Hold) bool {
		return h.Actor == "anna" && h.Changed.Actor == "admin"
	}))},
	{name: "by an admin, outdated", given: []act{put(), place("night"), place("night", reason("other"))}, when: place("night").as(admin).expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},

	// expired
	{name: "expired, the same expiry again", given: []act{put(), place("anna", expiring(soon)), wait()}, when: place("anna", expiring(soon)), want: unchanged},
	{
		name: "expired, another reason", given: []act{put(), place("anna", expiring(soon)), wait()}, when: place("anna", expiring(soon), reason("other")),
		want: applied(holdIs("anna", "expired still", func(h *flag.Hold) bool { return !h.StandsAt(h.Changed.Time) && h.Since.Before(h.Changed.Time) })),
	},
	{
		name: "expired, a new expiry", given: []act{put(), place("anna", expiring(soon)), wait()}, when: place("anna", expiring(late)),
		want: applied(holdIs("anna", "standing again", func(h *flag.Hold) bool { return h.StandsAt(h.Changed.Time) && h.Since.Equal(h.Changed.Time) })),
	},
	{
		name: "expired, no expiry any more", given: []act{put(), place("anna", expiring(soon)), wait()}, when: place("anna"),
		want: applied(holdIs("anna", "standing again", func(h *flag.Hold) bool { return h.StandsAt(h.Changed.Time) })),
	},
	{name: "expired, another expiry in the past", given: []act{put(), place("anna", expiring(soon)), wait()}, when: place("anna", expiring(soon+time.Minute)), want: refused(flag.ProblemInvalid, "expires_at")},
	{name: "expiry moved into the past", given: []act{put(), place("anna", expiring(late)), wait()}, when: place("anna", expiring(soon)), want: refused(flag.ProblemInvalid, "expires_at")},
}

var releaseHoldRules = []rule{
	{name: "absent", given: []act{put()}, when: release("anna"), want: refused(flag.ProblemNotFound, "", "cannot be released")},
	{name: "no flag", when: release("anna"), want: refused(flag.ProblemNotFound, "")},
	{name: "released since it was read", given: []act{put(), place("anna"), release("anna")}, when: release("anna").expecting(outdated), want: refused(flag.ProblemNotFound, "", "removed by anna").because("anna", "")},
	{name: "by who placed it", given: []act{put(), place("night")}, when: release("night"), want: applied()},
	{name: "by another operator", given: []act{put(), place("night")}, when: release("night").as(boris), want: deniedByAnna},
	{name: "by an admin", given: []act{put(), place("night")}, when: release("night").as(admin), want: applied()},
	{name: "outdated", given: []act{put(), place("anna"), place("anna", reason("other"))}, when: release("anna").expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "of an archived flag", given: []act{put(), place("anna"), archive()}, when: release("anna"), want: applied(archivedAs(flag.Default))},
	{name: "expired", given: []act{put(), place("anna", expiring(soon)), wait()}, when: release("anna"), want: applied()},
	{name: "Terraform's, by an operator", given: []act{put(), place("terraform").in(payments)}, when: release("terraform"), want: refused(flag.ProblemDenied, "", "placed by ci", "admin").because("ci", payments)},
	{name: "Terraform's, by the token that placed it, as an operator", given: []act{put(), place("terraform").in(payments)}, when: release("terraform").as(ci), want: refused(flag.ProblemDenied, "").because("ci", payments)},
	{name: "Terraform's, by an admin", given: []act{put(), place("terraform").in(payments)}, when: release("terraform").as(admin), want: applied()},
	{name: "an operator's, by Terraform", given: []act{put(), place("anna")}, when: release("anna").in(payments), want: refused(flag.ProblemInvalid, "holder")},
	{name: "an operator's, taken over by Terraform", given: []act{put(), place("anna")}, when: release("anna").in(payments).taking(), want: refused(flag.ProblemInvalid, "holder")},
	{name: "ours", given: []act{put(), place("terraform").in(payments)}, when: release("terraform").in(payments).expecting(asRead), want: applied()},
	{name: "ours, outdated", given: []act{put(), place("terraform").in(payments), place("terraform", reason("other")).in(payments)}, when: release("terraform").in(payments).expecting(outdated), want: refused(flag.ProblemConflict, "").because("ci", payments)},
	{name: "of another workspace", given: []act{put(), place("terraform").in(payments)}, when: release("terraform").in(search), want: refused(flag.ProblemOwned, "", `workspace "payments"`).because("ci", payments)},
	{name: "of another workspace, taken over", given: []act{put(), place("terraform").in(payments)}, when: release("terraform").in(search).taking(), want: applied()},
}

// deniedByAnna is what another operator gets: who placed it, and what it takes.
var deniedByAnna = refused(flag.ProblemDenied, "", "placed by anna", "it burns", "admin").because("anna", "")

// expiringIn sets the expiry to the beginning of a year.
func expiringIn(year int) func(*flag.Hold, time.Time) {
	return func(h *flag.Hold, _ time.Time) { h.ExpiresAt = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
}

// newerThanItsFlag says that a hold does not change the flag's own revision.
func newerThanItsFlag(holder string) func(*flag.Snapshot, flag.Key) error {
	return func(s *flag.Snapshot, key flag.Key) error {
		if f, h := s.Flag(key), s.Hold(key, holder); f == nil || h == nil || f.Changed.Revision >= h.Changed.Revision {
			return fmt.Errorf("the hold is not newer than its flag: %s %s", document(s.Object(theFlag(key))), document(s.Object(theHold(holder)(key))))
		}
		return nil
	}
}
