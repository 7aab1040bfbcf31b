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

// ErrAhead is what a Fetch wraps when the server does not have the revision that it
// was asked about: it is asked for everything then.
var ErrAhead = errors.New("the server does not have the revision that it was asked about")

// Options are what a [Cycle] is made of. Fetch, Apply and Observe are called one at a
// time, each within a step: they need no lock against each other, and must not call
// the cycle.
type Options struct {
	Cache  Cache
	Timing Timing // the cache's

	// Fetch asks the server for what is newer than known, or for all there is when
	// known is the zero Revision. [ErrDenied], [ErrAhead]: see there. Its context has a deadline of
	// Timing.Fetch.
	Fetch func(ctx context.Context, known Revision) (Received, error)

	// Apply takes definitions over: the server's, or the shared copy's. Of another
	// store's it is the judge; the shared copy is followed to one that says that it
	// supersedes. Older ones of the same store it gets in one case: what is served is
	// known from the shared copy alone, and the server, asked directly, has said
	// nothing but something older for 10 s, and three polls. (A replica that lags behind does for
	// seconds; a revision that somebody put into the shared place does not stay.)
	// It never gets a Copy that is Known. After an error nothing of it is published. An
	// error that wraps [ErrUnusable] says that the bytes cannot be read: a shared copy of
	// just that revision is not handed in again, and the next publication takes its place,
	// though it be older. One that refuses definitions which it could read must not wrap it.
	Apply func(ctx context.Context, definitions Copy) error

	// MaxAge is how long ago the server may have confirmed the copy. Before an older
	// one is served the server is asked beside it, once each Alone. 0: however long.
	MaxAge time.Duration

	// Alone is how often one process may ask the server by itself while the cache is
	// of no use and it has something to serve: for the first time when that is between
	// half of Alone and Alone old. So with Run nothing is served that is older than
	// Alone and a fetch, as long as the server answers; a poll more when a call of the
	// cache begins to hang. 0: four polls, or MaxAge when that is less.
	Alone time.Duration

	// Wake makes Run take a step at once, but after one that it caused not before ten
	// times as long as that took, or a poll; nil: never. In a Redis it is what the Changes
	// of its Cache give, with the context of Run.
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
