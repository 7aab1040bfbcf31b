package endtoend

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// manyFlags is the configuration whose apply is interrupted. With a workspace set, a create finds what an earlier run
// wrote without being told so.
const manyFlags = `
provider "bunting" {
  workspace = "load"
}

resource "bunting_flag" "f" {
  count         = 50
  key           = "load/${count.index}"
  default_value = false
  value         = true
}
`

// moments are when the server is killed: each handles one write. What is written is answered to nobody.
var moments = map[string]func(kill func(), r *http.Request, pass http.Handler){
	"before the write arrives": func(kill func(), _ *http.Request, _ http.Handler) { kill() },
	"during the write": func(kill func(), r *http.Request, pass http.Handler) {
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			kill()
		}()
		discard(pass, r)
		<-killed
	},
	"before the answer arrives": func(kill func(), r *http.Request, pass http.Handler) {
		discard(pass, r)
		kill()
	},
}

// discard passes a call on and drops the answer, also the one that does not come.
func discard(pass http.Handler, r *http.Request) {
	defer func() { _ = recover() }() // the proxy tells by a panic that there was no answer
	pass.ServeHTTP(httptest.NewRecorder(), r)
}

// TestServerIsKilled kills the server with -9 while Terraform applies, and applies again.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	for name, moment := range moments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killWhileApplying(t, 10, moment)
		})
	}
}

// TestServerIsKilledAtRandomMoments does the same many times.
func TestServerIsKilledAtRandomMoments(t *testing.T) {
	if os.Getenv("BUNTING_SOAK") == "" {
		t.Skip("needs BUNTING_SOAK=1")
	}
	t.Parallel()
	for round := range 25 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			t.Parallel()
			delay := time.Duration(rand.Int64N(int64(5 * time.Millisecond)))
			after := rand.IntN(30)
			t.Logf("killed %s into a write, after %d flags were reported", delay, after)
			killWhileApplying(t, after, func(kill func(), r *http.Request, pass http.Handler) {
				killed := make(chan struct{})
				time.AfterFunc(delay, func() {
					defer close(killed)
					kill()
				})
				discard(pass, r)
				<-killed
			})
		})
	}
}

// killWhileApplying kills the server in a write after so many flags were reported as created, starts it again on the
// same database and lets Terraform finish.
func killWhileApplying(t *testing.T, after int, moment func(kill func(), r *http.Request, pass http.Handler)) {
	t.Helper()
	s := startServer(t)
	var due atomic.Bool
	var once sync.Once
	killed := make(chan struct{}) // and all that goes with it is done
	kill := func() { s.stop(t, syscall.SIGKILL) }
	p := startProxy(t, s.endpoint, func(w http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
		if call != "Apply" || !due.Load() {
			pass.ServeHTTP(w, r)
			return
		}
		once.Do(func() {
			defer close(killed)
			moment(kill, r, pass)
		})
		panic(http.ErrAbortHandler)
	})
	due.Store(after == 0)

	w := newWorkspace(t, s, manyFlags)
	w.env["BUNTING_ENDPOINT"] = p.endpoint
	reported := applyReporting(t, w, func(count int) { due.Store(count >= after) })
	select {
	case <-killed:
	case <-time.After(readyDeadline):
		t.Fatalf("the server was not killed: %d flags were reported", len(reported))
	}
	if len(reported) < after || len(reported) >= 50 {
		t.Fatalf("%d flags were reported as created before the kill, expected %d or more and not all", len(reported), after)
	}

	s.start(t)
	for _, key := range reported {
		if got := s.evaluate(t, key, ""); got != "true GLOBAL" {
			t.Errorf("%s was reported as created, but serves %s", key, got)
		}
	}
	w.env["BUNTING_ENDPOINT"] = s.endpoint
	w.must(t, "apply")
	w.planIsEmpty(t)
	checkAudit(t, s, 50)
}

// applyReporting applies and gives the keys of the flags that Terraform reports as created; seen is told their count.
func applyReporting(t *testing.T, w *workspace, seen func(count int)) (keys []string) {
	t.Helper()
	applyWatching(t, w, func(e applyEvent) {
		if e.Type == "apply_complete" {
			keys = append(keys, e.key())
			seen(len(keys))
		}
	})
	return keys
}

// checkAudit fails the test unless each flag was created once and every revision has its rows.
func checkAudit(t *testing.T, s *server, flags int) {
	t.Helper()
	revisions := map[int]bool{}
	created := map[string]int{}
	for page := ""; ; {
		_, answer := s.call(t, s.token, "bunting.v1.FlagAdminService/GetAuditLog", map[string]any{"pageSize": 30, "pageToken": page})
		entries, _ := answer["entries"].([]any)
		for _, e := range entries {
			entry := e.(map[string]any)
			number, err := strconv.Atoi(fmt.Sprint(entry["revision"]))
			if err != nil {
				t.Fatalf("an audit entry without a revision: %v", entry)
			}
			revisions[number] = true
			if entry["action"] == "put_flag" {
				if entry["before"] != nil {
					t.Errorf("%v was written once more: %v", entry["object"], entry)
				}
				created[fmt.Sprint(entry["object"])]++
			}
		}
		if page, _ = answer["nextPageToken"].(string); page == "" {
			break
		}
	}
	for i := range flags {
		if key := fmt.Sprintf("load/%d", i); created[key] != 1 {
			t.Errorf("%s has %d creating rows in the audit log, expected 1", key, created[key])
		}
	}
	head, err := strconv.Atoi(s.revision(t))
	if err != nil {
		t.Fatal(err)
	}
	for number := 1; number <= head; number++ {
		if !revisions[number] {
			t.Errorf("revision %d of %d has no row in the audit log", number, head)
		}
		delete(revisions, number)
	}
	if len(revisions) > 0 {
		t.Errorf("the audit log has rows of revisions that are not: %v", slices.Sorted(maps.Keys(revisions)))
	}
}
