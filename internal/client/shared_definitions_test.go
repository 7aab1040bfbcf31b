//go:build unix

package client

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

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

// places are the kinds of shared places.
func places(t *testing.T) map[string]SharedPlace {
	t.Helper()
	return map[string]SharedPlace{
		"redis": {RedisURL: redistest.URL(t), RedisPrefix: "bunting-test-" + rand.Text()}, "directory": {Directory: t.TempDir()},
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
	server := must(o.Server(t.Context()))
	s := change(must(o.Snapshot(t.Context(), server.Actor.Prefix)))
	o.gate.calls()
	o.gate.asked = []string{"GetServer"} // as if nothing had been read yet
	cache := must(o.openShared(server))
	if turn, err := cache.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
		t.Fatal(turn, err)
	}
	received := definitioncache.Received{
		Header: definitioncache.Header{Key: sharedKey(server), Revision: definitioncache.Revision{Store: s.Revision.StoreID, Number: s.Revision.Number}, FetchedAt: time.Now()},
		Body:   must(wire.EncodeDefinitions(wire.Definitions{Snapshot: s})),
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

// raw gives Redis itself, and the key of the one copy below the prefix.
func raw(t *testing.T, place SharedPlace) (client *goredis.Client, key string) {
	t.Helper()
	options, err := goredis.ParseURL(place.RedisURL)
	if err != nil {
		t.Fatal("the URL cannot be read")
	}
	client = goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	keys, err := client.Keys(t.Context(), place.RedisPrefix+"*copy").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return client, keys[0]
}

// Whatever is under our keys, the server's definitions are what is read.
func TestWhateverIsFoundInRedisTheServersWordIsRead(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	for name, tc := range map[string]struct {
		spoil func(ctx context.Context, c *goredis.Client, key string) error
		says  string
	}{
		"foreign": {func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.LPush(ctx, key, "x").Err())
		}, "can not be used"},
		"cut": {func(ctx context.Context, c *goredis.Client, key string) error {
			value, err := c.HGet(ctx, key, "value").Result()
			return errors.Join(err, c.HSet(ctx, key, "value", value[:len(value)/2]).Err())
		}, "can not be used"},
		"bit-flipped": {func(ctx context.Context, c *goredis.Client, key string) error {
			value, err := c.HGet(ctx, key, "value").Result()
			flipped := []byte(value)
			flipped[len(flipped)-20] ^= 1
			return errors.Join(err, c.HSet(ctx, key, "value", flipped).Err())
		}, "can not be used"},
		"gone": {func(ctx context.Context, c *goredis.Client, key string) error { return c.Del(ctx, key).Err() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := SharedPlace{RedisURL: url, RedisPrefix: "bunting-test-" + rand.Text()}
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			c, key := raw(t, place)
			if err := tc.spoil(t.Context(), c, key); err != nil {
				t.Fatal(err)
			}
			o := begins(t, server, server.AdminToken, place, 0, nil)
			o.reads(t, server, "GetSnapshot")
			o.warned(t, tc.says)
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

// A Redis in trouble changes neither what is read nor what is asked, and costs about
// a second.
func TestARedisInTrouble(t *testing.T) {
	t.Parallel()
	const most = 2500 * time.Millisecond // a busy machine is slower than the second
	for name, tc := range map[string]struct {
		settings []string
		password string
		before   func(r *redistest.Server) // the operation
		between  func(r *redistest.Server) // when the definitions are asked for
		says     string
	}{
		"away at start":      {before: func(r *redistest.Server) { r.Kill() }, says: "Redis"},
		"killed in between":  {between: func(r *redistest.Server) { r.Kill() }, says: "Redis"},
		"frozen":             {before: func(r *redistest.Server) { r.Freeze() }, says: "Redis"},
		"frozen in between":  {between: func(r *redistest.Server) { r.Freeze() }, says: "Redis"},
		"behind a password":  {settings: []string{"--requirepass", "right"}, says: "it asks for a password"},
		"the wrong password": {settings: []string{"--requirepass", "right"}, password: "wr0ng-secret", says: "it refuses user or password"},
		"read-only":          {settings: []string{"--replicaof", "127.0.0.1 1"}, says: "it takes no writes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, tc.settings...)
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			if tc.before != nil {
				tc.before(redis)
			}
			once := sync.OnceFunc(func() {
				if tc.between != nil {
					tc.between(redis)
				}
			})
			o := begins(t, server, server.AdminToken, SharedPlace{RedisURL: redis.URL(), RedisPassword: tc.password}, 0, func(name string) {
				if name == "GetSnapshot" {
					once()
				}
			})
			began := time.Now()
			o.reads(t, server, "GetSnapshot")
			if took := time.Since(began); took > most {
				t.Errorf("it took %s", took)
			}
			o.warned(t, tc.says)
			if strings.Contains(strings.Join(o.warns, ""), "wr0ng-secret") || strings.Contains(strings.Join(o.warns, ""), o.token) {
				t.Error("a secret is in the warning")
			}
		})
	}
}

// A server that refuses, or does not answer, is asked once, and the error is that of
// an operation without a shared place.
func TestAServerInTroubleIsAskedOnce(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		for what, trouble := range map[string]func(t *testing.T, server *flagServer, operator *Client){
			"down": func(_ *testing.T, server *flagServer, _ *Client) { server.Stop() },
			"refuses": func(t *testing.T, _ *flagServer, operator *Client) {
				t.Helper()
				if _, err := operator.RevokeToken(t.Context(), "ci"); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				server := startServer(t)
				operator, _ := gated(t, server, server.AdminToken)
				ci := server.NamedToken(t, "ci", "", "read")
				o := begins(t, server, ci, place, 0, nil)
				plain, _ := gated(t, server, ci)
				if _, err := plain.Server(t.Context()); err != nil {
					t.Fatal(err)
				}
				trouble(t, server, operator)
				want, _ := errors.AsType[*Error](second(plain.NewWalk().Definitions(t.Context(), "")))
				got, ok := errors.AsType[*Error](second(o.walk.Definitions(t.Context(), "")))
				if !ok || got.Kind != want.Kind || got.Op != want.Op || what == "refuses" && got.Error() != want.Error() {
					t.Errorf("got %v, want %v", got, want)
				}
				if asked := o.gate.calls(); !slices.Equal(asked, []string{"GetServer", "GetSnapshot"}) {
					t.Errorf("requests %q", asked)
				}
				o.warned(t, "")
			})
		}
	}
}
