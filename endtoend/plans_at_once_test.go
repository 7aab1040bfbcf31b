//go:build unix

package endtoend

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// plannedConfig is what is planned at once. Some of the flags are to be changed, so that a plan says something.
const plannedConfig = `
resource "bunting_flag" "f" {
  count         = 20
  key           = "planned/${count.index}"
  default_value = "none"
  value         = %s
}
`

// answered counts what a server was asked and how many bytes it answered, call by call.
type answered struct {
	mu    sync.Mutex
	bytes map[string][]int // by procedure, of each call; guarded by mu
}

// count passes a call on, and counts it.
func (a *answered) count(w http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
	counting := &countingWriter{ResponseWriter: w}
	pass.ServeHTTP(counting, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes[call] = append(a.bytes[call], counting.written)
}

// take gives what was counted, and begins anew.
func (a *answered) take() map[string][]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	counted := a.bytes
	a.bytes = map[string][]int{}
	return counted
}

// countingWriter counts the bytes of an answer.
type countingWriter struct {
	http.ResponseWriter

	written int
}

// Write writes a part of the answer.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.written += n
	return n, err
}

// Unwrap lets a stream be flushed.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestPlansAtOnce: twenty runs of Terraform that start together plan the same whether they share definitions or not, and
// with a shared copy one of them fetches.
func TestPlansAtOnce(t *testing.T) {
	if os.Getenv("BUNTING_SOAK") == "" {
		t.Skip("needs BUNTING_SOAK=1")
	}
	const plans, there = 20, 1000
	s := startServer(t)
	fillServer(t, s, there)
	asked := &answered{bytes: map[string][]int{}}
	way := startProxy(t, s.endpoint, asked.count)
	w := newWorkspace(t, s, fmt.Sprintf(plannedConfig, `"all"`))
	w.must(t, "apply")
	w.write(t, "main.tf", fmt.Sprintf(plannedConfig, `count.index < 10 ? "all" : "some"`))
	w.env["BUNTING_ENDPOINT"] = way.endpoint

	alone := planTogether(t, w, 1)[0]
	if !strings.Contains(alone, `"some"`) {
		t.Fatalf("the plan changes nothing:\n%s", alone)
	}
	whole := slices.Max(asked.take()["GetSnapshot"])
	table := []string{fmt.Sprintf("%-28s %8s %6s  %s", fmt.Sprintf("%d plans at once of %d flags", plans, there), "requests", "kB", "of them")}
	row := func(what string, wholes int) {
		results := planTogether(t, w, plans)
		counted := asked.take()
		requests, size, all, calls := 0, 0, 0, []string{}
		for _, call := range slices.Sorted(maps.Keys(counted)) {
			list := counted[call]
			requests += len(list)
			calls = append(calls, fmt.Sprintf("%d %s", len(list), call))
			for _, n := range list {
				size += n
				if n > whole/2 {
					all++
				}
			}
		}
		table = append(table, fmt.Sprintf("%-28s %8d %6d  %s; all definitions %d times", what, requests, size/1000, strings.Join(calls, ", "), all))
		if all > wholes || len(counted[handshake]) != plans || requests > 2*plans {
			t.Errorf("%s: %d requests (%s), all definitions %d times; at most %d requests, %d of them handshakes, and all definitions %d times are meant",
				what, requests, strings.Join(calls, ", "), all, 2*plans, plans, wholes)
		}
		for i, result := range results {
			if result != alone {
				t.Errorf("%s: plan %d is another one than that of a plan alone:\n%s\n%s", what, i, result, alone)
			}
		}
	}
	row("nothing shared", plans)
	w.env["BUNTING_CACHE_REDIS_URL"] = redistest.Start(t).URL()
	// So many may begin before there is a copy, or not hear a busy machine's Redis in time: they ask the server.
	const few = plans / 5
	row("a Redis, with nothing in it", 1+few)
	row("a Redis, with them", few)
	t.Log(strings.Join(table, "\n"))
}

// fillServer puts flags on a server beside those that are planned.
func fillServer(t *testing.T, s *server, count int) {
	t.Helper()
	c, err := client.New(client.Options{Endpoint: s.endpoint, Token: s.token, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	batch := client.Batch{Atomic: true}
	for i := range count {
		f := boolean(flag.Key(fmt.Sprintf("there/%d", i)))
		f.Description = "Shows the new page to those who have asked for it " + rand.Text() // what is alike would travel as next to nothing
		batch.Changes = append(batch.Changes, flag.Put(f))
	}
	if _, err := c.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// planTogether plans a workspace so many times at once, each in a copy of its own, and gives the plans as JSON, without
// what differs from run to run.
func planTogether(t *testing.T, w *workspace, plans int) (results []string) {
	t.Helper()
	copies := make([]*workspace, plans)
	runs := make([]*exec.Cmd, plans)
	for i := range copies {
		copies[i] = &workspace{dir: filepath.Join(t.TempDir(), "copy"), env: w.env}
		if err := os.CopyFS(copies[i].dir, os.DirFS(w.dir)); err != nil {
			t.Fatal(err)
		}
		runs[i] = command(t, copies[i].dir, w.env, cli(t), "plan", "-input=false", "-no-color", "-out=saved.plan")
	}
	errs := make([]error, plans)
	var planning sync.WaitGroup
	for i, run := range runs {
		planning.Go(func() {
			if out, err := run.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("plan %d: %w\n%s", i, err, out)
			}
		})
	}
	planning.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, c := range copies {
		var plan map[string]any
		if err := json.Unmarshal([]byte(c.must(t, "show", "-json", "saved.plan").stdout), &plan); err != nil {
			t.Fatal(err)
		}
		delete(plan, "timestamp")
		text, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, string(text))
	}
	return results
}
