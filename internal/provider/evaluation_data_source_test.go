package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Evaluations of flags of the same configuration are right on the first apply
// and on every later one: through a local, through a module, with for_each.
func TestEvaluationsOfOwnFlags(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.file("evaluated.tf", `
locals {
  price = bunting_flag.price.id
}
data "bunting_evaluation" "price" { flag_key = local.price }
data "bunting_evaluation" "user" {
  flag_key   = bunting_flag.price.key
  entity_id  = "u"
  depends_on = [bunting_override.o]
}
data "bunting_evaluation" "many" {
  for_each   = bunting_flag.many
  flag_key   = each.value.id
  depends_on = [bunting_kill_switch.k]
}
data "bunting_evaluation" "missing" {
  flag_key = "missing"
  default  = "fallback"
}
module "reader" {
  source   = "./reader"
  flag_key = bunting_flag.price.id
}
output "seen" {
  value = {
    price   = [data.bunting_evaluation.price.value, data.bunting_evaluation.price.source]
    user    = [data.bunting_evaluation.user.value, data.bunting_evaluation.user.source]
    a       = [data.bunting_evaluation.many["a"].value, data.bunting_evaluation.many["a"].source]
    b       = data.bunting_evaluation.many["b"].source
    missing = [data.bunting_evaluation.missing.value, data.bunting_evaluation.missing.source]
    module  = module.reader.value
  }
}`)
	if err := os.Mkdir(filepath.Join(c.dir, "reader"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.file("reader/main.tf", `
terraform {
  required_providers {
    bunting = { source = "bunting-flags/bunting" }
  }
}
variable "flag_key" {}
data "bunting_evaluation" "e" { flag_key = var.flag_key }
output "value" { value = data.bunting_evaluation.e.value }`)
	const config = `
resource "bunting_flag" "price" {
  key           = "price"
  default_value = 0.1
  value         = 1
  layer         = "user"
}
resource "bunting_flag" "many" {
  for_each      = toset(["a", "b"])
  key           = each.key
  default_value = { name = each.key, list = [1, null] }
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.price.key
  entity_id = "u"
  value     = 0.3
}
resource "bunting_kill_switch" "k" {
  flag_key           = bunting_flag.many["b"].key
  reason             = "load"
  release_on_destroy = true
}`
	c.config(config)
	c.run("get").must(t)
	for _, row := range []struct {
		config             string
		price, user, other string
	}{
		{config, `[1,"GLOBAL"]`, `[0.3,"OVERRIDE"]`, "1"},
		{strings.NewReplacer("value         = 1", "value         = 2", "value     = 0.3", "value     = 0.4").Replace(config), `[2,"GLOBAL"]`, `[0.4,"OVERRIDE"]`, "2"},
		{strings.Replace(config, "value         = 1", "enabled       = false\n  value         = 1", 1), `[0.1,"DEFAULT"]`, `[0.3,"OVERRIDE"]`, "0.1"},
		{strings.Replace(config, "layer         = \"user\"", "layer         = \"tenant\"", 1), `[1,"GLOBAL"]`, `[0.3,"OVERRIDE"]`, "1"},
	} {
		c.config(row.config)
		c.applies().must(t)
		want := `{"a":[{"list":[1,null],"name":"a"},"DEFAULT"],"b":"KILLED","missing":["fallback","DEFAULT"],"module":` + row.other + `,"price":` + row.price + `,"user":` + row.user + `}`
		if got := strings.TrimSpace(c.run("output", "-json", "seen").must(t).text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		c.unchanged()
	}
}

func TestEvaluationRefusals(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	newOperator(t, server, "anna").does(flag.Put(boolFlag("pay")))
	for name, row := range map[string]struct{ config, summary, detail string }{
		"no such flag":  {`flag_key = "nowhere"`, `There is no flag "nowhere"`, "Write flag_key = bunting_flag.NAME.id, which is not known until the flag is made"},
		"wrong default": {"flag_key = \"pay\"\ndefault = \"x\"", "Invalid default", `default is a string ("x"), but the flag is of type bool. Write true or false.`},
		"bad key":       {`flag_key = "a//b"`, "Invalid flag_key", `flag_key "a//b" has an empty segment at byte 3`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t, server.Endpoint, server.AdminToken)
			c.config("data \"bunting_evaluation\" \"e\" {\n" + row.config + "\n}")
			if got := c.plans().fails(t); got.Summary != row.summary || !strings.Contains(got.Detail, row.detail) || got.Address != "data.bunting_evaluation.e" {
				t.Errorf("got %s at %s", got, got.Address)
			}
		})
	}
}

func TestFlagAndServerData(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("prod"), buntingtest.Version("1.2.3"))
	anna := newOperator(t, server, "anna")
	f := boolFlag("pay")
	f.Tags, f.Layer = []string{"x"}, "user"
	anna.does(flag.Put(f), kill("pay", "anna"))
	const data, about = "data.bunting_flag.pay", "data.bunting_server.s"
	resource.Test(t, resource.TestCase{
		IsUnitTest: true, ProtoV6ProviderFactories: factories(t),
		Steps: []resource.TestStep{{
			Config: configured(server, "environment = \"prod\"", `
data "bunting_flag" "pay" { key = "pay" }
data "bunting_server" "s" {}`),
			ConfigStateChecks: []statecheck.StateCheck{
				has(data, "type", knownvalue.StringExact("bool")), has(data, "value", knownvalue.Bool(true)),
				has(data, "killed", knownvalue.Bool(true)), has(data, "changed_by", knownvalue.StringExact("anna")),
				has(data, "holders", knownvalue.ListExact([]knownvalue.Check{knownvalue.StringExact("anna")})),
				has(data, "allowed_values", knownvalue.Null()), has(data, "archived", knownvalue.Bool(false)),
				has(about, "environment", knownvalue.StringExact("prod")), has(about, "version", knownvalue.StringExact("1.2.3")),
				has(about, "endpoint", knownvalue.StringExact(server.Endpoint)), has(about, "flag_count", knownvalue.Int64Exact(1)),
				has(about, "scopes", knownvalue.SetExact([]knownvalue.Check{knownvalue.StringExact("admin")})),
			},
		}},
	})
}
