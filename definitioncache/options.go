package definitioncache

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// ErrDenied is what a Fetch wraps when the server denies it, or its quota is spent:
// asking again soon would not help.
var ErrDenied = errors.New("the server denies the definitions")

// Options are what a [Cycle] is made of.
type Options struct {
	Cache  Cache
	Timing Timing // the cache's

	// Fetch asks the server for what is newer than known, or for all there is when
	// known is the zero Revision. [ErrDenied]: see there. Its context has a deadline of
	// Timing.Fetch.
	Fetch func(ctx context.Context, known Revision) (Received, error)

	// Apply takes definitions over: the server's, or the shared copy's, never older
	// ones of the same store. Of another store's it is the judge; the shared copy is
	// followed to one that says that it supersedes. After an error nothing of it is
	// published.
	Apply func(ctx context.Context, definitions Copy) error

	// MaxAge is how long ago the server may have confirmed the copy; an older one is
	// served, and the server asked beside it, within the budget. 0: however long.
	MaxAge time.Duration

	// Alone is how often one process may ask the server by itself while the cache is
	// of no use and it has something to serve. 0: four polls.
	Alone time.Duration

	// Wake makes Run take a step at once; nil: never.
	Wake <-chan struct{}

	// Observe gets the counts after each step; nil: nobody.
	Observe func(Counts)

	// Log gets one line when what is wrong changes; nil: nobody.
	Log *slog.Logger
}

// Counts are what a process did since its start.
type Counts struct {
	Leader            bool
	LeadershipChanges int64         // to and from this process
	Age               time.Duration // since the server last confirmed what is served; 0 before there is anything
	Fetches           int64
	Published         int64
	RefusedAsOlder    int64 // answers and copies
	CacheErrors       int64
}
