package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// faultSample are the faults that also meet the real Terraform: each in the
// creation of a flag, the change of an override and the end of a kill switch, and
// then in reading.
var faultSample = []string{
	"reset", "reset before the answer", "cut off", "cut short", "HTML", "404 of a proxy", "429", "503", "hanging", "redirect to another host",
}

// TestFaultSample is thirty cells of the matrix through the real Terraform, which
// has a provider with a proxy and a fault of its own for each three, and ten in
// reading.
func TestFaultSample(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	c := newCLI(t, "", server.AdminToken)
	c.env = append(c.env, "BUNTING_REQUEST_TIMEOUT=5s", "BUNTING_RETRY_ATTEMPTS=1", "BUNTING_WORKSPACE=sample")
	proxies := make([]*faultyProxy, len(faultSample))
	for i := range faultSample {
		proxies[i] = newFaultyProxy(t, server)
		anna.does(flag.Put(&flag.Flag{Key: flag.Key(fmt.Sprintf("f%d", i)), Type: flag.Bool, Default: flag.BoolValue(false), Layer: "user"}))
	}
	// config writes a block for each fault.
	config := func(format string) {
		t.Helper()
		var text strings.Builder
		for i, p := range proxies {
			fmt.Fprintf(&text, "provider \"bunting\" {\n  alias = \"p%d\"\n  endpoint = %q\n}\n", i, p.URL)
			text.WriteString(strings.ReplaceAll(format, "NUMBER", strconv.Itoa(i)))
		}
		c.config(text.String())
	}
	// fails lets each proxy fail where the condition says, and asks that each of
	// them is told so, and nothing else.
	fails := func(when func(procedure string) bool, run func() outcome, summaries ...string) {
		t.Helper()
		for i, p := range proxies {
			fault := p.named(t, faultSample[i])
			p.fails("", func(w http.ResponseWriter, r *http.Request) {
				if when(path.Base(r.URL.Path)) {
					fault(w, r)
					return
				}
				p.road.ServeHTTP(w, r)
			})
		}
		o := run()
		if o.code != 1 || strings.Contains(o.text, "panic") || strings.Contains(o.text, "crash") || strings.Contains(o.text, server.AdminToken) {
			t.Errorf("exit code %d, a crash or the token:\n%s", o.code, o.text)
		}
		errors := o.of("error")
		if len(errors) != len(proxies)*len(summaries) {
			t.Errorf("%d errors, want %d", len(errors), len(proxies)*len(summaries))
		}
		for i, p := range proxies {
			for _, summary := range summaries {
				summary = strings.ReplaceAll(summary, "NUMBER", strconv.Itoa(i))
				n := 0
				for _, e := range errors {
					if e.Summary == summary && strings.Contains(e.Detail, p.URL) && strings.Contains(e.Detail, faultNamed(faultSample[i]).says) {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%s: %q is told %d times:\n%v", faultSample[i], summary, n, errors)
				}
			}
			p.fails("", nil)
		}
	}

	const overrides = "resource \"bunting_override\" \"oNUMBER\" {\n  provider = bunting.pNUMBER\n  flag_key = \"fNUMBER\"\n  entity_id = \"u\"\n  value = false\n}\n"
	const kills = "resource \"bunting_kill_switch\" \"kNUMBER\" {\n  provider = bunting.pNUMBER\n  flag_key = \"fNUMBER\"\n  reason = \"load\"\n  release_on_destroy = true\n}\n"
	const flags = "resource \"bunting_flag\" \"nNUMBER\" {\n  provider = bunting.pNUMBER\n  key = \"nNUMBER\"\n  default_value = false\n}\n"
	config(overrides + kills)
	c.applies().must(t)
	before := stateOf(t, c.state())
	config(strings.Replace(overrides, "false", "true", 1) + flags)
	fails(func(procedure string) bool { return procedure == "Apply" }, func() outcome { return c.applies() },
		`Cannot create the flag "nNUMBER"`, `Cannot change the override of "fNUMBER" for "u"`, `Cannot release the hold of "terraform" on flag "fNUMBER"`)
	if after := stateOf(t, c.state()); !reflect.DeepEqual(after, before) {
		t.Errorf("the state changed from\n%v\nto\n%v", before, after)
	}
	c.applies().must(t)
	c.unchanged()

	config(overrides)
	c.applies().must(t)
	kept := c.state()
	fails(func(procedure string) bool { return procedure != greeting }, func() outcome { return c.applies("-refresh-only") }, `Cannot read the override of "fNUMBER" for "u"`)
	if !bytes.Equal(c.state(), kept) {
		t.Error("reading changed the state")
	}
	c.unchanged()
}

func faultNamed(name string) fault {
	for _, f := range faults {
		if f.name == name {
			return f
		}
	}
	panic("there is no fault " + name)
}

// stateOf gives what a state file says of resources, by address.
func stateOf(t *testing.T, state []byte) map[string]any {
	t.Helper()
	var file struct {
		Resources []struct {
			Type      string `json:"type"`
			Name      string `json:"name"`
			Instances []struct {
				Attributes any `json:"attributes"`
			} `json:"instances"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(state, &file); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for _, r := range file.Resources {
		all[r.Type+"."+r.Name] = r.Instances
	}
	return all
}
