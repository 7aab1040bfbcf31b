package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// fact is something that the service said; that there is nothing is one, too. It
// never changes.
type fact[V any] struct {
	value       V
	asked, came time.Time // when the question left, and when the answer was here
	until       time.Time // when it is no longer fresh
}

// failure is a fetch that failed a moment ago.
type failure struct {
	err   error
	until time.Time // when the fetch may be made again
}

// pursuit is one fetch under way. Everybody who wants the same waits for it.
type pursuit[V any] struct {
	done chan struct{} // closed when the rest is set
	fact *fact[V]      // what is known now; nil: nothing
	err  error         // why it is not fresh
}

// knowledge is what is known of one kind of thing: what is fresh, apart from it
// what was last known, what is being fetched, and what could not be a moment ago.
type knowledge[K comparable, V any] struct {
	fetcher *fetcher
	op      func(K) string // what fetching it is, to read on from "cannot"
	ttl     time.Duration
	// ask asks the service. keep is how long the service says that its answer may
	// be kept; negative: it does not say.
	ask func(ctx context.Context, key K) (value V, keep time.Duration, err error)
	// weigh says for how many entries something counts, a failure with its zero value.
	weigh func(K, V) int

	mu       sync.Mutex
	counts   TierCounts
	fresh    *lru[K, *fact[V]]
	last     *lru[K, *fact[V]]
	failed   *lru[K, failure]
	underway map[K]*pursuit[V]
}

func newKnowledge[K comparable, V any](f *fetcher, ttl time.Duration, capacity int, op func(K) string, ask func(context.Context, K) (V, time.Duration, error)) *knowledge[K, V] {
	return &knowledge[K, V]{
		fetcher: f, op: op, ttl: ttl, ask: ask, weigh: func(K, V) int { return 1 },
		fresh: newLRU[K, *fact[V]](capacity), last: newLRU[K, *fact[V]](capacity), failed: newLRU[K, failure](capacity),
		underway: map[K]*pursuit[V]{},
	}
}

// look gives what is fresh, or what was last known and why it cannot be had
// fresh, or the fetch to wait for (settle). What the caller's context carries goes
// along with a fetch that begins; its end does not end it.
func (k *knowledge[K, V]) look(ctx context.Context, key K) (known *fact[V], under *pursuit[V], err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if f, ok := k.fresh.get(key); ok {
		if now.Before(f.until) {
			k.counts.Hits++
			return f, nil, nil
		}
		k.fresh.remove(key)
	}
	k.counts.Misses++
	if f, ok := k.failed.get(key); ok {
		if now.Before(f.until) {
			known, _ = k.last.get(key)
			return known, nil, f.err
		}
		k.failed.remove(key)
	}
	if same := k.underway[key]; same != nil {
		return nil, same, nil
	}
	if under = k.begin(ctx, key); under == nil {
		known, _ = k.last.get(key)
		return known, nil, k.fetcher.ended(k.op(key))
	}
	return nil, under, nil
}

// begin begins a fetch; nil after Close. Called with mu held, and apart from look,
// where what goes into a fetch would cost a read of what is cached memory.
func (k *knowledge[K, V]) begin(ctx context.Context, key K) *pursuit[V] {
	under := &pursuit[V]{done: make(chan struct{})}
	if !k.fetcher.start(func() { k.pursue(ctx, key, under) }) {
		return nil
	}
	k.underway[key] = under
	return under
}

// settle takes what look gave, and waits where there is something to wait for.
// An error beside a fact says why that is not fresh; the context's own where the
// caller gave up.
func (k *knowledge[K, V]) settle(ctx context.Context, known *fact[V], under *pursuit[V], err error) (*fact[V], error) {
	if under == nil {
		return known, err
	}
	select {
	case <-under.done:
		return under.fact, under.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read is look and settle.
func (k *knowledge[K, V]) read(ctx context.Context, key K) (*fact[V], error) {
	known, under, err := k.look(ctx, key)
	return k.settle(ctx, known, under, err)
}

// doubt has a fact that newer knowledge contradicts fetched anew. It stays what
// was last known.
func (k *knowledge[K, V]) doubt(key K, doubted *fact[V]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.fresh.get(key); ok && f == doubted {
		k.fresh.remove(key)
	}
}

// counted gives the counts, and the weight of what is fresh.
func (k *knowledge[K, V]) counted() (counts TierCounts, weight int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts, k.fresh.weight
}

// flush forgets what is fresh and what failed. A fetch under way was asked before,
// so what it brings is only for those who wait for it, and to be last known.
func (k *knowledge[K, V]) flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fresh.clear()
	k.failed.clear()
	clear(k.underway)
}

// each gives everything that is known, fresh or not, at least once. It must not
// come back here.
func (k *knowledge[K, V]) each(visit func(K, V)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, f := range k.fresh.all() {
		visit(key, f.value)
	}
	for key, f := range k.last.all() {
		visit(key, f.value)
	}
}

// pursue makes a fetch and tells everybody who waits for it.
func (k *knowledge[K, V]) pursue(ctx context.Context, key K, under *pursuit[V]) {
	defer close(under.done)
	var value V
	var keep time.Duration
	var asked time.Time
	err := k.fetcher.fetch(ctx, k.op(key), func(ctx context.Context) (err error) {
		asked = time.Now()
		value, keep, err = k.ask(ctx, key)
		return err
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	current := k.underway[key] == under
	if current {
		delete(k.underway, key)
	}
	now := time.Now()
	if err != nil {
		under.err = err
		under.fact, _ = k.last.get(key)
		if passing := errors.Is(err, errDefect) || errors.Is(err, errEnded); current && !passing {
			k.failed.put(key, failure{err: err, until: now.Add(k.fetcher.policy.FailureTTL)}, k.weigh(key, value))
		}
		return
	}
	if keep < 0 {
		keep = k.ttl
	}
	f := &fact[V]{value: value, asked: asked, came: now, until: now.Add(k.fetcher.policy.jittered(min(keep, longestTTL)))}
	under.fact = f
	weight := k.weigh(key, value)
	if current {
		k.fresh.put(key, f, weight)
	}
	if before, ok := k.last.get(key); !ok || !before.asked.After(asked) {
		k.last.put(key, f, weight)
	}
}
