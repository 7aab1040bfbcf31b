package provider

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// empty asks for an empty plan, before and after a refresh.
var empty = resource.ConfigPlanChecks{
	PostApplyPreRefresh:  []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()},
	PostApplyPostRefresh: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()},
}

// planned asks for an action, and for an empty plan afterwards.
func planned(address string, action plancheck.ResourceActionType, more ...plancheck.PlanCheck) resource.ConfigPlanChecks {
	checks := empty
	checks.PreApply = append([]plancheck.PlanCheck{plancheck.ExpectResourceAction(address, action)}, more...)
	return checks
}

func has(address, attribute string, value knownvalue.Check) statecheck.StateCheck {
	return statecheck.ExpectKnownValue(address, tfjsonpath.New(attribute), value)
}

func TestFlagLifecycle(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	const address = "bunting_flag.f"
	first := configured(server, "", `
resource "bunting_flag" "f" {
  key           = "checkout/new-cart"
  default_value = "old"
  value         = "new"
  layer         = "user"
  owner         = "checkout"
  tags          = ["b", "a"]
  allowed_values = ["new", "newer", "old"]
}`)
	second := strings.NewReplacer(`"new"`+"\n  layer", `"newer"`+"\n  layer", `"checkout"`, `"cart"`).Replace(first)
	id := tfjsonpath.New("id")
	resource.Test(t, resource.TestCase{
		IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
		Steps: []resource.TestStep{
			{
				Config:           first,
				ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate, plancheck.ExpectUnknownValue(address, id)),
				ConfigStateChecks: []statecheck.StateCheck{
					has(address, "id", knownvalue.StringExact("checkout/new-cart")),
					has(address, "type", knownvalue.StringExact("string")),
					has(address, "enabled", knownvalue.Bool(true)),
					has(address, "killed", knownvalue.Bool(false)),
					has(address, "on_destroy", knownvalue.StringExact("archive")),
					has(address, "tags", knownvalue.SetSizeExact(2)),
				},
			},
			{ // changed
				Config:            second,
				ConfigPlanChecks:  planned(address, plancheck.ResourceActionUpdate, plancheck.ExpectUnknownValue(address, id)),
				ConfigStateChecks: []statecheck.StateCheck{has(address, "value", knownvalue.StringExact("newer"))},
			},
			{ // a description makes nothing unknown that an evaluation uses
				Config: strings.Replace(second, "layer ", "description = \"carts\"\n  layer ", 1),
				ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate,
					plancheck.ExpectKnownValue(address, id, knownvalue.StringExact("checkout/new-cart")),
					plancheck.ExpectUnknownValue(address, tfjsonpath.New("killed"))),
			},
			{Config: second, ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate)},
			{ // imported
				Config: second, ResourceName: address, ImportState: true, ImportStateId: "checkout/new-cart", ImportStateVerify: true,
			},
			{ // changed behind Terraform's back
				PreConfig: func() {
					anna.does(anna.changes("checkout/new-cart", func(f *flag.Flag) { f.Value, _ = flag.StringValue("old") }))
				},
				Config: second, ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
			{ // deleted behind Terraform's back
				PreConfig: func() { anna.does(remove(flag.DeleteFlag, flag.FlagRef("checkout/new-cart"))) },
				Config:    second, ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate),
			},
			{ // archived behind Terraform's back
				PreConfig: func() { anna.does(remove(flag.ArchiveFlag, flag.FlagRef("checkout/new-cart"))) },
				Config:    second, ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate, plancheck.ExpectUnknownValue(address, id)),
			},
			{ // another key is another flag
				Config:           strings.Replace(second, "checkout/new-cart", "checkout/newer-cart", 1),
				ConfigPlanChecks: planned(address, plancheck.ResourceActionDestroyBeforeCreate, plancheck.ExpectUnknownValue(address, id)),
			},
		},
		CheckDestroy: func(*terraform.State) error {
			if f := anna.sees("checkout/new-cart"); f == nil || !f.Archived() {
				return fmt.Errorf("destroyed, but the server has %+v", f)
			}
			return nil
		},
	})
}

func TestFlagOnDestroy(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]func(*flag.Flag) bool{
		"archive": func(f *flag.Flag) bool { return f != nil && f.Archived() },
		"delete":  func(f *flag.Flag) bool { return f == nil },
		"keep":    func(f *flag.Flag) bool { return f != nil && !f.Archived() },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			c := newCLI(t, server.Endpoint, server.AdminToken)
			c.config(`resource "bunting_flag" "f" {
  key           = "f"
  default_value = true
  on_destroy    = "` + mode + `"
}`)
			c.applies().must(t)
			c.destroys().must(t)
			if f := newOperator(t, server, "anna").sees("f"); !want(f) {
				t.Errorf("the server has %+v", f)
			}
		})
	}
}

func TestDeletionProtection(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	protected := configured(server, "", `
resource "bunting_flag" "f" {
  key                 = "f"
  default_value       = true
  deletion_protection = true
}`)
	refused := regexp.MustCompile(`(?s)Flag "f" is protected.*Set\s+deletion_protection = false and\s+apply that\s+first`)
	resource.Test(t, resource.TestCase{
		IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
		Steps: []resource.TestStep{
			{Config: protected, ConfigPlanChecks: empty},
			{Config: protected, Destroy: true, ExpectError: refused},
			{Config: strings.Replace(protected, "default_value       = true", `default_value = "a"`, 1), ExpectError: refused},
			{Config: strings.Replace(protected, `"f"`+"\n  def", `"g"`+"\n  def", 1), ExpectError: refused},
			{Config: strings.Replace(protected, "protection = true", "protection = false", 1), ConfigPlanChecks: empty},
		},
	})
}

// A change of type says in the plan that it replaces the flag, and what becomes
// of its overrides; and so it comes.
func TestTypeChangeIsTold(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		attributes, after string
		summary, detail   string
		refused           bool
		override          string // the value of an operator's override after the apply; "" for none
	}{
		"archived": {"", `default_value = "a"`, `Flag "f" is replaced: its type changes from int to string`, "Its overrides stay on the server as values of type int, and are passed over", false, "2"},
		"deleted":  {"on_destroy = \"delete\"", `default_value = "a"`, `Flag "f" is replaced: its type changes from int to string`, `Its overrides are deleted with it (on_destroy = "delete")`, false, ""},
		"kept":     {"on_destroy = \"keep\"", `default_value = "a"`, `Flag "f" cannot be replaced`, `Set on_destroy = "archive" or "delete" and apply that first.`, true, "2"},
		"unknown":  {"", "default_value = terraform_data.later.output\nvalue = \"a\"", `Flag "f" is replaced: its type changes from int to another`, "Its overrides stay on the server as values of type int", false, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			anna := newOperator(t, server, "anna")
			c := newCLI(t, server.Endpoint, server.AdminToken)
			c.config(declares("f", "default_value = 1\n"+row.attributes, ""))
			c.applies().must(t)
			anna.does(flag.Put(&flag.Override{FlagKey: "f", EntityID: "u", State: flag.Enabled, Value: flag.IntValue(2)}))
			c.config(valueVariables + declares("f", row.after+"\n"+row.attributes, ""))
			o := c.plans()
			found := o.of("warning")
			if row.refused {
				found = append(found, o.fails(t))
			} else if action := o.must(t).actions["bunting_flag.f"]; action != "replace" {
				t.Errorf("the plan is to %s", action)
			}
			seen := false
			for _, d := range found {
				seen = seen || d.Summary == row.summary && strings.Contains(d.Detail, row.detail)
			}
			if !seen {
				t.Errorf("got %v, want %s", found, row.summary)
			}
			if !row.refused {
				c.applies().must(t)
				if f := anna.sees("f"); f.Type != flag.String || f.Archived() {
					t.Errorf("the server has %+v", f)
				}
				c.unchanged()
			}
			got := ""
			if override := anna.seesOverride("f", "u"); override != nil {
				got = override.Value.JSON()
			}
			if got != row.override {
				t.Errorf("the override is %q, want %q", got, row.override)
			}
		})
	}
}
