package endtoend

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// applyEvent is what Terraform tells of an apply while it goes on.
type applyEvent struct {
	Type string `json:"type"` // apply_complete, apply_errored, diagnostic, …
	Hook struct {
		Resource struct {
			Key json.Number `json:"resource_key"`
		} `json:"resource"`
	} `json:"hook"`
	Diagnostic struct {
		Severity string `json:"severity"`
		Summary  string `json:"summary"`
		Detail   string `json:"detail"`
	} `json:"diagnostic"`
}

// key gives the key of the flag that the event is about.
func (e *applyEvent) key() string { return "load/" + e.Hook.Resource.Key.String() }

// applyWatching makes an apply that does not go well, and hands on what is told of it, as it is told.
func applyWatching(t *testing.T, w *workspace, seen func(e applyEvent)) {
	t.Helper()
	cmd := command(t, w.dir, w.env, cli(t), "apply", "-json", "-auto-approve", "-input=false")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event applyEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err == nil {
			seen(event)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("the apply went well, although its server was killed")
	}
}

// TestOutageDuringApply kills the server while 300 flags are applied and starts it again before the apply has ended.
// What was not written is told, flag by flag, and the next apply writes that and nothing else.
func TestOutageDuringApply(t *testing.T) {
	t.Parallel()
	const flags, before, during = 300, 60, 20
	s := startServer(t)
	var due atomic.Bool
	var once sync.Once
	killed := make(chan struct{})
	p := startProxy(t, s.endpoint, func(w http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
		if call == "Apply" && due.Load() {
			once.Do(func() {
				discard(pass, r) // written, but nobody is told
				s.stop(t, syscall.SIGKILL)
				close(killed)
				panic(http.ErrAbortHandler)
			})
		}
		pass.ServeHTTP(w, r)
	})
	w := newWorkspace(t, s, strings.Replace(manyFlags, "= 50", "= 300", 1))
	w.env["BUNTING_ENDPOINT"] = p.endpoint

	var written, failed, told []string
	again := 0 // written after the server came back
	applyWatching(t, w, func(e applyEvent) {
		switch {
		case e.Type == "apply_complete":
			written = append(written, e.key())
			due.Store(len(written) >= before)
			if len(failed) >= during {
				again++
			}
		case e.Type == "apply_errored":
			failed = append(failed, e.key())
			if len(failed) == during {
				<-killed
				s.start(t)
				p.leads(t, s.endpoint)
			}
		case e.Type == "diagnostic" && e.Diagnostic.Severity == "error":
			key, ok := strings.CutPrefix(e.Diagnostic.Summary, "Cannot create the flag ")
			if !ok || !strings.Contains(e.Diagnostic.Detail, p.endpoint) {
				t.Errorf("this is told: %s: %s", e.Diagnostic.Summary, e.Diagnostic.Detail)
			}
			told = append(told, strings.Trim(key, `"`))
		}
	})
	t.Logf("%d flags were written, %d of them after the outage; %d were not", len(written), again, len(failed))
	slices.Sort(failed)
	slices.Sort(told)
	if len(written) < before || len(failed) < during || len(written)+len(failed) != flags || !slices.Equal(failed, told) {
		t.Fatalf("%d flags were reported as written and %d as failed, of %d; told is of\n%q\nwant\n%q", len(written), len(failed), flags, told, failed)
	}
	for _, key := range written {
		if got := s.evaluate(t, key, ""); got != "true GLOBAL" {
			t.Errorf("%s was reported as created, but serves %s", key, got)
		}
	}
	w.must(t, "apply")
	w.planIsEmpty(t)
	checkAudit(t, s, flags)
}
