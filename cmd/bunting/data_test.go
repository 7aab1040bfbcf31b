package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// operator gives somebody at a terminal with the admin's token of the first start.
func (s *served) operator() *operator {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder, "bunting.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	secret := strings.TrimSpace(string(text))
	return &operator{
		t: s.t, server: &buntingtest.Server{Endpoint: s.ready.Endpoint, AdminToken: secret},
		env: map[string]string{"BUNTING_ENDPOINT": s.ready.Endpoint, "BUNTING_TOKEN": secret},
	}
}

// served is what the operator is told of the flag "pay".
func (o *operator) served() string {
	o.t.Helper()
	code, stdout, _ := o.run("eval", "pay", "--json")
	if code != exitOK {
		return fmt.Sprint("exit ", code)
	}
	var told struct {
		Source string `json:"source"`
		Stale  bool   `json:"stale"`
	}
	if err := json.Unmarshal([]byte(stdout), &told); err != nil {
		o.t.Fatal(err)
	}
	if told.Stale {
		return told.Source + " stale"
	}
	return told.Source
}

// loses removes a database and what SQLite keeps beside it, and not the snapshot.
func loses(t *testing.T, path string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", "-lock"} {
		if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// A server that lost its database does not switch on what was killed: it serves
// what it knew until somebody says that the new database is meant.
func TestALostDatabaseIsServedFromItsSnapshot(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "flags.db")
	first := serve(t, folder, "--database", "sqlite:"+path)
	o := first.operator()
	o.has("", boolFlag("pay"))
	if code, _, stderr := o.run("kill", "pay", "--reason", "it burns", "--holder", "ops"); code != exitOK {
		t.Fatal(stderr)
	}
	if code, stdout, _ := o.run("resync"); code != exitOK || strings.Contains(stdout, "Refused") {
		t.Errorf("with nothing refused: %d\n%s", code, stdout)
	}
	if code, _, stderr := o.run("resync", "--accept"); code != exitOK || !strings.Contains(stderr, "nothing to accept") {
		t.Errorf("with nothing to accept: %d\n%s", code, stderr)
	}
	first.stop()
	if info, err := os.Stat(path + "-snapshot"); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("the snapshot is %v, %v", info, err)
	}

	loses(t, path)
	second := serve(t, folder, "--database", "sqlite:"+path)
	o = second.operator()
	if got := o.served(); got != "KILLED stale" {
		t.Errorf("after the loss %q is served", got)
	}
	code, stdout, _ := o.run("resync")
	for _, text := range []string{"\nfound ", "Refused: ", "is empty, while 1 flags are known", "These holds are served, and would be lost:\nKEY  HOLDER\npay  ops\n"} {
		if !strings.Contains(stdout, text) {
			t.Errorf("resync does not say %q:\n%s", text, stdout)
		}
	}
	if code != exitRefused {
		t.Errorf("resync ends with %d", code)
	}
	if code, _, stderr := o.run("kill", "pay", "--reason", "again", "--holder", "me"); code != exitRefused || !strings.Contains(stderr, "bunting resync") {
		t.Errorf("a refused database is written to: %d %s", code, stderr)
	}
	second.stop()

	// Refused once more: the snapshot is the one of before the loss.
	third := serve(t, folder, "--database", "sqlite:"+path)
	o = third.operator()
	if got := o.served(); got != "KILLED stale" {
		t.Errorf("after another start %q is served", got)
	}
	code, stdout, _ = o.run("resync", "--json")
	var told resyncJSON
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != exitRefused || !told.Refused || told.Served.StoreID == told.Found.StoreID || len(told.LostHolds) != 1 || told.ServedFlags != 1 || told.FoundFlags != 0 {
		t.Errorf("resync --json ends with %d:\n%s", code, stdout)
	}
	if code, _, stderr := o.run("resync", "--accept", "--found", told.Served.StoreID); code != exitRefused || !strings.Contains(stderr, "Nothing was accepted") || o.served() != "KILLED stale" {
		t.Errorf("another database than the one looked at: %d %s", code, stderr)
	}
	if code, stdout, stderr := o.run("resync", "--accept", "--found", told.Found.StoreID); code != exitOK || !strings.HasPrefix(stdout, "Accepted: the database "+told.Found.StoreID) || !strings.Contains(stdout, "These holds were lost with it:\nKEY  HOLDER\npay  ops\n") {
		t.Errorf("resync --accept ends with %d:\n%s%s", code, stdout, stderr)
	}
	if got := o.served(); got != fmt.Sprint("exit ", exitNotFound) {
		t.Errorf("once accepted %q is served", got)
	}
	if code, stdout, _ := o.run("audit"); code != exitOK || !strings.Contains(stdout, "supersede_store") {
		t.Errorf("the audit log says:\n%s", stdout)
	}
	third.stop()

	// What was accepted stays accepted.
	fourth := serve(t, folder, "--database", "sqlite:"+path)
	if code, stdout, _ := fourth.operator().run("resync"); code != exitOK {
		t.Errorf("after another start resync ends with %d:\n%s", code, stdout)
	}
}

// A snapshot that cannot be used is told of and set aside, and the server starts.
func TestASnapshotThatIsRefusedIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment string
		change      func(content []byte) []byte
		says        string
	}{
		"damaged":             {"default", func(content []byte) []byte { content[len(content)/2] ^= 1; return content }, "is damaged"},
		"cut off":             {"default", func(content []byte) []byte { return content[:len(content)/2] }, "is damaged"},
		"another environment": {"production", func(content []byte) []byte { return content }, `is of the environment \"default\", but this server is of \"production\"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, data := t.TempDir(), t.TempDir()
			path := filepath.Join(folder, "flags.db")
			first := serve(t, folder, "--database", "sqlite:"+path, "--data", data)
			first.operator().has("", boolFlag("pay"))
			first.stop()
			file := filepath.Join(data, "flags.db-snapshot")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content = c.change(content)
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			loses(t, path)
			second := serve(t, folder, "--database", "sqlite:"+path, "--data", data, "--environment", c.environment)
			if code, stdout, _ := second.operator().run("resync"); code != exitOK {
				t.Errorf("it refuses its database:\n%s", stdout)
			}
			second.stop()
			if log := second.log.String(); !strings.Contains(log, c.says) || !strings.Contains(log, file) {
				t.Errorf("the log does not say that it %s:\n%s", c.says, log)
			}
			aside, err := filepath.Glob(file + ".refused-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside are %v, %v", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what is set aside is another file: %v", err)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("there is no new snapshot: %v", err)
			}
		})
	}
}

// One that another version has written is neither set aside nor written over.
func TestASnapshotThatCannotBeReadStopsTheStart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file, content := filepath.Join(folder, "flags.db-snapshot"), "bunting snapshot 99\nwho knows"
	write(t, file, content)
	code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:"+filepath.Join(folder, "flags.db"), "--token-file", filepath.Join(folder, "token"))
	if code != exitError || !strings.Contains(stderr, file+" is of the format 99") || !strings.Contains(stderr, "move it away") {
		t.Errorf("%d %s", code, stderr)
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != content {
		t.Errorf("the file holds %q, %v", kept, err)
	}
}

func TestWhereTheSnapshotIsKept(t *testing.T) {
	t.Parallel()
	folder, data := t.TempDir(), filepath.Join(t.TempDir(), "made")
	first := serve(t, folder, "--database", "sqlite:"+filepath.Join(folder, "a.db"))
	beside := serve(t, t.TempDir(), "--database", "sqlite:"+filepath.Join(folder, "b.db")) // in the same folder
	elsewhere := serve(t, t.TempDir(), "--database", "sqlite:"+filepath.Join(t.TempDir(), "c.db"), "--data", data)
	inMemory := serve(t, t.TempDir(), "--database", "memory:")
	code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:"+filepath.Join(t.TempDir(), "c.db"), "--token-file", filepath.Join(t.TempDir(), "token"), "--data", data)
	if code != exitError || !strings.Contains(stderr, "another bunting server keeps its last snapshot in "+filepath.Join(data, "c.db-snapshot")) {
		t.Errorf("two servers share a folder: %d %s", code, stderr)
	}
	code, _, stderr = run(t, "serve", "--listen", "127.0.0.1:0", "--database", "memory:", "--data", data)
	if code != exitUsage || !strings.Contains(stderr, "a database in memory is another one after each start") {
		t.Errorf("a database in memory: %d %s", code, stderr)
	}
	for _, s := range []*served{first, beside, elsewhere, inMemory} {
		if status := s.asked(s.operator().server.AdminToken); status != http.StatusOK {
			t.Errorf("answered %d", status)
		}
		s.stop()
	}
	for _, file := range []string{filepath.Join(folder, "a.db-snapshot"), filepath.Join(folder, "b.db-snapshot"), filepath.Join(data, "c.db-snapshot")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if found, err := fs.Glob(os.DirFS(inMemory.folder), "*snapshot*"); err != nil || len(found) > 0 {
		t.Errorf("a database in memory left %v, %v", found, err)
	}
}

func TestResyncUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"resync", "former"}, {"resync", "--supersedes", "former"}, {"resync", "--found", "x"}} {
		if code, _, stderr := run(t, args...); code != exitUsage {
			t.Errorf("bunting %v ends with %d: %s", args, code, stderr)
		}
	}
}

// A root whose PostgreSQL is down or hangs starts from its snapshot, within
// seconds; without one it says why it does not.
func TestARootStartsWithItsDatabaseAway(t *testing.T) {
	t.Parallel()
	folder, data := t.TempDir(), t.TempDir()
	// The snapshot of a database that is no file is named after the program.
	first := serve(t, folder, "--database", "sqlite:"+filepath.Join(folder, "bunting"), "--data", data)
	o := first.operator()
	o.has("", boolFlag("pay"))
	if code, _, stderr := o.run("kill", "pay", "--reason", "it burns"); code != exitOK {
		t.Fatal(stderr)
	}
	first.stop()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are made, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	document := filepath.Join(folder, "flags.yaml")
	write(t, document, "flags: {loaded: {default_value: 1}}")
	for name, address := range map[string]string{"down": "127.0.0.1:1", "hung": silent.Addr().String()} {
		database := "postgres://u:hunter2@" + address + "/flags?sslmode=disable"
		began := time.Now()
		s := serve(t, folder, "--database", database, "--data", data, "--database-pool-connect-timeout", "1s", "--load", document)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it took %s to start", name, took)
		}
		o := s.operator()
		if got := o.served(); got != "KILLED stale" {
			t.Errorf("%s: %q is served", name, got)
		}
		if status := s.asked(o.server.AdminToken + "x"); status == http.StatusOK {
			t.Errorf("%s: a token that is not known is let in", name)
		}
		if code, stdout, _ := o.run("resync"); code != exitError || !strings.Contains(stdout, "does not answer") {
			t.Errorf("%s: resync ends with %d:\n%s", name, code, stdout)
		}
		s.stop()
		if log := s.log.String(); strings.Contains(log, "hunter2") || !strings.Contains(log, "serving what was last known") || !strings.Contains(log, "the flags are not loaded: the database is away") {
			t.Errorf("%s: the log says:\n%s", name, log)
		}
		code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", database, "--token-file", filepath.Join(t.TempDir(), "token"), "--database-pool-connect-timeout", "1s")
		if code != exitError || strings.Contains(stderr, "hunter2") || !strings.Contains(stderr, "the database cannot be reached") {
			t.Errorf("%s, and nothing known: %d\n%s", name, code, stderr)
		}
	}
}
