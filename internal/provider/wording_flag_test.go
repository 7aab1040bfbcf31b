package provider

import (
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// wordingSections gives all cases, in the order in which they are read.
func wordingSections() []wordingSection {
	return []wordingSection{
		{"The provider's settings", settingsWording},
		{"The road to the flag server", roadWording},
		{"bunting_flag: the configuration", flagConfigWording},
		{"bunting_flag: plan, apply and destroy", flagWording},
		{"bunting_override", overrideWording},
		{"bunting_kill_switch", killSwitchWording},
		{"Import", importWording},
		{"The data sources", dataWording},
		{"Many flags, plain evaluators, and outages", manyWording},
	}
}

// flags makes a case of several configurations of a flag, one after the other.
func flags(name string, configs ...string) wordingCase {
	return wordingCase{name, func(s *wordingScene) {
		for _, config := range configs {
			s.plans(s.flag(config))
		}
	}}
}

func longText(n int) string { return strings.Repeat("a", n) }

func manyNumbers(n int) string {
	var all []string
	for i := range n {
		all = append(all, strconv.Itoa(i))
	}
	return strings.Join(all, ",")
}

func manyTags(n int) string { return `"` + strings.ReplaceAll(manyNumbers(n), ",", `","`) + `"` }

func deepList(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

var flagConfigWording = []wordingCase{
	flags("a key that is none", `{"key": ""}`, `{"key": "a//b"}`, `{"key": "new cart"}`, `{"key": "`+longText(513)+`"}`),
	flags("a type that is none", `{"type": "number"}`),
	flags("a default value of another type", `{"type": "string"}`, `{"type": "string", "default_value": 3, "value": null}`, `{"type": "int", "default_value": "1", "value": null}`, `{"type": "double", "default_value": "1", "value": null}`, `{"type": "string", "default_value": ["a"], "value": null}`),
	flags("a value of another type than the default value", `{"value": 1}`, `{"value": "on"}`, `{"value": ["on"]}`, `{"default_value": "blue", "value": 3}`, `{"default_value": 1, "value": "three"}`),
	{"a default value that is null", func(s *wordingScene) {
		b := s.flag("")
		b.attrs["default_value"] = cty.NullVal(cty.String)
		s.plans(b)
	}},
	flags("numbers that the type cannot hold", `{"type": "int", "default_value": 9223372036854775808, "value": null}`, `{"type": "int", "default_value": 0.5, "value": null}`, `{"type": "double", "default_value": 1e400, "value": null}`),
	flags("a value that is not allowed", `{"default_value": 1, "value": 2, "allowed_values": [1, 3]}`),
	flags("allowed values that are no list, or of another type", `{"default_value": 1, "value": null, "allowed_values": 1}`, `{"default_value": 1, "value": null, "allowed_values": ["a"]}`, `{"default_value": {"a": 1}, "value": null, "allowed_values": [null]}`),
	flags("too many allowed values", `{"default_value": 1, "value": null, "allowed_values": [`+manyNumbers(257)+`]}`),
	flags("a layer that is none", `{"layer": "1st"}`, `{"layer": "`+longText(65)+`"}`),
	flags("texts that are too long, or not for people", `{"description": "`+longText(4097)+`"}`, `{"owner": "a\u0007"}`, `{"tags": [""]}`, `{"tags": [`+manyTags(65)+`]}`),
	flags("a value that is too large, or too deep", `{"default_value": "`+longText(1<<20+1)+`", "value": null}`, `{"default_value": `+deepList(65)+`, "value": null}`),
	flags("what happens on destroy", `{"on_destroy": "forget"}`),
	flags("timeouts that are none", `{"timeouts": {"create": null, "read": "soon", "update": null, "delete": null}}`, `{"timeouts": {"create": "0s", "read": null, "update": null, "delete": null}}`, `{"timeouts": {"create": null, "read": null, "update": null, "delete": "-1m"}}`),
	{"the same flag twice", func(s *wordingScene) {
		again := s.flag("")
		again.address = "bunting_flag.again"
		s.plans(s.flag(""), again)
	}},
}

var flagWording = []wordingCase{
	{"the key is taken: not managed by Terraform", func(s *wordingScene) {
		s.anna.does(flag.Put(boolFlag("pay")))
		s.applies(s.flag(""))
	}},
	{"the key is taken: by a workspace", func(s *wordingScene) {
		s.terraform("payments").applied(s, s.flag(""))
		s.forget()
		s.applies(s.flag(""))
	}},
	{"the key is taken: by a set of bunting sync", func(s *wordingScene) {
		synced := flag.Put(boolFlag("pay"))
		synced.OwnerID = flag.SyncOwner("shop")
		s.anna.does(synced)
		s.applies(s.flag(""))
	}},
	{"the key is taken: by a configuration without a workspace name", func(s *wordingScene) {
		s.terraform("").applied(s, s.flag(""))
		s.forget()
		s.applies(s.flag(""))
	}},
	{"the key is taken: by one of the same workspace name", func(s *wordingScene) {
		s.terraform("payments").applied(s, s.flag(""))
		s.forget()
		s.core = s.terraform("payments")
		s.applies(s.flag(`{"description": "another"}`))
	}},
	{"changed elsewhere: told by the plan", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Owner = "anna" }))
		s.plans(s.flag(""))
	}},
	{"changed by another apply of the same workspace: told by the plan", func(s *wordingScene) {
		s.core = s.terraform("payments")
		s.ready(s.flag(""))
		s.second("payments", s.flag(`{"description": "another"}`), "pay")
		s.plans(s.flag(""))
	}},
	{"changed by an apply of the same configuration: told by the plan", func(s *wordingScene) {
		s.ready(s.flag(""))
		before := s.core.state
		s.ready(s.flag(`{"description": "another"}`))
		s.core.state = before // the answer was lost
		s.plans(s.flag(""))
	}},
	{"taken over by another workspace: told by the plan, refused by the apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.second("billing", s.flag(`{"description": "another"}`), "pay")
		s.applies(s.flag(""))
	}},
	{"archived elsewhere", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(remove(flag.ArchiveFlag, flag.FlagRef("pay")))
		s.plans(s.flag(""))
	}},
	{"deleted elsewhere", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(remove(flag.DeleteFlag, flag.FlagRef("pay")))
		s.plans(s.flag(""))
	}},
	{"gone, and nobody knows by whom", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.moves()
		s.plans(s.flag(""))
	}},
	{"held killed by somebody", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(kill("pay", "ops-anna"), flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops-ben", Reason: "until noon", ExpiresAt: time.Now().Add(time.Hour)}))
		s.plans(s.flag(""))
	}},
	{"held killed by a kill switch of another workspace", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.terraform("ops").applied(s, s.kill(""))
		s.forget()
		s.plans(s.flag(""))
	}},
	{"changed between plan and apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.between(func() { s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Owner = "anna" })) }, s.flag(`{"description": "new"}`))
	}},
	{"made by somebody between plan and apply", func(s *wordingScene) {
		s.between(func() { s.anna.does(flag.Put(boolFlag("pay"))) }, s.flag(""))
	}},
	{"deleted between plan and apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.between(func() { s.anna.does(remove(flag.DeleteFlag, flag.FlagRef("pay"))) }, s.flag(`{"description": "new"}`))
	}},
	{"the database was restored between plan and apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.between(func() { s.moves().does(flag.Put(boolFlag("pay"))) }, s.flag(`{"description": "new"}`))
	}},
	{"gone from a restored database between plan and apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.between(func() { s.moves() }, s.flag(`{"description": "new"}`))
	}},
	{"destroying: changed between plan and apply", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.between(func() { s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Owner = "anna" })) })
	}},
	{"destroying: changed elsewhere before, and the plan does not refresh", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Owner = "anna" }))
		s.core.plan(nil, coreMode{noRefresh: true})
	}},
	{"destroying: taken over by another workspace", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "delete"}`))
		s.between(func() { s.second("billing", s.flag(`{"description": "another"}`), "pay") })
	}},
	{"destroying: deleting what somebody holds killed", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "delete"}`))
		s.anna.does(kill("pay", "ops-anna"))
		s.applies()
	}},
	{"destroying: deleting with another's override", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "delete"}`))
		s.terraform("billing").applied(s, s.override(""))
		s.forget()
		s.applies()
	}},
	{"destroying what is protected", func(s *wordingScene) {
		s.ready(s.flag(`{"deletion_protection": true}`))
		s.applies()
	}},
	{"replacing what is protected", func(s *wordingScene) {
		s.ready(s.flag(`{"deletion_protection": true}`))
		s.plans(s.flag(`{"key": "other", "deletion_protection": true}`))
	}},
	{"a change of type", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.plans(s.flag(`{"default_value": "a", "value": null}`))
	}},
	{"a change of type of a flag that is deleted on destroy", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "delete"}`))
		s.plans(s.flag(`{"default_value": "a", "value": null, "on_destroy": "delete"}`))
	}},
	{"a change of type that is known during apply only", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.plans(later(s.flag(`{"value": "a"}`), "default_value", cty.StringVal("b")))
	}},
	{"a change of type of a flag that is kept on destroy", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "keep"}`))
		s.plans(s.flag(`{"default_value": "a", "value": null, "on_destroy": "keep"}`))
	}},
	{"a change of type that no plan has shown", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.applies(later(s.flag(`{"value": null}`), "default_value", cty.StringVal("b")))
	}},
	{"a number of the server that Terraform cannot hold", func(s *wordingScene) {
		s.ready(s.flag(`{"default_value": {"a": 1}, "value": null}`))
		for _, number := range []string{"1e100000", "1e-100000", "1e999999999"} {
			s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Default = must(flag.JSONValue(`{"a":` + number + `}`)) }))
			s.plans(s.flag(""))
		}
	}},
	{"a state whose private part is damaged", func(s *wordingScene) {
		s.ready(s.flag(""))
		object := *s.core.state[coreKey{"bunting_flag.f", 0}]
		for _, private := range []string{"WzFd", "ew=="} { // [1] and {
			object.private = []byte(`{"object": "` + private + `"}`)
			s.core.state[coreKey{"bunting_flag.f", 0}] = &object
			s.plans(s.flag(""))
		}
	}},
}

// second lets another configuration of the workspace import a block's object and
// write it.
func (s *wordingScene) second(workspace string, b coreBlock, id string) {
	s.Helper()
	other := s.terraform(workspace)
	other.imports(b, id).must(s.T)
	other.applied(s, b)
	s.forget()
}

// moves lets the provider find another server at its endpoint, and gives anna there.
func (s *wordingScene) moves() operator {
	s.Helper()
	s.server = buntingtest.Start(s)
	s.core.setting["endpoint"], s.core.setting["token"] = cty.StringVal(s.server.Endpoint), cty.StringVal(s.server.AdminToken)
	return newOperator(s.T, s.server, "anna")
}
