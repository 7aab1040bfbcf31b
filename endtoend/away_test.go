package endtoend

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// snapshotDeadline is how long a change may take to be in the snapshot on disk: it is written every 5 s at most, and looked
// after each second.
const snapshotDeadline = 30 * time.Second

// TestTheDatabaseIsLost kills a server with -9 and takes its database away: started again, it serves the kills that it
// knew, until an operator accepts the new database.
func TestTheDatabaseIsLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	theme := map[string]any{"key": "shop/theme", "type": "FLAG_TYPE_STRING", "defaultValue": map[string]any{"stringValue": "classic"}, "value": map[string]any{"stringValue": "blue"}, "state": "STATE_ENABLED"}
	if status, answer := s.call(t, s.token, "bunting.v1.FlagAdminService/Apply", map[string]any{"changes": []any{map[string]any{"putFlag": theme}}}); status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	reader := s.newToken(t, "web", "SCOPE_EVALUATE")
	s.operate(t, s.token, "kill", "shop/theme", "--reason", "it burns", "--holder", "ops-night")
	snapshot := filepath.Join(s.dir, "bunting.db-snapshot")
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(snapshotDeadline); ; {
		if text, err := os.ReadFile(snapshot); err == nil && strings.Contains(string(text), "ops-night") {
			break
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("the kill was not in the snapshot within %s", snapshotDeadline)
		}
	}
	s.stop(t, syscall.SIGKILL)
	for _, name := range []string{"bunting.db", "bunting.db-wal", "bunting.db-shm", "bunting.db-lock"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}

	s.start(t)
	if got := s.evaluate(t, "shop/theme", ""); got != "classic KILLED" {
		t.Errorf("without its database the server serves %s", got)
	}
	if status, _ := s.call(t, reader, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "shop/theme"}); status != http.StatusOK {
		t.Errorf("a token that it knew is answered %d", status)
	}
	if text := s.ready(t); !strings.Contains(text, "refused") {
		t.Errorf("/readyz says %q", text)
	}
	out := s.bunting(t, s.token, "resync")
	if out.code != 4 {
		t.Errorf("bunting resync ended with %d", out.code)
	}
	out.says(t, "Refused", "is empty, while 1 flags are known", "shop/theme ops-night")

	s.operate(t, s.token, "resync", "--accept").says(t, "Accepted", "lost with it", "ops-night")
	if got := s.evaluate(t, "shop/theme", ""); got != "nothing" {
		t.Errorf("once the new database is accepted, the server serves %s", got)
	}
}

// ready gives what /readyz says, which must be 200.
func (s *server) ready(t *testing.T) string {
	t.Helper()
	client := http.Client{Timeout: commandDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(s.endpoint + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %d %q %v", answer.StatusCode, text, err)
	}
	return string(text)
}

// awayDeadline is how long a server may take to start without its source of truth.
const awayDeadline = 15 * time.Second

// TestAProxyStartsWithItsUpstreamAway starts a proxy anew when its upstream is dead, and when it hangs: it serves what it
// knew, to those whose token it has seen.
func TestAProxyStartsWithItsUpstreamAway(t *testing.T) {
	t.Parallel()
	root := startServer(t)
	theme := map[string]any{"key": "shop/theme", "type": "FLAG_TYPE_STRING", "defaultValue": map[string]any{"stringValue": "classic"}, "value": map[string]any{"stringValue": "blue"}, "state": "STATE_ENABLED"}
	if status, answer := root.call(t, root.token, "bunting.v1.FlagAdminService/Apply", map[string]any{"changes": []any{map[string]any{"putFlag": theme}}}); status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	root.operate(t, root.token, "kill", "shop/theme", "--reason", "it burns", "--holder", "ops-night")
	reader, unseen := root.newToken(t, "proxy", "SCOPE_READ"), root.newToken(t, "unseen", "SCOPE_EVALUATE")
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(reader+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := &server{dir: t.TempDir(), token: root.newToken(t, "web", "SCOPE_EVALUATE")}
	proxy.args = []string{"--upstream", root.endpoint, "--upstream-token-file", secret, "--data", "data"}
	proxy.start(t)
	if got := proxy.evaluate(t, "shop/theme", ""); got != "classic KILLED" {
		t.Errorf("the proxy serves %s", got)
	}
	if code := proxy.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the proxy ended with %d", code)
	}
	root.stop(t, syscall.SIGKILL)

	hung, err := net.Listen("tcp", "127.0.0.1:0") // connections are made, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	for name, upstream := range map[string]string{"dead": "http://127.0.0.1:1", "hung": "http://" + hung.Addr().String()} {
		proxy.args[1] = upstream
		began := time.Now()
		proxy.start(t)
		if took := time.Since(began); took > awayDeadline {
			t.Errorf("%s: the proxy took %s to start", name, took)
		} else {
			t.Logf("%s: the proxy took %s to start", name, took)
		}
		if got := proxy.evaluate(t, "shop/theme", ""); got != "classic KILLED" {
			t.Errorf("%s: the proxy serves %s", name, got)
		}
		if status, _ := proxy.call(t, unseen, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "shop/theme"}); status == http.StatusOK {
			t.Errorf("%s: a token that it has not seen is let in", name)
		}
		if text := proxy.ready(t); !strings.Contains(text, "stale") {
			t.Errorf("%s: /readyz says %q", name, text)
		}
		proxy.stop(t, syscall.SIGTERM)
	}
}
