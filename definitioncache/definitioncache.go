// Package definitioncache shares definitions that many processes need between
// them, so that one fetches and the others read: a leader holds a lock with a
// lifetime and publishes, followers read the shared copy.
//
// What is shared are bytes with a [Header]; the package knows nothing of what they
// mean. [Cycle] is a process's part in it, [Cache] what the processes share:
// [Memory] and [File] are here, Redis in a package of its own. Another
// implementation proves itself with cachetest.
//
// Whoever can write to the shared place decides what is served: give it to no one
// who may not change the definitions.
package definitioncache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Cache is what processes share, as one of them has it. Its methods may be called
// at once from many goroutines. An error says what is wrong with the cache, and
// never keeps its caller from fetching from the server itself.
type Cache interface {
	// ShouldFetch asks whether this process is to fetch from the server now. It takes
	// the lock where nobody has it and extends it where it is ours: [Lead]. Where
	// another has it: [Follow]; but of those who say that they need a copy and found
	// none that can be used, one at a time gets [Once], for as long as a fetch may
	// take. After Shutdown: [ErrShutdown].
	ShouldFetch(ctx context.Context, need Need) (Turn, error)

	// Definitions gives the shared copy; nil when there is none, or its life is over.
	// Of a copy of the revision known there are only revision and age. [ErrUnusable]:
	// there is something, and it cannot be used (damaged, foreign, newer than this
	// program). After Shutdown: [ErrShutdown].
	Definitions(ctx context.Context, known Revision) (*Copy, error)

	// DefinitionsReceived hands in what the server said, of whoever was told to fetch.
	// When it returns nil, others read just that, and its life begins anew.
	//
	// Changed definitions become the copy where they do not go backwards (see
	// [Header.Replaces] and [Received.Overrules]), or where the copy is of another store
	// and nobody has renewed it for as long as two locks last; else [ErrOlder].
	// Unchanged ones only renew the life of the copy; where the copy is not of their
	// revision, or gone: [ErrNoCopy], and the caller must fetch everything. [ErrNotLeader]: another has the lock by now.
	// [ErrTooLarge]: it is over [MaxSize]. [ErrShutdown]: Shutdown was called. After
	// an error what was there before is there still, or, when the connection broke,
	// what was handed in.
	DefinitionsReceived(ctx context.Context, received Received) error

	// Shutdown ends this process's part: nothing is published any more when it
	// returns, and the lock is released if it is ours. Twice is once. After an error
	// the lock runs out by itself.
	Shutdown(ctx context.Context) error
}

// Need is why somebody asks for a turn to fetch.
type Need int

const (
	// Refresh is the need of whoever polls.
	Refresh Need = iota
	// NoCopy is the need of whoever found no copy that can be used.
	NoCopy
)

// Turn is the answer to who is to fetch.
type Turn int

const (
	// Follow means: read the shared copy.
	Follow Turn = iota
	// Lead means: fetch, publish, and ask again before the lock runs out.
	Lead
	// Once means: fetch and publish once, for want of a copy; another leads.
	Once
)

// MaxSize is the most bytes that definitions may have: 50 MB.
const MaxSize = 50_000_000

// maxName is the most bytes of a name in a [Key] and of a store's id.
const maxName = 1000

// What a [Cache] says. Errors wrap these, with words.
var (
	ErrOlder     = errors.New("older than the shared copy")
	ErrNoCopy    = errors.New("there is no such shared copy")
	ErrNotLeader = errors.New("another process has the lock")
	ErrTooLarge  = errors.New("too large to be shared")
	ErrUnusable  = errors.New("the shared copy cannot be used")
	ErrShutdown  = errors.New("this process has ended its part in the shared cache")
)

// Key tells one shared copy from another.
type Key struct {
	// Environment is the environment that the definitions are of.
	Environment string `json:"environment"`
	// Scope is all that decides what the fetching token may see: its scopes and its
	// prefix. Who may see less never reads what was fetched by who may see more.
	Scope string `json:"scope"`
	// Store keeps copies of one store only, where its id is known before the first
	// fetch; another store then has a copy of its own. Empty: the copy follows from
	// store to store, where one supersedes the other, and whoever has the environment,
	// scope and schema shares it, whatever server it asks: where two servers give the
	// same names to different definitions, tell them apart by the prefix or the folder.
	Store string `json:"store"`
	// Schema is the version of what the bytes mean; each has a copy of its own.
	Schema int `json:"schema"`
}

// Validate says what is wrong with a key.
func (k Key) Validate() error {
	switch {
	case k.Environment == "":
		return errors.New("the shared definitions need the name of their environment")
	case k.Scope == "":
		return errors.New("the shared definitions need the scope of the token that they are fetched with: without it a weaker token could read them")
	case max(len(k.Environment), len(k.Scope), len(k.Store)) > maxName:
		return fmt.Errorf("the names of environment, scope and store may have %d bytes each; found %d, %d and %d", maxName, len(k.Environment), len(k.Scope), len(k.Store))
	}
	return nil
}

// Revision is a state of a store. The zero Revision is none.
type Revision struct {
	Store  string `json:"store"`  // the store's id
	Number int64  `json:"number"` // grows with each change, from 0
}

// Header is what is known of definitions without reading them.
type Header struct {
	Key      Key      `json:"key"`
	Revision Revision `json:"revision"`
	// Supersedes are the ids of the stores whose place this store has taken.
	Supersedes []string `json:"supersedes"`
	// FetchedAt is when the server said so, by the clock of who asked: for people.
	// Nothing is decided by it.
	FetchedAt time.Time `json:"fetched_at"`
}

// Replaces tells whether definitions of this header may take the place of
// others': within one store those of the same or a later revision, and those of a
// store that says that it supersedes the other's. What is published goes by it while
// the other is renewed, and what a follower takes.
func (h Header) Replaces(other Header) bool {
	if h.Revision.Store == other.Revision.Store {
		return h.Revision.Number >= other.Revision.Number
	}
	return slices.Contains(h.Supersedes, other.Revision.Store)
}

// Validate says what keeps definitions of this header from being shared under a
// key.
func (h Header) Validate(key Key) error {
	switch {
	case h.Key != key:
		return fmt.Errorf("these are definitions of %+v, and not of %+v", h.Key, key)
	case h.Revision.Store == "" || len(h.Revision.Store) > maxName || h.Revision.Number < 0:
		return fmt.Errorf("definitions need a store's id of at most %d bytes and a revision that is not negative; found %.100q and %d", maxName, h.Revision.Store, h.Revision.Number)
	case key.Store != "" && h.Revision.Store != key.Store:
		return fmt.Errorf("these are definitions of store %.100q, and what is shared is of store %.100q only", h.Revision.Store, key.Store)
	}
	return nil
}

// Received is what the server said.
type Received struct {
	Header
	Body      []byte // none is a value as well: an empty list
	Unchanged bool   // the server has what was asked about; Body does not count
	// Overrules is a revision that the server, asked directly again and again, does not
	// have: a copy of just that one is replaced, though it is newer. The zero Revision:
	// none is.
	Overrules Revision
}

// Validate says what keeps it from being shared under a key.
func (r Received) Validate(key Key) error {
	if err := r.Header.Validate(key); err != nil {
		return err
	}
	if len(r.Body) > MaxSize {
		return fmt.Errorf("%w: the definitions have %d bytes, at most %d are shared. Each process fetches them by itself; divide the environment, or fetch with a prefix", ErrTooLarge, len(r.Body), MaxSize)
	}
	return nil
}

// Copy is the shared copy.
type Copy struct {
	Header
	Body []byte
	// Known means that it has the revision that the reader knows: only that and Age
	// are given.
	Known bool
	// Age is how long ago the server last confirmed it, by the clock of the shared
	// place.
	Age time.Duration
}

// Timing are the lifetimes, the same for all who share.
type Timing struct {
	// Poll is how often the leader asks the server and followers look at the copy.
	Poll time.Duration
	// Lock is how long the lock lasts without word from the leader: more than two
	// polls, so that one that is late or lost costs nobody the lead.
	Lock time.Duration
	// Copy is how long the copy lasts without a leader who renews it: longer than
	// the lock, so that there is one until the next leader's first word.
	Copy time.Duration
	// Fetch is the deadline of one fetch, and how long one who fetches for want of a
	// copy keeps others from it.
	Fetch time.Duration
}

// Every gives usual lifetimes for a poll.
func Every(poll time.Duration) Timing {
	return Timing{Poll: poll, Lock: 3 * poll, Copy: 30 * poll, Fetch: 10 * time.Second}
}

// Validate says what is wrong with lifetimes.
func (t Timing) Validate() error {
	switch {
	case t.Poll <= 0 || t.Fetch <= 0:
		return fmt.Errorf("poll and the deadline of a fetch must be more than nothing; found %s and %s", t.Poll, t.Fetch)
	case t.Lock < time.Millisecond || t.Lock <= 2*t.Poll:
		return fmt.Errorf("the lock must outlive two polls, or the lead changes whenever one is late: with a poll of %s it needs more than %s; found %s", t.Poll, 2*t.Poll, t.Lock)
	case t.Copy <= t.Lock:
		return fmt.Errorf("the copy must outlive the lock, or it is gone before the next leader comes: with a lock of %s it needs more; found %s", t.Lock, t.Copy)
	}
	return nil
}

// validate is what each cache asks of what it is given.
func validate(key Key, timing Timing) error {
	return errors.Join(key.Validate(), timing.Validate())
}
