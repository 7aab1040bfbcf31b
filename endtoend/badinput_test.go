package endtoend

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "modernc.org/sqlite" // to make a database newer than it is
)

const oneFlag = `
resource "bunting_flag" "theme" {
  key           = "shop/theme"
  default_value = "classic"
}
`

// TestTerraformRefusesBadInput: each is one diagnostic that names the place and says what to do, and changes nothing.
func TestTerraformRefusesBadInput(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--environment", "staging")
	reader := s.newToken(t, "reader", "SCOPE_READ")
	writer := s.newToken(t, "writer", "SCOPE_WRITE")
	newWorkspace(t, s, `
resource "bunting_flag" "plain" {
  key           = "plain"
  default_value = "classic"
}

resource "bunting_flag" "layered" {
  key            = "layered"
  default_value  = "classic"
  layer          = "tenant"
  allowed_values = ["classic", "blue"]
}
`).must(t, "apply")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>It works</title>")
	}))
	t.Cleanup(page.Close)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()

	flagWith := func(attributes string) string {
		return "resource \"bunting_flag\" \"theme\" {\n  key = \"shop/theme\"\n" + attributes + "\n}\n"
	}
	overrideOf := func(key, value string) string {
		return fmt.Sprintf("resource \"bunting_override\" \"acme\" {\n  flag_key = %q\n  entity_id = \"acme\"\n  value = %s\n}\n", key, value)
	}
	tests := map[string]struct {
		env    map[string]string
		config string
		says   []string
	}{
		"no token":                {map[string]string{"BUNTING_TOKEN": ""}, oneFlag, []string{"token", "BUNTING_TOKEN"}},
		"wrong token":             {map[string]string{"BUNTING_TOKEN": "bunting_wrong"}, oneFlag, []string{"token"}},
		"token without write":     {map[string]string{"BUNTING_TOKEN": reader}, oneFlag, []string{`"reader"`, "write"}},
		"token without kill":      {map[string]string{"BUNTING_TOKEN": writer}, "resource \"bunting_kill_switch\" \"k\" {\n  flag_key = \"plain\"\n  reason = \"x\"\n}\n", []string{`"writer"`, "kill"}},
		"endpoint of ftp":         {map[string]string{"BUNTING_ENDPOINT": "ftp://127.0.0.1"}, oneFlag, []string{"endpoint", "ftp", "http"}},
		"endpoint misspelt":       {map[string]string{"BUNTING_ENDPOINT": strings.Replace(s.endpoint, "http:", "htp:", 1)}, oneFlag, []string{"endpoint", "htp", "http"}},
		"endpoint with a gap":     {map[string]string{"BUNTING_ENDPOINT": "http://127.0.0.1 :80"}, oneFlag, []string{"endpoint"}},
		"endpoint of nobody":      {map[string]string{"BUNTING_ENDPOINT": "http://" + nobody.Addr().String()}, oneFlag, []string{nobody.Addr().String()}},
		"endpoint without scheme": {map[string]string{"BUNTING_ENDPOINT": strings.TrimPrefix(s.endpoint, "http://")}, oneFlag, []string{"https://127.0.0.1"}},
		"no flag server":          {map[string]string{"BUNTING_ENDPOINT": page.URL}, oneFlag, []string{page.URL, "answered with an HTML page"}},
		"another environment":     {map[string]string{"BUNTING_ENVIRONMENT": "production"}, oneFlag, []string{`"production"`, `"staging"`}},
		"unknown flag":            {nil, "data \"bunting_evaluation\" \"none\" {\n  flag_key = \"none\"\n}\n", []string{`data.bunting_evaluation.none`, `"none"`}},
		"key out of the grammar":  {nil, strings.Replace(oneFlag, "shop/theme", "shop//theme", 1), []string{"key", "shop//theme"}},
		"value of another type":   {nil, flagWith("  default_value = \"blue\"\n  value = 3"), []string{`value is a number (3), but the flag is of type string, as its default_value "blue" says. Write "3"`}},
		"2^63 as int":             {nil, flagWith("  type = \"int\"\n  default_value = 9223372036854775808"), []string{"default_value", "9223372036854775808"}},
		"value not allowed":       {nil, flagWith("  default_value = \"a\"\n  allowed_values = [\"a\", \"b\"]\n  value = \"c\""), []string{"value", "allowed_values", `"c"`}},
		"override of no layer":    {nil, overrideOf("plain", `"blue"`), []string{"flag_key", "layer"}},
		"override of other type":  {nil, overrideOf("layered", "3"), []string{"value", "string"}},
		"override not allowed":    {nil, overrideOf("layered", `"red"`), []string{"value", "allowed_values"}},
		"override of no flag":     {nil, overrideOf("none", `"red"`), []string{`none`}},
	}
	before := s.revision(t)
	t.Run("cases", func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// Without a block Terraform adds an error of its own to each of the provider.
				w := newWorkspace(t, s, "provider \"bunting\" {}\n"+test.config)
				maps.Copy(w.env, test.env)
				out := w.run(t, "apply")
				if out.code != 1 {
					t.Errorf("apply ended with %d, expected 1:\n%s", out.code, out.text)
				}
				if got := strings.Count(out.text, "Error: "); got != 1 {
					t.Errorf("%d errors, expected one:\n%s", got, out.text)
				}
				out.says(t, test.says...)
			})
		}
	})
	if after := s.revision(t); after != before {
		t.Errorf("refused input moved the server from revision %s to %s", before, after)
	}
}

// TestServeRefusesBadInput: what `bunting serve` cannot start with is one message, and exit code 1, or 2 where the
// command line is at fault.
func TestServeRefusesBadInput(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })

	tests := map[string]struct {
		args    []string
		prepare func(t *testing.T, dir string)
		code    int // 0: 1
		says    []string
	}{
		"port taken": {args: []string{"--listen", taken.Addr().String()}, says: []string{taken.Addr().String(), "in use"}},
		"database is a text": {
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				writeFile(t, filepath.Join(dir, "bunting.db"), strings.Repeat("Dear diary, today I was taken for a database. ", 100), 0o666)
			},
			says: []string{"bunting.db"},
		},
		"database is a folder": {
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				if err := os.Mkdir(filepath.Join(dir, "bunting.db"), 0o777); err != nil {
					t.Fatal(err)
				}
			},
			says: []string{"bunting.db"},
		},
		"folder is read-only": {
			prepare: func(t *testing.T, dir string) {
				t.Helper()
				if err := os.Chmod(dir, 0o555); err != nil {
					t.Fatal(err)
				}
			},
			says: []string{"bunting.db"},
		},
		"open to the world without TLS": {args: []string{"--listen", "0.0.0.0:0"}, code: 2, says: []string{"--allow-plaintext"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openFolder(t)
			if test.prepare != nil {
				test.prepare(t, dir)
			}
			args := append([]string{"serve", "--listen", "127.0.0.1:0"}, test.args...)
			cmd := command(t, dir, nil, program(t, "bunting"), args...)
			// A mode stops everybody but root, so the server must not run as root here.
			if os.Getuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out := finish(t, cmd)
			if want := max(test.code, 1); out.code != want {
				t.Errorf("serve ended with %d, expected %d:\n%s", out.code, want, out.text)
			}
			out.says(t, test.says...)
			for _, word := range []string{"panic", "goroutine "} {
				if strings.Contains(out.text, word) {
					t.Errorf("the output says %q:\n%s", word, out.text)
				}
			}
		})
	}
}

// TestServeRefusesANewerDatabase: an older program must not write what it does not understand.
func TestServeRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.stop(t, syscall.SIGTERM)
	path := filepath.Join(s.dir, "bunting.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1); UPDATE meta SET minimum_version = '7.8.9'")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	out := finish(t, command(t, s.dir, nil, program(t, "bunting"), "serve", "--listen", "127.0.0.1:0"))
	if out.code != 1 {
		t.Errorf("serve ended with %d, expected 1", out.code)
	}
	out.says(t, "bunting.db", "newer", "at least bunting 7.8.9")
	if readFile(t, path) != before {
		t.Error("the newer database was written to")
	}
}

// TestServeRefusesADatabaseInUse: two servers on one file would each serve what the other had changed.
func TestServeRefusesADatabaseInUse(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	out := finish(t, command(t, s.dir, nil, program(t, "bunting"), "serve", "--listen", "127.0.0.1:0"))
	if out.code != 1 {
		t.Errorf("serve ended with %d, expected 1", out.code)
	}
	out.says(t, "bunting.db", "another bunting server has it open")
	s.revision(t) // the first one goes on
}

// TestServeStartsAgain: a server told to end drains and ends with 0, and finds what it had when it is started anew.
func TestServeStartsAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	tokenFile := filepath.Join(s.dir, "bunting.token")
	info, err := os.Stat(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || readFile(t, tokenFile) != s.token+"\n" {
		t.Errorf("the token file has mode %s, expected 0600 and a token and a newline in it", info.Mode())
	}
	w := newWorkspace(t, s, oneFlag)
	w.must(t, "apply")
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("told to end, the server ended with %d, expected 0", code)
	}
	s.start(t)
	if readFile(t, tokenFile) != s.token+"\n" {
		t.Error("the second start changed the token file")
	}
	w.env["BUNTING_ENDPOINT"] = s.endpoint
	w.planIsEmpty(t)
}

// openFolder makes a folder in which every user may work.
func openFolder(t *testing.T) string {
	t.Helper()
	// The folder above a test's own one is closed to others.
	dir, err := os.MkdirTemp("", "bunting-open-") //nolint:usetesting // For this very reason.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(dir, 0o777)
		_ = os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
