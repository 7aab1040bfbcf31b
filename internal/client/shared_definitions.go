package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// sharedTiming are the lifetimes of what operations share. One takes a single step
// and lets the lock go, so poll and lock only tell for how long a process that was
// killed in that moment keeps the others from the lead: they follow the copy
// meanwhile. The copy is of use until the next operation, which may be tomorrow's.
// Who finds none waits for whoever fetches it as long as a fetch of usual
// definitions takes, and then asks by itself.
var sharedTiming = definitioncache.Timing{Poll: 5 * time.Second, Lock: 15 * time.Second, Copy: 24 * time.Hour, Fetch: 5 * time.Second}

const (
	// sharedCall is how long a call to Redis may take that carries no definitions, unless
	// it is set (SharedPlace.RedisTimeout). One
	// that is frozen costs an operation this much, or with MaxAge, which reads the
	// definitions first, twice as much and what their size adds; and twice as much
	// once more where answers are kept there.
	sharedCall = 500 * time.Millisecond
	// sharedBytes is how many bytes of definitions are expected to travel in a second.
	sharedBytes = 8 << 20
	// handshakeLife is how old a handshake may be for what it told to count as asked
	// just now, in a walk that refreshes.
	handshakeLife = 3 * time.Second
)

// shares reports whether the walk reads through what processes share: where there
// is a place, and the handshake tells which copy is this token's.
func (w *Walk) shares(server Server) bool {
	return w.client.place != (SharedPlace{}) && !w.apart.Load() && !server.EvaluatorOnly && server.Revision.StoreID != "" && server.Actor.Has(token.Read)
}

// sharedKey tells the copy of a server's store that this caller's token may see.
func sharedKey(server Server) definitioncache.Key {
	scope := token.Read.String()
	if server.Actor.Prefix != "" {
		scope += " " + string(server.Actor.Prefix)
	}
	return definitioncache.Key{Environment: server.Environment, Scope: scope, Store: server.Revision.StoreID, Schema: wire.DefinitionsSchema}
}

// openShared gives this process's part in what is shared of the server.
func (c *Client) openShared(server Server) (*promptCache, error) {
	cache, err := c.place.Open(sharedKey(server), sharedTiming)
	call := c.place.timeout()
	carrying := 2*call + time.Duration(float64(server.SnapshotBytes)/sharedBytes*float64(time.Second))
	return &promptCache{Cache: cache, call: call, carrying: carrying}, err
}

// promptCache limits the calls that carry definitions: an operation waits for them,
// and the server is there as well.
type promptCache struct {
	definitioncache.Cache

	call     time.Duration // how long another call may take
	carrying time.Duration // how long such a one may
	unread   error         // why the shared copy was not read
}

// Definitions is a [definitioncache.Cache]'s.
func (p *promptCache) Definitions(ctx context.Context, known definitioncache.Revision) (*definitioncache.Copy, error) {
	ctx, cancel := context.WithTimeout(ctx, p.carrying)
	defer cancel()
	found, err := p.Cache.Definitions(ctx, known)
	p.unread = cmp.Or(p.unread, err)
	return found, err
}

// DefinitionsReceived is a [definitioncache.Cache]'s.
func (p *promptCache) DefinitionsReceived(ctx context.Context, received definitioncache.Received) error {
	ctx, cancel := context.WithTimeout(ctx, p.carrying)
	defer cancel()
	return p.Cache.DefinitionsReceived(ctx, received)
}

// leave shuts the part down, at once where it is in trouble: the lock runs out by
// itself.
func (p *promptCache) leave(ctx context.Context, trouble error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.call)
	defer cancel()
	if trouble != nil && !errors.Is(trouble, definitioncache.ErrUnusable) {
		cancel()
	}
	return cmp.Or(trouble, p.unread, p.Shutdown(ctx))
}

// sharedReading is one reading of all that the token covers, by way of the shared
// copy. What it gives was confirmed by the server within it, as without a copy.
type sharedReading struct {
	client *Client
	server Server
	key    definitioncache.Key

	refreshes bool           // Walk.Refreshing
	copied    *flag.Snapshot // the shared copy; nil: none
	unusable  error          // why there is none, though one was found
	confirmed *flag.Snapshot // what the server says; nil: it was not asked, or said nothing
	at        time.Time      // when it was asked
	failed    error          // the server's; it is not asked again
}

// readShared reads everything that the token covers, and when the server confirmed
// it. The error is the server's: what is wrong with the shared place is told to
// Options.Warn, and the server is asked as if there were none.
func (w *Walk) readShared(ctx context.Context, server Server) (*flag.Snapshot, time.Time, error) {
	r := &sharedReading{client: w.client, server: server, key: sharedKey(server), refreshes: w.refreshes.Load()}
	trouble := r.step(ctx)
	if r.confirmed == nil && r.failed == nil {
		r.confirm(ctx) // the copy that it followed, or that there was none
	}
	if r.failed != nil {
		return nil, time.Time{}, r.failed
	}
	if trouble != nil {
		w.leaveShared(ctx, trouble)
	}
	return r.confirmed, r.at, nil
}

// leaveShared has the walk do without the shared copy from now on, and says why.
func (w *Walk) leaveShared(ctx context.Context, trouble error) {
	if w.apart.CompareAndSwap(false, true) && w.client.warn != nil {
		w.client.warn(ctx, w.client.redact(plain(strings.ReplaceAll(trouble.Error(), "\n", "; "), 1000)))
	}
}

// step takes one step of the sharing of definitions, and ends this process's part.
func (r *sharedReading) step(ctx context.Context) error {
	cache, err := r.client.openShared(r.server)
	if err != nil {
		return err
	}
	cycle, err := definitioncache.New(definitioncache.Options{
		Cache: cache, Timing: sharedTiming, Apply: r.take,
		// It has the operation's time, as without a shared copy.
		Fetch: func(_ context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
			return r.fetch(ctx, known)
		},
	})
	if err == nil {
		err = cycle.Step(ctx)
	}
	return cmp.Or(cache.leave(ctx, err), r.unusable)
}

// take reads the shared copy. What the server said is known without it.
func (r *sharedReading) take(_ context.Context, found definitioncache.Copy) (err error) {
	if r.confirmed != nil {
		return nil
	}
	if r.copied, err = readDefinitions(found, r.server); err != nil {
		r.unusable = err
	}
	return err
}

// readDefinitions reads a shared copy. What the token does not cover is not in one
// that a program like this has written.
func readDefinitions(found definitioncache.Copy, server Server) (*flag.Snapshot, error) {
	d, err := wire.DecodeDefinitions(found)
	if err != nil {
		return nil, err
	}
	for o := range d.Snapshot.Objects() {
		if key := o.Ref().Key; !key.Under(server.Actor.Prefix) {
			return nil, fmt.Errorf("%w: it has %q, which does not lie under the token's prefix %q", definitioncache.ErrUnusable, key, server.Actor.Prefix)
		}
	}
	return d.Snapshot, nil
}

// fetch gives what the server says, which is asked once.
func (r *sharedReading) fetch(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
	if r.confirmed == nil && r.failed == nil {
		r.confirm(ctx)
	}
	if r.failed != nil {
		return definitioncache.Received{}, AsDenied(r.failed)
	}
	received := definitioncache.Received{Header: wire.HeaderOf(r.key, r.confirmed)}
	received.Key.Environment = r.confirmed.Environment // of another server's nothing is shared
	if received.Unchanged = received.Revision == known; received.Unchanged {
		return received, nil
	}
	var err error
	received.Body, err = wire.EncodeDefinitions(wire.Definitions{Snapshot: r.confirmed})
	return received, err
}

// AsDenied wraps [definitioncache.ErrDenied] around an error that says that the server
// denies what was asked, or wants to be asked less: it would soon again. Others it
// gives as they are.
func AsDenied(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && (e.Kind == Unauthenticated || e.Kind == Denied || e.Kind == RateLimited) {
		return fmt.Errorf("%w: %w", definitioncache.ErrDenied, err)
	}
	return err
}

// confirm asks the server for what differs from the shared copy, or for everything.
// What the handshake has told just now is not asked again in a walk that refreshes.
func (r *sharedReading) confirm(ctx context.Context) {
	c, op := r.client, readingSnapshot(r.server.Actor.Prefix)
	wanted := snapshotReader{prefix: r.server.Actor.Prefix, minimum: c.lastWritten()}
	if r.copied != nil {
		wanted.known = r.copied.Revision
		if r.refreshes && wanted.known == r.server.Revision && r.server.Fresh && time.Since(r.server.At) <= handshakeLife && !c.wroteSince(wanted.known) {
			r.confirmed, r.at = r.copied, r.server.At
			return
		}
	}
	r.at = time.Now()
	var s snapshotReader
	r.failed = c.repeat(ctx, op, true, func() (err error) {
		s, err = c.stream(ctx, op, wanted)
		if e, ok := errors.AsType[*Error](err); ok && e.Kind == RevisionNotReached && wanted.known != (flag.Revision{}) {
			wanted.known = flag.Revision{} // the copy is ahead of the server, whose word counts
			s, err = c.stream(ctx, op, wanted)
		}
		return err
	})
	if r.failed == nil && s.stale {
		r.failed = c.stale(op)
	}
	if r.failed != nil {
		return
	}
	all := flag.NewSnapshot("", s.revision)
	if !s.whole() {
		all = r.copied
	}
	all = all.With(s.revision, slices.Values(s.edits))
	all.Environment, all.Supersedes = s.environment, s.supersedes
	r.confirmed = all
}
