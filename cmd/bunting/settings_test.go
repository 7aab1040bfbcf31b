package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// runWith runs a command line that ends by itself, with variables of the
// environment.
func runWith(t *testing.T, environment []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, environ: func() []string { return environment }, env: func(name string) string {
		for _, entry := range slices.Backward(environment) {
			if text, ok := strings.CutPrefix(entry, name+"="); ok {
				return text
			}
		}
		return ""
	}}
	return a.run(t.Context(), args), out.String(), errs.String()
}

func TestTheHelpOfServeListsEverySetting(t *testing.T) {
	t.Parallel()
	code, help, stderr := run(t, "serve", "--help")
	if code != exitOK || stderr != "" {
		t.Fatal(code, stderr)
	}
	for _, s := range configuration.Table() {
		at := strings.Index(help, "\n"+s.Group+":\n")
		line := at + strings.Index(help[max(0, at):], "\n      --"+s.Flag()+" ")
		if at < 0 || line < at || !strings.Contains(help[line:], s.Help) {
			t.Errorf("--%s is not listed under %q, or without its help", s.Flag(), s.Group)
		}
	}
	for _, other := range []string{"--config", "--print-config", "--help"} {
		if strings.Count(help, "      "+other+" ")+strings.Count(help, ", "+other+" ") != 1 {
			t.Errorf("%s is not listed once", other)
		}
	}
}

func TestPrintConfig(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "bunting.yaml")
	write(t, file, "environment: from-file\nenvironment_color: red\nlisten: 127.0.0.1:1\n")
	environment := []string{"BUNTING_SERVE_ENVIRONMENT=from-environment", "BUNTING_SERVE_LISTEN=127.0.0.1:2", "BUNTING_SERVE_DATABASE=postgres://app:hunter2@db/flags"}
	code, printed, stderr := runWith(t, environment, "serve", "--config", file, "--listen", "127.0.0.1:3", "--allow-plaintext", "--print-config")
	if code != exitOK || stderr != "" {
		t.Fatal(code, stderr)
	}
	for _, want := range []string{
		"\nlisten: 127.0.0.1:3  # --listen\n", "\nenvironment: from-environment  # BUNTING_SERVE_ENVIRONMENT\n", "\nenvironment_color: red  # " + file + ":2\n",
		"\ncache:\n  kill_ttl: 30s  # default\n", "\nallow_plaintext: true  # --allow-plaintext\n", "# database: postgres://app:xxxxx@db/flags  # BUNTING_SERVE_DATABASE; holds a secret",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q is missing in\n%s", want, printed)
		}
	}
	if strings.Contains(printed, "hunter2") {
		t.Error("the password is printed")
	}
	// It is a configuration itself.
	again := filepath.Join(folder, "again.yaml")
	write(t, again, printed)
	code, second, stderr := runWith(t, environment[2:], "serve", "--config", again, "--print-config")
	if code != exitOK || !strings.Contains(second, "\nlisten: 127.0.0.1:3  # "+again+":") || !strings.Contains(second, "environment: from-environment  # "+again) {
		t.Errorf("%d %s\n%s", code, stderr, second)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("printing left %v (%v)", entries, err)
	}
}

func TestABadConfigurationStartsNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "bunting.yaml")
	write(t, file, "listen: 127.0.0.1:0\nlogg_level: debug\ncache:\n  jitter_percent: 101\n")
	args := []string{"serve", "--token-file", filepath.Join(folder, "token"), "--ready-file", filepath.Join(folder, "ready"), "--database", "sqlite:" + filepath.Join(folder, "x.db")}
	for name, row := range map[string]struct {
		environment, flags []string
		want               []string
	}{
		"every mistake": {[]string{"BUNTING_SERVE_ANONYMOUS=all"}, []string{"--config", file, "--stale-after", "soon"}, []string{
			"bunting: the configuration has 4 mistakes:\n", file + ":2: there is no setting logg_level. Did you mean log_level?\n", file + ":4: cache.jitter_percent is \"101\"",
			"BUNTING_SERVE_ANONYMOUS is \"all\", but off or evaluate is expected", "--stale-after is \"soon\", which is no length of time",
		}},
		"another file": {nil, []string{"--config", filepath.Join(folder, "none.yaml")}, []string{"none.yaml: no such file", "Name a YAML file that can be read with --config"}},
		"a variable":   {[]string{"BUNTING_SERVE_LISEN=x"}, nil, []string{"Did you mean BUNTING_SERVE_LISTEN?"}},
		"a proxy":      {nil, []string{"--upstream", "http://far:1"}, []string{"a proxy, which has no database and no tokens of its own", "--token-file is set"}},
		"no file":      {nil, []string{"--config", ""}, []string{"\"--config\" flag: it names no file"}},
		"two files":    {nil, []string{"--config", file, "--config", file}, []string{"bunting.yaml\" is named before"}},
		"a password":   {nil, []string{"--database", "postgres://app:hunter2@[db/flags"}, []string{"a URL that cannot be read"}},
	} {
		code, stdout, stderr := runWith(t, row.environment, append(slices.Clone(args), row.flags...)...)
		if code != exitUsage || stdout != "" || strings.Contains(stderr, "hunter2") {
			t.Errorf("%s: %d\n%s%s", name, code, stdout, stderr)
		}
		for _, want := range row.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, stderr)
			}
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("something was started: %v (%v)", entries, err)
	}
}

// Terraform and the operator's commands at the address of the admin side, and
// what they are told at the other.
func TestTheAdminSideOfAServer(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := serve(t, folder, "--database", "memory:", "--admin-listen", "127.0.0.1:0", "--anonymous", "evaluate")
	if s.ready.AdminEndpoint == "" || s.ready.AdminEndpoint == s.ready.Endpoint {
		t.Fatalf("the ready file says %+v", s.ready)
	}
	token := filepath.Join(folder, "bunting.token")
	at := func(endpoint string, args ...string) (int, string) {
		t.Helper()
		code, stdout, stderr := runWith(t, nil, append(args, "--endpoint", endpoint, "--token-file", token)...)
		return code, stdout + stderr
	}
	if code, said := at(s.ready.AdminEndpoint, "token", "list"); code != exitOK || !strings.Contains(said, "admin") {
		t.Errorf("at the admin side: %d %s", code, said)
	}
	if code, said := at(s.ready.Endpoint, "token", "list"); code != exitRefused || !strings.Contains(said, "have an address of their own (the setting admin_listen of this server") ||
		strings.Contains(said, strings.TrimPrefix(s.ready.AdminEndpoint, "http://")) {
		t.Errorf("at listen: %d %s", code, said)
	}
	if code, said := at(s.ready.Endpoint, "flags"); code != exitOK {
		t.Errorf("reading at listen: %d %s", code, said)
	}
	transport := &http.Transport{}
	response, err := (&http.Client{Transport: transport}).Post(s.ready.Endpoint+"/pbflags.v1.FlagEvaluatorService/GetKilledFlags", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	transport.CloseIdleConnections()
	if response.StatusCode != http.StatusOK {
		t.Errorf("without a token: %s", response.Status)
	}
	code, _, stderr := runWith(t, nil, "serve", "--listen", "127.0.0.1:0", "--upstream", s.ready.Endpoint)
	if code != exitError || !strings.Contains(stderr, "and none is set. Name a file with one in upstream_token_file, or set BUNTING_TOKEN") {
		t.Errorf("a proxy without a token: %d %s", code, stderr)
	}
	if code = s.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if log := s.log.String(); !strings.Contains(log, `"level":"WARN","msg":"callers without a token may evaluate`) || !strings.Contains(log, `"admin_endpoint":"`+s.ready.AdminEndpoint) || !strings.Contains(log, `"mode":"combined"`) {
		t.Errorf("the log does not tell:\n%s", log)
	}
}

func TestAServerWithoutItsAdminSide(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := serve(t, folder, "--database", "memory:", "--admin", "off")
	code, _, stderr := runWith(t, nil, "token", "list", "--endpoint", s.ready.Endpoint, "--token-file", filepath.Join(folder, "bunting.token"))
	if code != exitRefused || !strings.Contains(stderr, "are switched off here (the setting admin of this server") {
		t.Errorf("%d %s", code, stderr)
	}
	s.stop() // the log is whole then
	if s.ready.AdminEndpoint != "" || strings.Contains(s.log.String(), "callers without a token") {
		t.Errorf("%+v\n%s", s.ready, &s.log)
	}
}

func TestAnAdminPortThatIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	folder := t.TempDir()
	code, _, stderr := runWith(t, nil, "serve", "--listen", "127.0.0.1:0", "--admin-listen", taken.Addr().String(), "--database", "sqlite:"+filepath.Join(folder, "x.db"), "--token-file", filepath.Join(folder, "token"))
	if code != exitError || !strings.Contains(stderr, "or choose another address with --admin-listen") {
		t.Errorf("%d %s", code, stderr)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
		t.Errorf("something was made: %v (%v)", entries, err)
	}
}
