package definitioncache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// fleetTiming is that of proxies: a poll, and five halves of it.
var fleetTiming = definitioncache.Timing{Poll: 500 * time.Millisecond, Lock: 1250 * time.Millisecond, Copy: 15 * time.Second, Fetch: 10 * time.Second}

// trouble is what a cache may be like.
type trouble int

const (
	none     trouble = iota
	failing          // each call fails at once
	frozen           // each call runs into its deadline
	halting          // it says at the last moment who leads, and then is frozen
	deserted         // nobody leads and nobody can
	gone             // this process itself has died: nothing of it comes through
)

// callDeadline is that of a call of a cache in trouble, readDeadline of one that
// carries the definitions.
const (
	callDeadline = time.Second
	readDeadline = 10 * callDeadline
)

// troubled is a cache in trouble.
type troubled struct {
	definitioncache.Cache

	mu      sync.Mutex // guards trouble
	trouble trouble
}

func (c *troubled) become(trouble trouble) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = trouble
}

func (c *troubled) is() trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// hang waits for the deadline.
func hang(ctx context.Context, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

func (c *troubled) ShouldFetch(ctx context.Context, need definitioncache.Need) (definitioncache.Turn, error) {
	switch c.is() {
	case failing, gone:
		return definitioncache.Follow, errDown
	case frozen:
		return definitioncache.Follow, hang(ctx, callDeadline)
	case halting:
		_ = hang(ctx, callDeadline-time.Millisecond) // it comes in time, unless the caller has gone
		return definitioncache.Follow, ctx.Err()
	case deserted:
		return definitioncache.Follow, nil
	default:
		return c.Cache.ShouldFetch(ctx, need)
	}
}

func (c *troubled) Definitions(ctx context.Context, known definitioncache.Revision) (*definitioncache.Copy, error) {
	switch c.is() {
	case failing, gone:
		return nil, errDown
	case frozen, halting:
		return nil, hang(ctx, readDeadline)
	default:
		return c.Cache.Definitions(ctx, known)
	}
}

func (c *troubled) DefinitionsReceived(ctx context.Context, received definitioncache.Received) error {
	switch c.is() {
	case failing, gone:
		return errDown
	case frozen, halting:
		return hang(ctx, callDeadline)
	default:
		return c.Cache.DefinitionsReceived(ctx, received)
	}
}

func (c *troubled) Shutdown(ctx context.Context) error {
	if c.is() == gone {
		return nil
	}
	return c.Cache.Shutdown(ctx)
}

// member is a process of a fleet whose server has a new revision each millisecond:
// so what is served tells its age.
type member struct {
	*process

	cache *troubled
	start time.Time

	mu    sync.Mutex // guards asked
	asked []time.Time
}

const latency = 20 * time.Millisecond // of a fetch

func newMember(tb testing.TB, memory *definitioncache.Memory, start time.Time) *member {
	tb.Helper()
	m := &member{cache: &troubled{Cache: memory.Join()}, start: start}
	m.process = newProcess(tb, m.cache, nil, func(o *definitioncache.Options) {
		o.Timing, o.MaxAge, o.Fetch = fleetTiming, 4*fleetTiming.Poll, m.fetch
	})
	return m
}

func (m *member) fetch(ctx context.Context, _ definitioncache.Revision) (definitioncache.Received, error) {
	now := time.Now()
	m.mu.Lock()
	m.asked = append(m.asked, now)
	m.mu.Unlock()
	select {
	case <-ctx.Done():
		return definitioncache.Received{}, ctx.Err()
	case <-time.After(latency):
	}
	return cachetest.Definitions(now.Sub(m.start).Milliseconds()), nil
}

// age is that of what is served.
func (m *member) age() time.Duration {
	return time.Since(m.start.Add(time.Duration(m.has()) * time.Millisecond)).Round(time.Millisecond)
}

// between gives when the server was asked in a span of time.
func (m *member) between(from, to time.Time) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.asked), func(at time.Time) bool { return at.Before(from) || !at.Before(to) })
}

// fleet is many members that run.
type fleet struct {
	members []*member
	memory  *definitioncache.Memory
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// newFleet starts processes one after the other, within a poll.
func newFleet(t *testing.T, random *rand.Rand, processes int) *fleet {
	t.Helper()
	memory, err := definitioncache.NewMemory(cachetest.Key, fleetTiming)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	f, start := &fleet{memory: memory, stop: stop}, time.Now()
	for range processes {
		m := newMember(t, memory, start)
		f.members = append(f.members, m)
		f.ended.Go(func() { _ = m.Run(ctx) })
		<-time.After(time.Duration(random.Int64N(int64(fleetTiming.Poll) * 2 / int64(processes))))
	}
	<-time.After(2*fleetTiming.Poll + time.Duration(random.Int64N(int64(5*fleetTiming.Poll))))
	return f
}

// end waits for all to be done.
func (f *fleet) end() {
	f.stop()
	f.ended.Wait()
}

// watch looks at all for a time, and tells of the oldest that anybody served.
func (f *fleet) watch(d time.Duration) (oldest time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); <-time.After(10 * time.Millisecond) {
		for _, m := range f.members {
			oldest = max(oldest, m.age())
		}
	}
	return oldest
}

// Whatever the cache is like, nothing served is older than four polls (kill_ttl) and a
// fetch, but when a call of the cache begins to hang: then a poll more, and less than
// that call's deadline; and nobody asks more often than once
// in four polls, and once.
func TestNothingServedGrowsOldWhileTheCacheIsOfNoUse(t *testing.T) {
	t.Parallel()
	const alone = 4 * 500 * time.Millisecond
	for trouble, name := range map[trouble]string{failing: "failing", frozen: "frozen", halting: "halting", deserted: "deserted"} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(seed, 7))
					f := newFleet(t, random, 2+random.IntN(6))
					defer f.end()
					if oldest := f.watch(3 * time.Second); oldest > 2*fleetTiming.Poll+4*latency {
						t.Errorf("while all is well something %s old is served", oldest)
					}
					from := time.Now()
					for _, m := range f.members {
						m.cache.become(trouble)
					}
					pause := 10*time.Second + time.Duration(random.Int64N(int64(20*time.Second)))
					most := alone + 3*latency
					if trouble == frozen || trouble == halting {
						most += fleetTiming.Poll
					}
					if oldest := f.watch(2 * alone); oldest > most {
						t.Errorf("something %s old is served; want %s at most", oldest, most)
					}
					if oldest, most := f.watch(pause-2*alone), alone+3*latency; oldest > most {
						t.Errorf("when that lasts something %s old is served; want %s at most", oldest, most)
					}
					for i, m := range f.members {
						asked := m.between(from, from.Add(pause))
						if most := int(pause/alone) + 1; len(asked) > most {
							t.Errorf("process %d asked %d times in %s; want %d at most", i, len(asked), pause, most)
						}
						m.cache.become(none)
					}
					<-time.After(callDeadline + 2*fleetTiming.Poll)
					after := time.Now()
					if oldest := f.watch(5 * time.Second); oldest > 2*fleetTiming.Poll+4*latency {
						t.Errorf("when all is well again something %s old is served", oldest)
					}
					requests := 0
					for _, m := range f.members {
						requests += len(m.between(after, time.Now()))
					}
					if requests > 12 { // of who leads: each 0.45 s at most
						t.Errorf("when all is well again there are %d requests in 5 s", requests)
					}
				})
			})
		}
	}
}

// 500 that lose the cache at once come to the server one after the other.
func TestNoStampedeWhateverTheCacheIsLike(t *testing.T) {
	t.Parallel()
	for trouble, name := range map[trouble]string{failing: "failing", frozen: "frozen", deserted: "deserted"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const processes, pause = 500, 10 * time.Second
				f := newFleet(t, rand.New(rand.NewPCG(1, 2)), processes)
				defer f.end()
				from := time.Now()
				for _, m := range f.members {
					m.cache.become(trouble)
				}
				<-time.After(pause)
				var asked []time.Time
				for _, m := range f.members {
					asked = append(asked, m.between(from, from.Add(pause))...)
				}
				slices.SortFunc(asked, time.Time.Compare)
				if len(asked) < processes || len(asked) > processes*int(pause/(4*fleetTiming.Poll)) {
					t.Errorf("%d processes asked %d times in %s", processes, len(asked), pause)
				}
				for i, first := range asked {
					n, _ := slices.BinarySearchFunc(asked[i:], first.Add(fleetTiming.Poll/10), time.Time.Compare)
					if n > processes/4 { // at most spread over half a second they are a tenth
						t.Fatalf("after %s %d of %d asked within %s", first.Sub(from), n, processes, fleetTiming.Poll/10)
					}
				}
			})
		})
	}
}

// A leader dies: the next publishes before what is shared is four polls old, also when
// the dead one took the lock for the last time without a word after it. With two
// processes, who are the slowest to find the lock free.
func TestTheNextLeaderPublishesWithinFourPolls(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 9))
				f := newFleet(t, random, 2+random.IntN(2))
				defer f.end()
				leader := slices.IndexFunc(f.members, func(m *member) bool { return m.seen().Leader })
				if seed%2 == 0 { // it dies while it fetches
					before := len(f.members[leader].between(time.Time{}, time.Now()))
					for len(f.members[leader].between(time.Time{}, time.Now())) == before {
						<-time.After(latency / 4)
					}
				}
				died := time.Now()
				f.members[leader].cache.become(gone)
				reader := f.memory.Join()
				for time.Since(died) < 6*fleetTiming.Poll {
					found, err := reader.Definitions(t.Context(), definitioncache.Revision{})
					if err != nil || found == nil || found.Age > 4*fleetTiming.Poll {
						t.Fatalf("%s after its end the copy is %s old; want %s at most (%v)", time.Since(died), found.Age, 4*fleetTiming.Poll, err)
					}
					<-time.After(5 * time.Millisecond)
				}
				if next := slices.IndexFunc(f.members, func(m *member) bool { return m.seen().Leader }); next < 0 || next == leader {
					t.Errorf("after the end of leader %d it is %d", leader, next)
				}
			})
		})
	}
}
