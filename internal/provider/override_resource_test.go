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

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestOverrideLifecycle(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	const address = "bunting_override.o"
	config := func(value string) string {
		return configured(server, "", `
resource "bunting_flag" "f" {
  key           = "price"
  default_value = 0.5
  layer         = "user"
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "user:42"
  `+value+`
}`)
	}
	resource.Test(t, resource.TestCase{
		IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
		Steps: []resource.TestStep{
			{
				Config: config("value = 1/3"), ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate),
				ConfigStateChecks: []statecheck.StateCheck{has(address, "entity_id", knownvalue.StringExact("user:42"))},
			},
			{ // changed: 1 is a double here, as the flag says
				Config: config("value = 1"), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
			{ // the default
				Config: config(""), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
				ConfigStateChecks: []statecheck.StateCheck{has(address, "value", knownvalue.Null())},
			},
			{Config: config("value = 0.1"), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate)},
			{
				Config: config("value = 0.1"), ResourceName: address, ImportState: true, ImportStateId: "price:user:42",
				ImportStateVerify: true, ImportStateVerifyIdentifierAttribute: "entity_id",
			},
			{ // changed behind Terraform's back
				PreConfig: func() {
					v, _ := flag.DoubleValue(7)
					anna.does(flag.Put(&flag.Override{FlagKey: "price", EntityID: "user:42", State: flag.Enabled, Value: v}))
				},
				Config: config("value = 0.1"), ConfigPlanChecks: planned(address, plancheck.ResourceActionUpdate),
			},
			{ // deleted behind Terraform's back
				PreConfig: func() { anna.does(remove(flag.RemoveOverride, flag.OverrideRef("price", "user:42"))) },
				Config:    config("value = 0.1"), ConfigPlanChecks: planned(address, plancheck.ResourceActionCreate),
			},
			{ // another entity
				Config:           strings.Replace(config("value = 0.1"), "user:42", "user:43", 1),
				ConfigPlanChecks: planned(address, plancheck.ResourceActionDestroyBeforeCreate),
			},
		},
		CheckDestroy: func(*terraform.State) error {
			if o := anna.seesOverride("price", "user:43"); o != nil {
				return fmt.Errorf("destroyed, but the server has %+v", o)
			}
			return nil
		},
	})
}

// When the flag's type changes, its overrides are passed over until the next
// apply sets them anew.
func TestOverrideOfAnotherType(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCLI(t, server.Endpoint, server.AdminToken)
	config := func(defaultValue string) string {
		return fmt.Sprintf(`
resource "bunting_flag" "f" {
  key           = "f"
  default_value = %s
  layer         = "user"
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "u"
  value     = 2
}`, defaultValue)
	}
	c.config(config("1"))
	c.applies().must(t)
	c.unchanged()
	c.config(config("1.5"))
	o := c.applies().must(t)
	if o.actions["bunting_flag.f"] != "replace" || !strings.Contains(o.text, "its type changes from int to double") {
		t.Errorf("the plan does not tell of the replacement\n%s", o.text)
	}
	o = c.applies().must(t)
	if !strings.Contains(o.text, "is passed over") || o.actions["bunting_override.o"] != "update" {
		t.Errorf("the override of another type is not set anew\n%s", o.text)
	}
	if got := anna.seesOverride("f", "u"); got.Value.Type() != flag.Double {
		t.Errorf("the server has %+v", got)
	}
	c.unchanged()
}

// Flag and override may be planned together in any order, and only the server's
// word counts in the end.
func TestOverrideRules(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	literal := `
resource "bunting_override" "o" {
  flag_key  = "other"
  entity_id = "u"
  value     = true
}`
	c.config(literal)
	c.plans().must(t) // a flag that is not there is no error of a plan
	if got := c.applies().fails(t); !regexp.MustCompile(`flag_key is "other", but there is no such flag.*\.key`).MatchString(got.Detail) {
		t.Errorf("got %s", got)
	}
	anna := newOperator(t, server, "anna")
	anna.does(flag.Put(boolFlag("other"))) // without a layer
	if got := c.plans().fails(t); !strings.Contains(got.Detail, "a flag without a layer") {
		t.Errorf("got %s", got)
	}
	layered := boolFlag("other")
	layered.Layer = "user"
	anna.does(flag.Put(layered))
	c.config(strings.Replace(literal, "= true", `= "on"`, 1))
	if got := c.plans().fails(t); !strings.Contains(got.Detail, `value is a string ("on"), but the flag is of type bool. Write true or false.`) {
		t.Errorf("got %s", got)
	}
	c.config(literal)
	c.applies().must(t)
	c.unchanged()
}
