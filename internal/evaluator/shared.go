package evaluator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

const (
	// How long what was published is there for those who start while the upstream is
	// away: longer than an outage.
	sharedLife = 24 * time.Hour
	// How long one fetch may take.
	sharedFetch = 10 * time.Second
	// What part of KillTTL lies between two questions of one process while the shared
	// place is of no use: the rest is for the question.
	aloneTenths = 9
)

// Sharing is how followers of one upstream share its definitions (DESIGN §6.8): one
// of them, the leader, hears the upstream and publishes, the others read.
type Sharing struct {
	// Open gives this process's part in what is shared under a key. Where it has
	// Changes, as that in a Redis, a word from there has the copy read at once.
	Open func(definitioncache.Key, definitioncache.Timing) (definitioncache.Cache, error)
	// KillTTL is how long ago the upstream may have confirmed what is shared. Where
	// that is older the upstream is asked, about once in this time.
	KillTTL time.Duration
	// Observe gets the counts after each step; nil: nobody.
	Observe func(definitioncache.Counts)
}

// shared is a follower's part in sharing definitions.
type shared struct {
	Sharing

	key   definitioncache.Key
	cache definitioncache.Cache
	cycle *definitioncache.Cycle
	wake  chan struct{} // something is to be published, or to be read

	heard atomic.Pointer[word] // nil: no stream has said anything

	// Of the cycle's steps, which follow each other.
	applied   flag.Revision   // taken over last; zero: nothing yet
	fetched   flag.Revision   // what the upstream was last found to have
	older     *flag.Snapshot  // the same, where that is older than what was taken over and served; nil: it is not
	failed    time.Time       // when the upstream last failed to answer
	leader    bool            // the last step's
	led       bool            // in any step
	told      bool            // that it leads, in the log
	life      context.Context //nolint:containedctx // Run's, which ends the stream.
	end       context.CancelFunc
	streaming sync.WaitGroup
}

// share joins those who share the definitions, and takes the first step. Where
// nothing is known then, and nothing begins, that is an error, and so is what will
// not mend by itself.
func (f *Follower) share(ctx context.Context, with Sharing, begins bool) error {
	first, done := context.WithTimeout(ctx, firstContact)
	defer done()
	err := f.greet(first)
	switch {
	case err != nil && !passes(err):
		return fmt.Errorf("read the definitions of the upstream: %w", err)
	case err != nil && f.want == "":
		return fmt.Errorf("read the definitions of the upstream: %w Set environment, so that this server starts from the shared definitions while the upstream is away", err)
	case err != nil:
		f.outcome(err)
	}
	f.greeted.Store(err == nil)

	poll := with.KillTTL / 4
	timing := definitioncache.Timing{Poll: poll, Lock: 5 * poll / 2, Copy: sharedLife, Fetch: sharedFetch}
	// A proxy's token has the scope read and no prefix: greet has seen to it.
	f.shared = &shared{
		Sharing: with, wake: make(chan struct{}, 1),
		key: definitioncache.Key{Environment: f.want, Scope: token.Read.String(), Schema: wire.DefinitionsSchema},
	}
	f.awaited = f.shared.rouse // the next look may be further away than anybody waits
	if f.shared.cache, err = with.Open(f.shared.key, timing); err != nil {
		return err
	}
	f.shared.cycle, err = definitioncache.New(definitioncache.Options{
		Cache: ownCopies{f.shared.cache, f}, Timing: timing, Fetch: f.fetch, Apply: f.apply, MaxAge: with.KillTTL, Alone: with.KillTTL / 10 * aloneTenths,
		Wake: f.shared.wake, Observe: f.observe, Log: f.log,
	})
	if err != nil {
		return err
	}
	if begins || !f.greeted.Load() {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, firstContact)
		defer done()
	}
	if err := f.shared.cycle.Step(ctx); err != nil && !begins && !f.View().Known() {
		return errors.Join(fmt.Errorf("read the shared definitions, or those of the upstream: %w", err), f.shared.cycle.Shutdown(context.WithoutCancel(ctx)))
	}
	return nil
}

// runShared takes a step each poll, and one when there is something new.
func (f *Follower) runShared(ctx context.Context) {
	f.shared.life = ctx
	var listening sync.WaitGroup
	if told, ok := f.shared.cache.(interface {
		Changes(ctx context.Context) <-chan struct{}
	}); ok {
		words := told.Changes(ctx)
		listening.Go(func() { f.shared.listen(ctx, words) })
	}
	err := f.shared.cycle.Run(ctx)
	f.shared.streaming.Wait()
	listening.Wait()
	if err != nil && f.shared.led {
		f.log.WarnContext(ctx, "shared definitions: another proxy leads once the lock has run out", "error", err.Error())
	}
}

// rouse has the next step taken at once.
func (s *shared) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is to be taken already
	}
}

// listen has the copy read at each word of a change.
func (s *shared) listen(ctx context.Context, words <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-words:
			s.rouse()
		}
	}
}

// observe learns from a step.
func (f *Follower) observe(counts definitioncache.Counts) {
	s := f.shared
	s.leader = counts.Leader
	s.led = s.led || s.leader
	// While nobody hears the upstream the lead goes round, which is no news.
	if s.leader != s.told && (s.told || f.HeardWithin(s.KillTTL)) {
		s.told = s.leader
		f.log.Info("shared definitions: who leads has changed", "leader", s.leader)
	}
	switch {
	case s.leader && s.end == nil && s.life != nil:
		var ctx context.Context
		ctx, s.end = context.WithCancel(s.life)
		s.streaming.Go(func() { f.stream(ctx) })
	case !s.leader && s.end != nil:
		s.end()
		s.end = nil
	}
	if !s.leader && s.applied != (flag.Revision{}) && s.applied == f.View().Revision { // what is ahead of it nobody else confirms
		f.heardBefore(counts.Age)
		if time.Now().Add(-counts.Age).After(s.failed) { // somebody else hears the upstream
			f.agreed(false)
			if f.failures.Load() > 0 {
				f.outcome(nil)
			}
		}
	}
	if s.Observe != nil {
		s.Observe(counts)
	}
}

// fetch gives what the upstream has: by the stream, else by asking.
func (f *Follower) fetch(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
	f.shared.older = nil
	if !f.hears() {
		before := f.contact.Load()
		err := f.poll(ctx)
		if err == nil && f.contact.Load() == before {
			err = fmt.Errorf("the upstream %s has not heard its own source of truth for a while", f.upstream.Endpoint())
		}
		if err != nil {
			f.shared.failed = time.Now()
		}
		if err != nil && f.shared.older == nil {
			return definitioncache.Received{}, denied(err)
		}
	}
	if refusal := f.Refused(); refusal != nil {
		return definitioncache.Received{}, refusal
	}
	v := f.present.Load()
	if older := f.shared.older; older != nil { // the cycle judges what is to be believed
		v = newVersion(older)
	}
	at := v.snapshot.Revision
	f.shared.fetched = at
	received := definitioncache.Received{Header: wire.HeaderOf(f.shared.key, v.snapshot)}
	if received.Unchanged = received.Revision == known; received.Unchanged {
		return received, nil
	}
	definitions := wire.Definitions{Snapshot: v.snapshot}
	definitions.Revoked, definitions.TokensSince = v.journal.revoked(at.Number)
	var err error
	received.Body, err = wire.EncodeDefinitions(definitions)
	return received, err
}

// denied marks what the upstream refuses us, and would soon again.
func denied(err error) error {
	if p, ok := errors.AsType[*flag.Problem](err); ok && p.Kind == flag.ProblemDenied { // of the token's scope
		return fmt.Errorf("%w: %w", definitioncache.ErrDenied, err)
	}
	return client.AsDenied(err)
}

// apply takes over what was shared: within one store as one commit, so that whoever
// follows this server goes on where it is.
func (f *Follower) apply(_ context.Context, found definitioncache.Copy) error {
	at := flag.Revision{StoreID: found.Revision.Store, Number: found.Revision.Number}
	var d wire.Definitions
	for {
		known := f.present.Load().snapshot
		if known.Revision == f.shared.applied && f.shared.older != nil && f.shared.older.Revision == at {
			// Only the shared copy told of what is served, and the upstream does not have it.
			f.backTo(f.shared.older)
			break
		}
		if known.Revision == at || known.Revision.StoreID == at.StoreID && known.Revision.Number > at.Number && at == f.shared.fetched { // then the stream was faster
			break
		}
		if known.Revision.StoreID == at.StoreID && known.Revision.Number > at.Number { // the upstream itself is to be asked
			return fmt.Errorf("the shared copy has revision %d, and what was known here before is newer: %d", at.Number, known.Revision.Number)
		}
		if d.Snapshot == nil {
			var err error
			if d, err = wire.DecodeDefinitions(found); err != nil {
				return err
			}
		}
		if known.Revision.StoreID != at.StoreID {
			if err := f.replace(d.Snapshot, false); err != nil {
				return err
			}
			break
		}
		f.heardBefore(found.Age) // before it is served: nobody sees what is fresh marked stale
		f.agreed(false)
		if f.advance([]Commit{difference(known, d)}) {
			break
		}
	}
	f.shared.applied = at
	return nil
}
