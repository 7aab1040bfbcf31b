//go:build unix

package client

import (
	"context"
	"crypto/rand"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// operation is a process's worth of work with a flag server and a shared place.
type operation struct {
	*Client

	gate  *gate
	walk  *Walk
	mu    sync.Mutex
	warns []string
}

// begins starts an operation. before is called with the name of each request that
// leaves; nil: nothing is.
func begins(t *testing.T, server *flagServer, token string, place SharedPlace, maxAge time.Duration, before func(name string)) *operation {
	t.Helper()
	o := &operation{gate: &gate{pool: newTransport(), hold: map[string]chan struct{}{}}}
	t.Cleanup(o.gate.pool.CloseIdleConnections)
	c, err := New(Options{
		Endpoint: server.Endpoint, Token: token, UserAgent: "test", Transport: o.gate, Policy: &impatient, Shared: place, MaxAge: maxAge,
		Warn: func(_ context.Context, text string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.warns = append(o.warns, text)
		},
		Around: func(road http.RoundTripper) http.RoundTripper {
			return roadThat(func(r *http.Request) (*http.Response, error) {
				if before != nil {
					before(path.Base(r.URL.Path))
				}
				return road.RoundTrip(r)
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Client = c
	if _, err := c.Server(t.Context()); err != nil { // as Configure does
		t.Fatal(err)
	}
	o.walk = c.NewWalk()
	o.walk.Refreshing()
	return o
}

type roadThat func(*http.Request) (*http.Response, error)

func (f roadThat) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reads gives all that the operation sees, and fails where that is not what an
// operation without a shared place sees, or where it was asked for otherwise.
func (o *operation) reads(t *testing.T, server *flagServer, want ...string) {
	t.Helper()
	prefix := must(o.Server(t.Context())).Actor.Prefix
	got, err := o.walk.Definitions(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	if asked := o.gate.calls(); !slices.Equal(asked, append([]string{"GetServer"}, want...)) {
		t.Errorf("requests %q, want %q after the handshake; warnings %q", asked, want, o.warns)
	}
	plain, _ := gated(t, server, o.token)
	all, err := plain.Snapshot(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision != all.Revision || got.Environment != "prod" || !reflect.DeepEqual(slices.Collect(got.Objects()), slices.Collect(all.Objects())) {
		t.Errorf("got %v of %q, want %v", got.Revision, got.Environment, all.Revision)
	}
}

func (o *operation) warned(t *testing.T, part string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if part == "" && len(o.warns) > 0 || part != "" && (len(o.warns) != 1 || !strings.Contains(o.warns[0], part)) {
		t.Errorf("warned %q, want one line with %q", o.warns, part)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// places are the kinds of shared places. They are patient: the machine may be busy.
func places(t *testing.T) map[string]SharedPlace {
	t.Helper()
	const patience = 10 * time.Second // with a folder, too, for what carries definitions
	return map[string]SharedPlace{
		"redis":     {RedisURL: redistest.URL(t), RedisPrefix: "bunting-test-" + rand.Text(), RedisTimeout: patience},
		"directory": {Directory: t.TempDir(), RedisTimeout: patience},
	}
}

// Of two operations on the same definitions the second asks for the handshake and
// for nothing else; after somebody's change one request tells what differs.
func TestTheSecondOperationAsksForNothing(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 500, 100)
			run := func(want ...string) Totals {
				t.Helper()
				o := begins(t, server, server.AdminToken, place, 0, nil)
				o.reads(t, server, want...)
				o.warned(t, "")
				return o.Totals()
			}
			whole := run("GetSnapshot")
			for range 2 {
				if second := run(); second.Bytes*10 > whole.Bytes {
					t.Errorf("%d bytes, and %d of the first", second.Bytes, whole.Bytes)
				}
			}
			if _, err := operator.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: "f/7", Holder: "admin", Reason: "r"})); err != nil {
				t.Fatal(err)
			}
			if _, err := operator.Write(t.Context(), flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("f/8")}); err != nil {
				t.Fatal(err)
			}
			if some := run("GetSnapshot"); some.Bytes*5 > whole.Bytes {
				t.Errorf("%d bytes, and %d of the first", some.Bytes, whole.Bytes)
			}
			run()
		})
	}
}

// While another has the lead the copy is followed, and confirmed all the same.
func TestAFollowerHasTheServerConfirmTheCopy(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			first := begins(t, server, server.AdminToken, place, 0, nil)
			lead := must(first.openShared(must(first.Server(t.Context()))))
			if turn, err := lead.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
				t.Fatal(turn, err)
			}
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server)
			fill(t, operator, 21, 1)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot") // a follower published nothing
			if err := lead.leave(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server)
		})
	}
}

// An apply has a process for each alias of the provider, and what one reads may depend
// on what another has just written: the handshake of its beginning does not do then.
func TestAnApplyReadsWhatAnotherProcessHasJustWritten(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")

			apply := begins(t, server, server.AdminToken, place, 0, nil)
			apply.walk = apply.NewWalk()
			if _, err := operator.Write(t.Context(), flag.Put(&flag.Flag{Key: "new", Type: flag.Bool, Default: flag.BoolValue(true)})); err != nil {
				t.Fatal(err)
			}
			apply.reads(t, server, "GetSnapshot")
			if f, _, err := apply.walk.Flag(t.Context(), "new"); err != nil || f == nil {
				t.Errorf("got %v, %v; want the flag", f, err)
			}
		})
	}
}

// What an operation has written it reads, whatever the copy and the handshake say.
func TestOwnWritesAreReadOverTheCopy(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			o := begins(t, server, server.AdminToken, place, time.Hour, nil)
			written, err := o.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: "f/1", Holder: "admin", Reason: "r"}))
			if err != nil {
				t.Fatal(err)
			}
			o.reads(t, server, "Apply", "GetSnapshot")
			if holds, err := o.walk.Holds(t.Context(), "f/1"); err != nil || len(holds) != 1 {
				t.Errorf("got %v, %v", holds, err)
			}
			if e := evaluated(t, o.walk, "f/1", ""); e.Source != flag.SourceKilled || e.Revision != written.Revision {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// Each caller reads a copy of its own rights; who may not read definitions, none.
func TestNobodyReadsWhatAStrongerTokenShared(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			if _, err := operator.Write(t.Context(), flag.Put(newFlag("pay/fast"))); err != nil {
				t.Fatal(err)
			}
			// Each token is a change, so they come first.
			under, writer := server.NamedToken(t, "pay-ci", "pay", "read"), server.NamedToken(t, "pay-other", "pay", "write")
			reader, evaluates := server.Token(t, "read"), server.Token(t, "evaluate")
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			begins(t, server, under, place, 0, nil).reads(t, server, "GetSnapshot")
			begins(t, server, writer, place, 0, nil).reads(t, server)
			begins(t, server, reader, place, 0, nil).reads(t, server)

			weak := begins(t, server, evaluates, place, time.Hour, nil)
			if s, err := weak.walk.Definitions(t.Context(), ""); !isKind(err, Denied) {
				t.Errorf("got %v, %v", s, err)
			}
			if e := evaluated(t, weak.walk, "pay/fast", ""); e.Source != flag.SourceGlobal {
				t.Errorf("got %+v", e)
			}
			if asked := weak.gate.calls(); !slices.Equal(asked, []string{"GetServer", "GetSnapshot", "BulkEvaluate"}) {
				t.Errorf("requests %q", asked)
			}
			weak.warned(t, "")

			// What lies outside of the prefix is not taken, should it be there.
			o := begins(t, server, under, place, 0, nil)
			o.shares(t, func(s *flag.Snapshot) *flag.Snapshot {
				f := newFlag("other/flag")
				return s.With(s.Revision, slices.Values([]flag.Edit{{Ref: f.Ref(), Object: f}}))
			})
			o.reads(t, server, "GetSnapshot")
			o.warned(t, "does not lie under the token's prefix")
		})
	}
}

// shares publishes something else for the caller's copy.
func (o *operation) shares(t *testing.T, change func(*flag.Snapshot) *flag.Snapshot) {
	t.Helper()
	s := change(must(o.Snapshot(t.Context(), must(o.Server(t.Context())).Actor.Prefix)))
	o.gate.calls()
	o.gate.asked = []string{"GetServer"} // as if nothing had been read yet
	o.publishes(t, s.Revision, must(wire.EncodeDefinitions(wire.Definitions{Snapshot: s})))
}

// publishes puts any bytes in the place of the caller's copy.
func (o *operation) publishes(t *testing.T, at flag.Revision, body []byte) {
	t.Helper()
	server := must(o.Server(t.Context()))
	cache := must(o.openShared(server))
	if turn, err := cache.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
		t.Fatal(turn, err)
	}
	received := definitioncache.Received{
		Header: definitioncache.Header{Key: sharedKey(server), Revision: definitioncache.Revision{Store: at.StoreID, Number: at.Number}, FetchedAt: time.Now()},
		Body:   body,
	}
	if err := cache.DefinitionsReceived(t.Context(), received); err != nil {
		t.Fatal(err)
	}
	if err := cache.leave(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// A copy that is ahead of the server is confirmed by it or not used: its word counts.
func TestACopyAheadOfTheServer(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			// Of a change since the handshake.
			late := begins(t, server, server.AdminToken, place, 0, nil)
			fill(t, operator, 21, 1)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			late.reads(t, server, "GetSnapshot")
			late.warned(t, "")
			// Of a revision that there never was.
			o := begins(t, server, server.AdminToken, place, 0, nil)
			o.shares(t, func(s *flag.Snapshot) *flag.Snapshot {
				ahead := s.Revision
				ahead.Number += 1000
				return s.With(ahead, slices.Values([]flag.Edit{{Ref: flag.FlagRef("f/1")}}))
			})
			o.reads(t, server, "GetSnapshot", "GetSnapshot")
			o.warned(t, "newer")
		})
	}
}

// An older copy, and one of another store, cost nothing more than none does.
func TestAnOlderCopyAndOneOfAnotherStore(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			o := begins(t, server, server.AdminToken, place, 0, nil)
			o.shares(t, func(s *flag.Snapshot) *flag.Snapshot {
				older := s.Revision
				older.Number = 0
				return s.With(older, slices.Values([]flag.Edit{{Ref: flag.FlagRef("f/1")}}))
			})
			o.reads(t, server, "GetSnapshot")
			o.warned(t, "")
			other := startServer(t)
			begins(t, other, other.AdminToken, place, 0, nil).reads(t, other, "GetSnapshot")
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server)
		})
	}
}

// Of many operations at once a few fetch, and all see the same.
func TestManyOperationsAtOnce(t *testing.T) {
	t.Parallel()
	const many = 50
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 200, 0)
			for i, most := range []int{many / 2, 0} { // of a cold place, where a busy machine has more at the same point, and of a warm one
				all := make([]*operation, many)
				for i := range all {
					all[i] = begins(t, server, server.AdminToken, place, 0, nil)
				}
				var wait sync.WaitGroup
				took := make([]time.Duration, many)
				for i, o := range all {
					wait.Go(func() {
						began := time.Now()
						defer func() { took[i] = time.Since(began) }()
						o.handshake.forget() // the others began meanwhile
						s, err := o.walk.Definitions(t.Context(), "")
						if err != nil {
							t.Error(err)
							return
						}
						if flags, _, _ := s.Counts(); flags != 200 {
							t.Errorf("%d flags", flags)
						}
					})
				}
				wait.Wait()
				fetched, troubled, late := 0, 0, 0
				for i, o := range all {
					if took[i] >= handshakeLife { // its handshake may have been too old to do
						late++
						continue
					}
					fetched += len(slices.DeleteFunc(o.gate.calls(), func(name string) bool { return name == "GetServer" }))
					troubled += len(o.warns)
				}
				t.Logf("round %d: %d of %d fetched, %d in trouble, %d late", i, fetched, many, troubled, late)
				if fetched > most || late == many {
					t.Errorf("%d operations fetched, want at most %d; %d of %d were late", fetched, most, late, many)
				}
			}
		})
	}
}
