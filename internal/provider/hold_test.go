package provider

import (
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// everything is a configuration with every resource.
const everything = providerBlock + `
resource "bunting_flag" "f" {
  key           = "pay"
  default_value = false
  value         = true
  layer         = "user"
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "u"
  value     = false
}
resource "bunting_kill_switch" "k" {
  flag_key = bunting_flag.f.key
  reason   = "load"
}
`

const heldConfig = `
resource "bunting_flag" "f" {
  for_each      = toset(["pay", "search", "cart"])
  key           = each.key
  default_value = false
  value         = true
  description   = var.description
}
resource "bunting_kill_switch" "pay" {
  count              = var.switch ? 1 : 0
  flag_key           = bunting_flag.f["pay"].key
  reason             = var.reason
  release_on_destroy = true
}
variable "description" { default = "one" }
variable "reason" { default = "maintenance" }
variable "switch" { default = true }
`

// A hold that an operator placed survives everything that Terraform does, and
// every walk tells of it once a flag.
func TestHoldsOfOperatorsStand(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "ops-anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(heldConfig)
	c.applies().must(t)
	anna.does(kill("pay", "ops-anna"), kill("search", "ops-anna"), kill("cart", "ops-bob"))

	check := func(what string, o outcome) {
		t.Helper()
		o.must(t)
		for _, key := range []string{"pay", "search", "cart"} {
			holder := map[bool]string{true: "ops-bob", false: "ops-anna"}[key == "cart"]
			found := 0
			for _, w := range o.of("warning") {
				if w.Summary == `Flag "`+key+`" is held killed by `+holder {
					found++
					if !strings.Contains(w.Detail, "it burns") || !strings.Contains(w.Detail, "bunting release "+key) {
						t.Errorf("%s: the detail does not say why and how to release:\n%s", what, w)
					}
				}
			}
			if found == 0 && what != "destroy" {
				t.Errorf("%s: no warning names %s and %s\n%s", what, key, holder, o.text)
			}
		}
		if got := strings.Join(anna.seesHolds("pay"), " "); !strings.Contains(got, "ops-anna") {
			t.Errorf("%s: the operator's hold is gone: %s", what, got)
		}
	}
	check("apply", c.applies())
	check("change", c.applies("-var=description=two"))
	check("change of the kill switch", c.applies("-var=description=two", "-var=reason=longer"))
	check("destroy of the kill switch", c.applies("-var=description=two", "-var=switch=false"))
	if got := anna.seesHolds("pay"); len(got) != 1 {
		t.Errorf("holds after the kill switch is gone: %v", got)
	}
	check("destroy", c.destroys("-var=description=two", "-var=switch=false"))
	if f := anna.sees("pay"); f == nil || f.ArchivedState != flag.Default {
		t.Errorf("archived while held, but it serves %+v", f)
	}
}

// People see each warning once, although flag and kill switch both read the hold.
func TestHoldIsToldOnce(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "ops-anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(heldConfig)
	c.applies().must(t)
	anna.does(kill("pay", "ops-anna"), kill("search", "ops-anna"), kill("cart", "ops-anna"))
	out := c.run("plan", "-no-color", "-input=false").must(t).text
	for _, key := range []string{"pay", "search", "cart"} {
		if n := strings.Count(out, `Flag "`+key+`" is held killed by ops-anna`); n != 1 {
			t.Errorf("%s is told %d times\n%s", key, n, out)
		}
	}
}

// What others did between two walks is told by name, beside the plan that shows it.
func TestDriftIsTold(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(everything)
	c.applies().must(t)
	anna.does(
		anna.changes("pay", func(f *flag.Flag) { f.Value = flag.BoolValue(false) }),
		flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Default}),
		remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform")),
	)
	warns := func(o outcome, want ...string) {
		t.Helper()
		o.must(t)
		for _, summary := range want {
			if !slices.ContainsFunc(o.of("warning"), func(d told) bool { return d.Summary == summary }) {
				t.Errorf("no warning says: %s\n%s", summary, o.text)
			}
		}
		if got := len(o.of("warning")); got != len(want) {
			t.Errorf("%d warnings, want %d\n%s", got, len(want), o.text)
		}
	}
	warns(c.plans(), `Flag "pay" was changed by anna`, `Override of "pay" for "u" was changed by anna`, `Hold of "terraform" on flag "pay" was released by anna`)
	c.applies().must(t)
	anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform")), remove(flag.ArchiveFlag, flag.FlagRef("pay")))
	warns(c.plans(), `Flag "pay" was archived by anna`, `Hold of "terraform" on flag "pay" was released by anna`)
	c.applies().must(t)
	if f := anna.sees("pay"); f.Archived() || len(anna.seesHolds("pay")) != 1 {
		t.Errorf("the server has %+v", f)
	}
	anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform")), remove(flag.DeleteFlag, flag.FlagRef("pay")))
	warns(c.plans(), `Flag "pay" was deleted by anna`, `Override of "pay" for "u" was removed by anna`, `Hold of "terraform" on flag "pay" was released by anna`)
	c.applies().must(t)
	c.unchanged()
	if f := anna.sees("pay"); f == nil || anna.seesOverride("pay", "u") == nil || len(anna.seesHolds("pay")) != 1 {
		t.Errorf("the server has %+v", f)
	}
}

// A flag that another holds killed is not deleted.
func TestDeleteOfAHeldFlag(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config("resource \"bunting_flag\" \"f\" {\n  key = \"pay\"\n  default_value = true\n  on_destroy = \"delete\"\n}\n")
	c.applies().must(t)
	anna.does(kill("pay", "ops-anna"))
	got := c.destroys().fails(t)
	if got.Summary != `Cannot delete the flag "pay"` || !strings.Contains(got.Detail, `held killed by "ops-anna"`) {
		t.Errorf("got %s", got)
	}
	anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "ops-anna")))
	c.destroys().must(t)
	if f := anna.sees("pay"); f != nil {
		t.Errorf("the server has %+v", f)
	}
}
