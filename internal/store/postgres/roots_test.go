//go:build unix

package postgres

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
)

// TestWritersOverTwoRoots has eight writers at two stores of one database: no
// revision is missing or told twice, and the audit log tells every change.
func TestWritersOverTwoRoots(t *testing.T) {
	const writers = 8
	steps := 100
	if soak() {
		steps = 1000
	}
	url := postgrestest.Database(t)
	roots := [2]*Store{open(t, url, Options{}), open(t, url, Options{})}
	var mu sync.Mutex
	told := map[int64]string{} // the key that the revision wrote
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for step := range steps {
				key := flag.Key(fmt.Sprintf("own/%d/%d", writer, step))
				outcome, err := roots[writer%2].Apply(t.Context(), batchOf(flag.Put(numberedFlag(key, int64(step))), flag.Put(numberedFlag("shared", int64(step)))))
				if err != nil || outcome.Commit == nil || outcome.Results[0].Status != flag.Applied {
					t.Errorf("writer %d, step %d: %+v, %v", writer, step, outcome, err)
					return
				}
				mu.Lock()
				if other := told[outcome.Revision.Number]; other != "" {
					t.Errorf("revision %v was told to the writers of %s and %s", outcome.Revision, other, key)
				}
				told[outcome.Revision.Number] = string(key)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	commits, ok, err := roots[0].Since(t.Context(), 0)
	if err != nil || !ok || len(commits) != writers*steps {
		t.Fatalf("since 0: %d commits, %t, %v; want %d", len(commits), ok, err, writers*steps)
	}
	for i, c := range commits {
		if want := told[int64(i+1)]; c.Revision.Number != int64(i+1) || string(c.Edits[0].Ref.Key) != want {
			t.Fatalf("commit %d is %v and wrote %s, want %s", i+1, c.Revision, c.Edits[0].Ref, want)
		}
	}
	for _, root := range roots {
		storetest.WantComplete(t.Context(), t, root)
	}
	t.Logf("%d revisions", len(commits))
}

// TestStrictDatabase has eight writers at a database whose transactions are stricter
// unless they say otherwise: they wait for each other all the same, and none fails.
func TestStrictDatabase(t *testing.T) {
	url := postgrestest.Database(t)
	postgrestest.Exec(t, url, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_isolation = serializable'; END $$`)
	s := open(t, url, Options{})
	var group sync.WaitGroup
	for writer := range 8 {
		group.Go(func() {
			for step := range 20 {
				if outcome, err := s.Apply(t.Context(), batchOf(flag.Put(numberedFlag("shared", int64(100*writer+step))))); err != nil || outcome.Results[0].Status != flag.Applied {
					t.Errorf("writer %d, step %d: %+v, %v", writer, step, outcome, err)
					return
				}
			}
		})
	}
	group.Wait()
	storetest.WantComplete(t.Context(), t, s)
}

// within waits for a word.
func within(t *testing.T, s *Store, limit time.Duration, of string) {
	t.Helper()
	select {
	case <-s.Notified():
	case <-time.After(limit):
		t.Fatalf("no word of %s within %v", of, limit)
	}
}

func TestNotification(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := open(t, url, Options{}), open(t, url, Options{})
	for _, s := range []*Store{a, b} {
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		within(t, s, 10*time.Second, "having begun to listen")
	}
	for i := range int64(5) {
		apply(t, a, flag.Put(numberedFlag("a", i)))
		within(t, b, 10*time.Second, "another's commit")
	}
	if len(a.Notified()) != 0 {
		t.Error("a store tells of its own commits")
	}

	// What is lost is found by asking, and by a word once the listener is back.
	postgrestest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()`)
	outcome := apply(t, a, flag.Put(numberedFlag("a", 100)))
	if head, err := b.Head(t.Context()); err != nil || head != outcome.Revision {
		t.Errorf("the other root is at %v (%v), want %v", head, err, outcome.Revision)
	}
	within(t, b, 10*time.Second, "a commit while nobody listened")
}

// TestManyStartAtOnce starts roots on a new database: one of them makes it, all
// find the same.
func TestManyStartAtOnce(t *testing.T) {
	url := postgrestest.Database(t)
	var group sync.WaitGroup
	var log bytes.Buffer // a handler writes one record at a time
	logger := slog.New(slog.NewTextHandler(&log, nil))
	heads := make([]flag.Revision, 6)
	for i := range heads {
		s := open(t, url, Options{Logger: logger})
		group.Go(func() {
			head, err := s.Head(t.Context())
			if err != nil {
				t.Errorf("root %d: %v", i, err)
			}
			heads[i] = head
		})
	}
	group.Wait()
	for _, head := range heads {
		if head != heads[0] || head.StoreID == "" || head.Number != 0 {
			t.Errorf("the roots started at %v", heads)
			break
		}
	}
	if told := strings.Count(log.String(), "database schema is up to date"); told != 1 {
		t.Errorf("%d roots say that they made the schema:\n%s", told, &log)
	}
	var made int64
	s := open(t, url, Options{})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+versions+` WHERE version_id > 0`).Scan(&made); err != nil || made != newest {
		t.Errorf("%d migrations were made (%v), want %d", made, err, newest)
	}
}

// TestIdentity keeps the id that a store was made with, which the timeline ends.
func TestIdentity(t *testing.T) {
	url := postgrestest.Database(t)
	first, err := open(t, url, Options{}).Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(t, url, Options{}).Head(t.Context())
	if err != nil || again != first || len(first.StoreID) < 16 || !strings.HasSuffix(first.StoreID, "-1") {
		t.Errorf("opened as %v, then as %v (%v)", first, again, err)
	}
	other, err := open(t, postgrestest.Database(t), Options{}).Head(t.Context())
	if err != nil || other.StoreID == first.StoreID {
		t.Errorf("two stores have the id %s (%v)", other.StoreID, err)
	}
}

// TestANewerRootWasHere lets a newer bunting change the schema while this one
// runs: it writes no more, because it does not know what is to be written.
func TestANewerRootWasHere(t *testing.T) {
	url := postgrestest.Database(t)
	s := open(t, url, Options{})
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	postgrestest.Exec(t, url, "INSERT INTO "+versions+" (version_id, is_applied) VALUES (9999, true)", "UPDATE bunting.meta SET minimum_version = '9.8.7'")
	_, err := s.Apply(t.Context(), batchOf(flag.Put(numberedFlag("a", 2))))
	wantRefusal(t, err, "written by a newer version of bunting (schema 9999", "Use at least bunting 9.8.7")
	if snapshot, err := s.Snapshot(t.Context()); err != nil || snapshot.Revision.Number != 1 {
		t.Errorf("read %v, %v", snapshot, err)
	}
}

// TestAFrozenRoot stops a root within a transaction: the others wait for it for
// half the statement's limit, then go on, and what it did not commit is gone.
func TestAFrozenRoot(t *testing.T) {
	url := postgrestest.Database(t)
	options := Options{StatementTimeout: 2 * time.Second}
	frozen, other := open(t, url, options), open(t, url, options)
	apply(t, other, flag.Put(numberedFlag("a", 1)))
	err := frozen.transact(t.Context(), "write slowly to", func(ctx context.Context, x tx) error {
		if _, err := store.Write(ctx, x, batchOf(flag.Put(numberedFlag("a", 2)))); err != nil {
			return err
		}
		outcome, err := other.Apply(ctx, batchOf(flag.Put(numberedFlag("a", 3))))
		if err == nil && outcome.Revision.Number != 2 {
			t.Errorf("the other root wrote %v", outcome.Revision)
		}
		return err
	})
	wantWords(t, err)
	// It depends on how far the end of the session has come whether the reason is
	// known, or no more than that the commit was not answered.
	if told := err.Error(); !strings.Contains(told, "paused for too long within a transaction, nothing was written") && !strings.Contains(told, "is not known") {
		t.Error("what became of it is not told")
	}
	storetest.WantComplete(t.Context(), t, other)
}
