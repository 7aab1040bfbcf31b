// Package evaluator answers "what is this flag for this caller, now": it holds
// the newest snapshot of a source of truth in memory, swaps it atomically as
// commits come, and knows how fresh it is. Nothing that answers ever waits for
// the source.
//
// The source is a store (Root) or a flag server (Follower). Both feed the same
// Evaluator, which is all that readers see of them.
package evaluator

import (
	"errors"
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
	HeartbeatInterval = time.Second     // how often the source is asked for its revision
	DefaultStaleAfter = 3 * time.Second // silence after which answers are stale
	WaitLimit         = time.Second     // how long a question waits for its minimum revision
	awaitedInterval   = WaitLimit / 10  // how often what somebody waits for is looked for
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
	// Environment is the name that the definitions must be of; "": any.
	Environment string
	// Known is what was last known, from before this start; nil: nothing. It is
	// served until the source is reached, and what the source says is checked
	// against it.
	Known *flag.Snapshot
	// Compiled gives the flags that are compiled into programs (descriptors). They
	// answer where the source of truth has no such flag, and when nothing is known
	// of it. Nil: there are none.
	Compiled Compiled
}

// Compiled is a registry of flags that are compiled into programs. It may be
// asked by many goroutines at once and must not wait.
type Compiled interface {
	Flag(key flag.Key) *flag.Flag // nil: none
	Keys() []flag.Key             // in order; not to be changed
}

// Evaluator holds the present snapshot of a source of truth. Its methods may be
// called from many goroutines at once.
type Evaluator struct {
	log        *slog.Logger
	now        func() time.Time
	staleAfter time.Duration
	compiled   Compiled
	awaited    func() // is called each awaitedInterval while somebody waits for a revision; nil: what is new comes by itself

	present atomic.Pointer[version]

	swap       sync.Mutex    // held while one version takes the place of another
	nextExpiry time.Time     // of the earliest standing hold, or earlier; zero: none. Guarded by swap
	rearm      chan struct{} // nextExpiry became earlier

	refusal atomic.Pointer[RefusalError] // of another store's definitions; nil: none. Written with swap held

	started  time.Time    // with a monotonic reading, so that a clock set back makes nothing fresh
	contact  atomic.Int64 // when the source last answered, in nanoseconds after started, and 1, negative before; 0: never
	failures atomic.Int32 // that came in a row

	telling sync.Mutex
	told    string // why the last one failed. Guarded by telling
}

// version is a snapshot and what led up to it. It never changes, but for newer.
type version struct {
	snapshot *flag.Snapshot
	journal  journal
	bytes    int64         // about what the snapshot takes on the wire
	newer    chan struct{} // closed once another version is the present one
	gone     *atomic.Bool  // the source told that it does not have it: it is never fresh
}

func newVersion(snapshot *flag.Snapshot) *version {
	return &version{snapshot: snapshot, bytes: snapshotBytes(snapshot, ""), newer: make(chan struct{}), gone: new(atomic.Bool)}
}

// newEvaluator makes an evaluator that knows what was last known, or nothing.
func newEvaluator(options Options) *Evaluator {
	e := &Evaluator{
		log: options.Log, now: options.Now, staleAfter: options.StaleAfter, compiled: options.Compiled,
		rearm: make(chan struct{}, 1), started: time.Now(),
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
	known := options.Known
	if known == nil {
		known = flag.NewSnapshot(options.Environment, flag.Revision{})
	}
	e.present.Store(newVersion(known))
	e.nextExpiry = earliestExpiry(known)
	return e
}

// Trusted gives the snapshot for another start to begin with (Options.Known); nil
// where nothing is known. While another store is refused there is none: what was
// last known is kept already, and must stay.
func (e *Evaluator) Trusted() *flag.Snapshot {
	e.swap.Lock()
	defer e.swap.Unlock()
	if s := e.present.Load().snapshot; e.refusal.Load() == nil && s.Revision != (flag.Revision{}) {
		return s
	}
	return nil
}

// replace makes another snapshot the present one, unless it is older or not to be
// trusted (RefusalError). heard says that it came from the source of truth itself.
func (e *Evaluator) replace(snapshot *flag.Snapshot, heard bool) error {
	next := newVersion(snapshot) // outside the lock: it goes through everything
	former, err := e.trade(next, heard)
	if former != "" && err == nil {
		e.log.Warn("the store is another one: its definitions are served from now on", "former_store", former, "store", snapshot.Revision.StoreID)
	}
	return err
}

// trade is replace, and gives the id of the store whose place another one took.
func (e *Evaluator) trade(next *version, heard bool) (former string, err error) {
	e.swap.Lock()
	defer e.swap.Unlock()
	known, snapshot := e.present.Load().snapshot, next.snapshot
	if snapshot.Revision.StoreID == known.Revision.StoreID {
		e.refusal.Store(nil)
	} else if former = known.Revision.StoreID; former != "" {
		refusal := distrust(known, snapshot, e.now())
		e.refusal.Store(refusal)
		if refusal != nil {
			return former, refusal
		}
	}
	if heard && (former != "" || snapshot.Revision.Number >= known.Revision.Number) { // before it is served: nobody sees what is fresh marked stale
		e.heard()
	}
	if former == "" && snapshot.Revision.StoreID == known.Revision.StoreID && snapshot.Revision.Number <= known.Revision.Number {
		return "", nil // somebody else was faster
	}
	e.become(next)
	e.nextExpiry = earliestExpiry(snapshot)
	return former, nil
}

// goBack makes an older snapshot of the same store the present one, which the source
// has just said that it has: what was served was never the store's. Who follows this
// server reads everything anew.
func (e *Evaluator) goBack(snapshot *flag.Snapshot) {
	next := newVersion(snapshot)
	e.swap.Lock()
	before := e.present.Load()
	was := before.snapshot.Revision
	before.gone.Store(true) // before the source counts as heard: nobody sees it marked fresh
	e.heard()               // before it is served: nobody sees what is fresh marked stale
	e.become(next)
	e.nextExpiry = earliestExpiry(snapshot)
	e.swap.Unlock()
	e.log.Error("the source of truth does not have the revision that was served, and has said so again and again: what it has is served from now on", "served", was.Number, "revision", snapshot.Revision.Number)
}

// agreed notes that the source of truth is the store of the snapshot, so that what was
// refused meanwhile is gone, and whether it was heard itself. It comes before what
// the source brings is served.
func (e *Evaluator) agreed(heard bool) {
	if heard {
		e.heard()
	}
	if e.refusal.Load() == nil {
		return
	}
	e.swap.Lock()
	e.refusal.Store(nil)
	e.swap.Unlock()
	e.log.Info("the right store is back")
}

// advance makes the commits, which come in order, the present. What is known
// already is passed over. False says that a commit in between is missing; what
// came before the gap counts.
func (e *Evaluator) advance(commits []Commit) bool {
	e.swap.Lock()
	defer e.swap.Unlock()
	next := *e.present.Load()
	whole, earlier := true, false
	for i, c := range commits {
		at := next.snapshot.Revision
		if c.Revision.StoreID == at.StoreID && c.Revision.Number <= at.Number {
			continue
		}
		if whole = c.Revision.StoreID == at.StoreID && c.Previous == at.Number; !whole {
			break
		}
		next.bytes += growth(next.snapshot, c.Edits)
		next.snapshot = next.snapshot.With(c.Revision, slices.Values(c.Edits))
		if c.Supersedes != "" { // the snapshot is ours until it is the present one
			next.snapshot.Supersedes = append(slices.Clip(next.snapshot.Supersedes), c.Supersedes)
		}
		if c.Joined && c.Superseded != nil {
			next.snapshot.Supersedes = c.Superseded
		}
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
	next.newer, next.gone = make(chan struct{}), new(atomic.Bool)
	e.present.Store(next)
	close(before.newer)
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

// consecutive gives a store's commits, each leading on from the one before.
func consecutive(commits []store.Commit) []Commit {
	all := make([]Commit, len(commits))
	for i, c := range commits {
		all[i] = Commit{Commit: c, Previous: c.Revision.Number - 1}
	}
	return all
}
