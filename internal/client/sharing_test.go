package client

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func shareOf(t *testing.T, w *world, token string) (*Client, func()) {
	t.Helper()
	c, release, err := Share(Options{Endpoint: "flags.test", Token: token, Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return c, release
}

// One client a host and credentials: the first ones too are greeted once, it lives
// as long as anybody uses it and a moment longer, and who then comes greets anew.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20*time.Millisecond, 5)
		var wait sync.WaitGroup
		var mu sync.Mutex
		var releases []func()
		seen := map[*Client]bool{}
		for range 100 {
			wait.Go(func() {
				c, release := shareOf(t, w, secret)
				_, err := c.Server(t.Context())
				f, _, err2 := c.NewWalk().Flag(t.Context(), "f/1")
				if errors.Join(err, err2) != nil || f == nil {
					t.Error(err, err2)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[c] = true
				releases = append(releases, release)
			})
		}
		wait.Wait()
		if len(seen) != 1 || w.counts["GetServer"] != 1 {
			t.Errorf("%d clients asked %v", len(seen), w.counts)
		}
		other, release := shareOf(t, w, secret+"2")
		if seen[other] {
			t.Error("other credentials have the same client")
		}
		release()
		for _, release := range releases {
			release()
			release() // counts once
		}
		time.Sleep(keptFor / 2)
		again, release := shareOf(t, w, secret)
		if _, err := again.Server(t.Context()); err != nil || !seen[again] || w.counts["GetServer"] != 2 {
			t.Errorf("%v, the same: %t, asked %v", err, seen[again], w.counts)
		}
		time.Sleep(2 * keptFor)
		if still, giveBack := shareOf(t, w, secret); still != again {
			t.Error("one in use was given up")
		} else {
			giveBack()
		}
		release()
		time.Sleep(2 * keptFor)
		anew, release := shareOf(t, w, secret)
		if anew == again {
			t.Error("kept for ever")
		}
		release()
		time.Sleep(2 * keptFor)
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if len(shared.clients) != 0 {
			t.Errorf("%d clients are left", len(shared.clients))
		}
	})
	if _, _, err := Share(Options{Endpoint: "ftp://x"}); !isKind(err, Config) {
		t.Errorf("got %v", err)
	}
}

// Everything that is counted is, and told when all is quiet, once a second at most.
func TestTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20*time.Millisecond, 1000)
		w.troubles = func(n int) trouble {
			return map[int]trouble{0: absent, 3: limited, 6: lost, 7: lost, 8: lost, 9: lost, 10: lost}[n]
		}
		var told []Totals
		policy := DefaultPolicy
		policy.Attempts = 5
		c, err := New(Options{Endpoint: "http://flags.test", Transport: w, Policy: &policy, Report: func(_ context.Context, t Totals) { told = append(told, t) }})
		if err != nil {
			t.Fatal(err)
		}
		walk := c.NewWalk()
		terraform(1000, 0, func(i int) { // GetServer twice, GetSnapshot
			if _, _, err := walk.Flag(t.Context(), numbered(i)); err != nil {
				t.Error(err)
			}
		})
		for range 2 { // Apply, limited, Apply, Apply
			if _, err := c.Write(t.Context(), flag.Put(newFlag("f/0"))); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Write(t.Context(), flag.Put(newFlag("f/0"))); !isKind(err, Unavailable) { // five times lost
			t.Errorf("got %v", err)
		}
		got := c.Totals()
		want := Totals{Requests: 11, Bytes: got.Bytes, Coalesced: 8, Hits: 990, Retries: 6, Pauses: 1, BreakerOpenings: 1, Operations: got.Operations}
		if got.Bytes != int64(w.bytes) || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v, answered %d bytes\nwant %+v", got, w.bytes, want)
		}
		if len(told) == 0 || len(told) > 6 || told[0].Requests == 0 {
			t.Errorf("told %+v", told)
		}
		t.Logf("%d reports, %+v", len(told), got)
	})
}
