package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// When everything is read at once instead of what was asked for (DESIGN §6.1:
// 1,000 flags in at most 3 requests, 10,000 in at most 5, and 10 of a server with
// 100,000 in at most 4 and under 100 kB).
const (
	// wholeAtOnce is the size in bytes up to which the first read takes it all: about
	// 30,000 flags, which travel compressed to a tenth and less, and cost less than
	// a second call does.
	wholeAtOnce = 4 << 20
	// fewRefs is how many objects are read one by one before it is taken for
	// certain that there is no end of them.
	fewRefs = 10
	// wholeAtMost is the size in bytes beyond which the whole is not read for the
	// sake of some of it, only where all of it is asked for (Definitions).
	wholeAtMost = 64 << 20
	// mostRefs is how many objects one call asks for.
	mostRefs = 1000
)

// Walk is the reading of one operation, like a Terraform plan. All that it tells
// was read from the server within it, and no older than the client's own writes;
// the number of requests does not grow with the number of objects. It may be used
// by many goroutines at once.
type Walk struct {
	client *Client
	reads  coalescer[flag.Ref, reading]
	whole  fetched[coverage]
	copied fetched[coverage] // the shared copy as it was found, for evaluations; without a snapshot: none

	apart     atomic.Bool // the shared copy is of no use to this walk
	refreshes atomic.Bool // nothing of its run is written within it
	shared    atomic.Bool // Share has read the whole
	unread    atomic.Bool // Share could not read the whole, and does not try again

	mu    sync.Mutex
	read  map[flag.Ref]*flag.Snapshot // what was read one by one, the newest of each
	shown flag.Revision               // the newest of what the walk was told

	recalled *fetched[coverage] // the shared copy while the server is down; without a snapshot: none

	answers  map[string]*evaluations // by entity
	answered int                     // answers for all flags that were asked for
}

// reading is a snapshot that covers an object, or why there is none.
type reading struct {
	snapshot *flag.Snapshot
	err      error
}

// coverage is everything that the token covers.
type coverage struct {
	*flag.Snapshot

	prefix flag.Key  // the token's
	at     time.Time // when the server confirmed it, or before
}

// NewWalk begins the reading of one operation. It sends nothing yet.
func (c *Client) NewWalk() *Walk {
	w := &Walk{client: c, read: map[flag.Ref]*flag.Snapshot{}, answers: map[string]*evaluations{}}
	w.reads = coalescer[flag.Ref, reading]{send: w.fetch, weigh: func(flag.Ref) int { return 1 }, most: mostRefs, together: c.travelled}
	w.whole.fetch, w.copied.fetch = w.readWhole, w.readCopy
	return w
}

// Refreshing says that the walk refreshes what is managed, as a plan does: nothing of
// the run that it belongs to is written while it lasts. So it is enough for it that
// the server has confirmed at the walk's beginning what it reads. Without it each
// reading is confirmed when it is made: in an apply, what is read may depend on what
// another process has just written.
func (w *Walk) Refreshing() { w.refreshes.Store(true) }

// Flag is Client.Flag within the walk.
func (w *Walk) Flag(ctx context.Context, key flag.Key) (*flag.Flag, []*flag.Hold, error) {
	if s := w.known(flag.FlagRef(key)); s != nil {
		w.client.totals.hit()
		return flagIn(s, key, nil)
	}
	s, err := w.ask(ctx, readingFlag(key), flag.FlagRef(key))
	return flagIn(s, key, err)
}

// Holds is Client.Holds within the walk.
func (w *Walk) Holds(ctx context.Context, key flag.Key) ([]*flag.Hold, error) {
	if s := w.known(flag.FlagRef(key)); s != nil {
		w.client.totals.hit()
		_, holds, err := flagIn(s, key, nil)
		return holds, err
	}
	s, err := w.ask(ctx, readingHolds(key), flag.FlagRef(key))
	_, holds, err := flagIn(s, key, err)
	return holds, err
}

// Override is Client.Override within the walk.
func (w *Walk) Override(ctx context.Context, key flag.Key, entity string) (*flag.Override, error) {
	ref := flag.OverrideRef(key, entity)
	if s := w.known(ref); s != nil {
		w.client.totals.hit()
		return s.Override(key, entity), nil
	}
	s, err := w.ask(ctx, readingOverride(key, entity), ref)
	if err != nil {
		return nil, err
	}
	return s.Override(key, entity), nil
}

// ask gives a snapshot that covers the object, together with what others want.
func (w *Walk) ask(ctx context.Context, op string, ref flag.Ref) (*flag.Snapshot, error) {
	r, err := w.reads.ask(ctx, ref)
	if err == nil {
		err = r.err
	}
	return r.snapshot, w.client.retold(ctx, op, err)
}

// known gives a snapshot of this walk that covers the object and that no write of
// ours has outdated; nil for none. So what arrives late hides no write.
func (w *Walk) known(ref flag.Ref) *flag.Snapshot {
	w.mu.Lock()
	s := w.read[ref]
	w.mu.Unlock()
	if s != nil && !w.client.wroteAfter(ref.Key, s.Revision) {
		return s
	}
	if all, has := w.whole.known(); has && ref.Key.Under(all.prefix) && !w.client.wroteAfter(ref.Key, all.Revision) {
		return all.Snapshot
	}
	return nil
}

// keep keeps what was read of the objects, but for what is known better.
func (w *Walk) keep(s *flag.Snapshot, refs []flag.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range refs {
		if had := w.read[ref]; had == nil || newer(s.Revision, had.Revision) {
			w.read[ref] = s
		}
	}
	if newer(s.Revision, w.shown) {
		w.shown = s.Revision
	}
}

// fetch reads objects that were asked for together. What is wrong with one is no
// matter of the others: where the server refuses them all as one request, each is
// read by itself.
func (w *Walk) fetch(ctx context.Context, refs []flag.Ref) ([]reading, error) {
	server, err := w.client.Server(ctx)
	if err != nil {
		return nil, err
	}
	if w.worthAll(server, len(refs)) {
		if _, err := w.whole.get(ctx); err != nil {
			return nil, err
		}
	}
	readings := make([]reading, len(refs))
	var rest []flag.Ref
	for i, ref := range refs {
		if readings[i].snapshot = w.known(ref); readings[i].snapshot == nil {
			rest = append(rest, ref)
		}
	}
	if len(rest) == 0 {
		return readings, nil
	}
	some, err := w.client.get(ctx, fmt.Sprintf("read %d objects", len(rest)), rest...)
	if e, ok := errors.AsType[*Error](err); len(rest) > 1 && ok && (e.Kind == Denied || e.Kind == Invalid) {
		return w.fetchEach(ctx, refs, readings), nil
	}
	if err != nil {
		return nil, err
	}
	w.keep(some, rest)
	for i := range readings {
		if readings[i].snapshot == nil {
			readings[i].snapshot = some
		}
	}
	return readings, nil
}

// fetchEach reads what is not yet read, one by one.
func (w *Walk) fetchEach(ctx context.Context, refs []flag.Ref, readings []reading) []reading {
	for i, ref := range refs {
		if readings[i].snapshot != nil {
			continue
		}
		s, err := w.client.get(ctx, "read an object", ref)
		if readings[i] = (reading{s, err}); err == nil {
			w.keep(s, []flag.Ref{ref})
		}
	}
	return readings
}

// worthAll reports whether everything is to be read for objects that are asked for.
func (w *Walk) worthAll(server Server, asking int) bool {
	if _, has := w.whole.known(); has {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return server.SnapshotBytes <= wholeAtOnce || len(w.read)+asking > fewRefs && server.SnapshotBytes <= wholeAtMost
}

// readWhole reads everything that the token covers.
func (w *Walk) readWhole(ctx context.Context) (coverage, error) {
	server, err := w.client.Server(ctx)
	if err != nil {
		return coverage{}, err
	}
	all, began := coverage{prefix: server.Actor.Prefix}, time.Now()
	if w.shares(server) {
		all.Snapshot, all.at, err = w.readShared(ctx, server)
	} else {
		all.Snapshot, err = w.client.Snapshot(ctx, server.Actor.Prefix)
		all.at = began
	}
	if err == nil {
		w.show(all.Revision)
	}
	return all, err
}

// show remembers what the walk was told, so that nothing older is told after it.
func (w *Walk) show(r flag.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if newer(r, w.shown) {
		w.shown = r
	}
}
