package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readyDeadline is how long a server may take to answer its first request.
const readyDeadline = 30 * time.Second

// server is a running `bunting serve` in a folder of its own.
type server struct {
	dir      string // database, token and log
	endpoint string
	token    string // the admin token of the first start
	args     []string
	env      []string // NAME=value, beside PATH and HOME

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
}

// startServer starts a server on a free port with a database in a folder of its own. It ends with the test.
func startServer(tb testing.TB, args ...string) *server {
	tb.Helper()
	return startServerWith(tb, nil, args...)
}

// startServerWith starts a server with variables of the environment, NAME=value.
func startServerWith(tb testing.TB, env []string, args ...string) *server {
	tb.Helper()
	s := &server{dir: tb.TempDir(), args: args, env: env}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the server's log:\n%s", s.log(tb))
		}
	})
	s.start(tb)
	s.token = strings.TrimSpace(readFile(tb, filepath.Join(s.dir, "bunting.token")))
	return s
}

// start starts the server, anew after it was killed, on whatever port is free.
func (s *server) start(tb testing.TB) {
	tb.Helper()
	s.launch(tb)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(readyDeadline); !s.isReady(tb); {
		select {
		case <-look.C:
		case <-deadline:
			tb.Fatalf("the server was not ready within %s:\n%s", readyDeadline, s.log(tb))
		}
	}
}

// readyFile is what the server writes once it answers.
func (s *server) readyFile() string { return filepath.Join(s.dir, "ready.json") }

// launch starts the process.
func (s *server) launch(tb testing.TB) {
	tb.Helper()
	ready := s.readyFile()
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()

	s.cmd = exec.Command(program(tb, "bunting"), append([]string{"serve", "--listen", "127.0.0.1:0", "--ready-file", ready}, s.args...)...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}, s.env...)
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
	tb.Cleanup(func() { s.stop(tb, syscall.SIGKILL) })
}

// isReady reports whether the process that was launched answers, and notes where.
func (s *server) isReady(tb testing.TB) bool {
	tb.Helper()
	text, err := os.ReadFile(s.readyFile())
	if err != nil {
		select {
		case <-s.exited:
			tb.Fatalf("the server ended before it was ready:\n%s", s.log(tb))
		default:
		}
		return false
	}
	var info struct {
		Endpoint string `json:"endpoint"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		tb.Fatalf("the ready file is no JSON object: %v\n%s", err, text)
	}
	s.endpoint = info.Endpoint
	return true
}

// stop sends the signal, waits for the server's end and gives its exit code, -1 when the signal ended it.
func (s *server) stop(tb testing.TB, signal os.Signal) int {
	tb.Helper()
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.exited:
	case <-time.After(readyDeadline):
		_ = s.cmd.Process.Kill()
		tb.Errorf("the server did not end within %s of %s", readyDeadline, signal)
		<-s.exited
	}
	return s.cmd.ProcessState.ExitCode()
}

// log gives what the server printed, all starts together.
func (s *server) log(tb testing.TB) string {
	tb.Helper()
	return readFile(tb, filepath.Join(s.dir, "server.log"))
}

// bunting runs an operator's command with the token.
func (s *server) bunting(tb testing.TB, token string, args ...string) output {
	tb.Helper()
	env := map[string]string{"BUNTING_ENDPOINT": s.endpoint, "BUNTING_TOKEN": token}
	return finish(tb, command(tb, tb.TempDir(), env, program(tb, "bunting"), args...))
}

// operate runs an operator's command that must go well.
func (s *server) operate(tb testing.TB, token string, args ...string) output {
	tb.Helper()
	out := s.bunting(tb, token, args...)
	if out.code != 0 {
		tb.Fatalf("bunting %s ended with %d:\n%s", strings.Join(args, " "), out.code, out.text)
	}
	return out
}

// newToken makes a token of the scopes, named as on the wire.
func (s *server) newToken(tb testing.TB, name string, scopes ...string) string {
	tb.Helper()
	status, answer := s.call(tb, s.token, "bunting.v1.FlagAdminService/CreateToken", map[string]any{"name": name, "scopes": scopes})
	secret, _ := answer["secret"].(string)
	if status != http.StatusOK || secret == "" {
		tb.Fatalf("make the token %q: %d %v", name, status, answer)
	}
	return secret
}

// call asks the server as any program can: plain JSON by POST.
func (s *server) call(tb testing.TB, token, method string, body map[string]any) (int, map[string]any) {
	tb.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	status, raw := s.post(tb, token, method, "application/json", text)
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		tb.Fatalf("%s answered %d and no JSON: %v\n%s", method, status, err, raw)
	}
	return status, answer
}

// post sends a message as it is and gives the answer as it is.
func (s *server) post(tb testing.TB, token, method, contentType string, body []byte) (int, []byte) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.endpoint+"/"+method, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: commandDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response.StatusCode, answer
}

// evaluate gives value and source of a flag for an entity: "true GLOBAL".
func (s *server) evaluate(tb testing.TB, key, entity string) string {
	tb.Helper()
	status, answer := s.call(tb, s.token, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": key, "entityId": entity})
	if status != http.StatusOK {
		tb.Fatalf("evaluate %s: %d %v", key, status, answer)
	}
	source, _ := answer["source"].(string)
	value, _ := answer["value"].(map[string]any)
	for _, v := range value { // it has one member, named after its type
		return fmt.Sprint(v) + " " + strings.TrimPrefix(source, "EVALUATION_SOURCE_")
	}
	return "nothing"
}

// revision gives the number of the server's present revision.
func (s *server) revision(tb testing.TB) string {
	tb.Helper()
	_, answer := s.call(tb, s.token, "bunting.v1.FlagAdminService/GetServer", map[string]any{})
	revision, _ := answer["revision"].(map[string]any)
	number, _ := revision["number"].(string)
	if number == "" {
		tb.Fatalf("the server tells no revision: %v", answer)
	}
	return number
}

func readFile(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}
