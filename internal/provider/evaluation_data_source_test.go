package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"google.golang.org/protobuf/proto"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// readerModule evaluates flags that its caller gives it: one, and a map of them.
const readerModule = `
terraform {
  required_providers {
    bunting = { source = "bunting-flags/bunting" }
  }
}
variable "flag_key" {}
variable "entity_id" { default = null }
variable "flags" { default = {} }
locals {
  key = var.flag_key
}
data "bunting_evaluation" "one" {
  flag_key  = local.key
  entity_id = var.entity_id
}
data "bunting_evaluation" "each" {
  for_each = var.flags
  flag_key = each.value
}
output "one" { value = [data.bunting_evaluation.one.value, data.bunting_evaluation.one.source] }
output "each" { value = { for name, e in data.bunting_evaluation.each : name => [e.value, e.source] } }`

// readingCaller manages flags, and reads them by itself, through a local, and
// through the module. What it reads goes on into a resource.
const readingCaller = `
resource "bunting_flag" "price" {
  key           = "price"
  default_value = 0.1
  value         = 1
  layer         = "user"
}
resource "bunting_flag" "many" {
  for_each      = toset(["a", "b", "c"])
  key           = "many/${each.key}"
  default_value = [each.key]
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.price.key
  entity_id = "u"
  value     = 0.3
}
resource "bunting_kill_switch" "k" {
  flag_key           = bunting_flag.many["c"].key
  reason             = "load"
  release_on_destroy = true
  engaged            = true
}
resource "terraform_data" "entity" { input = "u" }
locals {
  price = bunting_flag.price.id
}
data "bunting_evaluation" "direct" { flag_key = bunting_flag.price.id }
data "bunting_evaluation" "local" { flag_key = local.price }
data "bunting_evaluation" "missing" {
  flag_key = "missing"
  default  = "fallback"
}
data "bunting_evaluation" "entity" {
  flag_key   = bunting_flag.price.id
  entity_id  = terraform_data.entity.output
  depends_on = [bunting_override.o]
}
module "reader" {
  source   = "./reader"
  flag_key = bunting_flag.price.id
  flags    = { for name, f in bunting_flag.many : name => f.id if name != "c" }
}
module "after" {
  source     = "./reader"
  flag_key   = bunting_flag.price.key
  entity_id  = "u"
  flags      = { c = bunting_flag.many["c"].key }
  depends_on = [bunting_override.o, bunting_kill_switch.k]
}
resource "terraform_data" "consumer" { input = module.reader }
output "seen" {
  value = {
    direct   = [data.bunting_evaluation.direct.value, data.bunting_evaluation.local.value]
    missing  = [data.bunting_evaluation.missing.value, data.bunting_evaluation.missing.source]
    entity   = [data.bunting_evaluation.entity.value, data.bunting_evaluation.entity.source]
    module   = module.reader.one
    each     = terraform_data.consumer.output.each
    override = module.after.one
    killed   = module.after.each.c
  }
}`

// Evaluations of flags of the same configuration are right on the first apply
// and on every later one: directly, through a local, through a module's input
// and output, with for_each over keys, and with depends_on after overrides and
// kill switches. A new description makes nothing unknown. (Terraform itself
// defers what names a changing resource in its own block or in depends_on,
// whatever of it is known; through a local or a module it looks at values alone.)
func TestEvaluationsOfOwnFlags(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	if err := os.Mkdir(filepath.Join(c.dir, "reader"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.file("reader/main.tf", readerModule)
	config := readingCaller
	c.config(config)
	c.run("get").must(t)
	// What is seen, of which each step says what it changes.
	seen := map[string]string{
		"direct": `[1,1]`, "missing": `["fallback","DEFAULT"]`, "entity": `[0.3,"OVERRIDE"]`, "module": `[1,"GLOBAL"]`,
		"each": `{"a":[["a"],"DEFAULT"],"b":[["b"],"DEFAULT"]}`, "override": `[0.3,"OVERRIDE"]`, "killed": `[["c"],"KILLED"]`,
	}
	for _, step := range []struct {
		name, from, to string // in the configuration
		seen           map[string]string
		settled        bool // nothing that is read may become unknown
	}{
		{name: "first"},
		{"value", "value         = 1", "value         = 2", map[string]string{"direct": `[2,2]`, "module": `[2,"GLOBAL"]`}, false},
		{"override", "value     = 0.3", "value     = 0.4", map[string]string{"entity": `[0.4,"OVERRIDE"]`, "override": `[0.4,"OVERRIDE"]`}, false},
		{"disabled", `layer         = "user"`, "layer         = \"user\"\n  enabled       = false", map[string]string{"direct": `[0.1,0.1]`, "module": `[0.1,"DEFAULT"]`}, false},
		{"default", "default_value = 0.1", "default_value = 0.2", map[string]string{"direct": `[0.2,0.2]`, "module": `[0.2,"DEFAULT"]`}, false},
		{"descriptions", "default_value =", "description = \"new\"\n  owner = \"me\"\n  tags = [\"x\"]\n  default_value =", nil, true},
		{"on_destroy", "description = \"new\"", "on_destroy = \"delete\"", nil, true},
		{"enabled", "enabled       = false", "enabled       = true", map[string]string{"direct": `[2,2]`, "module": `[2,"GLOBAL"]`}, false},
		{"no override for another entity", `{ input = "u" }`, `{ input = "v" }`, map[string]string{"entity": `[2,"GLOBAL"]`}, false},
		{"layer", `"user"`, `"tenant"`, nil, false},
		{"type", `[each.key]`, `each.key`, map[string]string{"each": `{"a":["a","DEFAULT"],"b":["b","DEFAULT"]}`, "killed": `["c","KILLED"]`}, false},
		{"released", "engaged            = true", "engaged            = false", map[string]string{"killed": `["c","DEFAULT"]`}, false},
		{"no override any more", "value     = 0.4", "", map[string]string{"override": `[0.2,"DEFAULT"]`}, false},
	} {
		config = strings.ReplaceAll(config, step.from, step.to)
		maps.Copy(seen, step.seen)
		c.config(config)
		c.plans("-out=saved.plan").must(t)
		unknown, deferred, changes := c.planned("saved.plan")
		deferred = slices.DeleteFunc(deferred, func(address string) bool {
			return strings.HasPrefix(address, "module.after.") || strings.HasSuffix(address, ".direct") || strings.HasSuffix(address, ".entity")
		})
		if step.settled && (len(deferred) > 0 || slices.Contains(unknown, "id") || changes["terraform_data.consumer"] != "no-op" || changes["bunting_flag.price"] != "update") {
			t.Errorf("%s: the plan leaves %v unknown and reads %v later; the consumer: %s", step.name, unknown, deferred, changes["terraform_data.consumer"])
		}
		c.run("apply", "-json", "-input=false", "saved.plan").must(t)
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.run("output", "-json", "seen").must(t).text), &got); err != nil {
			t.Fatal(err)
		}
		for name, want := range seen {
			if string(got[name]) != want {
				t.Errorf("%s: %s is %s, want %s", step.name, name, got[name], want)
			}
		}
		c.unchanged()
	}
	c.destroys().must(t)
}

// planned tells of a saved plan which attributes of flags are unknown, which
// evaluations are read at apply, and what becomes of each resource.
func (c *cli) planned(file string) (unknown, deferred []string, changes map[string]string) {
	c.t.Helper()
	var plan struct {
		Changes []struct {
			Address string `json:"address"`
			Mode    string `json:"mode"`
			Type    string `json:"type"`
			Change  struct {
				Actions []string       `json:"actions"`
				Unknown map[string]any `json:"after_unknown"`
			} `json:"change"`
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal([]byte(c.run("show", "-json", file).must(c.t).text), &plan); err != nil {
		c.t.Fatal(err)
	}
	changes = map[string]string{}
	for _, change := range plan.Changes {
		changes[change.Address] = strings.Join(change.Change.Actions, " ")
		if change.Mode == "data" {
			deferred = append(deferred, change.Address)
		}
		for name, is := range change.Change.Unknown {
			if is == true && change.Type == "bunting_flag" && !slices.Contains(unknown, name) {
				unknown = append(unknown, name)
			}
		}
	}
	return unknown, deferred, changes
}

// The read after a write of the same apply asks for the revision that the write
// produced, of its store; a read while planning, which follows no write, for none.
func TestReadAfterApplyIsNeverOlder(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	var mu sync.Mutex
	produced := &buntingv1.Revision{} // by the last write
	var asked []*pbflagsv1.BulkEvaluateRequest
	proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Del("Accept-Encoding") // so that the answer can be read
		answer := httptest.NewRecorder()
		proxy.road.ServeHTTP(answer, r)
		mu.Lock()
		switch path.Base(r.URL.Path) {
		case "Apply":
			applied := &buntingv1.ApplyResponse{}
			err = proto.Unmarshal(answer.Body.Bytes(), applied)
			produced = applied.GetRevision()
		case "BulkEvaluate":
			question := &pbflagsv1.BulkEvaluateRequest{}
			err = proto.Unmarshal(body, question)
			asked = append(asked, question)
		}
		mu.Unlock()
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	})
	c := newCLI(t, proxy.URL, server.AdminToken)
	config := func(value string) string {
		return "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = " + value + "\n}\n" +
			"data \"bunting_evaluation\" \"e\" { flag_key = bunting_flag.f.id }\noutput \"e\" { value = data.bunting_evaluation.e.value }\n"
	}
	askedFor := func(want *buntingv1.Revision) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 1 || asked[0].GetMinimumRevision() != want.GetNumber() || asked[0].GetStoreId() != want.GetStoreId() {
			t.Errorf("the evaluations asked for %v, want %v", asked, want)
		}
		asked = nil
	}
	for _, value := range []string{"1", "2"} {
		c.config(config(value))
		c.applies().must(t)
		if got := strings.TrimSpace(c.run("output", "e").must(t).text); got != value || produced.GetNumber() == 0 {
			t.Errorf("the write produced %v, and the evaluation gave %s, want %s", produced, got, value)
		}
		askedFor(produced)
	}
	c.unchanged()
	askedFor(nil)
}

// The diagnostic of a flag that is not there says why that happens while
// planning, and what it says to write is right on the first apply.
func TestEvaluationOfALiteralKey(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	const made = "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = 1\n}\n"
	read := func(key, more string) string {
		return made + "data \"bunting_evaluation\" \"e\" {\n  flag_key = " + key + "\n" + more + "\n}\noutput \"e\" { value = data.bunting_evaluation.e.value }\n"
	}
	c.config(read(`"f"`, ""))
	got := c.plans().fails(t)
	for _, want := range []string{
		`flag_key is "f", but the server has no such flag.`, "Terraform reads data while planning, before the flag is there.",
		"Write flag_key = bunting_flag.NAME.id", "locals, module inputs and for_each values", "add depends_on", "set default",
	} {
		if got.Summary != `There is no flag "f"` || !strings.Contains(got.Detail, want) {
			t.Errorf("got %s, want %q", got, want)
		}
	}
	for name, config := range map[string]string{
		"the id": read("bunting_flag.f.id", ""), "depends_on": read(`"f"`, "depends_on = [bunting_flag.f]"),
		"an id through a local": strings.Replace(read("local.key", ""), "data ", "locals {\n  key = bunting_flag.f.id\n}\ndata ", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			c := newCLI(t, server.Endpoint, server.AdminToken)
			c.config(config)
			c.applies().must(t)
			c.unchanged()
		})
	}
}

// The evaluations of a walk travel in one request for each entity.
func TestEvaluationsTravelTogether(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	var changes []flag.Change
	for i := range 120 {
		changes = append(changes, flag.Put(boolFlag(fmt.Sprintf("f/%d", i))))
	}
	if _, err := newClient(t, server, server.AdminToken).Apply(t.Context(), client.Batch{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.Token(t, "evaluate"))
	c.config(`
data "bunting_evaluation" "e" {
  count     = 120
  flag_key  = "f/${count.index}"
  entity_id = ["u", "v", "w"][count.index % 3]
}
output "on" { value = length([for e in data.bunting_evaluation.e : e if e.value]) }`)
	c.plans("-out=saved.plan").must(t)
	if asked, want := proxy.asked(), map[string]int{"GetServer": 1, "BulkEvaluate": 3}; !maps.Equal(asked, want) {
		t.Errorf("requests %v, want %v", asked, want)
	}
}

func TestEvaluationRefusals(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	newOperator(t, server, "anna").does(flag.Put(boolFlag("pay")))
	for name, row := range map[string]struct{ config, summary, detail string }{
		"no such flag":  {`flag_key = "nowhere"`, `There is no flag "nowhere"`, "Write flag_key = bunting_flag.NAME.id, which is not known until the flag is made"},
		"default null":  {"flag_key = \"nowhere\"\ndefault = null", `There is no flag "nowhere"`, "If the flag may be missing, set default."},
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
