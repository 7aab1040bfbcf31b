package provider

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestKillSwitchLifecycle(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	anna.does(flag.Put(boolFlag("pay")))
	const address = "bunting_kill_switch.k"
	config := func(attributes string) string {
		return configured(server, "", `
resource "bunting_kill_switch" "k" {
  flag_key = "pay"
  `+attributes+`
}`)
	}
	holds := func(holders ...knownvalue.Check) statecheck.StateCheck {
		return has(address, "other_holds", knownvalue.ListExact(holders))
	}
	killed := func(is bool) statecheck.StateCheck { return has(address, "killed", knownvalue.Bool(is)) }
	unknown := plancheck.ExpectUnknownValue(address, tfjsonpath.New("other_holds"))
	resource.Test(t, resource.TestCase{
		IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
		Steps: []resource.TestStep{
			{ // not engaged: there is nothing on the server
				Config: config("engaged = false"), ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate, unknown),
				ConfigStateChecks: []statecheck.StateCheck{killed(false), holds()},
			},
			{ // engaged
				Config: config(`reason = "load"`), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate, unknown),
				ConfigStateChecks: []statecheck.StateCheck{killed(true), holds()},
			},
			{ // for another reason, until a time
				Config: config("reason = \"more load\"\nexpires_at = \"2999-01-02T03:04:05+01:00\""), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
			{
				Config:       config("reason = \"more load\"\nexpires_at = \"2999-01-02T03:04:05+01:00\""),
				ResourceName: address, ImportState: true, ImportStateId: "pay:terraform",
				ImportStateVerify: true, ImportStateVerifyIdentifierAttribute: "flag_key", ImportStateVerifyIgnore: []string{"expires_at"},
			},
			{Config: config(`reason = "load"`), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate)},
			{ // another's hold is seen, and no drift
				PreConfig: func() { anna.does(kill("pay", "anna")) },
				Config:    config(`reason = "load"`), ConfigPlanChecks: empty,
				ConfigStateChecks: []statecheck.StateCheck{killed(true), holds(knownvalue.StringExact("anna"))},
			},
			{ // released behind Terraform's back
				PreConfig: func() { anna.does(remove(flag.ReleaseHold, flag.HoldRef("pay", "terraform"))) },
				Config:    config(`reason = "load"`), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
			{ // released: the other's hold stands
				Config: config("engaged = false\nreason = \"load\""), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
				ConfigStateChecks: []statecheck.StateCheck{killed(true), holds(knownvalue.StringExact("anna"))},
			},
			{ // by another holder of Terraform's
				Config: config("reason = \"load\"\nholder = \"terraform/canary\""), ConfigPlanChecks: planned(address, plancheck.ResourceActionDestroyBeforeCreate),
			},
			{
				Config: config("reason = \"load\"\nholder = \"terraform/canary\"\nrelease_on_destroy = true"), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
		},
		CheckDestroy: func(*terraform.State) error {
			if got := strings.Join(anna.seesHolds("pay"), " "); got != "anna" {
				return fmt.Errorf("holds after destroy: %s", got)
			}
			return nil
		},
	})
}

func TestDestroyOfAnEngagedKillSwitch(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "ops-anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	config := func(attributes string) string {
		return `
resource "bunting_flag" "pay" {
  key           = "pay"
  default_value = "off"
  value         = "on"
}
resource "bunting_kill_switch" "k" {
  flag_key = bunting_flag.pay.key
  reason   = "load"
  ` + attributes + `
}`
	}
	c.config(config(""))
	c.applies().must(t)
	const want = `To destroy it would release the hold of "terraform": the flag would serve "on" again instead of its default value "off". Set engaged = false and apply that first, or set release_on_destroy = true and apply that first.`
	if got := c.destroys().fails(t); got.Summary != `The kill switch of flag "pay" is engaged` || got.Detail != want || got.Address != "bunting_kill_switch.k" {
		t.Errorf("got %s at %s", got, got.Address)
	}
	if f := anna.sees("pay"); f.Archived() {
		t.Error("a refused destroy archived the flag")
	}
	c.config(config(`holder = "terraform/other"`))
	if got := c.applies().fails(t); !strings.HasPrefix(got.Detail, "To replace it") {
		t.Errorf("replaced: got %s", got)
	}
	anna.does(kill("pay", "ops-anna"))
	c.config(config(""))
	if got := c.destroys().fails(t); !strings.Contains(got.Detail, ", as soon as ops-anna released it too") {
		t.Errorf("with another hold: got %s", got)
	}
	c.config(config("release_on_destroy = true"))
	c.applies().must(t)
	c.destroys().must(t)
	if got := strings.Join(anna.seesHolds("pay"), " "); got != "ops-anna" {
		t.Errorf("holds after destroy: %s", got)
	}
}

// A hold that exists is never adopted: the way out is a holder of one's own.
func TestKillSwitchOfAnotherConfiguration(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	newOperator(t, server, "anna").does(flag.Put(boolFlag("pay")))
	first, second := newCLI(t, server.Endpoint, server.AdminToken), newCLI(t, server.Endpoint, server.AdminToken)
	const config = `
resource "bunting_kill_switch" "k" {
  flag_key = "pay"
  reason   = "load"
}`
	first.config(config)
	first.applies().must(t)
	second.config(config)
	got := second.applies().fails(t)
	holder, block := strings.Index(got.Detail, `holder = "terraform/<name>"`), strings.Index(got.Detail, "  import {\n    to = bunting_kill_switch.NAME\n    id = \"pay:terraform\"\n  }")
	if holder < 0 || block < holder {
		t.Errorf("got %s", got)
	}
	first.unchanged()
	second.config(strings.Replace(config, "reason", "holder = \"terraform/second\"\n  reason", 1))
	second.applies().must(t)
	second.unchanged()
}

// A hold whose time has come stays as a record: no drift, and no complaint about
// an expiry in the past that does not change.
func TestExpiredHoldIsNoDrift(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64 // how far the server's clock is ahead
	server := buntingtest.Start(t, buntingtest.Clock(func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }))
	anna := newOperator(t, server, "anna")
	anna.does(flag.Put(boolFlag("pay")))
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(`
resource "bunting_kill_switch" "k" {
  flag_key   = "pay"
  reason     = "load"
  expires_at = "` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"
}
output "killed" { value = bunting_kill_switch.k.killed }`)
	c.applies().must(t)
	passed.Store(int64(2 * time.Hour))
	expired := func() bool {
		holds, err := anna.Holds(t.Context(), "pay")
		if err != nil {
			t.Fatal(err)
		}
		return len(holds) == 1 && holds[0].Expired
	}
	for deadline := time.Now().Add(20 * time.Second); !expired(); {
		if time.Now().After(deadline) {
			t.Fatal("the hold did not expire")
		}
	}
	c.applies("-refresh-only").must(t)
	if got := strings.TrimSpace(c.run("output", "-json", "killed").text); got != "false" {
		t.Errorf("killed is %s", got)
	}
	c.unchanged()
	c.destroys().must(t) // nothing is switched on by it
}
