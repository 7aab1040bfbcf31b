package definitioncache_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// shared gives a memory where somebody, who leads no more, has published.
func shared(t *testing.T, definitions definitioncache.Received) *definitioncache.Memory {
	t.Helper()
	memory := newMemory(t)
	past := memory.Join()
	if err := past.DefinitionsReceived(t.Context(), definitions); err != nil {
		t.Fatal(err)
	}
	if err := past.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return memory
}

// wasAsked tells when the server was asked for something else.
func (s *server) wasAsked(t *testing.T, want ...definitioncache.Revision) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, want) {
		t.Errorf("the server was asked for what is newer than %+v; want %+v", s.asked, want)
	}
}

func TestALeaderThatJustStartedGoesOnFromTheCopy(t *testing.T) {
	t.Parallel()
	known, none := cachetest.Definitions(5).Revision, definitioncache.Revision{}
	for name, c := range map[string]struct {
		server   int64
		reading  error // of the copy
		apply    error // of what the copy has
		asked    []definitioncache.Revision
		applied  []int64
		complain error
	}{
		"unchanged":        {server: 5, asked: []definitioncache.Revision{known}, applied: []int64{5}},
		"changed":          {server: 6, asked: []definitioncache.Revision{known}, applied: []int64{5, 6}},
		"unusable":         {server: 5, reading: definitioncache.ErrUnusable, complain: definitioncache.ErrUnusable, asked: []definitioncache.Revision{none}, applied: []int64{5}},
		"cannot be read":   {server: 6, reading: errDown, complain: errDown, asked: []definitioncache.Revision{none}, applied: []int64{6}},
		"cannot be served": {server: 6, apply: errDown, complain: errDown, asked: []definitioncache.Revision{none}, applied: []int64{6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cache, s := &breakable{Cache: shared(t, cachetest.Definitions(5)).Join()}, newServer(c.server)
				cache.set(nil, c.reading, nil)
				p := newProcess(t, cache, s)
				if c.apply != nil {
					p = newProcess(t, cache, s, func(o *definitioncache.Options) {
						o.Apply = func(ctx context.Context, definitions definitioncache.Copy) error {
							if definitions.Revision == known {
								return c.apply
							}
							return p.apply(ctx, definitions)
						}
					})
				}
				if c.complain == nil {
					p.good(t, c.server)
				} else if err := p.Step(t.Context()); err == nil {
					t.Error("it does not say what is wrong")
				}
				s.wasAsked(t, c.asked...)
				if counts := p.seen(); !counts.Leader || (counts.CacheErrors == 1) != (c.reading != nil) {
					t.Errorf("it counts %+v", counts)
				}
				cache.set(nil, nil, nil)
				if found, err := cache.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found.Revision.Number != c.server {
					t.Errorf("the copy is %+v, %v; want revision %d", found, err, c.server)
				}
			})
		})
	}
}

// The copy is of a store that the server no longer is.
func TestALeaderThatJustStartedFollowsItsServerToAnotherStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := shared(t, cachetest.Definitions(100)), newServer(7)
		s.revision.Store, s.former = "B", []string{"A"}
		leader, follower := newProcess(t, memory.Join(), s), newProcess(t, memory.Join(), s)
		leader.good(t, 7)
		follower.good(t, 7)
		s.wasAsked(t, cachetest.Definitions(100).Revision)

		// One that does not say so is served by who asked it; the copy stays.
		other := newServer(3)
		other.revision.Store = "C"
		<-time.After(timing.Lock)
		stranger := newProcess(t, memory.Join(), other)
		stranger.bad(t, 3, definitioncache.ErrOlder)
		follower.good(t, 7)
	})
}

// A replica that lags behind the others answers older for seconds.
func TestWhatTheCopyHasOutlastsAServerThatLags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := shared(t, cachetest.Definitions(9)), newServer(8)
		leader := newProcess(t, memory.Join(), s)
		for range 9 {
			if err := leader.Step(t.Context()); err == nil || leader.has() != 9 {
				t.Fatalf("revision %d is served, %v; want 9, and an error", leader.has(), err)
			}
			<-time.After(timing.Poll)
		}
		s.set(func() { s.revision.Number = 9 })
		leader.good(t, 9)
		// Now the server itself has said so: it is not believed otherwise ever again.
		s.set(func() { s.revision.Number = 8 })
		for range 60 {
			<-time.After(timing.Poll)
			_ = leader.Step(t.Context())
		}
		if err := leader.backwards(); err != nil || leader.has() != 9 {
			t.Errorf("revision %d is served, %v; want 9", leader.has(), err)
		}
	})
}

// A revision that no server of ours ever had does not stay, and does not come back.
func TestARevisionThatSomebodyPutThereDoesNotStay(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]error{"the server gives what it has": nil, "the server says that it is not there yet": definitioncache.ErrAhead} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				memory, s := shared(t, cachetest.Definitions(math.MaxInt64)), newServer(4)
				fetch := func(o *definitioncache.Options) {
					o.Fetch = func(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
						if known.Number > 5 && ahead != nil {
							return definitioncache.Received{}, ahead
						}
						return s.fetch(ctx, known)
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				fleet := make([]*process, 5)
				for i := range fleet {
					fleet[i] = newProcess(t, memory.Join(), s, fetch)
					wg.Go(func() { _ = fleet[i].Run(ctx) })
				}
				<-time.After(5 * time.Second)
				for i, p := range fleet {
					if p.has() != math.MaxInt64 {
						t.Errorf("after 5 s process %d has revision %d already", i, p.has())
					}
				}
				<-time.After(10 * time.Second)
				newProcess(t, memory.Join(), s, fetch).good(t, 4)
				<-time.After(25 * time.Second)
				s.set(func() { s.revision.Number = 5 })
				<-time.After(2 * timing.Poll)
				for i, p := range fleet {
					if p.has() != 5 {
						t.Errorf("process %d has revision %d; want the server's", i, p.has())
					}
				}
				stop()
				wg.Wait()
			})
		})
	}
}
