package provider

import (
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

const owned = `
resource "bunting_flag" "f" {
  key           = "pay"
  default_value = false
  value         = true
  layer         = "user"
  %s
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "u"
  value     = false
}
`

func attributes(text string) string { return strings.Replace(owned, "%s", text, 1) }

// Two workspaces that declare the same key: the second is refused by name with
// the import block to paste; an import takes over, audited, and then the first
// is refused.
func TestTwoWorkspaces(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	first, second := newCLI(t, server.Endpoint, server.AdminToken), newCLI(t, server.Endpoint, server.AdminToken)
	first.env = append(first.env, "BUNTING_WORKSPACE=first")
	second.env = append(second.env, "BUNTING_WORKSPACE=second")
	first.config(attributes(""))
	second.config(attributes(`description = "mine"`))
	first.applies().must(t)
	got := second.applies().fails(t)
	for _, want := range []string{`workspace "first"`, "  import {\n    to = bunting_flag.NAME\n    id = \"pay\"\n  }"} {
		if got.Summary != `Cannot create the flag "pay"` || !strings.Contains(got.Detail, want) {
			t.Errorf("got %s, want %q", got, want)
		}
	}
	first.unchanged()

	second.config(attributes(`description = "mine"`) + "import {\n  to = bunting_flag.f\n  id = \"pay\"\n}\nimport {\n  to = bunting_override.o\n  id = \"pay:u\"\n}\n")
	second.applies().must(t)
	second.unchanged()
	entries, _, err := anna.Audit(t.Context(), client.AuditFilter{Key: "pay"})
	taken := 0
	for _, e := range entries {
		if e.Action == "take_over" {
			taken++
		}
	}
	if err != nil || taken != 1 || anna.sees("pay").OwnerID != flag.WorkspaceOwner("second") {
		t.Errorf("%d take-overs (%v), the flag is of %s", taken, err, anna.sees("pay").OwnerID)
	}
	first.config(attributes(`description = "still mine"`))
	o := first.applies()
	if got := o.fails(t); got.Summary != `Cannot change the flag "pay"` || !strings.Contains(got.Detail, `workspace "second"`) {
		t.Errorf("got %s", got)
	}
}

// Two blocks for one object would undo each other in every apply, so the second
// is refused while planning, whether the first is new or not. A replacement, which
// core plans twice, is no second block, nor is one that frees its name.
func TestDeclaredTwice(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	flags := func(name, attributes string) string {
		return "resource \"bunting_flag\" \"" + name + "\" {\n  layer = \"user\"\n" + attributes + "\n}\n"
	}
	override := func(name string) string {
		return "resource \"bunting_override\" \"" + name + "\" {\n  flag_key = bunting_flag.a.key\n  entity_id = \"u\"\n}\n"
	}
	killSwitch := func(name, holder string) string {
		return "resource \"bunting_kill_switch\" \"" + name + "\" {\n  flag_key = bunting_flag.a.key\n  engaged = false\n  holder = \"" + holder + "\"\n}\n"
	}
	base := flags("a", "key = \"a\"\ndefault_value = 1")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.env = append(c.env, "BUNTING_WORKSPACE=w")
	for _, row := range []struct{ name, config, summary string }{
		{"two new flags", base + flags("b", "key = \"a\"\ndefault_value = 1"), `Flag "a" is declared twice`},
		{"made", base + override("a") + killSwitch("a", "terraform"), ""},
		{"a second flag", base + flags("b", "key = \"a\"\ndefault_value = 2"), `Flag "a" is declared twice`},
		{"a second override", base + override("a") + override("b"), `Override of "a" for "u" is declared twice`},
		{"a second kill switch", base + override("a") + killSwitch("a", "terraform") + killSwitch("b", "terraform"), `Hold of "terraform" on flag "a" is declared twice`},
		{"another holder", base + override("a") + killSwitch("a", "terraform") + killSwitch("b", "terraform/b"), ""},
		{"a replacement", strings.Replace(base, "= 1", "= \"x\"", 1), ""},
		{"one is renamed", strings.Replace(base, "\"a\"\ndef", "\"b\"\ndef", 1) + flags("b", "key = \"a\"\ndefault_value = 1"), ""},
	} {
		c.config(row.config)
		if row.summary == "" {
			c.plans().must(t)
			c.applies().must(t)
			c.unchanged()
		} else if got := c.plans().fails(t); got.Summary != row.summary {
			t.Errorf("%s: got %s", row.name, got)
		}
	}
}

// A workspace name that is set later takes over what was made without one.
func TestWorkspaceIsNamedLater(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(attributes(""))
	c.applies().must(t)
	if owner := anna.sees("pay").OwnerID; !strings.HasPrefix(owner, flag.ObjectOwner("")) {
		t.Errorf("the flag is of %q", owner)
	}
	c.env = append(c.env, "BUNTING_WORKSPACE=late")
	c.unchanged()
	c.config(attributes(`description = "x"`))
	c.applies().must(t)
	if owner := anna.sees("pay").OwnerID; owner != flag.WorkspaceOwner("late") {
		t.Errorf("the flag is of %q", owner)
	}
	c.destroys().must(t) // the override was never written under the name
	if f := anna.sees("pay"); !f.Archived() {
		t.Errorf("the server has %+v", f)
	}
}

// With a workspace an apply whose answer, and so whose state, was lost converges.
func TestLostStateConverges(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	config := attributes("") + "resource \"bunting_kill_switch\" \"k\" {\n  flag_key = bunting_flag.f.key\n  reason = \"load\"\n}\n"
	for range 2 {
		c := newCLI(t, server.Endpoint, server.AdminToken)
		c.env = append(c.env, "BUNTING_WORKSPACE=same")
		c.config(config)
		c.applies().must(t)
		c.unchanged()
	}
}

// A type that turns out to be another only during apply stops that flag in
// words of ours; the next plan shows the replacement.
func TestTypeBecomesKnownDuringApply(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	config := func(value string) string {
		return "resource \"terraform_data\" \"v\" {\n  input = " + value + "\n}\nresource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = terraform_data.v.output\n}\n"
	}
	c.config(config("1"))
	c.applies().must(t)
	c.config(config("2"))
	c.applies().must(t)
	c.unchanged()
	c.config(config(`"blue"`))
	o := c.applies()
	if got := o.fails(t); got.Summary != `The type of flag "f" changes unplanned` || o.actions["bunting_flag.f"] != "update" {
		t.Errorf("got %s\n%v", got, o.actions)
	}
	o = c.applies().must(t)
	if o.actions["bunting_flag.f"] != "replace" {
		t.Errorf("got %v", o.actions)
	}
	c.unchanged()
}
