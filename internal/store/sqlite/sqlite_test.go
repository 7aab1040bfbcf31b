package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, environment string) store.Store {
		t.Helper()
		return open(t, newPath(t), environment)
	}, func(t *testing.T, s store.Store) store.Store {
		t.Helper()
		path := s.(*Store).name
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, path, "test")
	})
}

func TestConformanceInMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, environment string) store.Store {
		t.Helper()
		s, err := OpenMemory(t.Context(), Options{Environment: environment})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, nil)
}

func newPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "bunting.db")
}

func open(tb testing.TB, path, environment string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), path, Options{Environment: environment})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func numberedFlag(key flag.Key, n int64) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Int, Default: flag.IntValue(n), Value: flag.IntValue(n + 1), State: flag.Enabled, Layer: "user", Description: "made by a test"}
}

func batchOf(changes ...flag.Change) store.Batch {
	return store.Batch{Actor: token.Actor{Name: "anna", Scopes: []token.Scope{token.Admin}}, Changes: changes, Now: time.Now()}
}

func apply(tb testing.TB, s *Store, changes ...flag.Change) store.Outcome {
	tb.Helper()
	outcome, err := s.Apply(tb.Context(), batchOf(changes...))
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range outcome.Results {
		if r.Status != flag.Applied {
			tb.Fatalf("change %d was not applied: %v", i, r.Problem)
		}
	}
	return outcome
}

// run runs statements on the closed database of the path.
func run(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// made makes a store with a flag in it and closes it.
func made(t *testing.T) string {
	t.Helper()
	path := newPath(t)
	s := open(t, path, "test")
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefusals opens what must not be served: the reason is told, and nothing is
// changed or left behind.
func TestRefusals(t *testing.T) {
	write := func(t *testing.T, content string) string {
		t.Helper()
		path := newPath(t)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := []struct {
		name string
		path func(t *testing.T) string
		says []string
	}{
		{"a text", func(t *testing.T) string { t.Helper(); return write(t, "hello\n") }, []string{"the file is not a database", "Name the file of a bunting server"}},
		{"a long text", func(t *testing.T) string { t.Helper(); return write(t, strings.Repeat("hello\n", 10_000)) }, []string{"the file is not a database"}},
		{"a header without the rest", func(t *testing.T) string { t.Helper(); return write(t, magic) }, []string{"the file is not a database"}},
		{"a header and zeros", func(t *testing.T) string { t.Helper(); return write(t, magic+strings.Repeat("\x00", 8192)) }, []string{"damaged"}},
		{"a database of another program", func(t *testing.T) string {
			t.Helper()
			path := newPath(t)
			run(t, path, "CREATE TABLE other (a)")
			return path
		}, []string{"a database of another program"}},
		{"a marked database of another program", func(t *testing.T) string {
			t.Helper()
			path := newPath(t)
			run(t, path, "PRAGMA application_id = 252006673", "CREATE TABLE other (a)")
			return path
		}, []string{"a database of another program", "0xf055111"}},
		{"a newer schema", func(t *testing.T) string {
			t.Helper()
			path := made(t)
			run(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)", "UPDATE meta SET minimum_version = '9.8.7'")
			return path
		}, []string{"written by a newer version of bunting", "schema 9999", "Use at least bunting 9.8.7"}},
		{"a newer schema that is told otherwise", func(t *testing.T) string {
			t.Helper()
			path := made(t)
			run(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)", "DROP TABLE meta")
			return path
		}, []string{"written by a newer version of bunting", "Use a newer bunting"}},
		{"another environment", func(t *testing.T) string {
			t.Helper()
			path := newPath(t)
			if err := open(t, path, "production").Close(); err != nil {
				t.Fatal(err)
			}
			return path
		}, []string{`holds the environment "production"`, `but "test" was expected`}},
		{"a folder", func(t *testing.T) string { t.Helper(); return t.TempDir() }, []string{"this is a folder", "bunting.db"}},
		{"in a folder that does not exist", func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "a", "b.db") }, []string{"does not exist", "Make it first"}},
		{"a link to nothing", func(t *testing.T) string {
			t.Helper()
			path := newPath(t)
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
			return path
		}, []string{"a link to a file that is not there"}},
		{"in a folder that is a file", func(t *testing.T) string { t.Helper(); return filepath.Join(write(t, ""), "b.db") }, []string{"cannot be written to"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := c.path(t)
			before := contents(t, path)
			s, err := Open(t.Context(), path, Options{Environment: "test"})
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			for _, part := range append(c.says, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if after := contents(t, path); after != before {
				t.Errorf("changed:\n got: %s\nwant: %s", after, before)
			}
			t.Log(err)
		})
	}
}

// contents tells what is in the folder of the path, each file by its bytes.
func contents(t *testing.T, path string) string {
	t.Helper()
	var all strings.Builder
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err.Error()
	}
	for _, file := range files {
		content, _ := os.ReadFile(filepath.Join(filepath.Dir(path), file.Name()))
		fmt.Fprintf(&all, "%s: %d bytes, %x\n", file.Name(), len(content), token.Hash(string(content)))
	}
	return all.String()
}

func TestOneServerAtATime(t *testing.T) {
	path := newPath(t)
	first := open(t, path, "test")
	second, err := Open(t.Context(), path, Options{Environment: "test"})
	if err == nil {
		_ = second.Close()
		t.Fatal("opened twice")
	}
	if !strings.Contains(err.Error(), "another bunting server has it open") {
		t.Errorf("the error does not say why: %v", err)
	}
	link := newPath(t)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), link, Options{Environment: "test"}); err == nil {
		_ = s.Close()
		t.Error("opened twice, by another name")
	}
	apply(t, first, flag.Put(numberedFlag("a", 1))) // the first is not harmed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, "test")
}

// TestIdentity keeps the id that a store was made with, and makes another for
// each store.
func TestIdentity(t *testing.T) {
	path := newPath(t)
	var log bytes.Buffer
	s, err := Open(t.Context(), path, Options{Environment: "test", Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Head(t.Context())
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "database schema is up to date") {
		t.Errorf("the log does not tell of the new schema: %s", log.String())
	}
	again, err := open(t, path, "test").Head(t.Context())
	if err != nil || again != first || len(first.StoreID) < 16 || first.Number != 0 {
		t.Errorf("opened as %v, then as %v (%v)", first, again, err)
	}
	if other, err := open(t, newPath(t), "test").Head(t.Context()); err != nil || other.StoreID == first.StoreID {
		t.Errorf("two stores have the id %s (%v)", other.StoreID, err)
	}
}

// TestFullDisk wants an error in words, nothing written, and a store that works
// on when there is room again. SQLite treats the largest number of pages as it
// treats a full disk.
func TestFullDisk(t *testing.T) {
	s := open(t, newPath(t), "test")
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	before, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	limit := func(pages int) {
		t.Helper()
		if _, err := s.writer.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes it for as many as there are
	var many []flag.Change
	for i := range 500 {
		many = append(many, flag.Put(numberedFlag(flag.Key(fmt.Sprintf("many/%d", i)), 1)))
	}
	for range 3 {
		_, err := s.Apply(t.Context(), batchOf(many...))
		if err == nil || !strings.Contains(err.Error(), "the disk is full, nothing was written. Free space") {
			t.Fatalf("error %v, want that the disk is full", err)
		}
	}
	after, err := s.Snapshot(t.Context())
	if err != nil || after.Revision != before.Revision || after.Flag("many/0") != nil {
		t.Errorf("at revision %v after %v, error %v", after.Revision, before.Revision, err)
	}
	limit(1 << 30)
	apply(t, s, many...)
	storetest.WantComplete(t.Context(), t, s)
}

// TestDamage damages a database in every way that chance finds: whatever comes of
// it is an answer or an error.
func TestDamage(t *testing.T) {
	path := newPath(t)
	s := open(t, path, "test")
	for i := range int64(60) {
		key := flag.Key(fmt.Sprintf("flag/%d", i))
		apply(t, s, flag.Put(numberedFlag(key, i)), flag.Put(&flag.Override{FlagKey: key, EntityID: "u", State: flag.Default}), flag.Put(&flag.Hold{FlagKey: key, Holder: "h", Reason: "r"}))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 60
	if os.Getenv("BUNTING_SOAK") == "1" {
		rounds = 200
	}
	refused := 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(uint64(round), 0))
		damaged := slices.Clone(whole)
		switch round % 3 {
		case 0: // single bytes
			for range 1 + random.IntN(50) {
				damaged[random.IntN(len(damaged))] ^= byte(1 + random.IntN(255))
			}
		case 1: // a stretch of nothing
			from := random.IntN(len(damaged))
			clear(damaged[from:min(len(damaged), from+random.IntN(20_000))])
		case 2: // the end lost
			damaged = damaged[:random.IntN(len(damaged))]
		}
		here := filepath.Join(t.TempDir(), "damaged.db")
		if err := os.WriteFile(here, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := useAll(t.Context(), here); err != nil {
			refused++
		}
	}
	t.Logf("%d of %d damaged databases were found out", refused, rounds)
}

// useAll calls everything once, until something fails.
func useAll(ctx context.Context, path string) error {
	s, err := Open(ctx, path, Options{Environment: "test"})
	if err != nil {
		return err
	}
	_, err1 := s.Snapshot(ctx)
	_, _, err2 := s.Since(ctx, 0)
	_, err3 := s.Apply(ctx, batchOf(flag.Put(numberedFlag("new", 1)), flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("flag/3")}))
	_, _, err4 := s.Audit(ctx, store.AuditFilter{Key: "flag/3"})
	_, err5 := s.ExpireHolds(ctx, time.Now())
	_, err6 := s.Tokens(ctx)
	return errors.Join(err1, err2, err3, err4, err5, err6, s.Close())
}

func TestDamageIsTold(t *testing.T) {
	for _, c := range []struct{ name, damage, says string }{
		{"a document", `UPDATE flags SET document = '{"key":'`, `read the stored flag "a"`},
		{"a document of another", `UPDATE flags SET key = 'b'`, `its document is about "a"`},
		{"the audit log", `DELETE FROM audit WHERE revision = 2`, "revision 2 was expected after 1, but there is 3"},
		{"the revision", `UPDATE meta SET revision = 7`, "the audit log ends at revision 3, but the store is at 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := newPath(t)
			s := open(t, path, "test")
			for i := range int64(3) {
				apply(t, s, flag.Put(numberedFlag("a", i)))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			run(t, path, c.damage)
			if err := useAll(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

// TestAnOddPath opens files whose names mean something in URIs.
func TestAnOddPath(t *testing.T) {
	for _, name := range []string{"a b?c#d%20e&f=g.db", "ä.db", "'.db"} {
		path := filepath.Join(t.TempDir(), name)
		apply(t, open(t, path, "test"), flag.Put(numberedFlag("a", 1)))
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
