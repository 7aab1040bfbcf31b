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

// values is the table of representations: whatever a configuration says, the
// plan after it is empty, after a refresh and after an import too.
var values = map[string]struct {
	config string // of the value; the default value is the same
	typ    string
}{
	"bool":                  {`true`, "bool"},
	"empty string":          {`""`, "string"},
	"text":                  {`"two\nlines, \"quotes\" and 🐦"`, "string"},
	"zero":                  {`0`, "int"},
	"minus zero":            {`-0`, "int"},
	"tenth":                 {`0.1`, "double"},
	"hundredths":            {`7/100`, "double"},
	"third":                 {`1/3`, "double"},
	"1e308":                 {`1e308`, "double"},
	"1e20":                  {`1e20`, "double"},
	"2^53+1":                {`9007199254740993`, "int"},
	"2^63-1":                {`9223372036854775807`, "int"},
	"2^63":                  {`9223372036854775808`, "double"},
	"30 digits":             {`123456789012345678901234567890`, "double"},
	"empty list":            {`[]`, "json"},
	"empty object":          {`{}`, "json"},
	"nested with nulls":     {`{ a = null, b = [1, null, { c = 0.1 }], d = 9007199254740993 }`, "json"},
	"optional left out":     {`var.optional`, "json"},
	"list(string)":          {`var.strings`, "json"},
	"set(string)":           {`var.set`, "json"},
	"map(number)":           {`var.numbers`, "json"},
	"map(any)":              {`var.any`, "json"},
	"list(any), empty":      {`var.nothing`, "json"},
	"jsondecode":            {`jsondecode("{\"b\": 1e2, \"a\": [0.1]}")`, "json"},
	"unknown until apply":   {`terraform_data.later.output`, "string"},
	"object unknown inside": {`{ a = terraform_data.later.output, b = 1/3 }`, "json"},
}

const valueVariables = `
variable "optional" {
  type    = object({ a = string, b = optional(number) })
  default = { a = "x" }
}
variable "strings" {
  type    = list(string)
  default = ["b", "a"]
}
variable "set" {
  type    = set(string)
  default = ["b", "a"]
}
variable "numbers" {
  type    = map(number)
  default = { tenth = 0.1, big = 9007199254740993 }
}
variable "any" {
  type    = map(any)
  default = { a = 1, b = 2 }
}
variable "nothing" {
  type    = list(any)
  default = []
}
variable "null_text" {
  type    = string
  default = null
}
resource "terraform_data" "later" {
  input = "later"
}
`

func TestValues(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	var declared, imports strings.Builder
	want := map[string]string{}
	i := 0
	for name, row := range values {
		i++
		key := fmt.Sprintf("f%d", i)
		want[key] = row.typ
		fmt.Fprintf(&declared, "# %s\nresource \"bunting_flag\" %q {\n  key = %q\n  default_value = %s\n  value = %s\n}\n", name, key, key, row.config, row.config)
		fmt.Fprintf(&imports, "import {\n  to = bunting_flag.%s\n  id = %q\n}\n", key, key)
	}
	config := valueVariables + declared.String() + "resource \"bunting_flag\" \"typed_null\" {\n  key = \"typed_null\"\n  default_value = true\n  value = var.null_text\n}\n"
	c.config(config)
	c.applies().must(t)
	anna := newOperator(t, server, "anna")
	for key, typ := range want {
		if f := anna.sees(key); f == nil || f.Type.String() != typ {
			t.Errorf("%s: the server has %+v, want the type %s\n%s", key, f, typ, config)
		}
	}
	if t.Failed() {
		return
	}
	c.unchanged()
	c.applies("-refresh-only").must(t)
	c.unchanged()

	imported := newCLI(t, server.Endpoint, server.AdminToken)
	imported.config(strings.ReplaceAll(config, `terraform_data.later.output`, `"later"`) + imports.String() + "import {\n  to = bunting_flag.typed_null\n  id = \"typed_null\"\n}\n")
	o := imported.applies().must(t)
	for address, action := range o.actions {
		if action != "import" && action != "noop" && !strings.HasPrefix(address, "terraform_data") {
			t.Errorf("import plans to %s %s", action, address)
		}
	}
	imported.unchanged()
	t.Logf("%d rows", len(values)+1)
}

// From one value to another: what is planned, and with which type it ends.
func TestFlagChanges(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		before, after string // attributes
		action        plancheck.ResourceActionType
		typ           string
	}{
		"0.5 to 1":                {`default_value = 0.5`, `default_value = 1`, plancheck.ResourceActionUpdate, "double"},
		"0 with 0.5":              {`default_value = 0`, "default_value = 0\nvalue = 0.5", plancheck.ResourceActionDestroyBeforeCreate, "double"},
		"json 2^53 to 2^53+1":     {`default_value = { a = 9007199254740992 }`, `default_value = { a = 9007199254740993 }`, plancheck.ResourceActionUpdate, "json"},
		"json order and spaces":   {`default_value = jsondecode("{\"a\":1,\"b\":2}")`, `default_value = jsondecode("{ \"b\": 2.0, \"a\": 1 }")`, plancheck.ResourceActionNoop, "json"},
		"bool to string":          {`default_value = true`, `default_value = "a"`, plancheck.ResourceActionDestroyBeforeCreate, "string"},
		"int said to be double":   {`default_value = 1`, "default_value = 1\ntype = \"double\"", plancheck.ResourceActionDestroyBeforeCreate, "double"},
		"disabled":                {`default_value = true`, "default_value = true\nenabled = false", plancheck.ResourceActionUpdate, "bool"},
		"order of allowed":        {"default_value = 1\nallowed_values = [1, 2]", "default_value = 1\nallowed_values = [2, 1, 1]", plancheck.ResourceActionNoop, "int"},
		"more allowed":            {"default_value = 1\nallowed_values = [1, 2]", "default_value = 1\nallowed_values = [2, 1, 3]", plancheck.ResourceActionUpdate, "int"},
		"one more key":            {`default_value = true`, "default_value = true\nkey = \"other\"", plancheck.ResourceActionDestroyBeforeCreate, "bool"},
		"no layer":                {"default_value = true\nlayer = \"user\"", "default_value = true", plancheck.ResourceActionUpdate, "bool"},
		"empty for nothing":       {"default_value = true\ndescription = \"\"\ntags = []\nallowed_values = []", "default_value = true\ndescription = \"\"\ntags = []\nallowed_values = []", plancheck.ResourceActionNoop, "bool"},
		"a timeout":               {`default_value = true`, "default_value = true\ntimeouts = { read = \"20s\" }", plancheck.ResourceActionUpdate, "bool"},
		"what happens on destroy": {`default_value = true`, "default_value = true\non_destroy = \"delete\"", plancheck.ResourceActionUpdate, "bool"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			config := func(attributes string) string {
				if !strings.Contains(attributes, "key =") {
					attributes += "\nkey = \"f\""
				}
				return configured(server, "", "resource \"bunting_flag\" \"f\" {\n"+attributes+"\n}")
			}
			resource.Test(t, resource.TestCase{
				IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
				Steps: []resource.TestStep{
					{Config: config(row.before), ConfigPlanChecks: empty},
					{
						Config: config(row.after), ConfigPlanChecks: planned("bunting_flag.f", row.action),
						ConfigStateChecks: []statecheck.StateCheck{has("bunting_flag.f", "type", knownvalue.StringExact(row.typ))},
					},
				},
			})
		})
	}
}
