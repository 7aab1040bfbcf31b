package provider

import (
	"net/http"
	"strings"
	"sync"

	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var overrideWording = []wordingCase{
	{"a configuration that is none", func(s *wordingScene) {
		s.plans(s.override(`{"flag_key": "a//b"}`))
		s.plans(s.override(`{"entity_id": ""}`))
		s.plans(s.override(`{"entity_id": "` + longText(513) + `"}`))
		s.plans(s.override(`{"entity_id": "a\u0007"}`))
		s.plans(s.override(`{"value": ` + deepList(65) + `}`))
	}},
	{"the same override twice", func(s *wordingScene) {
		again := s.override("")
		again.address = "bunting_override.again"
		s.plans(s.override(""), again)
	}},
	{"a flag that is not there", func(s *wordingScene) { s.applies(s.override(""), s.override2(`{"value": null}`)) }},
	{"a flag that somebody deletes between plan and apply", func(s *wordingScene) {
		s.layered()
		s.between(func() { s.anna.does(remove(flag.DeleteFlag, flag.FlagRef("pay"))) }, s.override(""), s.override2(`{"value": null}`))
	}},
	{"an archived flag", func(s *wordingScene) {
		s.ready(s.flag(""))
		s.anna.does(remove(flag.ArchiveFlag, flag.FlagRef("pay")))
		s.core.state = coreState{}
		s.applies(s.override(""))
	}},
	{"a flag without a layer", func(s *wordingScene) {
		s.anna.does(flag.Put(boolFlag("pay")))
		s.plans(s.override(""))
	}},
	{"a flag without a layer, of this configuration", func(s *wordingScene) { s.applies(s.flag(`{"layer": null}`), s.override("", "bunting_flag.f")) }},
	{"a flag without a layer, perhaps of this configuration", func(s *wordingScene) {
		s.ready(s.flag(`{"layer": null}`))
		s.plans(s.override(""))
	}},
	{"a value of another type than the flag's", func(s *wordingScene) {
		s.layered()
		s.plans(s.override(`{"value": "on"}`))
	}},
	{"a value that the flag does not allow", func(s *wordingScene) {
		s.ready(s.flag(`{"default_value": 1, "value": 2, "allowed_values": [1, 2]}`))
		s.plans(s.flag(`{"default_value": 1, "value": 2, "allowed_values": [1, 2]}`), s.override(`{"value": 3}`, "bunting_flag.f"))
	}},
	{"the flag gets another type between plan and apply", func(s *wordingScene) {
		s.layered()
		s.between(func() {
			s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Type, f.Default, f.Value = flag.Int, flag.IntValue(1), flag.Value{} }))
		}, s.override(""))
	}},
	{"the flag gets another type during apply", func(s *wordingScene) {
		s.layered()
		proxy, once := s.proxy(), sync.Once{}
		proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/Apply") {
				once.Do(func() {
					s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Type, f.Default, f.Value = flag.Int, flag.IntValue(1), flag.Value{} }))
				})
			}
			proxy.road.ServeHTTP(w, r)
		})
		s.applies(s.override(""))
	}},
	{"it exists already: not managed by Terraform", func(s *wordingScene) {
		s.layered()
		s.anna.does(flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(true)}))
		s.applies(s.override(""))
	}},
	{"it exists already: a workspace's", func(s *wordingScene) {
		s.layered()
		s.terraform("billing").applied(s, s.override(""))
		s.forget()
		s.applies(s.override(""))
	}},
	{"changed elsewhere", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.anna.does(flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(true)}))
		s.plans(s.override(""))
	}},
	{"removed elsewhere", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.anna.does(remove(flag.RemoveOverride, flag.OverrideRef("pay", "u")))
		s.plans(s.override(""))
	}},
	{"gone, and nobody knows by whom", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.moves()
		s.plans(s.override(""))
	}},
	{"passed over: the flag has no layer any more, or another type", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.anna.does(s.anna.changes("pay", func(f *flag.Flag) { f.Layer = "" }))
		s.plans(s.override(""))
		s.anna.does(s.anna.changes("pay", func(f *flag.Flag) {
			f.Layer, f.Type, f.Default, f.Value = "user", flag.Int, flag.IntValue(1), flag.Value{}
		}))
		s.plans(s.override(`{"value": 2}`))
	}},
	{"changed, or removed, between plan and apply", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.between(func() {
			s.anna.does(flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Default}))
		}, s.override(`{"value": true}`))
		s.between(func() { s.anna.does(remove(flag.RemoveOverride, flag.OverrideRef("pay", "u"))) }, s.override(`{"value": true}`))
	}},
	{"destroying: changed between plan and apply", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.between(func() { s.anna.does(flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Default})) })
	}},
	{"destroying: taken over by another workspace", func(s *wordingScene) {
		s.layered()
		s.ready(s.override(""))
		s.between(func() { s.second("billing", s.override(`{"value": true}`), "pay:u") })
	}},
}

// layered puts a flag with a layer on the server.
func (s *wordingScene) layered() {
	s.Helper()
	f := boolFlag("pay")
	f.Layer = "user"
	s.anna.does(flag.Put(f))
}

func (s *wordingScene) override2(otherwise string) coreBlock {
	b := s.override(otherwise)
	b.address, b.attrs["entity_id"] = "bunting_override.second", cty.StringVal("second")
	return b
}

var killSwitchWording = []wordingCase{
	{"a configuration that is none", func(s *wordingScene) {
		s.plans(s.kill(`{"reason": null}`))
		s.plans(s.kill(`{"reason": " "}`))
		s.plans(s.kill(`{"reason": "` + longText(1025) + `"}`))
		s.plans(s.kill(`{"holder": "ops-anna"}`))
		s.plans(s.kill(`{"holder": "terraform/"}`))
	}},
	{"an expiry that is none", func(s *wordingScene) {
		s.plans(s.kill(`{"expires_at": "tomorrow"}`))
		s.plans(s.kill(`{"expires_at": "2020-01-02T03:04:05Z"}`))
		s.plans(s.kill(`{"expires_at": "9999-12-31T23:59:59-01:00"}`))
	}},
	{"the same kill switch twice", func(s *wordingScene) {
		again := s.kill("")
		again.address = "bunting_kill_switch.again"
		s.plans(s.kill(""), again)
	}},
	{"a flag that is not there", func(s *wordingScene) { s.applies(s.kill("")) }},
	{"another has the hold: a workspace", func(s *wordingScene) {
		s.layered()
		s.terraform("ops").applied(s, s.kill(""))
		s.forget()
		s.applies(s.kill(""))
	}},
	{"another has the hold: one of the same workspace name", func(s *wordingScene) {
		s.layered()
		s.terraform("ops").applied(s, s.kill(""))
		s.forget()
		s.core = s.terraform("ops")
		s.applies(s.kill(`{"reason": "another"}`))
	}},
	{"changed by another apply of the same workspace", func(s *wordingScene) {
		s.layered()
		s.core = s.terraform("ops")
		s.ready(s.kill(""))
		s.second("ops", s.kill(`{"reason": "another"}`), "pay:terraform")
		s.plans(s.kill(""))
	}},
	{"released elsewhere", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform")))
		s.plans(s.kill(""))
	}},
	{"gone, and nobody knows by whom", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.moves()
		s.plans(s.kill(""))
	}},
	{"changed, released or taken over between plan and apply", func(s *wordingScene) {
		s.layered()
		s.core = s.terraform("ops")
		s.ready(s.kill(""))
		s.between(func() {
			told := s.told
			s.second("ops", s.kill(`{"reason": "another"}`), "pay:terraform")
			s.told = told
		}, s.kill(`{"reason": "a third"}`))
		s.between(func() {
			told := s.told
			s.second("billing", s.kill(`{"reason": "a fourth"}`), "pay:terraform")
			s.told = told
		}, s.kill(`{"reason": "a third"}`))
		s.between(func() { s.anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform"))) }, s.kill(`{"reason": "a fifth"}`))
	}},
	{"released by its own configuration: taken over by another workspace", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.between(func() { s.second("billing", s.kill(`{"reason": "another"}`), "pay:terraform") }, s.kill(`{"engaged": false}`))
	}},
	{"destroying an engaged one", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.applies()
	}},
	{"replacing an engaged one, beside other holds", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.anna.does(kill("pay", "ops-anna"), kill("pay", "ops-ben"))
		s.plans(s.kill(`{"holder": "terraform/second"}`))
	}},
	{"released, but not read again", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		proxy := s.proxy()
		s.between(func() {
			proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/Get") || strings.HasSuffix(r.URL.Path, "/GetSnapshot") {
					page(http.StatusInternalServerError, "")(w, r)
					return
				}
				proxy.road.ServeHTTP(w, r)
			})
		}, s.kill(`{"engaged": false}`))
	}},
	{"destroying, and the flag cannot be read", func(s *wordingScene) {
		s.layered()
		s.ready(s.kill(""))
		s.proxy().fails("GetServer", page(http.StatusInternalServerError, ""))
		s.core.plan(nil, coreMode{noRefresh: true})
	}},
}

var importWording = []wordingCase{
	{"an id that is none", func(s *wordingScene) {
		s.core.imports(s.flag(""), "a//b")
		s.core.imports(s.override(""), "pay")
		s.core.imports(s.override(""), "a//b:u")
		s.core.imports(s.kill(""), "pay:ops-anna")
		s.core.imports(s.kill(""), "pay:")
	}},
}
