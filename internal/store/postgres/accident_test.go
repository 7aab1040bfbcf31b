//go:build unix

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// TestKilledServer kills PostgreSQL with -9 while four writers write: what was
// acknowledged is there afterwards, and the stores go on by themselves.
func TestKilledServer(t *testing.T) {
	rounds := 2
	if soak() {
		rounds = 10
	}
	server := postgrestest.Start(t)
	s := open(t, server.URL("postgres"), Options{})
	acknowledged := map[flag.Key]int64{}
	for round := range rounds {
		var mu sync.Mutex
		var group sync.WaitGroup
		enough := make(chan struct{})
		count := 0
		for writer := range 4 {
			group.Go(func() {
				for step := 0; ; step++ {
					key := flag.Key(fmt.Sprintf("f/%d/%d/%d", round, writer, step))
					outcome, err := s.Apply(t.Context(), batchOf(flag.Put(numberedFlag(key, 1))))
					if err != nil {
						wantUnreachable(t, err)
						return
					}
					mu.Lock()
					acknowledged[key] = outcome.Revision.Number
					count++
					if count == 100 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		server.Kill()
		group.Wait()
		if _, err := s.Head(t.Context()); err == nil {
			t.Error("a killed server answered")
		} else {
			wantUnreachable(t, err)
		}
		server.Run()
		snapshot := eventually(t, s)
		for key, revision := range acknowledged {
			if f := snapshot.Flag(key); f == nil || f.Changed.Revision != revision {
				t.Errorf("%s of revision %d was acknowledged, but there is %v", key, revision, f)
			}
		}
		storetest.WantComplete(t.Context(), t, s)
	}
	t.Logf("%d commits were acknowledged, %d kills", len(acknowledged), rounds)
}

// eventually reads the snapshot, again and again while the database comes back.
func eventually(t *testing.T, s *Store) (snapshot *flag.Snapshot) {
	t.Helper()
	succeeds(t, func() (err error) {
		snapshot, err = s.Snapshot(t.Context())
		return err
	})
	return snapshot
}

// succeeds makes a call, again and again while waiting is said to help.
func succeeds(t *testing.T, call func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		err := call()
		if err == nil {
			return
		}
		wantUnreachable(t, err)
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the store did not come back")
		}
	}
}

// calls are all calls of a store.
func calls(s *Store) map[string]func(context.Context) error {
	now := time.Now()
	return map[string]func(context.Context) error{
		"Head":     func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		"Snapshot": func(ctx context.Context) error { _, err := s.Snapshot(ctx); return err },
		"Since":    func(ctx context.Context) error { _, _, err := s.Since(ctx, 0); return err },
		"Apply": func(ctx context.Context) error {
			_, err := s.Apply(ctx, batchOf(flag.Put(numberedFlag("call", now.UnixNano()))))
			return err
		},
		"ExpireHolds": func(ctx context.Context) error { _, err := s.ExpireHolds(ctx, now); return err },
		"Audit":       func(ctx context.Context) error { _, _, err := s.Audit(ctx, store.AuditFilter{}); return err },
		"CreateToken": func(ctx context.Context) error {
			return s.CreateToken(ctx, token.Token{ID: "id", Name: "call", Scopes: []token.Scope{token.Read}, Hash: "hash", CreatedAt: now}, "anna")
		},
		"RevokeToken": func(ctx context.Context) error { _, err := s.RevokeToken(ctx, "there", "anna", now); return err },
		"Tokens":      func(ctx context.Context) error { _, err := s.Tokens(ctx); return err },
		"Supersede":   func(ctx context.Context) error { _, err := s.Supersede(ctx, "former", "anna", now); return err },
		"Renew":       func(ctx context.Context) error { _, err := s.Renew(ctx, "former", now); return err },
		"Prepare":     s.Prepare,
	}
}

// TestHungServer stops every process of the server: each call ends at its limit,
// with words, and so does Close; woken, the server is used again.
func TestHungServer(t *testing.T) {
	server := postgrestest.Start(t)
	patient := open(t, server.URL("postgres"), Options{})
	apply(t, patient, flag.Put(numberedFlag("a", 1)))
	// The limits are for what hangs: a busy machine may pass them with what does not.
	options := Options{StatementTimeout: 500 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond}
	s, fresh, closing := open(t, server.URL("postgres"), options), open(t, server.URL("postgres"), options), open(t, server.URL("postgres"), options)
	for _, s := range []*Store{s, closing} {
		eventually(t, s)
	}
	thaw := server.Freeze()
	hung := func(s *Store, names ...string) {
		t.Helper()
		all := calls(s)
		var group sync.WaitGroup
		for _, name := range names {
			group.Go(func() {
				begin := time.Now()
				err := all[name](t.Context())
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("%s took %v", name, took)
				}
				wantUnreachable(t, err, "did not answer in time")
			})
		}
		group.Wait()
	}
	hung(s, "Head", "Snapshot", "Since", "Apply", "ExpireHolds", "Audit", "CreateToken", "RevokeToken", "Tokens", "Supersede", "Renew")
	hung(fresh, "Prepare", "Head", "Apply")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // a heartbeat's own limit is told like ours
	defer cancel()
	_, err := s.Head(short)
	wantUnreachable(t, err, "did not answer in time")
	begin := time.Now()
	if err := closing.Close(); err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("closed after %v: %v", time.Since(begin), err)
	}
	thaw()
	for _, s := range []*Store{s, fresh} {
		if snapshot := eventually(t, s); snapshot.Flag("a") == nil {
			t.Error("the flag is gone")
		}
	}
	succeeds(t, func() error {
		_, err := s.Apply(t.Context(), batchOf(flag.Put(numberedFlag("b", 1))))
		return err
	})
	if snapshot := eventually(t, patient); snapshot.Flag("b") == nil {
		t.Error("what was written after that is not there")
	}
	storetest.WantComplete(t.Context(), t, patient)
}

// TestRestartedServer restarts the server below a store that was never opened
// before: the database that was away is made ready by the first call that reaches
// it, and notifications come again.
func TestRestartedServer(t *testing.T) {
	server := postgrestest.Start(t)
	server.Stop()
	a, b := open(t, server.URL("postgres"), Options{}), open(t, server.URL("postgres"), Options{})
	for _, s := range []*Store{a, b} {
		_, err := s.Head(t.Context())
		wantUnreachable(t, err, "no connection could be made")
	}
	server.Run()
	eventually(t, a)
	eventually(t, b)
	for round := range int64(2) {
		within(t, b, 10*time.Second, "having begun to listen")
		apply(t, a, flag.Put(numberedFlag("a", round)))
		within(t, b, 10*time.Second, "another's commit")
		server.Stop()
		server.Run()
		eventually(t, a)
	}
}

// TestFailover promotes a standby: it is another store, because the last commits
// may be missing there; a standby is no source.
func TestFailover(t *testing.T) {
	primary := postgrestest.Start(t)
	standby := postgrestest.StartStandby(t, primary)
	both := primary.URL("postgres") + "," + url.QueryEscape(hostOf(t, standby.URL("postgres")))
	s := open(t, both, Options{})
	before := apply(t, s, flag.Put(numberedFlag("a", 1)))

	lagging := open(t, standby.URL("postgres"), Options{})
	_, err := lagging.Head(t.Context())
	wantUnreachable(t, err, "standby")
	// A user who asks for a standby by name gets no stale answers either.
	asked := open(t, standby.URL("postgres")+"&target_session_attrs=any", Options{})
	_, err = asked.Head(t.Context())
	wantUnreachable(t, err, "standby")

	caughtUp(t, standby)
	primary.Kill()
	standby.Promote()
	snapshot := eventually(t, s)
	if snapshot.Revision.Number != before.Revision.Number || snapshot.Revision.StoreID != strings.TrimSuffix(before.Revision.StoreID, "-1")+"-2" {
		t.Errorf("after the failover: %v, before: %v", snapshot.Revision, before.Revision)
	}
	if outcome := apply(t, s, flag.Put(numberedFlag("b", 1))); outcome.Revision.StoreID != snapshot.Revision.StoreID || outcome.Revision.Number != 2 {
		t.Errorf("wrote %v", outcome.Revision)
	}
	if head, err := lagging.Head(t.Context()); err != nil || head.StoreID != snapshot.Revision.StoreID {
		t.Errorf("the former standby gives %v, %v", head, err)
	}
	storetest.WantComplete(t.Context(), t, s)
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

// caughtUp waits until the standby has the first commit.
func caughtUp(t *testing.T, standby *postgrestest.Server) {
	t.Helper()
	s, err := Open(t.Context(), standby.URL("postgres")+"&target_session_attrs=any", Options{Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // nothing is left to fail
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var number int64
		if err := s.pool.QueryRow(t.Context(), `SELECT revision FROM bunting.meta`).Scan(&number); err == nil && number == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the standby does not catch up")
		}
	}
}

// TestLostAnswerToACommit cuts the connection when the commit has been sent: the
// outcome is said to be unknown, and the request id makes repeating it safe.
func TestLostAnswerToACommit(t *testing.T) {
	server := postgrestest.Start(t)
	var armed atomic.Bool
	relay := listener(t, func(client net.Conn) {
		var dialer net.Dialer
		database, err := dialer.DialContext(context.WithoutCancel(t.Context()), "unix", hostOf(t, server.URL("x"))+"/.s.PGSQL.5432")
		if err != nil {
			t.Error(err)
			return
		}
		var once sync.Once
		end := func() { once.Do(func() { _, _ = client.Close(), database.Close() }) }
		t.Cleanup(end)
		go func() { defer end(); _, _ = io.Copy(client, database) }()
		go func() {
			defer end()
			buffer := make([]byte, 1<<16)
			for {
				n, err := client.Read(buffer)
				if err != nil {
					return
				}
				cut := armed.Load() && bytes.Contains(buffer[:n], []byte("commit\x00"))
				if cut {
					_ = client.Close() // before the answer
				}
				if _, err := database.Write(buffer[:n]); err != nil || cut {
					_, _ = io.Copy(io.Discard, database) // until it has been made
					return
				}
			}
		}()
	})
	s := open(t, "postgres://bunting@"+relay+"/postgres?sslmode=disable", Options{})
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	batch := batchOf(flag.Put(numberedFlag("a", 2)))
	batch.RequestID = "once"
	armed.Store(true)
	_, err := s.Apply(t.Context(), batch)
	armed.Store(false)
	wantUnreachable(t, err, "whether the changes were written is not known", "same request id")
	for {
		outcome, err := s.Apply(t.Context(), batch)
		if errors.Is(err, store.ErrUnreachable) {
			continue // the pool may have held others
		}
		if err != nil || !outcome.Repeated && outcome.Revision.Number != 2 {
			t.Errorf("repeated: %+v, %v", outcome, err)
		}
		break
	}
	if head, err := s.Head(t.Context()); err != nil || head.Number != 2 {
		t.Errorf("at %v, %v; want the change once", head, err)
	}
}
