//go:build unix

package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
)

// TestMigrate tells what it would do, does it, and finds it done, on both kinds
// of database; a server starts on what it made.
func TestMigrate(t *testing.T) {
	postgresURL := func(t *testing.T) string {
		t.Helper()
		server := postgrestest.Start(t)
		postgrestest.Exec(t, server.URL("postgres"), "CREATE ROLE carol SUPERUSER LOGIN")
		u, err := url.Parse(server.Database(""))
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("carol", "do-not-tell")
		return u.String()
	}
	for _, c := range []struct {
		kind   string
		named  func(t *testing.T) string
		newest string
	}{
		{"sqlite", func(t *testing.T) string { t.Helper(); return "sqlite:" + filepath.Join(t.TempDir(), "bunting.db") }, "2"},
		{"postgres", postgresURL, "1"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			named := c.named(t)
			for _, step := range []struct {
				args []string
				says string
			}{
				{[]string{"--dry-run"}, "has no schema yet. bunting migrate would make it (version " + c.newest + ")."},
				{[]string{"--dry-run", "--json"}, `"version": 0`},
				{nil, "Made the schema of "},
				{nil, "is up to date (version " + c.newest + ")."},
				{[]string{"--json"}, `"migrated": false`},
			} {
				code, stdout, stderr := run(t, append([]string{"migrate", "--database", named}, step.args...)...)
				if code != exitOK || stderr != "" || !strings.Contains(stdout, step.says) || strings.Contains(stdout, "do-not-tell") {
					t.Errorf("%v: exit code %d, %q, %q; want %q", step.args, code, stdout, stderr, step.says)
				}
			}
			folder := t.TempDir()
			s := serve(t, folder, "--database", named, "--environment", "staging")
			secret, err := os.ReadFile(filepath.Join(folder, "bunting.token"))
			if err != nil {
				t.Fatal(err)
			}
			if status := s.asked(strings.TrimSpace(string(secret))); status != http.StatusOK {
				t.Errorf("the server answers %d", status)
			}
			if code := s.stop(); code != exitOK || strings.Contains(s.log.String(), "do-not-tell") {
				t.Errorf("stopped with %d:\n%s", code, &s.log)
			}
		})
	}
}

func TestMigrateRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--database", "memory:"}, exitUsage, "made anew"},
		{[]string{"--database", "mysql://root:do-not-tell@h/d"}, exitUsage, "which is no database. Write sqlite:PATH"},
		{[]string{"--database", "postgres://u:do-not/tell@h/d"}, exitUsage, "a URL that cannot be read"},
		{[]string{"--database", "postgres://u:1/do-not-tell@h/d"}, exitUsage, "a URL that cannot be read"},
		{[]string{"--database", "postgres://u:do-not-tell@127.0.0.1:1/d"}, exitError, "inspect the database postgres://127.0.0.1:1/d: the database cannot be reached"},
		{[]string{"--database", "sqlite:" + text}, exitError, "the file is not a database"},
	} {
		code, stdout, stderr := run(t, append([]string{"migrate"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "do-not") {
			t.Errorf("%v: exit code %d, %q, %q; want %d and %q", c.args, code, stdout, stderr, c.code, c.says)
		}
	}
}
