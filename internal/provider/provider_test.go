package provider

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Without a block of its own Terraform adds an error to each of a provider's.
const providerBlock = "provider \"bunting\" {}\n"

// Bad input is what people get wrong: each is one error at its place, in one
// voice, and changes nothing on the server.
func TestBadInput(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("staging"))
	anna := newOperator(t, server, "anna")
	layered := boolFlag("layered")
	layered.Layer = "user"
	picky := boolFlag("picky")
	picky.Layer, picky.Type = "user", flag.String
	picky.Default, _ = flag.StringValue("a")
	picky.Value = flag.Value{}
	picky.AllowedValues = []flag.Value{picky.Default}
	anna.does(flag.Put(boolFlag("plain")), flag.Put(layered), flag.Put(picky))
	revision := func() int64 {
		s, err := newClient(t, server, server.AdminToken).Server(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s.Revision.Number
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>It works!</html>") }))
	t.Cleanup(elsewhere.Close)
	const flagOf, overrideOf, switchOf = "resource \"bunting_flag\" \"x\" {\n%s\n}", "resource \"bunting_override\" \"x\" {\n%s\n}", "resource \"bunting_kill_switch\" \"x\" {\n%s\n}"
	readToken, evaluateToken, writeToken := server.Token(t, "read"), server.Token(t, "evaluate"), server.Token(t, "write")
	before := revision()
	t.Cleanup(func() { // the subtests are done by then
		if after := revision(); after != before {
			t.Errorf("bad input changed something: revision %d, was %d", after, before)
		}
	})

	for name, row := range map[string]struct {
		config   string
		endpoint string // "": the server's
		token    string // "": the admin's; "-": none
		atApply  bool
		address  string
		summary  string
		detail   string // a whole one
	}{
		"key": {
			config: fmt.Sprintf(flagOf, "key = \"a//b\"\ndefault_value = true"), address: "bunting_flag.x", summary: "Invalid key",
			detail: `key "a//b" has an empty segment at byte 3, but a flag key is 1 to 512 bytes of segments separated by "/", each of letters, digits, ".", "_" and "-", starting and ending with a letter or digit. Write a key like "checkout/new-cart".`,
		},
		"value of another type": {
			config: fmt.Sprintf(flagOf, "key = \"colour\"\ndefault_value = \"blue\"\nvalue = 3"), address: "bunting_flag.x", summary: "Invalid value",
			detail: `value is a number (3), but the flag is of type string, as its default_value "blue" says. Write "3", or set type = "int" and a whole number as default_value.`,
		},
		"2^63 as int": {
			config: fmt.Sprintf(flagOf, "key = \"n\"\ntype = \"int\"\ndefault_value = 9223372036854775808"), address: "bunting_flag.x", summary: "Invalid default_value",
			detail: `default_value is 9223372036854775808, outside what an int can hold (-9223372036854775808 to 9223372036854775807). Write a smaller number, or set type = "double".`,
		},
		"no such type": {
			config: fmt.Sprintf(flagOf, "key = \"n\"\ntype = \"float\"\ndefault_value = 1"), address: "bunting_flag.x", summary: "Invalid type",
			detail: `type "float" is not a flag type. Write "bool", "string", "int", "double" or "json".`,
		},
		"not allowed": {
			config: fmt.Sprintf(flagOf, "key = \"n\"\ndefault_value = 1\nvalue = 4\nallowed_values = [1, 2]"), address: "bunting_flag.x", summary: "Invalid value",
			detail: `value is 4, which is not among the flag's allowed_values: 1, 2. Write one of them, or add it to allowed_values.`,
		},
		"on_destroy": {
			config: fmt.Sprintf(flagOf, "key = \"n\"\ndefault_value = 1\non_destroy = \"drop\""), address: "bunting_flag.x", summary: "Invalid on_destroy",
			detail: `on_destroy is "drop". Write "archive", "delete" or "keep".`,
		},
		"typed null as default_value": {
			config: "variable \"v\" {\n  type = string\n  default = null\n}\n" + fmt.Sprintf(flagOf, "key = \"n\"\ndefault_value = var.v == null ? var.v : var.v"), address: "bunting_flag.x", summary: "Missing Configuration for Required Attribute",
			detail: `~^Must set a configuration value for the default_value attribute`,
		},
		"override without a layer": {
			config: fmt.Sprintf(overrideOf, "flag_key = \"plain\"\nentity_id = \"u\"\nvalue = true"), address: "bunting_override.x", summary: "Invalid flag_key",
			detail: `~^flag_key is "plain", a flag without a layer, so no entity may have an override of it\. Set layer on the flag, like layer = "user"\. The flag was last changed by anna at 20`,
		},
		"override of another type": {
			config: fmt.Sprintf(overrideOf, "flag_key = \"layered\"\nentity_id = \"u\"\nvalue = \"on\""), address: "bunting_override.x", summary: "Invalid value",
			detail: `~^value is a string \("on"\), but the flag is of type bool\. Write true or false\. The flag was last changed by anna at 20`,
		},
		"override not allowed": {
			config: fmt.Sprintf(overrideOf, "flag_key = \"picky\"\nentity_id = \"u\"\nvalue = \"b\""), address: "bunting_override.x", summary: "Invalid value",
			detail: `~^value is "b", which is not among the flag's allowed_values: "a"\. Write one of them, or add it to allowed_values\. The flag was last changed by anna at 20`,
		},
		"override of an unknown flag": {
			config: fmt.Sprintf(overrideOf, "flag_key = \"nowhere\"\nentity_id = \"u\"\nvalue = true"), atApply: true, address: "bunting_override.x", summary: `Cannot set the override of "nowhere" for "u"`,
			detail: `flag_key is "nowhere", but there is no such flag. Create the flag first; in Terraform, write flag_key = bunting_flag.NAME.key instead of the text, so that the flag is made before.`,
		},
		"kill switch of an unknown flag": {
			config: fmt.Sprintf(switchOf, "flag_key = \"nowhere\"\nreason = \"load\""), atApply: true, address: "bunting_kill_switch.x", summary: `Cannot place the hold of "terraform" on flag "nowhere"`,
			detail: `flag_key is "nowhere", but there is no such flag. Create the flag first; in Terraform, write flag_key = bunting_flag.NAME.key instead of the text, so that the flag is made before.`,
		},
		"engaged without a reason": {
			config: fmt.Sprintf(switchOf, "flag_key = \"plain\""), address: "bunting_kill_switch.x", summary: "Invalid reason",
			detail: `reason is missing, but the kill switch is engaged. Say why the flag is killed: it is what the next person on call reads.`,
		},
		"holder of people": {
			config: fmt.Sprintf(switchOf, "flag_key = \"plain\"\nreason = \"load\"\nholder = \"anna\""), address: "bunting_kill_switch.x", summary: "Invalid holder",
			detail: `holder is "anna", but holders of Terraform are "terraform" and what begins with "terraform/". Write holder = "terraform/<name>"; holds of people are placed and released with the command bunting.`,
		},
		"unknown flag as data": {
			config: `data "bunting_flag" "x" { key = "nowhere" }`, address: "data.bunting_flag.x", summary: `There is no flag "nowhere"`,
			detail: `key is "nowhere", but the server has no such flag. A flag of this configuration is read from its resource, bunting_flag.NAME; for any other check the key and the provider's endpoint.`,
		},
		"environment": {
			config: `data "bunting_server" "x" {}` + "\nprovider \"bunting\" {\n  environment = \"prod\"\n}", summary: "The flag server is of another environment",
			detail: `environment is "prod", but the server at ` + server.Endpoint + ` is of the environment "staging". Nothing was read or written. Correct endpoint or environment.`,
		},
		"no token":    {config: `data "bunting_server" "x" {}`, token: "-", summary: "Cannot greet the flag server", detail: `~wants a token, and none is set\.`},
		"wrong token": {config: `data "bunting_server" "x" {}`, token: "bunting-secret-of-nobody", summary: "Cannot greet the flag server", detail: `~does not know the token`},
		"token that may only evaluate": {
			config: `data "bunting_flag" "x" { key = "plain" }`, token: evaluateToken, address: "data.bunting_flag.x", summary: `Cannot read the flag "plain"`, detail: `~scope read`,
		},
		"token that may only read": {
			config: fmt.Sprintf(flagOf, "key = \"n\"\ndefault_value = 1"), token: readToken, atApply: true, address: "bunting_flag.x", summary: `Cannot create the flag "n"`, detail: `~scope write`,
		},
		"token that may write, not kill": {
			config: fmt.Sprintf(switchOf, "flag_key = \"plain\"\nreason = \"load\""), token: writeToken, atApply: true, address: "bunting_kill_switch.x", summary: `Cannot place the hold of "terraform" on flag "plain"`, detail: `~scope kill`,
		},
		"another scheme":     {config: `data "bunting_server" "x" {}`, endpoint: "ftp://flags.example.com", summary: `Cannot use the endpoint "ftp://flags.example.com"`, detail: `~scheme is "ftp", but a flag server is reached by http or https`},
		"mistyped scheme":    {config: `data "bunting_server" "x" {}`, endpoint: "http//127.0.0.1:8980", summary: `Cannot use the endpoint "http//127.0.0.1:8980"`, detail: `~mistyped`},
		"a typo in the host": {config: `data "bunting_server" "x" {}`, endpoint: "http://127.0.0.1:1", summary: "Cannot greet the flag server", detail: `~refused the connection`},
		"no flag server":     {config: `data "bunting_server" "x" {}`, endpoint: elsewhere.URL, summary: "Cannot greet the flag server", detail: `~answered with an HTML page, not as a flag server does`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint, token := server.Endpoint, server.AdminToken
			if row.endpoint != "" {
				endpoint = row.endpoint
			}
			if row.token != "" {
				token = strings.TrimPrefix(row.token, "-")
			}
			c := newCLI(t, endpoint, token)
			if !strings.Contains(row.config, "provider \"bunting\"") {
				row.config += "\n" + providerBlock
			}
			c.config(row.config)
			run := c.plans
			if row.atApply {
				run = c.applies
			}
			got := run().fails(t)
			if got.Summary != row.summary {
				t.Errorf("summary: got %q, want %q", got.Summary, row.summary)
			}
			if row.address != "" && got.Address != row.address {
				t.Errorf("address: got %q, want %q", got.Address, row.address)
			}
			if pattern, ok := strings.CutPrefix(row.detail, "~"); ok {
				if !regexp.MustCompile(pattern).MatchString(got.Detail) {
					t.Errorf("detail: got %q, want one like %q", got.Detail, pattern)
				}
			} else if got.Detail != row.detail {
				t.Errorf("detail:\ngot  %s\nwant %s", got.Detail, row.detail)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("prod"))
	anna := newOperator(t, server, "anna")
	c := newCLI(t, "", "")
	tokenFile := filepath.Join(c.dir, "bunting.token")
	c.file("bunting.token", server.AdminToken+"\n")
	c.env = append(c.env, "BUNTING_ENDPOINT="+server.Endpoint, "BUNTING_TOKEN_FILE="+tokenFile, "BUNTING_ENVIRONMENT=prod",
		"BUNTING_WORKSPACE=payments", "BUNTING_CHANGE_NOTE=pull request 7", "BUNTING_REQUEST_TIMEOUT=5s")
	const body = "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = true\n}\n"
	c.config(body)
	c.applies().must(t)
	if f := anna.sees("f"); f.OwnerID != flag.WorkspaceOwner("payments") {
		t.Errorf("the flag is of %q", f.OwnerID)
	}
	entries, _, err := anna.Audit(t.Context(), client.AuditFilter{Key: "f"})
	if err != nil || len(entries) != 1 || entries[0].Note != "pull request 7" {
		t.Errorf("audit: %+v, %v", entries, err)
	}
	c.config(body + "provider \"bunting\" {\n  endpoint = \"" + server.Endpoint + "\"\n  token = file(\"bunting.token\")\n  environment = \"test\"\n}\n")
	if got := c.plans().fails(t); !strings.Contains(got.Detail, `environment is "test"`) || !strings.Contains(got.Detail, `environment "prod"`) {
		t.Errorf("got %s", got)
	}
	c.config(body + "provider \"bunting\" {\n  request_timeout = \"-1s\"\n}\n")
	if got := c.plans().fails(t); got.Summary != "Invalid request_timeout" {
		t.Errorf("got %s", got)
	}
	for settings, detail := range map[string]string{
		"retry = { attempts = 0 }":               `retry.attempts is "0", not a whole number from 1 to 10. Write one like 4 (in the configuration, or in BUNTING_RETRY_ATTEMPTS).`,
		"retry = { requests_per_second = 0.01 }": `retry.requests_per_second is "0.01", not a number of at least 0.1.`,
	} {
		c.config(body + "provider \"bunting\" {\n  " + settings + "\n}\n")
		if got := c.plans().fails(t); !strings.HasPrefix(got.Summary, "Invalid retry.") || !strings.Contains(got.Detail, detail) {
			t.Errorf("%s: got %s", settings, got)
		}
	}
	c.config(body + "provider \"bunting\" {\n  retry = { attempts = 2, requests_per_second = 50 }\n}\n")
	c.unchanged()
	none := newCLI(t, "", "")
	none.env = append(none.env, "BUNTING_RETRY_ATTEMPTS=many", "BUNTING_ENDPOINT="+server.Endpoint)
	none.config(body + providerBlock)
	if got := none.plans().fails(t); !strings.Contains(got.Detail, `retry.attempts is "many"`) {
		t.Errorf("got %s", got)
	}
	none = newCLI(t, "", "")
	none.config(body + providerBlock)
	if got := none.plans().fails(t); got.Summary != "The endpoint is missing" || !strings.Contains(got.Detail, "BUNTING_ENDPOINT") {
		t.Errorf("got %s", got)
	}
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	c.config(body + providerBlock)
	if got := c.plans().fails(t); got.Summary != "The token cannot be read" {
		t.Errorf("got %s", got)
	}
}

// An endpoint that is unknown while planning: creates are planned without the
// server, and what must read says why it cannot.
func TestUnknownEndpoint(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, "http://127.0.0.1:1", server.AdminToken)
	const provided = `
variable "endpoint" {}
resource "terraform_data" "endpoint" { input = var.endpoint }
provider "bunting" { endpoint = terraform_data.endpoint.output }
resource "bunting_flag" "f" {
  key           = "f"
  default_value = true
  layer         = "user"
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "u"
}
`
	c.config(provided + `data "bunting_evaluation" "e" { flag_key = "f" }`)
	endpoint := "-var=endpoint=" + server.Endpoint
	if got := c.plans(endpoint).fails(t); got.Summary != `Cannot evaluate the flag "f"` || !strings.Contains(got.Detail, "The provider's setting endpoint is not known yet while planning") {
		t.Errorf("got %s", got)
	}
	c.config(provided + `data "bunting_evaluation" "e" { flag_key = bunting_flag.f.id }`)
	c.applies(endpoint).must(t)
	if o := c.plans("-detailed-exitcode", endpoint); o.code != 0 {
		t.Errorf("the plan is not empty\n%s", o.text)
	}
}

// The token is in nothing that Terraform writes, even when it is told to write
// everything.
func TestTokenIsNowhere(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	log := filepath.Join(c.dir, "trace.log")
	c.env = append(c.env, "TF_LOG=TRACE", "TF_LOG_PATH="+log)
	c.config(`
resource "bunting_flag" "f" {
  key           = "f"
  default_value = true
}
data "bunting_evaluation" "e" { flag_key = bunting_flag.f.id }`)
	output := c.applies().must(t).text
	output += c.run("plan", "-out=saved.plan", "-no-color").text
	c.env = append(c.env, "BUNTING_TOKEN="+server.AdminToken+"x")
	output += c.plans().text
	for name, text := range map[string]string{"output": output, "state": string(c.state()), "log": content(t, log), "plan": content(t, filepath.Join(c.dir, "saved.plan"))} {
		if strings.Contains(text, server.AdminToken) {
			t.Errorf("the token is in the %s", name)
		}
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
