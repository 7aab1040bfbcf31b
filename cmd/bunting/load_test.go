package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// The flags of a document are made once: what was changed since stays as it is.
func TestServeLoadsFlags(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file, database := filepath.Join(folder, "flags.yaml"), "sqlite:"+filepath.Join(folder, "flags.db")
	write(t, file, "flags:\n  shop/cart: {default_value: false, value: true, owner: checkout}\n  limit: {default_value: 9007199254740993, enabled: false}\n  gone: {default_value: a}\n")
	s := serve(t, folder, "--database", database, "--load", file)
	o := s.operator()
	o.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nshop/cart  true  bool  GLOBAL  2\n", "", "eval", "shop/cart")
	o.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nlimit  9007199254740993  int  DEFAULT  2\n", "", "eval", "limit")
	if code, stdout, _ := o.run("audit", "--json"); code != exitOK || strings.Count(stdout, `"action": "put_flag"`) != 3 || strings.Count(stdout, `"revision": 2,
  "actor": "bunting-serve"`) != 3 || strings.Contains(stdout, "owner_id") {
		t.Errorf("the audit log has\n%s", stdout)
	}
	changed := boolFlag("shop/cart")
	changed.Value = changed.Default
	o.has("", changed)
	c, err := client.New(client.Options{Endpoint: s.ready.Endpoint, Token: o.server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(t.Context(), flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef("gone")}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if log := s.log.String(); !strings.Contains(log, `"msg":"the flags are loaded","file":"`+file+`","made":3,"left":0`) {
		t.Errorf("the log says:\n%s", log)
	}

	write(t, file, `{"flags": {"shop/cart": {"default_value": true}, "gone": {"default_value": "b"}, "new": {"default_value": 0.5}}}`)
	s = serve(t, folder, "--database", database, "--load", file)
	o = s.operator()
	o.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nshop/cart  false  bool  GLOBAL  5\n", "", "eval", "shop/cart")
	o.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\ngone  \"a\"  string  DEFAULT  5\n", "", "eval", "gone")
	o.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nnew  0.5  double  DEFAULT  5\n", "", "eval", "new")
	s.stop()
	third := serve(t, folder, "--database", database, "--load", file)
	third.stop()
	for log, want := range map[string]string{s.log.String(): `"made":1,"left":2`, third.log.String(): `"made":0,"left":3`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

// A document with mistakes starts nothing, and tells them all.
func TestABadDocumentStartsNothing(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"memory:", "sqlite:flags.db", "postgres://u:hunter2@127.0.0.1:1/flags"} {
		folder := t.TempDir()
		file := filepath.Join(folder, "flags.yaml")
		write(t, file, "flags:\n  a: {default_value: 1, valeu: 2}\n  b: {default_value: 1e400}\n  c: {default_value: true}\n")
		code, stdout, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", strings.Replace(database, "sqlite:", "sqlite:"+folder+"/", 1), "--token-file", filepath.Join(folder, "token"), "--load", file)
		if code != exitError || stdout != "" || !strings.Contains(stderr, "bunting: the document of flags has 2 mistakes:\n  "+file+":2: flag \"a\" has no field valeu. Did you mean value?\n  "+file+":3: flag \"b\": default_value is 1e+400, outside") {
			t.Errorf("%s: exit code %d\n%s%s", database, code, stdout, stderr)
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
			t.Errorf("%s: there are %v (%v)", database, left, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "flags.yaml")
	if code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--database", "memory:", "--load", missing); code != exitError || !strings.Contains(stderr, "read the document of flags: open "+missing) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// Of two servers that start on one database, the one that comes second makes what
// the first has not.
func TestAnotherServerLoadsFirst(t *testing.T) {
	t.Parallel()
	definitions, err := sqlite.OpenMemory(t.Context(), sqlite.Options{Environment: "e"})
	if err != nil {
		t.Fatal(err)
	}
	defer definitions.Close()
	root, err := evaluator.NewRoot(t.Context(), definitions, evaluator.Options{Environment: "e"})
	if err != nil {
		t.Fatal(err)
	}
	// The root has not heard of it.
	first := store.Batch{Changes: []flag.Change{flag.Put(boolFlag("a"))}, Now: time.Now(), Actor: token.Actor{Name: "other", Scopes: []token.Scope{token.Admin}}}
	if _, err := definitions.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "flags.yaml")
	write(t, file, "flags:\n  a: {default_value: 1}\n  b: {default_value: 2}\n")
	begins, err := openSeeds(&configuration.Settings{Load: file})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := begins.sow(t.Context(), root, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	a, b := root.View().Flag("a"), root.View().Flag("b")
	if a == nil || a.Changed.Actor != "other" || b == nil || b.Changed.Actor != bootstrapActor || !strings.Contains(log.String(), "made=1 left=1") {
		t.Errorf("a is %+v, b %+v\n%s", a, b, &log)
	}
}
