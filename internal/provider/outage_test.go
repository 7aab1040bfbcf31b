package provider

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

// manyFlags declares so many flags, each with an override and a kill switch.
func manyFlags(count int) string {
	return fmt.Sprintf(providerBlock+`
resource "bunting_flag" "f" {
  count         = %[1]d
  key           = "f/${count.index}"
  default_value = false
  value         = true
  layer         = "user"
}
resource "bunting_override" "o" {
  count     = %[1]d
  flag_key  = bunting_flag.f[count.index].key
  entity_id = "u"
  value     = false
}
resource "bunting_kill_switch" "k" {
  count    = %[1]d
  flag_key = bunting_flag.f[count.index].key
  reason   = "load"
}
`, count)
}

// A server that dies after the greeting is told once, and the state is as it was;
// one that is dead before, too.
func TestADeadServerIsToldOnce(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken)
	c.env = append(c.env, "BUNTING_WORKSPACE=shop", "BUNTING_RETRY_ATTEMPTS=2")
	c.config(manyFlags(20))
	c.applies().must(t)
	before := c.state()
	for _, how := range []string{"reset", "503"} {
		for _, spare := range []string{"GetServer", ""} {
			proxy.fails(spare, proxy.named(t, how))
			for _, args := range [][]string{{"plan"}, {"apply", "-auto-approve"}, {"apply", "-auto-approve", "-refresh-only"}, {"apply", "-auto-approve", "-destroy"}} {
				e := c.run(append(args, "-json", "-input=false")...).fails(t)
				if want := map[bool]string{true: "Cannot greet", false: "Cannot read"}[spare == ""]; !strings.HasPrefix(e.Summary, want) {
					t.Errorf("%s, %q: %s", how, args, e)
				}
				if !bytes.Equal(c.state(), before) {
					t.Errorf("%s, %q: the state changed", how, args)
				}
			}
		}
	}
	proxy.fails("GetServer", proxy.named(t, "503"))
	c.config(providerBlock)
	c.plans("-refresh=false").fails(t) // what is to be destroyed is looked at, too
	c.config(manyFlags(20))
	proxy.fails("", nil)
	c.unchanged()

	// Data sources each report.
	c = newCLI(t, proxy.URL, server.AdminToken)
	c.config(providerBlock + `
data "bunting_flag" "f" {
  count = 3
  key   = "f/${count.index}"
}
`)
	proxy.fails("GetServer", proxy.named(t, "503"))
	if o := c.plans(); len(o.of("error")) != 3 {
		t.Errorf("%d errors\n%s", len(o.of("error")), o.text)
	}
}

// The server dies in the middle of an apply and comes back: what could not be
// written is told, and the next apply converges and writes nothing twice.
func TestAServerThatDiesDuringAnApply(t *testing.T) {
	t.Parallel()
	const flags = 100
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken)
	c.env = append(c.env, "BUNTING_WORKSPACE=shop")
	c.config(manyFlags(flags))
	var applies atomic.Int64
	proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Apply") && applies.Add(1) == 10 {
			server.Stop() // and this one does not reach it
		}
		proxy.road.ServeHTTP(w, r)
	})
	o := c.applies()
	told := map[string]int{}
	for _, d := range o.of("error") {
		told[d.Summary]++
	}
	for summary, times := range told {
		if !strings.HasPrefix(summary, "Cannot create the flag") && !strings.HasPrefix(summary, "Cannot set the override") && !strings.HasPrefix(summary, "Cannot place the kill switch") || times != 1 {
			t.Errorf("%d times: %s", times, summary)
		}
	}
	if o.code != 1 || len(told) == 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.text)
	}
	server.Restart(t)
	proxy.fails("", nil)
	c.applies().must(t)
	c.unchanged()

	written := map[string]int{}
	admin := newClient(t, server, server.AdminToken)
	for page := ""; ; {
		entries, next, err := admin.Audit(t.Context(), client.AuditFilter{Limit: 100, Page: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			written[e.Action+" "+e.Object]++
		}
		if page = next; page == "" {
			break
		}
	}
	if twice := slices.DeleteFunc(slices.Collect(maps.Keys(written)), func(what string) bool { return written[what] == 1 }); len(twice) > 0 || len(written) < 3*flags {
		t.Errorf("%d were written, and twice: %q", len(written), twice)
	}
}
