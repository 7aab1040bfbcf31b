package storetest

import "github.com/bunting-flags/terraform-provider-bunting/internal/flag"

var setOverrideRules = []rule{
	{name: "no flag", when: set(), want: refused(flag.ProblemNotFound, "flag_key", "no such flag", ".key")},
	{name: "archived flag", given: []act{put(), archive()}, when: set(), want: refused(flag.ProblemInvalid, "flag_key", "is archived", "restore it first")},
	{name: "flag without a layer", given: []act{put(layered(""))}, when: set(), want: refused(flag.ProblemInvalid, "flag_key", "without a layer")},
	{name: "flag of the global layer", given: []act{put(layered("global"))}, when: set(servingDefault), want: refused(flag.ProblemInvalid, "flag_key", "without a layer")},
	{name: "value of another type", given: []act{put()}, when: set(serving(flag.IntValue(1))), want: refused(flag.ProblemInvalid, "value", "of type bool")},
	{
		name: "value that is not allowed", given: []act{put(func(f *flag.Flag) { f.Value = flag.Value{}; f.AllowedValues = []flag.Value{flag.BoolValue(false)} })},
		when: set(), want: refused(flag.ProblemInvalid, "value", "allowed_values"),
	},
	{name: "no value", given: []act{put()}, when: set(serving(flag.Value{})), want: refused(flag.ProblemInvalid, "value", "missing")},

	{name: "absent", given: []act{put()}, when: set(), want: applied(managed(theOverride, ""))},
	{name: "absent, to be new", given: []act{put()}, when: set().in(payments).expecting(fresh), want: applied(managed(theOverride, payments))},
	{name: "absent, though it was read", given: []act{put()}, when: set().expecting(asRead), want: refused(flag.ProblemNotFound, "", `for "u1" does not exist`)},
	{name: "removed since it was read", given: []act{put(), set(), removal()}, when: set().expecting(outdated), want: refused(flag.ProblemNotFound, "", "removed by anna").because("anna", "")},
	{name: "on another's flag", given: []act{put().in(payments)}, when: set().in(search), want: applied(managed(theOverride, search))},
	{name: "on a held flag", given: []act{put(), place("anna")}, when: set(), want: applied()},

	{name: "same", given: []act{put(), set()}, when: set(), want: unchanged},
	{name: "same, as read", given: []act{put(), set().in(payments)}, when: set().in(payments).expecting(asRead), want: unchanged},
	{name: "same, outdated", given: []act{put(), set(), set(servingDefault)}, when: set(servingDefault).expecting(outdated), want: refused(flag.ProblemConflict, "", "changed by anna").because("anna", "")},
	{name: "read from another store", given: []act{put(), set()}, when: removal().expecting(elsewhere), want: refused(flag.ProblemConflict, "", "another store")},
	{name: "same, to be new, by its own workspace: adopted, so written anew", given: []act{put(), set().in(payments)}, when: set().in(payments).expecting(fresh), want: applied(writtenAnew)},
	{name: "same, to be new, by an operator", given: []act{put(), set()}, when: set().expecting(fresh), want: refused(flag.ProblemAlreadyExists, "entity_id", "already").because("anna", "")},
	{
		name: "same, to be new, by another workspace", given: []act{put(), set().in(payments)}, when: set().in(search).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "entity_id", `workspace "payments"`, "import", ":u1").because("ci", payments),
	},
	{
		name: "same, to be new, by a configuration without a name", given: []act{put(), set().in(unnamed)}, when: set().in(another).expecting(fresh),
		want: refused(flag.ProblemAlreadyExists, "entity_id", "provider setting workspace").because("ci", unnamed),
	},

	{name: "different", given: []act{put(), set()}, when: set(servingDefault), want: applied()},
	{name: "different, as read", given: []act{put(), set()}, when: set(servingDefault).expecting(asRead), want: applied(stillThe(theOverride))},
	{name: "different, outdated", given: []act{put(), set(), set(servingDefault)}, when: set().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "different, to be new", given: []act{put(), set().in(payments)}, when: set(servingDefault).in(payments).expecting(fresh), want: refused(flag.ProblemAlreadyExists, "entity_id").because("ci", payments)},
	{name: "inert, set again", given: []act{put(), set(), put(numeric)}, when: set(serving(flag.IntValue(5))), want: applied()},

	{name: "of nobody", given: []act{put(), set()}, when: set().in(payments), want: applied(managed(theOverride, payments))},
	{name: "of another", given: []act{put(), set().in(payments)}, when: set(servingDefault).in(search), want: refused(flag.ProblemOwned, "", `workspace "payments"`).because("ci", payments)},
	{name: "of another, taken over", given: []act{put(), set().in(payments)}, when: set().in(search).taking(), want: applied(managed(theOverride, search))},
	{name: "taken over from us", given: []act{put(), set().in(payments), set().in(search).taking()}, when: set().in(payments).expecting(outdated), want: refused(flag.ProblemOwned, "").because("ci", search)},
	{name: "of Terraform, by an operator", given: []act{put(), set().in(payments)}, when: set(servingDefault), want: applied(managed(theOverride, payments))},
}

var removeOverrideRules = []rule{
	{name: "no flag", when: removal(), want: refused(flag.ProblemNotFound, "", "cannot be removed")},
	{name: "absent", given: []act{put()}, when: removal(), want: refused(flag.ProblemNotFound, "")},
	{name: "removed since it was read", given: []act{put(), set(), removal()}, when: removal().expecting(outdated), want: refused(flag.ProblemNotFound, "", "removed by anna").because("anna", "")},
	{name: "there", given: []act{put(), set()}, when: removal(), want: applied()},
	{name: "as read", given: []act{put(), set().in(payments)}, when: removal().in(payments).expecting(asRead), want: applied()},
	{name: "outdated", given: []act{put(), set(), set(servingDefault)}, when: removal().expecting(outdated), want: refused(flag.ProblemConflict, "").because("anna", "")},
	{name: "of an archived flag", given: []act{put(), set(), archive()}, when: removal(), want: applied()},
	{name: "of a flag without a layer now", given: []act{put(), set(), put(layered(""))}, when: removal(), want: applied()},
	{name: "of a held flag", given: []act{put(), set(), place("anna")}, when: removal(), want: applied()},
	{name: "of another", given: []act{put(), set().in(payments)}, when: removal().in(search), want: refused(flag.ProblemOwned, "").because("ci", payments)},
	{name: "of another, taken over", given: []act{put(), set().in(payments)}, when: removal().in(search).taking(), want: applied()},
	{name: "of Terraform, by an operator", given: []act{put(), set().in(payments)}, when: removal(), want: applied()},
}
