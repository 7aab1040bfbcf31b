package definitioncache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

func TestWhatIsHandedInIsChecked(t *testing.T) {
	t.Parallel()
	s, memory := newServer(1), newMemory(t)
	for want, change := range map[string]func(*definitioncache.Options){
		"needs a cache":           func(o *definitioncache.Options) { o.Cache = nil },
		"needs a way to fetch":    func(o *definitioncache.Options) { o.Fetch = nil },
		"one to apply":            func(o *definitioncache.Options) { o.Apply = nil },
		"must outlive two polls":  func(o *definitioncache.Options) { o.Timing.Lock = 2 * o.Timing.Poll },
		"must outlive the lock":   func(o *definitioncache.Options) { o.Timing.Copy = o.Timing.Lock },
		"the deadline of a fetch": func(o *definitioncache.Options) { o.Timing.Fetch = 0 },
		"poll and":                func(o *definitioncache.Options) { o.Timing.Poll = 0 },
		"cannot be negative":      func(o *definitioncache.Options) { o.MaxAge = -1 },
	} {
		options := definitioncache.Options{Cache: memory.Join(), Timing: timing, Fetch: s.fetch, Apply: (&process{}).apply}
		change(&options)
		if _, err := definitioncache.New(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want one that says %q", err, want)
		}
	}
	if err := definitioncache.Every(time.Minute).Validate(); err != nil {
		t.Error(err)
	}
	for _, key := range []definitioncache.Key{{}, {Environment: "a"}, {Scope: "a"}, {Environment: "a", Scope: strings.Repeat("a", 1001)}} {
		if _, err := definitioncache.NewMemory(key, timing); err == nil {
			t.Errorf("the key %.50v is taken", key)
		}
	}
}

func TestAColdFleetFetchesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		s.latency = 2 * time.Second
		var wg sync.WaitGroup
		for range 200 {
			p := newProcess(t, memory.Join(), s)
			wg.Go(func() {
				if err := p.Step(t.Context()); err != nil || p.has() != 1 {
					t.Errorf("a process starts with revision %d, %v", p.has(), err)
				}
			})
		}
		wg.Wait()
		// The leader, and the one whose turn it is as long as there is no copy.
		if n := s.requests(); n > 2 {
			t.Errorf("200 cold processes asked %d times", n)
		}
	})
}

// Whoever was to fetch died: the next takes its place, and nobody waits longer
// than a fetch may take.
func TestAColdProcessDoesNotWaitForTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		for _, need := range []definitioncache.Need{definitioncache.Refresh, definitioncache.NoCopy} {
			if turn, err := memory.Join().ShouldFetch(t.Context(), need); err != nil || turn == definitioncache.Follow {
				t.Fatal(turn, err)
			}
		}
		start := time.Now()
		p := newProcess(t, memory.Join(), s)
		_ = p.Step(t.Context()) // that others published nothing is told
		if p.has() != 1 || time.Since(start) > timing.Fetch+2*time.Second {
			t.Errorf("after %s it has revision %d", time.Since(start), p.has())
		}
	})
}

func TestWhoIsDeniedLetsSomebodyElseLead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s, denying := newMemory(t), newServer(2), newServer(1)
		first, second := newProcess(t, memory.Join(), denying), newProcess(t, memory.Join(), s)
		first.good(t, 1)
		second.good(t, 1)
		denied := fmt.Errorf("403: %w", definitioncache.ErrDenied)
		denying.set(func() { denying.err = denied })
		first.bad(t, 1, definitioncache.ErrDenied)
		asked := denying.requests()
		for range timing.Lock / timing.Poll {
			<-time.After(timing.Poll)
			first.bad(t, 1, definitioncache.ErrDenied) // it says so as long as it is
		}
		if denying.requests() != asked {
			t.Errorf("who was denied asked %d times more", denying.requests()-asked)
		}
		second.good(t, 2)
		first.bad(t, 2, definitioncache.ErrDenied) // what the other published
		if a, b := first.seen(), second.seen(); a.Leader || !b.Leader {
			t.Errorf("who leads: denied %t, the other %t", a.Leader, b.Leader)
		}
	})
}

func TestALeaderWhoseServerIsAwayLetsSomebodyElseTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s, away := newMemory(t), newServer(2), newServer(1)
		first, second := newProcess(t, memory.Join(), away), newProcess(t, memory.Join(), s)
		first.good(t, 1)
		second.good(t, 1)
		broken := errors.New("connection refused")
		away.set(func() { away.err = broken })
		for range 3 {
			first.bad(t, 1, broken)
		}
		<-time.After(timing.Lock)
		first.good(t, 1) // it follows
		second.good(t, 2)
		first.good(t, 2)
	})
}

func TestAnotherStoreIsFollowedDeliberately(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(100)
		leader, follower := newProcess(t, memory.Join(), s), newProcess(t, memory.Join(), s)
		leader.good(t, 100)
		follower.good(t, 100)
		s.set(func() { s.revision = definitioncache.Revision{Store: "B", Number: 7} })
		leader.bad(t, 7, definitioncache.ErrOlder) // the server's word, which it alone takes
		follower.good(t, 100)
		s.set(func() { s.former, s.revision.Number = []string{"A"}, 8 })
		<-time.After(timing.Poll)
		leader.good(t, 8)
		follower.good(t, 8)
	})
}

func TestWhatIsRefusedIsNotPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		cache, untrusted := memory.Join(), errors.New("a hold is missing")
		p := newProcess(t, cache, s, func(o *definitioncache.Options) {
			o.Apply = func(context.Context, definitioncache.Copy) error { return untrusted }
		})
		p.bad(t, -1, untrusted)
		if found, err := cache.Definitions(t.Context(), definitioncache.Revision{}); found != nil || err != nil {
			t.Errorf("published was %+v, %v", found, err)
		}
	})
}

func TestACopyTooOldSendsItsReaderToTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		newProcess(t, memory.Join(), s).good(t, 1) // and leads no more, but its lock is kept for it
		p := newProcess(t, memory.Join(), s, func(o *definitioncache.Options) {
			o.MaxAge, o.Cache = 10*time.Second, &following{o.Cache}
		})
		p.good(t, 1)
		s.set(func() { s.revision.Number = 2 })
		start := time.Now()
		for p.has() == 1 && time.Since(start) < timing.Copy {
			<-time.After(timing.Poll)
			_ = p.Step(t.Context())
		}
		if since := time.Since(start); p.has() != 2 || since <= 7*time.Second || since > 11*time.Second {
			t.Errorf("after %s it has revision %d; want 2 before what is served is 10 s old", since, p.has())
		}
	})
}

// following is a cache where another leads, always.
type following struct{ definitioncache.Cache }

func (*following) ShouldFetch(context.Context, definitioncache.Need) (definitioncache.Turn, error) {
	return definitioncache.Follow, nil
}

func TestWhatIsUnusableIsPublishedAnewByAFollower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		leader := newProcess(t, memory.Join(), s)
		leader.good(t, 1)
		cache := &breakable{Cache: memory.Join()}
		follower := newProcess(t, cache, s)
		follower.good(t, 1)
		s.set(func() { s.revision.Number = 2 })
		cache.set(nil, definitioncache.ErrUnusable, nil)
		follower.bad(t, 2, definitioncache.ErrUnusable)
		if counts := follower.seen(); counts.Published != 1 || counts.CacheErrors != 1 || counts.Leader {
			t.Errorf("the follower counts %+v", counts)
		}
	})
}

func TestRunWakesTellsAndShutsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		var log bytes.Buffer
		wake, cache := make(chan struct{}), &breakable{Cache: memory.Join()}
		p := newProcess(t, cache, s, func(o *definitioncache.Options) {
			o.Wake, o.Log = wake, slog.New(slog.NewTextHandler(&log, nil))
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		<-time.After(timing.Poll / 2)
		s.set(func() { s.revision.Number = 2 })
		wake <- struct{}{}
		<-time.After(100 * time.Millisecond)
		if p.has() != 2 {
			t.Errorf("woken, it has revision %d; want 2", p.has())
		}
		cache.set(errors.Join(errDown, errDown), errDown, errDown)
		<-time.After(30 * time.Second)
		cache.set(nil, nil, nil)
		<-time.After(2 * timing.Poll)
		if age := p.seen().Age; age > timing.Poll {
			t.Errorf("the age is %s", age)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), errDown.Error()+"; "+errDown.Error()) {
			t.Errorf("of an outage there are %d lines; want 2:\n%s", lines, &log)
		}
		if turn, err := memory.Join().ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
			t.Errorf("after Run the lock is kept: %d, %v", turn, err)
		}
	})
}

// Whatever the shared cache says, the right flags are served.
func TestAColdProcessStartsWithoutTheCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, broken := range [][3]error{{errDown, errDown, errDown}, {nil, nil, errDown}, {nil, errDown, nil}} {
			memory, s := newMemory(t), newServer(4)
			if broken[1] != nil && broken[0] == nil {
				if err := memory.Join().DefinitionsReceived(t.Context(), cachetest.Definitions(3)); err != nil {
					t.Fatal(err)
				}
			}
			cache := &breakable{Cache: memory.Join()}
			cache.set(broken[0], broken[1], broken[2])
			newProcess(t, cache, s).bad(t, 4, errDown)
		}
	})
}
