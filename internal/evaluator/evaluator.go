// Package evaluator answers "what is this flag for this caller, now": it holds
// the newest snapshot of a store in memory, swaps it atomically as commits come,
// and knows how fresh it is. Nothing that answers ever waits for the store.
package evaluator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// The times of DESIGN §4 and §6.6.
const (
	HeartbeatInterval = time.Second     // how often the store is asked for its revision
	DefaultStaleAfter = 3 * time.Second // silence after which answers are stale
	WaitLimit         = time.Second     // how long a question waits for its minimum revision
	degradedAfter     = 3               // failures in a row
	heartbeatTimeout  = time.Second     // how long one heartbeat may take
	catchUpTimeout    = 30 * time.Second
)

// ErrStoreChanged says that a revision is of another store: everything known
// from it has to be read again.
var ErrStoreChanged = errors.New("the revision is of another store than the one that answers. The server was restored or started on another database: read everything again")

// ErrNotReached says that a minimum revision did not come in time.
var ErrNotReached = errors.New("the minimum revision has not been reached within a second. Ask again in a moment")

// Options are an evaluator's settings. The zero value of each has a meaning.
type Options struct {
	Log        *slog.Logger     // nil: nothing is logged
	Now        func() time.Time // what time it is, for expiry; nil: the system's clock
	StaleAfter time.Duration    // 0: DefaultStaleAfter
}

// Evaluator holds the present snapshot of a store. Its methods may be called
// from many goroutines at once.
type Evaluator struct {
	store      store.Store
	log        *slog.Logger
	now        func() time.Time
	staleAfter time.Duration

	present atomic.Pointer[version]

	// One writer at a time. Every store lets in one at a time anyway, because the
	// revision is locked before a batch is looked at; asking for it here brings
	// the commits back in their order.
	writer chan struct{}

	swap       sync.Mutex    // held while one version takes the place of another
	nextExpiry time.Time     // of the earliest standing hold, or earlier; zero: none. Guarded by swap
	rearm      chan struct{} // nextExpiry became earlier

	started  time.Time    // with a monotonic reading, so that a clock set back makes nothing fresh
	contact  atomic.Int64 // when the store last answered, in nanoseconds after started
	failures atomic.Int32 // heartbeats that failed, in a row
}

// version is a snapshot and what led up to it. It never changes, but for newer.
type version struct {
	snapshot *flag.Snapshot
	journal  journal
	bytes    int64         // about what the snapshot takes on the wire
	newer    chan struct{} // closed once another version is the present one
}

// New loads the store's snapshot. The error is the store's.
func New(ctx context.Context, from store.Store, options Options) (*Evaluator, error) {
	e := &Evaluator{
		store: from, log: options.Log, now: options.Now, staleAfter: options.StaleAfter,
		writer: make(chan struct{}, 1), rearm: make(chan struct{}, 1), started: time.Now(),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.staleAfter == 0 {
		e.staleAfter = DefaultStaleAfter
	}
	snapshot, err := from.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	v := newVersion(snapshot)
	// The commits of before this start serve those who read before it. Without
	// them they read everything once more, which is no harm.
	first := max(0, snapshot.Revision.Number-journalFill)
	if commits, ok, err := from.Since(ctx, first); err == nil && ok {
		v.journal = v.journal.with(commits)
		if !v.journal.leadsTo(snapshot.Revision) {
			v.journal = journal{}
		}
	}
	e.present.Store(v)
	e.nextExpiry = earliestExpiry(snapshot)
	e.heard()
	return e, nil
}

func newVersion(snapshot *flag.Snapshot) *version {
	return &version{snapshot: snapshot, bytes: snapshotBytes(snapshot, ""), newer: make(chan struct{})}
}

// Run does the background work until the context ends: the heartbeat, catching
// up with other writers of the store, and the expiry of holds. It is called once.
func (e *Evaluator) Run(ctx context.Context) {
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		expiry := e.expiryTimer()
		select {
		case <-ctx.Done():
			stop(expiry)
			return
		case <-tick.C:
			e.heartbeat(ctx)
			e.expire(ctx) // what is due: a commit that failed before is tried again
		case <-fired(expiry):
			e.expire(ctx)
		case <-e.rearm:
		}
		stop(expiry)
	}
}

// expiryTimer gives a timer for the next expiry; nil when there is none ahead.
func (e *Evaluator) expiryTimer() *time.Timer {
	e.swap.Lock()
	next := e.nextExpiry
	e.swap.Unlock()
	if next.IsZero() {
		return nil
	}
	if left := next.Sub(e.now()); left > 0 {
		return time.NewTimer(left)
	}
	return nil // due already: the next tick tries again
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

func fired(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

// heartbeat asks the store for its revision and catches up with it.
func (e *Evaluator) heartbeat(ctx context.Context) {
	err := e.CatchUp(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if failed := e.failures.Swap(0); failed > 0 {
			e.log.Info("the store answers again", "failures", failed)
		}
		return
	}
	switch failed := e.failures.Add(1); failed {
	case 1:
		e.log.Warn("the store did not answer", "error", err.Error())
	case degradedAfter:
		e.log.Error("the store does not answer: serving what was last known", "error", err.Error())
	}
}

// CatchUp asks the store for its revision and brings the snapshot up to it.
func (e *Evaluator) CatchUp(ctx context.Context) error {
	known := e.present.Load().snapshot.Revision // before the question: the answer cannot be older
	head, err := e.head(ctx)
	if err != nil {
		return err
	}
	if head.StoreID == known.StoreID && head.Number < known.Number {
		return fmt.Errorf("the store is at revision %d, but %d was read from it before. It was rolled back: restart the server to serve what it holds now", head.Number, known.Number)
	}
	if err := e.follow(ctx, head); err != nil {
		return err
	}
	e.heard()
	return nil
}

func (e *Evaluator) head(ctx context.Context) (flag.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	return e.store.Head(ctx)
}

// follow brings the snapshot up to the revision that the store has.
func (e *Evaluator) follow(ctx context.Context, head flag.Revision) error {
	known := e.present.Load().snapshot.Revision
	if head.StoreID == known.StoreID {
		if head.Number <= known.Number {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
		defer cancel()
		commits, ok, err := e.store.Since(ctx, known.Number)
		if err != nil {
			return err
		}
		if ok && e.advance(commits) && e.present.Load().snapshot.Revision.Number >= head.Number {
			return nil
		}
	}
	return e.reload(ctx)
}

// reload reads everything again, because the commits in between are not to be
// had or the store is another one.
func (e *Evaluator) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	snapshot, err := e.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	e.swap.Lock()
	defer e.swap.Unlock()
	known := e.present.Load().snapshot
	if snapshot.Revision.StoreID == known.Revision.StoreID {
		if snapshot.Revision.Number <= known.Revision.Number {
			return nil // somebody else was faster
		}
	} else {
		if err := distrust(known, snapshot, e.now()); err != nil {
			return err
		}
		e.log.Warn("the store is another one: its definitions are served from now on",
			"former_store", known.Revision.StoreID, "store", snapshot.Revision.StoreID)
	}
	e.become(newVersion(snapshot))
	e.nextExpiry = earliestExpiry(snapshot)
	return nil
}

// distrust gives the reason to refuse another store's snapshot, if there is one
// (DESIGN §4): a server that finds itself on the wrong disk or an old backup must
// not switch things on.
func distrust(known, found *flag.Snapshot, now time.Time) error {
	flags, _, _ := known.Counts()
	if foundFlags, _, _ := found.Counts(); flags > 0 && foundFlags == 0 {
		return fmt.Errorf("the store became another one (%s) that is empty, while %d flags are known: it is refused. Restart the server to serve it all the same", found.Revision.StoreID, flags)
	}
	for h := range known.Holds("") {
		if other := found.Hold(h.FlagKey, h.Holder); h.StandsAt(now) && (other == nil || !other.StandsAt(now)) {
			return fmt.Errorf("the store became another one (%s) that lacks the hold of %q on %q: it is refused. Restart the server to serve it all the same", found.Revision.StoreID, h.Holder, h.FlagKey)
		}
	}
	return nil
}

// advance makes the commits, which come in order, the present. What is known
// already is passed over. False says that a commit in between is missing; what
// came before the gap counts.
func (e *Evaluator) advance(commits []store.Commit) bool {
	e.swap.Lock()
	defer e.swap.Unlock()
	next := *e.present.Load()
	whole, earlier := true, false
	for i, c := range commits {
		at := next.snapshot.Revision
		if c.Revision.StoreID == at.StoreID && c.Revision.Number <= at.Number {
			continue
		}
		if whole = c.Revision == (flag.Revision{StoreID: at.StoreID, Number: at.Number + 1}); !whole {
			break
		}
		next.bytes += growth(next.snapshot, c.Edits)
		next.snapshot = next.snapshot.With(c.Revision, slices.Values(c.Edits))
		next.journal = next.journal.with(commits[i : i+1])
		earlier = e.noteExpiry(c.Edits) || earlier
	}
	e.become(&next)
	if earlier {
		select {
		case e.rearm <- struct{}{}:
		default: // it is to be armed anew already
		}
	}
	return whole
}

// become swaps the present version, if it is another one, and wakes those who
// wait for it. Called with swap held.
func (e *Evaluator) become(next *version) {
	before := e.present.Load()
	if next.snapshot == before.snapshot {
		return
	}
	next.newer = make(chan struct{})
	e.present.Store(next)
	close(before.newer)
}

// Apply makes a batch of changes in the store. When it returns, the snapshot has
// them: who wrote reads it.
func (e *Evaluator) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	return e.write(ctx, func() (store.Outcome, error) { return e.store.Apply(ctx, batch) })
}

// expire commits the expiry of the holds whose time has come.
func (e *Evaluator) expire(ctx context.Context) {
	e.swap.Lock()
	due := !e.nextExpiry.IsZero() && !e.now().Before(e.nextExpiry)
	e.swap.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	out, err := e.write(ctx, func() (store.Outcome, error) { return e.store.ExpireHolds(ctx, e.now()) })
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("expired holds could not be committed; their time counts all the same", "error", err.Error())
		}
		return
	}
	if out.Commit != nil {
		e.log.Info("holds expired", "holds", len(out.Commit.Edits), "revision", out.Revision.Number)
	}
	e.swap.Lock()
	e.nextExpiry = earliestExpiry(e.present.Load().snapshot)
	e.swap.Unlock()
}

// write runs one write of the store and takes its commit over.
func (e *Evaluator) write(ctx context.Context, do func() (store.Outcome, error)) (store.Outcome, error) {
	select {
	case e.writer <- struct{}{}:
	case <-ctx.Done():
		return store.Outcome{}, fmt.Errorf("wait for the writes before this one: %w", context.Cause(ctx))
	}
	defer func() { <-e.writer }()
	out, err := do()
	if err != nil {
		return out, err
	}
	e.heard()
	if out.Commit != nil && e.advance([]store.Commit{*out.Commit}) {
		return out, nil
	}
	// Another root, or the making of a token, committed in between. What was
	// written is durable whatever comes now, so the caller is not told of a failure
	// to see it, and its leaving does not stop us.
	if err := e.follow(context.WithoutCancel(ctx), out.Revision); err != nil {
		e.log.Warn("a commit could not be followed; the next heartbeat tries again", "revision", out.Revision.Number, "error", err.Error())
	}
	return out, nil
}

// noteExpiry keeps the earliest expiry among what is known and the holds of the
// edits; true when it became earlier. Called with swap held.
func (e *Evaluator) noteExpiry(all []flag.Edit) bool {
	earlier := false
	for _, edit := range all {
		if h, ok := edit.Object.(*flag.Hold); ok && !h.Expired && !h.ExpiresAt.IsZero() && (e.nextExpiry.IsZero() || h.ExpiresAt.Before(e.nextExpiry)) {
			e.nextExpiry, earlier = h.ExpiresAt, true
		}
	}
	return earlier
}

func earliestExpiry(s *flag.Snapshot) time.Time {
	var earliest time.Time
	for h := range s.Holds("") {
		if !h.Expired && !h.ExpiresAt.IsZero() && (earliest.IsZero() || h.ExpiresAt.Before(earliest)) {
			earliest = h.ExpiresAt
		}
	}
	return earliest
}
