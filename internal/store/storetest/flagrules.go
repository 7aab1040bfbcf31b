package storetest

import (
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var putFlagRules = []rule{
	// absent
	{name: "absent", when: put(), want: applied(managed(theFlag, ""))},
	{name: "absent, to be new", when: put().in(payments).expecting(fresh), want: applied(managed(theFlag, payments))},
	{name: "absent, though it was read", when: put().expecting(asRead), want: refused(flag.ProblemNotFound, "", "does not exist", "Read it again")},
	{
		name: "removed since it was read", given: []act{put(), deletion()}, when: put().expecting(outdated),
		want: refused(flag.ProblemNotFound, "", "removed by anna").because("anna", ""),
	},

	// the same
	{name: "same", given: []act{put()}, when: put(), want: unchanged},
	{name: "same in another order", given: []act{put()}, when: put(func(f *flag.Flag) { f.Tags = []string{"b", "a", "b"} }), want: unchanged},
	{name: "same, as read", given: []act{put()}, when: put().expecting(asRead), want: unchanged},
	{name: "same, outdated", given: []act{put(), differs()}, when: differs().expecting(outdated), want: refused(flag.ProblemConflict, "", "changed by anna", "Read it again").because("anna", "")},
	{name: "same, to be new, by an operator", given: []act{put()}, when: put().expecting(fresh), want: refused(flag.ProblemAlreadyExists, "key", "exists already", "not managed by Terraform").because("anna", "")},
	{name: "same, to be new, by its own workspace: adopted, so written anew", given: []act{put().in(payments)}, when: put().in(payments).expecting(fresh), want: applied(writtenAnew)},
	{name: "same, to be new, not yet managed", given: []act{put()}, when: put().in(payments).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "key", "import").because("anna", "")},
	{
		name: "same, to be new, by another workspace", given: []act{put().in(payments)}, when: put().in(search).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "key", `managed by workspace "payments"`, "import").because("ci", payments),
	},
	{
		name: "same, to be new, by a configuration without a name", given: []act{put().in(unnamed)}, when: put().in(another).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "key", "a Terraform configuration without a workspace name", "provider setting workspace", "import").because("ci", unnamed),
	},

	// different
	{name: "different", given: []act{put()}, when: differs(), want: applied(flagIs("the new one", func(f *flag.Flag) bool { return f.Description == "differs" }))},
	{name: "different, as read", given: []act{put()}, when: differs().expecting(asRead), want: applied(stillThe(theFlag))},
	{name: "different, outdated", given: []act{put(), disabled()}, when: differs().expecting(outdated), want: refused(flag.ProblemConflict, "", "is at revision").because("anna", "")},
	{name: "different, to be new, by its own workspace", given: []act{put().in(payments)}, when: differs().in(payments).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "key", "differs", "same workspace name", "create_before_destroy", "import").because("ci", payments)},
	{name: "another type, to be new, by its own workspace: replaced", given: []act{put().in(payments)}, when: put(numeric).in(payments).expecting(fresh), want: applied(writtenAnew, managed(theFlag, payments))},
	{
		name: "another type, to be new, by its own workspace, changed by somebody since", given: []act{put().in(payments), differs()}, when: put(numeric).in(payments).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "key", "create_before_destroy").because("anna", payments),
	},
	{
		name: "another type, to be new, by a configuration without a name", given: []act{put().in(unnamed)}, when: put(numeric).in(another).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "key", "create_before_destroy", "setting workspace").because("ci", unnamed),
	},
	{name: "another type, to be new, by another workspace", given: []act{put().in(payments)}, when: put(numeric).in(search).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "key").because("ci", payments)},
	{name: "read from another store", given: []act{put()}, when: differs().expecting(elsewhere), want: refused(flag.ProblemConflict, "", "another store", "Read it again")},
	{name: "another type leaves overrides", given: []act{put(), set()}, when: put(numeric), want: applied(managed(theOverride, ""))},
	{name: "no layer any more leaves overrides", given: []act{put(), set()}, when: put(layered("")), want: applied(managed(theOverride, ""))},
	{name: "held", given: []act{put(), place("anna")}, when: differs(), want: applied(managed(theHold("anna"), ""))},

	// archived
	{name: "archived", given: []act{put(), archive()}, when: put(), want: applied(archivedAs(0), writtenAnew)},
	{name: "archived, to be new", given: []act{put().in(payments), archive().in(payments)}, when: differs().in(search).expecting(fresh), want: applied(archivedAs(0), managed(theFlag, search))},
	{name: "archived, as read", given: []act{put(), archive()}, when: put().in(payments).expecting(asRead), want: applied(archivedAs(0), managed(theFlag, payments))},
	{name: "archived, outdated", given: []act{put(), archive()}, when: put().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},

	// owners
	{name: "of nobody", given: []act{put()}, when: put().in(payments), want: applied(managed(theFlag, payments))},
	{name: "of nobody, as read", given: []act{put()}, when: put().in(payments).expecting(asRead), want: applied(managed(theFlag, payments))},
	{name: "of nobody, outdated", given: []act{put(), differs()}, when: put().in(payments).expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "of another", given: []act{put().in(payments)}, when: differs().in(search), want: refused(flag.ProblemOwned, "", `managed by workspace "payments"`, "import").because("ci", payments)},
	{name: "of another, as read", given: []act{put().in(payments)}, when: differs().in(search).expecting(asRead), want: refused(flag.ProblemOwned, "").because("ci", payments)},
	{name: "of another, taken over", given: []act{put().in(payments)}, when: put().in(search).expecting(asRead).taking(), want: applied(managed(theFlag, search), stillThe(theFlag))},
	{name: "of another, taken over, outdated", given: []act{put().in(payments), disabled()}, when: put().in(search).expecting(outdated).taking(), want: refused(flag.ProblemConflict, "").because("anna", payments)},
	{name: "of another, taken over, to be new", given: []act{put().in(payments)}, when: put().in(search).expecting(fresh).taking(), want: refused(flag.ProblemAlreadyExists, "key").because("ci", payments)},
	{name: "taken over from us", given: []act{put().in(payments), put().in(search).taking()}, when: differs().in(payments).expecting(outdated), want: refused(flag.ProblemOwned, "", `workspace "search"`).because("ci", search)},
	{name: "of Terraform, by an operator", given: []act{put().in(payments)}, when: differs(), want: applied(managed(theFlag, payments))},
	{name: "changed by an operator since it was read", given: []act{put().in(payments), differs()}, when: put().in(payments).expecting(outdated), want: refused(flag.ProblemConflict, "", "changed by anna").because("anna", payments)},
	{name: "ours", given: []act{put().in(payments)}, when: differs().in(payments).expecting(asRead), want: applied(managed(theFlag, payments))},

	// rules of the domain
	{name: "without a default", when: put(func(f *flag.Flag) { f.Default = flag.Value{} }), want: refused(flag.ProblemInvalid, "default_value", "missing")},
	{name: "value of another type", when: put(func(f *flag.Flag) { f.Value = flag.IntValue(3) }), want: refused(flag.ProblemInvalid, "value", "the flag is of type bool")},
	{name: "value that is not allowed", when: put(func(f *flag.Flag) { f.AllowedValues = []flag.Value{flag.BoolValue(false)} }), want: refused(flag.ProblemInvalid, "value", "allowed_values")},
	{name: "layer that is none", when: put(layered("a b")), want: refused(flag.ProblemInvalid, "layer")},
	{name: "what the server sets is not taken", when: put(func(f *flag.Flag) {
		f.ArchivedState, f.OwnerID, f.Changed = flag.Enabled, "workspace:forged", flag.Stamp{Revision: 99, Actor: "forged"}
	}), want: applied(archivedAs(0), managed(theFlag, ""), flagIs("anna's", func(f *flag.Flag) bool { return f.Changed.Actor == "anna" }))},
}

var archiveFlagRules = []rule{
	{name: "absent", when: archive(), want: refused(flag.ProblemNotFound, "", "cannot be archived")},
	{name: "removed since it was read", given: []act{put(), deletion()}, when: archive().expecting(outdated), want: refused(flag.ProblemNotFound, "", "removed by anna").because("anna", "")},
	{name: "serves its value", given: []act{put()}, when: archive(), want: applied(archivedAs(flag.Enabled))},
	{name: "as read", given: []act{put().in(payments)}, when: archive().in(payments).expecting(asRead), want: applied(archivedAs(flag.Enabled), managed(theFlag, ""))},
	{name: "disabled", given: []act{disabled()}, when: archive(), want: applied(archivedAs(flag.Default))},
	{name: "without a value", given: []act{valueless()}, when: archive(), want: applied(archivedAs(flag.Default))},
	{name: "held", given: []act{put(), place("anna")}, when: archive(), want: applied(archivedAs(flag.Default), managed(theHold("anna"), ""))},
	{name: "held until a while ago", given: []act{put(), place("anna", expiring(soon)), wait()}, when: archive(), want: applied(archivedAs(flag.Enabled))},
	{name: "archived", given: []act{put(), archive()}, when: archive(), want: unchanged},
	{name: "archived, as read", given: []act{put(), archive()}, when: archive().in(payments).expecting(asRead), want: unchanged},
	{name: "archived, outdated", given: []act{put(), archive()}, when: archive().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "outdated", given: []act{put(), differs()}, when: archive().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "expected not to be there", given: []act{put()}, when: archive().expecting(fresh), want: refused(flag.ProblemConflict, "", "expected not to exist").because("anna", "")},
	{name: "of another", given: []act{put().in(payments)}, when: archive().in(search), want: refused(flag.ProblemOwned, "").because("ci", payments)},
	{name: "of another, taken over", given: []act{put().in(payments)}, when: archive().in(search).taking(), want: applied(managed(theFlag, ""))},
	{name: "of Terraform, by an operator", given: []act{put().in(payments)}, when: archive(), want: applied(archivedAs(flag.Enabled), managed(theFlag, ""))},
	{name: "keeps the overrides", given: []act{put(), set()}, when: archive(), want: applied(managed(theOverride, ""))},
}

var restoreFlagRules = []rule{
	{name: "absent", when: restore(), want: refused(flag.ProblemNotFound, "", "cannot be restored")},
	{name: "archived", given: []act{put().in(payments), archive()}, when: restore(), want: applied(archivedAs(0), managed(theFlag, ""))},
	{name: "archived, as read", given: []act{put(), archive()}, when: restore().in(payments).expecting(asRead), want: applied(archivedAs(0), managed(theFlag, payments))},
	{name: "archived, outdated", given: []act{put(), archive()}, when: restore().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "living", given: []act{put()}, when: restore(), want: unchanged},
	{name: "living, of nobody, by a workspace", given: []act{put()}, when: restore().in(payments), want: applied(managed(theFlag, payments))},
	{name: "living, of another", given: []act{put().in(payments)}, when: restore().in(search), want: refused(flag.ProblemOwned, "").because("ci", payments)},
}

var deleteFlagRules = []rule{
	{name: "absent", when: deletion(), want: refused(flag.ProblemNotFound, "", "cannot be deleted")},
	{name: "deleted before", given: []act{put(), deletion()}, when: deletion(), want: refused(flag.ProblemNotFound, "")},
	{name: "living", given: []act{put()}, when: deletion(), want: applied(nothingLeft)},
	{name: "archived", given: []act{put(), archive()}, when: deletion(), want: applied(nothingLeft)},
	{name: "ours, as read", given: []act{put().in(payments)}, when: deletion().in(payments).expecting(asRead), want: applied(nothingLeft)},
	{name: "outdated", given: []act{put(), differs()}, when: deletion().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "rewritten by its own owner since", given: []act{put().in(payments), differs().in(payments)}, when: deletion().in(payments).expecting(outdated), want: refused(flag.ProblemConflict, "").because("ci", payments)},
	{name: "of another", given: []act{put().in(payments)}, when: deletion().in(search), want: refused(flag.ProblemOwned, "").because("ci", payments)},
	{name: "of another, taken over", given: []act{put().in(payments)}, when: deletion().in(search).taking(), want: applied(nothingLeft)},
	{name: "of Terraform, by an operator", given: []act{put().in(payments), set().in(payments)}, when: deletion(), want: applied(nothingLeft)},
	{name: "with overrides of ours and of nobody", given: []act{put().in(payments), set().in(payments), {op: flag.SetOverride, by: anna, object: set(func(o *flag.Override) { o.EntityID = "u2" }).object}}, when: deletion().in(payments), want: applied(nothingLeft)},
	{name: "with an override of another", given: []act{put().in(payments), set().in(search)}, when: deletion().in(payments), want: refused(flag.ProblemOwned, "", "while there is the override", `workspace "search"`).because("ci", search)},
	{name: "held by an operator", given: []act{put().in(payments), place("anna")}, when: deletion().in(payments), want: refused(flag.ProblemHeld, "", `held killed by "anna"`, "it burns", "released").because("anna", "")},
	{name: "held by the operator who deletes", given: []act{put(), place("anna")}, when: deletion(), want: refused(flag.ProblemHeld, "").because("anna", "")},
	{name: "held by us", given: []act{put().in(payments), place("terraform").in(payments)}, when: deletion().in(payments), want: refused(flag.ProblemHeld, "", `held killed by "terraform"`, "released").because("ci", payments)},
	{name: "with our expired hold, by whoever may not kill", given: []act{put().in(payments), place("terraform", expiring(soon)).in(payments), wait()}, when: deletion().in(payments).as(wanda), want: applied(nothingLeft)},
	{name: "held by another workspace", given: []act{put().in(payments), place("terraform").in(search)}, when: deletion().in(payments), want: refused(flag.ProblemHeld, "", `held killed by "terraform"`).because("ci", search)},
	{name: "with an operator's expired hold", given: []act{put().in(payments), place("anna", expiring(soon)), wait()}, when: deletion().in(payments), want: applied(nothingLeft)},
	{name: "with another workspace's expired hold", given: []act{put().in(payments), place("terraform", expiring(soon)).in(search), wait()}, when: deletion().in(payments), want: refused(flag.ProblemOwned, "", `the hold of "terraform"`).because("ci", search)},
	{name: "with Terraform's expired hold, by an operator", given: []act{put(), place("terraform", expiring(soon)).in(search), wait()}, when: deletion(), want: refused(flag.ProblemOwned, "", `the hold of "terraform"`).because("ci", search)},
	{name: "with Terraform's expired hold, by an admin", given: []act{put(), place("terraform", expiring(soon)).in(search), wait()}, when: deletion().as(admin), want: applied(nothingLeft)},
}

var malformedRules = []rule{
	{name: "key", when: act{op: flag.PutFlag, by: anna, object: func(flag.Key, time.Time) flag.Object { return aFlag("a//b") }}, want: refused(flag.ProblemInvalid, "key", "empty segment")},
	{name: "flag_key", when: act{op: flag.SetOverride, by: anna, object: func(flag.Key, time.Time) flag.Object { return anOverride("", "u1") }}, want: refused(flag.ProblemInvalid, "flag_key", "is empty")},
	{name: "entity", when: act{op: flag.RemoveOverride, by: anna, id: "a\x00b"}, want: refused(flag.ProblemInvalid, "entity_id", "control character")},
	{name: "entity that is too long", when: act{op: flag.RemoveOverride, by: anna, id: strings.Repeat("e", flag.MaxEntityBytes+1)}, want: refused(flag.ProblemInvalid, "entity_id")},
	{name: "holder", when: place("not a holder"), want: refused(flag.ProblemInvalid, "holder")},
	{name: "owner id", when: put().in("workspace:" + strings.Repeat("w", flag.MaxOwnerIDBytes)), want: refused(flag.ProblemInvalid, "owner_id")},
	{name: "no object", when: act{op: flag.PutFlag, by: anna}, want: refused(flag.ProblemInvalid, "", "without the flag")},
	{name: "an object that is nil", when: act{op: flag.PutFlag, by: anna, object: nil, id: ""}, want: refused(flag.ProblemInvalid, "")},
	{name: "an object of another kind", when: act{op: flag.PutFlag, by: anna, object: func(key flag.Key, _ time.Time) flag.Object { return anOverride(key, "u1") }}, want: refused(flag.ProblemInvalid, "")},
	{name: "no operation", when: act{op: 99, by: anna}, want: refused(flag.ProblemInvalid, "")},
	{name: "taking over for nobody", given: []act{put()}, when: put().taking(), want: refused(flag.ProblemInvalid, "take_over", "owner_id")},
}
