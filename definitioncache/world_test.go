package definitioncache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// timing is that of the tests of the cycle.
var timing = definitioncache.Timing{Poll: time.Second, Lock: 3 * time.Second, Copy: 30 * time.Second, Fetch: 5 * time.Second}

// server is the flag server of a test.
type server struct {
	mu       sync.Mutex // guards what follows
	revision definitioncache.Revision
	former   []string // ids that it supersedes
	empty    bool
	err      error
	asked    []definitioncache.Revision // known, of each request
	at       []time.Time
	latency  time.Duration
}

func newServer(number int64) *server {
	return &server{revision: definitioncache.Revision{Store: "A", Number: number}, latency: 20 * time.Millisecond}
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *server) fetch(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
	s.mu.Lock()
	s.asked, s.at = append(s.asked, known), append(s.at, time.Now())
	latency := s.latency
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return definitioncache.Received{}, ctx.Err()
	case <-time.After(latency):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return definitioncache.Received{}, s.err
	}
	if known == s.revision {
		return definitioncache.Received{Unchanged: true}, nil
	}
	received := cachetest.Definitions(s.revision.Number)
	received.Revision, received.Supersedes = s.revision, s.former
	if s.empty {
		received.Body = nil
	}
	return received, nil
}

// process is one that needs definitions.
type process struct {
	*definitioncache.Cycle

	mu      sync.Mutex // guards what follows
	applied []definitioncache.Copy
	counts  definitioncache.Counts
}

// newProcess makes a process; change may change what its cycle is made of.
func newProcess(tb testing.TB, cache definitioncache.Cache, s *server, change ...func(*definitioncache.Options)) *process {
	tb.Helper()
	p := &process{}
	options := definitioncache.Options{Cache: cache, Timing: timing, Fetch: s.fetch, Apply: p.apply, Observe: p.observe}
	for _, c := range change {
		c(&options)
	}
	cycle, err := definitioncache.New(options)
	if err != nil {
		tb.Fatal(err)
	}
	p.Cycle = cycle
	return p
}

func (p *process) apply(_ context.Context, definitions definitioncache.Copy) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = append(p.applied, definitions)
	return nil
}

func (p *process) observe(counts definitioncache.Counts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = counts
}

func (p *process) seen() definitioncache.Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// has tells what is served; -1: nothing.
func (p *process) has() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) == 0 {
		return -1
	}
	return p.applied[len(p.applied)-1].Revision.Number
}

// backwards tells of a revision that followed a later one of the same store.
func (p *process) backwards() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 1; i < len(p.applied); i++ {
		if a, b := p.applied[i-1].Revision, p.applied[i].Revision; a.Store == b.Store && b.Number < a.Number {
			return fmt.Errorf("revision %d was followed by %d", a.Number, b.Number)
		}
	}
	return nil
}

// good takes a step that must go well and leave the revision.
func (p *process) good(t *testing.T, want int64) {
	t.Helper()
	if err := p.Step(t.Context()); err != nil {
		t.Fatalf("Step: %v", err)
	}
	if got := p.has(); got != want {
		t.Fatalf("revision %d is served; want %d", got, want)
	}
}

// bad takes a step that must say what is wrong, and leave the revision.
func (p *process) bad(t *testing.T, want int64, reason error) {
	t.Helper()
	if err := p.Step(t.Context()); !errors.Is(err, reason) {
		t.Fatalf("Step: %v; want %v", err, reason)
	}
	if got := p.has(); got != want {
		t.Fatalf("revision %d is served; want %d", got, want)
	}
}

func newMemory(tb testing.TB) *definitioncache.Memory {
	tb.Helper()
	memory, err := definitioncache.NewMemory(cachetest.Key, timing)
	if err != nil {
		tb.Fatal(err)
	}
	return memory
}

var errDown = errors.New("the cache is down")

// breakable is a cache that can break.
type breakable struct {
	definitioncache.Cache

	mu                         sync.Mutex // guards what follows
	turn, definitions, publish error
}

func (b *breakable) set(turn, definitions, publish error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn, b.definitions, b.publish = turn, definitions, publish
}

// broken gives what a call fails with.
func (b *breakable) broken(call *error) error { //nolint:gocritic // Which of the three is read under the lock.
	b.mu.Lock()
	defer b.mu.Unlock()
	return *call
}

func (b *breakable) ShouldFetch(ctx context.Context, need definitioncache.Need) (definitioncache.Turn, error) {
	if err := b.broken(&b.turn); err != nil {
		return definitioncache.Follow, err
	}
	return b.Cache.ShouldFetch(ctx, need)
}

func (b *breakable) Definitions(ctx context.Context, known definitioncache.Revision) (*definitioncache.Copy, error) {
	if err := b.broken(&b.definitions); err != nil {
		return nil, err
	}
	return b.Cache.Definitions(ctx, known)
}

func (b *breakable) DefinitionsReceived(ctx context.Context, received definitioncache.Received) error {
	if err := b.broken(&b.publish); err != nil {
		return err
	}
	return b.Cache.DefinitionsReceived(ctx, received)
}
