package definitioncache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// running has processes run until the test ends.
func running(t *testing.T, processes ...*process) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	for _, p := range processes {
		ended.Go(func() { _ = p.Run(ctx) })
	}
	t.Cleanup(func() { stop(); ended.Wait() })
}

// numbers gives what was served, one revision after the other.
func (p *process) numbers() (all []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, definitions := range p.applied {
		all = append(all, definitions.Revision.Number)
	}
	return all
}

// The leader's server falls back to a replica that lags, those of the others go on.
func TestALeaderWhoseServerIsBehindLetsSomebodyElseLead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s, behind := newMemory(t), newServer(10), newServer(10)
		first, second := newProcess(t, memory.Join(), behind), newProcess(t, memory.Join(), s)
		first.good(t, 10)
		second.good(t, 10)
		running(t, first)
		<-time.After(timing.Poll / 2)
		running(t, second)
		behind.set(func() { behind.revision.Number = 8 })
		s.set(func() { s.revision.Number = 16 })
		<-time.After(4*timing.Poll + 2*timing.Lock)
		if first.has() != 16 || first.seen().Leader || !second.seen().Leader {
			t.Errorf("who was behind has revision %d and leads: %t, the other: %t", first.has(), first.seen().Leader, second.seen().Leader)
		}
		refused := first.seen().RefusedAsOlder
		<-time.After(30 * time.Second)
		if more := first.seen().RefusedAsOlder - refused; more > 0 || first.has() != 16 {
			t.Errorf("it was refused %d times more, and has revision %d", more, first.has())
		}
	})
}

// The server really went back and kept its id: what was overruled does not come back
// from the copy, which somebody who is sure of it keeps for a while.
func TestWhatWasOverruledIsNotTakenFromTheCopyAgain(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]definitioncache.Timing{"timing of the tests": timing, "slow": {Poll: 15 * time.Second, Lock: 40 * time.Second, Copy: 24 * time.Hour, Fetch: 10 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				memory, err := definitioncache.NewMemory(cachetest.Key, of)
				if err != nil {
					t.Fatal(err)
				}
				s := newServer(10)
				limits := func(o *definitioncache.Options) { o.Timing, o.MaxAge, o.Alone = of, 4*of.Poll, 4*of.Poll }
				var fleet []*process
				for range 4 {
					fleet = append(fleet, newProcess(t, memory.Join(), s, limits))
				}
				fleet[0].good(t, 10)
				running(t, fleet...)
				<-time.After(10 * of.Poll)
				s.set(func() { s.revision.Number = 8 })
				<-time.After(20*of.Poll + 10*time.Second)
				for i, p := range fleet[1:] {
					if got := p.numbers(); !slices.Equal(got, []int64{10, 8}) {
						t.Errorf("follower %d served %v; want 10, then 8", i, got)
					}
				}
				found, err := memory.Join().Definitions(t.Context(), definitioncache.Revision{})
				if err != nil || found == nil || found.Revision.Number != 8 || found.Age > 3*of.Poll {
					t.Errorf("the copy is %+v, %v; want revision 8, confirmed", found, err)
				}
				// What comes to have that number later is taken.
				s.set(func() { s.revision.Number = 10 })
				<-time.After(3 * of.Poll)
				for i, p := range fleet {
					if p.has() != 10 {
						t.Errorf("process %d has revision %d; want 10", i, p.has())
					}
				}
			})
		})
	}
}

// unread is a copy that looks good and cannot be read.
const unread = 1 << 40

// unreadable makes Apply fail for that copy, and counts.
func unreadable(times *atomic.Int64, reason error) func(*definitioncache.Options) {
	return func(o *definitioncache.Options) {
		apply := o.Apply
		o.Apply = func(ctx context.Context, definitions definitioncache.Copy) error {
			if definitions.Revision.Number == unread {
				times.Add(1)
				return fmt.Errorf("the definitions cannot be read: %w", reason)
			}
			return apply(ctx, definitions)
		}
	}
}

// put publishes a copy of a revision, as somebody may who leads for a moment.
func put(t *testing.T, memory *definitioncache.Memory, number int64) {
	t.Helper()
	for {
		somebody := memory.Join()
		turn, err := somebody.ShouldFetch(t.Context(), definitioncache.NoCopy)
		if err != nil {
			t.Fatal(err)
		}
		if turn != definitioncache.Follow {
			if err := errors.Join(somebody.DefinitionsReceived(t.Context(), cachetest.Definitions(number)), somebody.Shutdown(t.Context())); err != nil {
				t.Fatal(err)
			}
			return
		}
		<-time.After(timing.Poll / 10)
	}
}

func TestACopyThatCanNotBeReadIsReadOnceAndReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const processes = 10
		memory, s := newMemory(t), newServer(10)
		var times atomic.Int64
		fleet := make([]*process, processes)
		for i := range fleet {
			fleet[i] = newProcess(t, memory.Join(), s, unreadable(&times, definitioncache.ErrUnusable))
		}
		running(t, fleet...)
		<-time.After(10 * timing.Poll)
		put(t, memory, unread)
		<-time.After(4 * timing.Poll)
		if n := times.Load(); n == 0 || n > processes {
			t.Errorf("%d processes tried to read it %d times; want once each at most", processes, n)
		}
		found, err := memory.Join().Definitions(t.Context(), definitioncache.Revision{})
		if err != nil || found == nil || found.Revision.Number != 10 {
			t.Errorf("the copy is %+v, %v; want revision 10", found, err)
		}
		before := s.requests()
		s.set(func() { s.revision.Number = 11 })
		<-time.After(10 * timing.Poll)
		if n := s.requests() - before; n > 12 {
			t.Errorf("when it was replaced the server is asked %d times in 10 polls", n)
		}
		for i, p := range fleet {
			if p.has() != 11 {
				t.Errorf("process %d has revision %d; want 11", i, p.has())
			}
		}
	})
}

// Who has nothing yet, as a leader and as a follower.
func TestAProcessThatStartsReplacesACopyThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := shared(t, cachetest.Definitions(unread)), newServer(10)
		var times atomic.Int64
		option := unreadable(&times, definitioncache.ErrUnusable)
		follower := newProcess(t, &following{memory.Join()}, s, option)
		follower.bad(t, 10, definitioncache.ErrUnusable)
		if err := follower.Step(t.Context()); err == nil {
			t.Error("it does not say that the copy is of no use")
		}
		if n := times.Load(); n != 1 {
			t.Errorf("it was tried to be read %d times; want once", n)
		}
		newProcess(t, memory.Join(), s, option).bad(t, 10, definitioncache.ErrUnusable)
		newProcess(t, memory.Join(), s, option).good(t, 10)
		follower.good(t, 10)
	})
}

// What Apply refuses for another reason stays as it is: it is not for us to judge.
func TestACopyThatIsRefusedIsNotReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s, refusal := shared(t, cachetest.Definitions(unread)), newServer(10), errors.New("another store")
		var times atomic.Int64
		p := newProcess(t, memory.Join(), s, unreadable(&times, refusal))
		p.bad(t, 10, refusal)
		for range 5 {
			<-time.After(timing.Poll)
			_ = p.Step(t.Context())
		}
		found, err := memory.Join().Definitions(t.Context(), definitioncache.Revision{})
		if err != nil || found == nil || found.Revision.Number != unread {
			t.Errorf("the copy is %+v, %v; want what was there", found, err)
		}
	})
}

func TestACopyThatIsOlderIsNamedSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := &breakable{Cache: &following{shared(t, cachetest.Definitions(11)).Join()}}
		cache.set(nil, errDown, nil)
		p := newProcess(t, cache, newServer(12))
		p.bad(t, 12, errDown)
		cache.set(nil, nil, nil)
		err := p.Step(t.Context())
		if err == nil || !strings.Contains(err.Error(), "it has revision 11, what is served has 12") || p.has() != 12 {
			t.Errorf("revision %d is served, Step: %v", p.has(), err)
		}
	})
}
