package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// served is a run of bunting serve in this process.
type served struct {
	t      *testing.T
	folder string
	ready  ready
	stdout bytes.Buffer
	log    bytes.Buffer
	stop   func() int
}

// serve starts bunting serve in the folder, with the flags besides, and waits
// until it is ready.
func serve(t *testing.T, folder string, flags ...string) *served {
	t.Helper()
	s := &served{t: t, folder: folder}
	logs, logWriter := io.Pipe()
	a := &app{stdin: strings.NewReader(""), stdout: &s.stdout, stderr: logWriter, env: func(string) string { return "" }}
	readyFile := filepath.Join(folder, "ready.json")
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--ready-file", readyFile, "--token-file", filepath.Join(folder, "bunting.token")}, flags...)
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- a.run(ctx, args)
		logWriter.Close()
	}()
	// The line that says where the token is comes right before the server runs.
	told := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(logs)
		once := sync.OnceFunc(func() { close(told) })
		for lines.Scan() {
			s.log.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "the admin's token") {
				once()
			}
		}
		once()
	})
	s.stop = sync.OnceValue(func() int {
		cancel()
		defer reading.Wait()
		return <-code
	})
	t.Cleanup(func() { s.stop() })
	<-told
	for deadline := time.Now().Add(20 * time.Second); ; {
		text, err := os.ReadFile(readyFile)
		if err == nil {
			if err := json.Unmarshal(text, &s.ready); err != nil {
				t.Fatalf("the ready file holds %q: %v", text, err)
			}
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready:\n%s", &s.log)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// asked calls the server with the token and gives the status.
func (s *served) asked(secret string) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.ready.Endpoint+"/bunting.v1.FlagAdminService/ListTokens", strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func (s *served) token() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(s.tokenFile()), "bunting.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// tokenFile is what the log says of where the token is.
func (s *served) tokenFile() string {
	file, _ := s.tokenLine()
	return file
}

func (s *served) tokenLine() (file, state string) {
	s.t.Helper()
	s.stop() // the log is whole then
	for line := range strings.Lines(s.log.String()) {
		var m struct {
			Msg   string `json:"msg"`
			File  string `json:"file"`
			State string `json:"state"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Fatalf("a line of the log is no JSON: %s", line)
		}
		if m.Msg == "the admin's token" {
			return m.File, m.State
		}
	}
	s.t.Fatalf("the log does not say where the token is:\n%s", &s.log)
	return "", ""
}

func TestTheFirstStartAndTheNext(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	database := "sqlite:" + filepath.Join(folder, "flags.db")
	first := serve(t, folder, "--database", database, "--environment", "staging")
	text, err := os.ReadFile(filepath.Join(folder, "bunting.token"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSuffix(string(text), "\n")
	if info, err := os.Stat(filepath.Join(folder, "bunting.token")); err != nil || info.Mode().Perm() != 0o600 || !token.IsSecret(secret) || len(text) != len(secret)+1 {
		t.Errorf("the token file has the mode %v and %d bytes", info.Mode(), len(text))
	}
	if first.ready.Environment != "staging" || first.ready.PID != os.Getpid() || first.ready.Version != version || !strings.HasPrefix(first.ready.Endpoint, "http://127.0.0.1:") {
		t.Errorf("the ready file says %+v", first.ready)
	}
	if status := first.asked(secret); status != http.StatusOK {
		t.Errorf("the admin's token is answered %d", status)
	}
	if code := first.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(folder, "ready.json")); !os.IsNotExist(err) {
		t.Error("the ready file is still there")
	}
	if first.stdout.Len() != 0 || strings.Contains(first.log.String(), secret) {
		t.Errorf("stdout: %s\nlog: %s", &first.stdout, &first.log)
	}
	if file, state := first.tokenLine(); file != filepath.Join(folder, "bunting.token") || state != "written now" {
		t.Errorf("the token is told in %q: %q", file, state)
	}
	lines := strings.SplitAfter(first.log.String(), "\n")
	if !strings.Contains(strings.Join(lines[:3], ""), first.ready.Endpoint) {
		t.Errorf("the first lines do not say where it listens:\n%s", &first.log)
	}

	next := serve(t, folder, "--database", database, "--environment", "staging")
	if status := next.asked(secret); status != http.StatusOK {
		t.Errorf("after a restart the admin's token is answered %d", status)
	}
	if _, state := next.tokenLine(); state != "in the file, as before" {
		t.Errorf("after a restart the token is %q", state)
	}
	if err := os.Remove(filepath.Join(folder, "bunting.token")); err != nil {
		t.Fatal(err)
	}
	without := serve(t, folder, "--database", database, "--environment", "staging")
	if _, state := without.tokenLine(); state != "not written: the database has tokens already" {
		t.Errorf("without its file the token is %q", state)
	}
	if _, err := os.Stat(filepath.Join(folder, "bunting.token")); !os.IsNotExist(err) {
		t.Error("a second token was written")
	}
}

// Whoever revokes the last admin's token, or lets it expire, gets in again by
// whoever may start the server, and nobody else does.
func TestWithoutAnAdminLeftANewTokenIsWritten(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file, database := filepath.Join(folder, "bunting.token"), "sqlite:"+filepath.Join(folder, "flags.db")
	first := serve(t, folder, "--database", database)
	inFile := func() string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	old := inFile()
	call := func(procedure, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, first.ready.Endpoint+"/bunting.v1.FlagAdminService/"+procedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+old)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%v\n%s", err, &first.log)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", procedure, response.Status)
		}
	}
	call("CreateToken", `{"name": "ci", "scopes": ["SCOPE_WRITE"]}`)
	call("RevokeToken", `{"name": "admin"}`)
	first.stop()

	// The file is never overwritten: whoever starts the server removes it first.
	kept := serve(t, folder, "--database", database)
	if _, state := kept.tokenLine(); !strings.Contains(state, "revoked") || inFile() != old {
		t.Errorf("the token is %q", state)
	}
	kept.stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	next := serve(t, folder, "--database", database)
	if status := next.asked(inFile()); status != http.StatusOK {
		t.Errorf("the new token is answered %d", status)
	}
	if status := next.asked(old); status != http.StatusUnauthorized {
		t.Errorf("the old token is answered %d", status)
	}
	if _, state := next.tokenLine(); !strings.Contains(state, "written now: every admin's token") {
		t.Errorf("the token is %q", state)
	}
}

func TestATokenFileThatIsThereAlready(t *testing.T) {
	t.Parallel()
	t.Run("is the first token of a new database", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		secret, _ := token.NewSecret()
		write(t, filepath.Join(folder, "bunting.token"), secret+"\n")
		for range 2 {
			s := serve(t, folder, "--database", "memory:")
			if status := s.asked(secret); status != http.StatusOK {
				t.Errorf("it is answered %d", status)
			}
			if _, state := s.tokenLine(); state != "taken from the file, because the database is new" {
				t.Errorf("the token is %q", state)
			}
		}
	})
	t.Run("is warned of when others may read it", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			return // which has no such modes
		}
		folder := t.TempDir()
		secret, _ := token.NewSecret()
		file := filepath.Join(folder, "bunting.token")
		write(t, file, secret+"\n")
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		s := serve(t, folder, "--database", "memory:")
		if _, state := s.tokenLine(); !strings.Contains(state, "chmod 600") {
			t.Errorf("the token is %q", state)
		}
	})
	t.Run("of another database is left as it is", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		database := "sqlite:" + filepath.Join(folder, "flags.db")
		serve(t, folder, "--database", database).stop()
		foreign, _ := token.NewSecret()
		write(t, filepath.Join(folder, "bunting.token"), foreign+"\n")
		s := serve(t, folder, "--database", database)
		if status := s.asked(foreign); status != http.StatusUnauthorized {
			t.Errorf("it is answered %d", status)
		}
		if _, state := s.tokenLine(); !strings.Contains(state, "is not known to this database") || s.token() != foreign {
			t.Errorf("the token is %q", state)
		}
	})
	t.Run("that holds something else is refused for a new database", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		file := filepath.Join(folder, "bunting.token")
		for content, want := range map[string]string{
			"swordfish\n": "holds something else than a token of bunting", "": "holds no token", "two words\n": "holds no token",
			strings.Repeat("x", 2*maxTokenFileBytes): "holds no token",
		} {
			write(t, file, content)
			code, stdout, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", "memory:", "--token-file", file)
			if code != exitError || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, "swordfish") {
				t.Errorf("%q: %d\n%s", content, code, stderr)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != content {
				t.Errorf("the file was changed: %q %v", after, err)
			}
		}
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a command line that ends by itself.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return a.run(ctx, args), out.String(), errs.String()
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	folder := t.TempDir()
	garbage := filepath.Join(folder, "garbage.db")
	write(t, garbage, strings.Repeat("this is no database\n", 500))
	before, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		flags []string
		code  int
		want  string
	}{
		"beyond this machine":       {[]string{"--listen", "0.0.0.0:0"}, exitUsage, "--listen is \"0.0.0.0:0\", which other machines can reach"},
		"every address":             {[]string{"--listen", ":0"}, exitUsage, "add --allow-plaintext"},
		"no port":                   {[]string{"--listen", "127.0.0.1"}, exitUsage, "Write a host and a port, like 127.0.0.1:8980"},
		"a port that is none":       {[]string{"--listen", "127.0.0.1:99999"}, exitUsage, "Write a host and a port"},
		"a port that is taken":      {[]string{"--listen", taken.Addr().String()}, exitError, "address already in use. Another program, or another bunting, listens there"},
		"a database that is none":   {[]string{"--database", "sqlite:" + garbage}, exitError, "the file is not a database"},
		"a folder":                  {[]string{"--database", "sqlite:" + folder}, exitError, "this is a folder"},
		"a folder that is not":      {[]string{"--database", "sqlite:" + filepath.Join(folder, "no", "flags.db")}, exitError, "does not exist"},
		"another kind of database":  {[]string{"--database", "mysql://x"}, exitUsage, "Write sqlite:PATH, like sqlite:bunting.db, or memory:"},
		"no path":                   {[]string{"--database", "sqlite:"}, exitUsage, "Write sqlite:PATH"},
		"a flag that is none":       {[]string{"--upstrem", "x"}, exitUsage, "unknown flag: --upstrem. Did you mean --upstream?"},
		"an argument":               {[]string{"now"}, exitUsage, "unknown command \"now\""},
		"a token nowhere":           {[]string{"--token-file", filepath.Join(folder, "no", "token"), "--database", "memory:"}, exitError, "write the admin's token"},
		"a ready file with content": {[]string{"--ready-file", garbage}, exitUsage, "a file that is there and is no ready file"},
		"a ready file nowhere":      {[]string{"--ready-file", filepath.Join(folder, "no", "ready"), "--database", "memory:", "--token-file", filepath.Join(t.TempDir(), "token")}, exitUsage, "there is no folder"},
	} {
		args := append([]string{"serve", "--listen", "127.0.0.1:0", "--token-file", filepath.Join(folder, "token"), "--database", "sqlite:" + filepath.Join(folder, "flags.db")}, row.flags...)
		code, stdout, stderr := run(t, args...)
		if code != row.code || stdout != "" || !strings.Contains(stderr, row.want) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, row.code, stdout, stderr)
		}
		said := strings.Split(strings.TrimSpace(stderr), "\n")
		if last := said[len(said)-1]; !strings.HasPrefix(last, "bunting: ") && code != exitUsage {
			t.Errorf("%s: the last line is %q", name, last)
		}
	}
	after, err := os.ReadDir(folder)
	if err != nil || len(after) != len(before) {
		t.Errorf("there were %v, there are %v (%v)", before, after, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{nil, exitOK, "Available Commands:", ""},
		{[]string{"--help"}, exitOK, "Available Commands:", ""},
		{[]string{"version"}, exitOK, "bunting " + version + "\n", ""},
		{[]string{"--version"}, exitOK, "bunting " + version + "\n", ""},
		{[]string{"serv"}, exitUsage, "", "unknown command \"serv\""},
		{[]string{"--verbose"}, exitUsage, "", "unknown flag: --verbose"},
		{[]string{"version", "now"}, exitUsage, "", "unknown command \"now\""},
		{[]string{"token", "frob"}, exitUsage, "", "unknown command \"frob\" for \"bunting token\""},
		{[]string{"token"}, exitOK, "create", ""},
		{[]string{"serve", "--help"}, exitOK, "--allow-plaintext", ""},
		{[]string{"completion", "bash"}, exitOK, "bash completion", ""},
	} {
		code, stdout, stderr := run(t, row.args...)
		if code != row.code || !strings.Contains(stdout, row.stdout) || !strings.Contains(stderr, row.stderr) || (row.code == exitOK) != (stderr == "") {
			t.Errorf("%q: %d\n%s%s", row.args, code, stdout, stderr)
		}
	}
}

func TestEndpointOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:1": "http://127.0.0.1:1", "[::1]:1": "http://[::1]:1", "0.0.0.0:1": "http://127.0.0.1:1", "[::]:1": "http://127.0.0.1:1", "10.1.2.3:1": "http://10.1.2.3:1",
	} {
		parsed, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := endpointOf(parsed); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}
