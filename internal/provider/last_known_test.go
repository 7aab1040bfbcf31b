package provider

import (
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

const lastingConfig = `
data "bunting_evaluation" "theme" {
  flag_key    = "shop/theme"
  entity_id   = "u"
  allow_stale = true
}
data "bunting_evaluation" "held" {
  flag_key    = "shop/on"
  allow_stale = true
}
data "bunting_evaluation" "missing" {
  flag_key    = "missing"
  default     = 7
  allow_stale = true
}
data "bunting_evaluations" "prefix" {
  prefix      = "shop"
  entity_id   = "v"
  allow_stale = true
}
data "bunting_evaluations" "tags" {
  tags        = ["web", "new"]
  allow_stale = true
}
output "e" {
  value = {
    theme   = [data.bunting_evaluation.theme.value, data.bunting_evaluation.theme.source, data.bunting_evaluation.theme.stale]
    held    = [data.bunting_evaluation.held.value, data.bunting_evaluation.held.source, data.bunting_evaluation.held.stale]
    missing = [data.bunting_evaluation.missing.value, data.bunting_evaluation.missing.source, data.bunting_evaluation.missing.stale]
    prefix  = [data.bunting_evaluations.prefix.values["shop/limit"], data.bunting_evaluations.prefix.sources, data.bunting_evaluations.prefix.stale]
    tags    = [keys(data.bunting_evaluations.tags.values), data.bunting_evaluations.tags.stale]
  }
}
`

// quick has a CLI give up on a dead server soon.
func (c *cli) quick() *cli {
	c.env = append(c.env, "BUNTING_RETRY_ATTEMPTS=1", "BUNTING_REQUEST_TIMEOUT=5s")
	return c
}

func (c *cli) output(name string) string {
	c.t.Helper()
	return strings.TrimSpace(c.run("output", "-json", name).must(c.t).text)
}

// With the server down from the start, evaluated data sources answer what it said
// last, where allow_stale says so, and tell how long ago that was; a newer process
// than the one that saw it, too.
func TestLastKnownAnswers(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("prod"))
	shop(t, server)
	c := newCLI(t, server.Endpoint, server.AdminToken).quick()
	c.config(lastingConfig)
	if told := c.applies().must(t).of("warning"); len(told) > 0 {
		t.Errorf("told %v", told)
	}
	if got, want := c.output("e"), `{"held":[true,"KILLED",false],"missing":[7,"DEFAULT",false],`+
		`"prefix":[9007199254740993,{"shop/limit":"DEFAULT","shop/on":"KILLED","shop/rate":"DEFAULT","shop/rule":"DEFAULT","shop/theme":"DEFAULT"},false],`+
		`"tags":[["shop/on","shop/rule"],false],"theme":["red","OVERRIDE",false]}`; got != want {
		t.Errorf("fresh: got  %s\nwant %s", got, want)
	}
	server.Stop()
	told := c.applies().must(t).of("warning")
	if got, want := c.output("e"), `{"held":[true,"KILLED",true],"missing":[7,"DEFAULT",true],`+
		`"prefix":[9007199254740993,{"shop/limit":"CACHED","shop/on":"KILLED","shop/rate":"CACHED","shop/rule":"CACHED","shop/theme":"CACHED"},true],`+
		`"tags":[["shop/on","shop/rule"],true],"theme":["red","CACHED",true]}`; got != want {
		t.Errorf("stale: got  %s\nwant %s", got, want)
	}
	detail := regexp.MustCompile(`^The server does not answer, and this is what it said last, \d+ (s|min) ago \(20\S+Z\)\. It is taken, because allow_stale is true\. What is wrong: ` +
		regexp.QuoteMeta(server.Endpoint) + ` refused the connection\.`)
	summaries := map[string]bool{}
	for _, d := range told {
		summaries[d.Summary] = true
		if !detail.MatchString(d.Detail) || strings.Contains(d.Detail, server.AdminToken) {
			t.Errorf("told %s", d)
		}
	}
	for _, want := range []string{`The answer for flag "shop/theme" is stale`, `The answer for flag "missing" is stale`, `The answers for the flags under "shop" are stale`, `The answers for the flags with the tags "new", "web" are stale`} {
		if !summaries[want] {
			t.Errorf("%q was not told, but %v", want, summaries)
		}
	}

	if err := os.RemoveAll(filepath.Join(c.dir, "cache", "definitions")); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ from, to, summary, detail string }{
		"not allowed":        {"entity_id   = \"u\"\n  allow_stale = true", `entity_id = "u"`, `Cannot evaluate the flag "shop/theme"`, "refused the connection"},
		"another entity":     {`"u"`, `"w"`, `Cannot evaluate the flag "shop/theme"`, "allow_stale is true, but no answer to this was kept from before, or only one from before this run changed the flag, and none is told by the shared definitions in the folder "},
		"another prefix":     {`= "shop"`, `= "shop/l"`, `Cannot evaluate the flags under "shop/l"`, "no answer to this was kept"},
		"other tags":         {`["web", "new"]`, `["web"]`, `Cannot evaluate the flags with the tag "web"`, "no answer to this was kept"},
		"no default":         {"  default     = 7\n", "", `There is no flag "missing"`, "the server has no such flag"},
		"definitions":        {"output", "data \"bunting_flag\" \"f\" { key = \"shop/on\" }\noutput", `Cannot read the flag "shop/on"`, "refused the connection"},
		"another env":        {"output", "provider \"bunting\" { environment = \"test\" }\noutput", "Cannot greet the flag server", "refused the connection"},
		"another token":      {"output", "provider \"bunting\" { token = \"another\" }\noutput", "Cannot greet the flag server", "refused the connection"},
		"another directory":  {"output", "provider \"bunting\" { cache = { directory = \"elsewhere\" } }\noutput", "Cannot greet the flag server", "refused the connection"},
		"the very directory": {"output", "provider \"bunting\" { cache = { directory = \"cache\" } }\ndata \"bunting_server\" \"s\" {}\noutput", "Cannot read the flag server", "refused the connection"},
	} {
		c.config(strings.Replace(lastingConfig, row.from, row.to, 1))
		if got := c.plans().fails(t); got.Summary != row.summary || !strings.Contains(got.Detail, row.detail) {
			t.Errorf("%s: got %s", name, got)
		}
	}
	server.Restart(t)
	c.config(lastingConfig)
	if told := c.applies().must(t).of("warning"); len(told) > 0 {
		t.Errorf("the server is up, and yet told %v", told)
	}
}

// A kill seen for anybody is one for everybody while the server is down; what was
// refused is not answered from before; and without allow_stale nothing is kept.
func TestLastKnownGoesByState(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := shop(t, server)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.Token(t, "evaluate")).quick()
	config := func(entity, allow string) string {
		return providerBlock + "data \"bunting_evaluation\" \"e\" {\n  flag_key = \"shop/theme\"\n  entity_id = \"" + entity + "\"\n  allow_stale = " + allow + "\n}\n" +
			"output \"e\" { value = [data.bunting_evaluation.e.value, data.bunting_evaluation.e.source] }\n"
	}
	c.config(config("u", "false"))
	c.applies().must(t)
	if kept, err := os.ReadDir(filepath.Join(c.dir, "cache")); err == nil {
		t.Errorf("kept %v", kept)
	}
	c.config(config("u", "true"))
	c.applies().must(t)
	anna.does(kill("shop/theme", "anna"))
	c.config(config("v", "true"))
	c.applies().must(t)
	proxy.fails("", proxy.named(t, "503"))
	c.config(config("u", "true"))
	c.applies().must(t)
	if got := c.output("e"); got != `["blue","KILLED"]` {
		t.Errorf("got %s", got)
	}
	for _, fault := range []string{"401", "403", "404 of a proxy", "429", "HTML"} {
		proxy.fails("", proxy.named(t, fault))
		if got := c.plans().fails(t); got.Summary != "Cannot greet the flag server" {
			t.Errorf("%s: got %s", fault, got)
		}
	}
	proxy.fails("GetServer", proxy.named(t, "reset")) // it dies within the walk
	c.applies().must(t)
	if got := c.output("e"); got != `["blue","KILLED"]` {
		t.Errorf("got %s", got)
	}
}

// A server that dies within an apply leaves no answer from before what the apply
// wrote: it would contradict the resource that it depends on.
func TestLastKnownIsNoOlderThanWhatTheRunWrote(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken).quick()
	config := func(value string) string {
		return providerBlock + "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = " + value + "\n}\n" +
			"data \"bunting_evaluation\" \"e\" {\n  flag_key = \"f\"\n  allow_stale = true\n  depends_on = [bunting_flag.f]\n}\n" +
			"output \"e\" { value = data.bunting_evaluation.e.value }\n"
	}
	c.config(config("1"))
	c.applies().must(t)
	var wrote atomic.Bool
	proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case path.Base(r.URL.Path) == "Apply":
			wrote.Store(true)
			fallthrough
		case !wrote.Load():
			proxy.road.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	c.config(config("2"))
	if got := c.applies().fails(t); got.Summary != `Cannot evaluate the flag "f"` || !strings.Contains(got.Detail, "or only one from before this run changed the flag") {
		t.Errorf("got %s", got)
	}
	proxy.fails("", nil)
	c.applies().must(t)
	if got := c.output("e"); got != "2" {
		t.Errorf("got %s", got)
	}
}

// Resources are never read from what was last known: one error for all of them, an
// error for each change, and the state as it was.
func TestLastKnownIsNotForResources(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	shop(t, server)
	c := newCLI(t, server.Endpoint, server.AdminToken).quick()
	config := lastingConfig + "resource \"bunting_flag\" \"f\" {\n  count = 3\n  key = \"f${count.index}\"\n  default_value = 1\n}\n"
	c.config(config)
	c.applies().must(t)
	before := c.run("state", "show", "bunting_flag.f[0]").must(t).text
	server.Stop()
	got := c.plans().fails(t)
	if !strings.HasPrefix(got.Summary, `Cannot read the flag "f`) || !strings.Contains(got.Detail, "refused the connection") {
		t.Errorf("got %s", got)
	}
	c.config(strings.Replace(config, "default_value = 1", "default_value = 2", 1))
	if got := c.applies("-refresh=false").of("error"); len(got) != 3 || !strings.HasPrefix(got[0].Summary, `Cannot change the flag "f`) {
		t.Errorf("got %v", got)
	}
	if after := c.run("state", "show", "bunting_flag.f[0]").must(t).text; after != before {
		t.Errorf("the state changed from %s to %s", before, after)
	}
}

// A file that cannot be used or written is told once, and stops nothing.
func TestLastKnownThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	shop(t, server)
	c := newCLI(t, server.Endpoint, server.AdminToken).quick()
	c.config(providerBlock + lastingConfig)
	once := func(name, why string) {
		t.Helper()
		told := slices.DeleteFunc(c.plans().must(t).of("warning"), func(d told) bool { return d.Summary != "The last known answers cannot be used" })
		if len(told) != 1 || !strings.Contains(told[0].Detail, why) || !strings.Contains(told[0].Detail, cacheDirectoryVariable) {
			t.Errorf("%s: told %v", name, told)
		}
	}
	// A file where the folder should be stops root, too.
	c.file("cache", "")
	once("unwritable", "cannot be written")
	if err := os.Remove(filepath.Join(c.dir, "cache")); err != nil {
		t.Fatal(err)
	}
	c.plans().must(t)
	files, err := filepath.Glob(filepath.Join(c.dir, "cache", "evaluations", "????????????????????????????????"))
	if err != nil || len(files) != 1 {
		t.Fatalf("kept %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	once("damaged", "is not one that this version has written. It was written anew")
	if told := c.plans().must(t).of("warning"); len(told) > 0 {
		t.Errorf("told %v", told)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	down := c.plans()
	if got := down.fails(t); got.Summary != "Cannot greet the flag server" {
		t.Errorf("got %s", got)
	}
	if told := down.of("warning"); len(told) != 1 || !strings.Contains(told[0].Detail, "is not one that this version has written") {
		t.Errorf("told %v", told)
	}
}

// Two runs at once, of one folder, each keep what they saw.
func TestLastKnownOfTwoRuns(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	for _, key := range []string{"a", "b"} {
		anna.does(flag.Put(boolFlag(key)))
	}
	cache := filepath.Join(t.TempDir(), "cache")
	runs := map[string]*cli{}
	var wait sync.WaitGroup
	for _, key := range []string{"a", "b"} {
		c := newCLI(t, server.Endpoint, server.AdminToken).quick()
		c.env = append(c.env, cacheDirectoryVariable+"="+cache)
		c.config("data \"bunting_evaluation\" \"e\" {\n  count = 30\n  flag_key = \"" + key + "\"\n  entity_id = count.index\n  allow_stale = true\n}")
		runs[key] = c
		wait.Go(func() { c.plans().must(t) })
	}
	wait.Wait()
	server.Stop()
	for key, c := range runs {
		if told := c.plans().must(t).of("warning"); len(told) == 0 {
			t.Errorf("%s: nothing was told", key)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", 125 * time.Minute: "2 h 5 min", 47*time.Hour + 59*time.Minute: "47 h 59 min", 50 * time.Hour: "2 days",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
