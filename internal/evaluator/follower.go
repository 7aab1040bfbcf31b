package evaluator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

const (
	// A stream that says nothing for longer has died: heartbeats come each second.
	streamSilence = 2 * HeartbeatInterval
	// How long the upstream is polled where its stream does not get through, before
	// the stream is tried again.
	pollingTime = 30 * time.Second
	// The longest pause between two attempts to reach an upstream. An outage's end
	// is to be noticed soon, and one question in so long is no burden.
	longestPause = 5 * time.Second
	// How long the first contact may take when there is something to begin with.
	firstContact = 5 * time.Second
)

// FollowerOptions are what a follower needs beside Options.
type FollowerOptions struct {
	Options

	// ID is the id of this server, by which it finds itself in a chain of upstreams.
	ID string
	// Poll is how often the upstream is asked where its stream does not get through.
	// 0: HeartbeatInterval.
	Poll time.Duration
	// Greeted is what the upstream has just said of itself; nil: it is asked.
	Greeted *client.Server
	// Sharing has followers of one upstream share its definitions; nil: it follows the
	// upstream by itself.
	Sharing *Sharing
}

// Follower is an Evaluator of another flag server's definitions: fed by its change
// stream, and by polling where the stream does not get through; or, where it shares
// definitions with others, by what one of them publishes.
type Follower struct {
	*Evaluator

	upstream *client.Client
	id       string
	interval time.Duration  // between two polls
	want     string         // the environment; "" until the first greeting at the latest. Written with greeting held
	greeting sync.Mutex     // held while what the upstream said of itself is judged
	greeted  atomic.Bool    // the upstream that answers is known to be the right one
	said     *client.Server // what the upstream said of itself before the first greeting; nil: it is asked. Of who polls
	shared   *shared        // nil: it follows the upstream by itself

	chain atomic.Pointer[[]string]
	doubt atomic.Pointer[doubt]  // nil: the upstream has what is served
	store atomic.Pointer[string] // the id of the upstream's, as it told last; nil: it has told nothing
}

// NewFollower reads the upstream's definitions. Where the upstream cannot be
// reached it begins with what was last known or compiled in, if there is any, and
// goes on trying. What will not mend by itself (an unknown token, one that may not
// read everything, another environment, a loop) is an error.
func NewFollower(ctx context.Context, upstream *client.Client, options FollowerOptions) (*Follower, error) {
	f := &Follower{Evaluator: newEvaluator(options.Options), upstream: upstream, id: options.ID, interval: cmp.Or(options.Poll, HeartbeatInterval), want: options.Environment, said: options.Greeted}
	if options.Known != nil && f.want == "" {
		f.want = options.Known.Environment
	}
	begins := options.Known != nil || options.Compiled != nil
	if options.Sharing != nil {
		if err := f.share(ctx, *options.Sharing, begins); err != nil {
			return nil, err
		}
		return f, nil
	}
	if begins {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, firstContact)
		defer done()
	}
	err := f.catchUp(ctx)
	_, refused := errors.AsType[*RefusalError](err)
	switch {
	case err == nil:
		return f, nil
	case !begins || !refused && !passes(err):
		return nil, fmt.Errorf("read the definitions of the upstream: %w", err)
	}
	f.log.ErrorContext(ctx, "the upstream does not answer: serving what was last known", "error", err.Error(), "revision", f.View().Revision.Number)
	f.failures.Add(1)
	return f, nil
}

// passes reports whether a failure to read the upstream may be over by itself.
func passes(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case client.Unavailable, client.Timeout, client.Canceled, client.RateLimited, client.RevisionNotReached, client.Broken, client.ServerFault:
		return true
	default:
		return false
	}
}

// ID gives the id of this server, by which it finds itself in a chain.
func (f *Follower) ID() string { return f.id }

// Upstreams gives the ids of the servers from the upstream to the root, as far as
// they are known.
func (f *Follower) Upstreams() []string {
	if known := f.chain.Load(); known != nil {
		return *known
	}
	return nil
}

// Run follows the upstream until the context ends. It is called once.
func (f *Follower) Run(ctx context.Context) {
	if f.shared != nil {
		f.runShared(ctx)
		return
	}
	pause := time.Duration(0)
	for ctx.Err() == nil {
		events, err := f.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		elsewhere := errors.Is(err, client.ErrResync) || errors.Is(err, errGap)
		if events > 0 && !elsewhere {
			f.log.WarnContext(ctx, "the change stream ended", "error", err.Error())
		}
		// What the stream does not bring is asked for.
		switch err = f.poll(ctx); {
		case err != nil:
			pause = min(max(2*pause, HeartbeatInterval/4), longestPause)
		case elsewhere:
			pause = HeartbeatInterval / 10 // or a stream that always goes on elsewhere would be asked without end
		case events > 0:
			pause = 0
		default:
			f.keepPolling(ctx)
			pause = 0
		}
		if pause > 0 && !sleep(ctx, pause/2+rand.N(pause/2)) { //nolint:gosec // It spreads load, it keeps no secret.
			return
		}
	}
}

// keepPolling stands in for a stream that does not get through, though questions
// are answered: something on the way holds it back.
func (f *Follower) keepPolling(ctx context.Context) {
	for end := time.Now().Add(pollingTime); time.Now().Before(end) && sleep(ctx, f.interval); {
		if f.poll(ctx) != nil {
			return
		}
	}
}

// poll catches up, and notes how that ended.
func (f *Follower) poll(ctx context.Context) error {
	err := f.catchUp(ctx)
	if ctx.Err() == nil {
		f.greeted.Store(err == nil)
		f.outcome(err)
	}
	return err
}

// errGap says that the stream left something out.
var errGap = errors.New("a change between what is known and what came is missing")

// watch takes over what the change stream brings, for as long as it lasts, and
// counts its messages.
func (f *Follower) watch(ctx context.Context) (events int, err error) {
	at := f.View().Revision
	if at == (flag.Revision{}) || f.Refused() != nil {
		return 0, client.ErrResync // there is nothing to go on from
	}
	err = f.upstream.Watch(ctx, at, streamSilence, func(e client.Event) error {
		events++
		if e.Revision.Number > e.Previous && !f.advance([]Commit{commitOf(e)}) || e.Revision.StoreID != f.View().Revision.StoreID {
			return errGap
		}
		f.tells(e.Revision)
		if e.Revision.Number == e.Previous && !e.Silent { // a heartbeat; what is caught up with may be old
			f.heard()
			f.outcome(nil)
		}
		f.shared.streamed(e)
		return nil
	})
	if ctx.Err() == nil { // it did not end it itself
		f.greeted.Store(false) // whoever answers next may be another server
	}
	return events, err
}

func commitOf(e client.Event) Commit {
	c := Commit{Commit: store.Commit{Revision: e.Revision, Edits: e.Edits}, Previous: e.Previous, Joined: e.Joined}
	if e.Joined {
		c.Superseded = e.Supersedes
	} else if len(e.Supersedes) > 0 {
		c.Supersedes = e.Supersedes[0]
	}
	for _, id := range e.RevokedTokens {
		c.Tokens = append(c.Tokens, token.Token{ID: id, RevokedAt: time.Now()})
	}
	return c
}

// catchUp greets the upstream and reads what differs from what is known.
func (f *Follower) catchUp(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, catchUpTimeout)
	defer done()
	if !f.greeted.Load() {
		if err := f.greet(ctx); err != nil {
			return err
		}
	}
	known := f.present.Load().snapshot
	d, err := f.upstream.Since(ctx, known.Revision)
	if e, failed := errors.AsType[*client.Error](err); failed && e.Kind == client.RevisionNotReached && (f.doubts() || f.shared != nil) {
		d, err = f.upstream.Since(ctx, flag.Revision{})
	}
	if err != nil {
		return err
	}
	if d.Environment != f.want {
		return f.stranger(d.Environment)
	}
	f.tells(d.Revision)
	if d.Whole {
		snapshot := flag.NewSnapshot(d.Environment, d.Revision).With(d.Revision, slices.Values(d.Edits))
		snapshot.Supersedes = d.Supersedes
		if d.Revision.StoreID == known.Revision.StoreID && d.Revision.Number < known.Revision.Number {
			return f.behind(snapshot, d.Stale)
		}
		return f.replace(snapshot, !d.Stale)
	}
	f.agreed(!d.Stale)
	step := Commit{Commit: store.Commit{Revision: d.Revision, Edits: d.Edits}, Previous: known.Revision.Number, Joined: true, Superseded: d.Supersedes}
	if d.Revision.Number > known.Revision.Number && !f.advance([]Commit{step}) {
		return errGap // the stream was faster, or the store became another one: next time
	}
	return nil
}

// stranger is the error of an upstream of another environment.
func (f *Follower) stranger(environment string) error {
	return fmt.Errorf("the upstream %s is of the environment %q, but this server is of %q. Name the right upstream, or start with --environment %s", f.upstream.Endpoint(), environment, f.want, environment)
}

// greet asks the upstream who it is, and refuses one whose definitions are not to
// be served here.
func (f *Follower) greet(ctx context.Context) error {
	server, err := f.askWho(ctx)
	if err != nil {
		return err
	}
	f.greeting.Lock()
	defer f.greeting.Unlock()
	where := f.upstream.Endpoint()
	switch {
	case server.EvaluatorOnly:
		return fmt.Errorf("the upstream %s has only FlagEvaluatorService, which has no snapshot to follow. Start this server anew while the upstream answers, so that it asks on demand", where)
	case f.want != "" && server.Environment != f.want:
		return f.stranger(server.Environment)
	case slices.Contains(server.Chain, f.id):
		return fmt.Errorf("the upstream %s leads back to this server: a loop. Name a server that is nearer to the root", where)
	case server.Actor.Prefix != "":
		return fmt.Errorf("the token for the upstream %s covers only the keys under %q, but a proxy answers for all of them. Use a token of the scope read without a prefix", where, server.Actor.Prefix)
	}
	if err := server.Actor.Require(token.Read); err != nil {
		return fmt.Errorf("the upstream %s: %w", where, err)
	}
	if refusal := f.Refused(); refusal != nil && refusal.Found == server.Revision {
		return refusal // it holds what it held when it was refused
	}
	if f.want == "" {
		f.want = server.Environment
	}
	f.chain.Store(&server.Chain)
	f.store.Store(&server.Revision.StoreID)
	return nil
}

// askWho gives what the upstream says of itself, which is known at the start.
func (f *Follower) askWho(ctx context.Context) (client.Server, error) {
	if said := f.said; said != nil {
		f.said = nil
		return *said, nil
	}
	return f.upstream.Greet(ctx)
}

// sleep waits, and reports whether the context lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
