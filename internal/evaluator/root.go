package evaluator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// Root is an Evaluator of a store, and the way to write to it. Its methods may be
// called from many goroutines at once.
type Root struct {
	*Evaluator

	store store.Store

	// One writer at a time. Every store lets in one at a time anyway, because the
	// revision is locked before a batch is looked at; asking for it here brings
	// the commits back in their order.
	writer chan struct{}
}

// NewRoot loads the store's snapshot. Where the store cannot be reached
// (store.ErrUnreachable) or hangs, it begins with what was last known, if there is
// any, within firstContact, and goes on trying. Any other error is the store's.
func NewRoot(ctx context.Context, from store.Store, options Options) (*Root, error) {
	r := &Root{Evaluator: newEvaluator(options), store: from, writer: make(chan struct{}, 1)}
	first := ctx
	if options.Known != nil {
		var done context.CancelFunc
		first, done = context.WithTimeout(ctx, firstContact)
		defer done()
	}
	err := r.begin(first)
	if err == nil {
		return r, nil
	}
	refusal, refused := errors.AsType[*RefusalError](err)
	if options.Known == nil || ctx.Err() != nil || !refused && !store.IsUnreachable(err) {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	if refused {
		r.log.ErrorContext(ctx, "the store is not the one that was served before", "error", err.Error(), "lost_holds", len(refusal.LostHolds))
	} else {
		r.log.ErrorContext(ctx, "the store does not answer: serving what was last known", "error", err.Error(), "revision", options.Known.Revision.Number)
	}
	r.failures.Add(1)
	return r, nil
}

// begin reads everything, unless what was last known is the store's present
// revision, and the commits of before, which serve those who read before this start.
// Without them they read everything once more, which is no harm.
func (r *Root) begin(ctx context.Context) error {
	if err := r.CatchUp(ctx); err != nil {
		return err
	}
	at := r.present.Load().snapshot.Revision
	recent, err := recentCommits(ctx, r.store, at)
	if err != nil {
		r.log.WarnContext(ctx, "the most recent commits could not be read: those who read before this start will read everything again", "error", err.Error())
		return nil
	}
	r.swap.Lock()
	defer r.swap.Unlock()
	if filled := (journal{}).with(recent); filled.leadsTo(at) {
		v := *r.present.Load()
		v.journal = filled
		r.present.Store(&v) // the same snapshot: nobody waits for it
	}
	return nil
}

// Run does the background work until the context ends: the heartbeat, catching
// up with other writers of the store, and the expiry of holds. It is called once.
func (r *Root) Run(ctx context.Context) {
	var expiring sync.WaitGroup
	defer expiring.Wait()
	expiring.Go(func() { r.expireHolds(ctx) }) // which waits for writes; the heartbeat must not
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.store.Notified():
		}
		r.heartbeat(ctx)
	}
}

// expireHolds commits each expiry when its time has come, until the context ends.
func (r *Root) expireHolds(ctx context.Context) {
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		expiry := r.expiryTimer()
		select {
		case <-ctx.Done():
			stop(expiry)
			return
		case <-tick.C: // a commit that failed before is tried again
			r.expire(ctx)
		case <-fired(expiry):
			r.expire(ctx)
		case <-r.rearm:
		}
		stop(expiry)
	}
}

// expiryTimer gives a timer for the next expiry; nil when there is none ahead.
func (r *Root) expiryTimer() *time.Timer {
	r.swap.Lock()
	next := r.nextExpiry
	r.swap.Unlock()
	if next.IsZero() {
		return nil
	}
	if left := next.Sub(r.now()); left > 0 {
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
func (r *Root) heartbeat(ctx context.Context) {
	if err := r.CatchUp(ctx); ctx.Err() == nil {
		r.outcome(err)
	}
}

// CatchUp asks the store for its revision and brings the snapshot up to it.
func (r *Root) CatchUp(ctx context.Context) error {
	known := r.present.Load().snapshot.Revision // before the question: the answer cannot be older
	head, err := r.head(ctx)
	if err != nil {
		return err
	}
	if head.StoreID == known.StoreID && head.Number < known.Number {
		if head, err = r.renew(ctx, known, head); err != nil {
			return err
		}
	}
	return r.follow(ctx, head)
}

func (r *Root) head(ctx context.Context) (flag.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	return r.store.Head(ctx)
}

// renew gives a store that was rolled back another id: its next revisions must not
// be taken for those that were read from it before (DESIGN §3).
func (r *Root) renew(ctx context.Context, known, head flag.Revision) (flag.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	renewed, err := r.store.Renew(ctx, known.StoreID, r.now())
	if err != nil {
		return head, fmt.Errorf("the store is at revision %d, but %d was read from it before: it was rolled back. Give it another id: %w", head.Number, known.Number, err)
	}
	r.log.ErrorContext(ctx, "the store was rolled back, so it was given another id", "store", known.StoreID, "was_at", known.Number, "is_at", head.Number, "new_id", renewed.StoreID)
	return renewed, nil
}

// follow brings the snapshot up to the revision that the store has.
func (r *Root) follow(ctx context.Context, head flag.Revision) error {
	known := r.present.Load().snapshot.Revision
	if head.StoreID == known.StoreID {
		if head.Number <= known.Number {
			r.agreed(true)
			return nil
		}
		r.agreed(false)
		if reached, err := r.catchUpBySteps(ctx, known, head); reached || err != nil {
			return err
		}
	} else if refusal := r.Refused(); refusal != nil && refusal.Found == head {
		return refusal // it holds what it held when it was refused
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	snapshot, err := r.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return r.replace(snapshot, true)
}

// catchUpBySteps takes over the commits between what is known and what the store
// has, and reports whether that was enough. So many that the journal would not keep
// them are not worth it: a snapshot is less to read.
func (r *Root) catchUpBySteps(ctx context.Context, known, head flag.Revision) (reached bool, err error) {
	if head.Number-known.Number > journalCommits {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	commits, ok, err := r.store.Since(ctx, known.Number)
	if err != nil {
		return false, err
	}
	r.agreed(ok)
	return ok && r.advance(consecutive(commits)) && r.present.Load().snapshot.Revision.Number >= head.Number, nil
}

// Apply makes a batch of changes in the store. When it returns, the snapshot has
// them: who wrote reads it. A store that is refused is not written to: what is
// served would not show it.
func (r *Root) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	if refusal := r.Refused(); refusal != nil {
		return store.Outcome{}, refusal
	}
	for again := false; ; again = true {
		batch.StoreID = r.View().Revision.StoreID
		outcome, err := r.write(ctx, func() (store.Outcome, error) { return r.store.Apply(ctx, batch) })
		if !errors.Is(err, store.ErrAnotherStore) {
			return outcome, err
		}
		// It became another one since the last heartbeat, and nothing was written.
		if err := r.CatchUp(ctx); err != nil {
			return store.Outcome{}, err
		}
		if again {
			return store.Outcome{}, ErrStoreChanged
		}
	}
}

// Supersede has the store take the place of the former one (DESIGN §4): from then
// on its definitions are served, by everybody who follows it. The error is the
// store's.
func (r *Root) Supersede(ctx context.Context, former, actor string) (flag.Revision, error) {
	at, err := r.store.Supersede(ctx, former, actor, r.now())
	if err != nil {
		return flag.Revision{}, err
	}
	if err := r.CatchUp(context.WithoutCancel(ctx)); err != nil {
		r.log.WarnContext(ctx, "the accepted store could not be followed; the next heartbeat tries again", "error", err.Error())
	}
	return at, nil
}

// expire commits the expiry of the holds whose time has come.
func (r *Root) expire(ctx context.Context) {
	r.swap.Lock()
	due := r.refusal.Load() == nil && !r.nextExpiry.IsZero() && !r.now().Before(r.nextExpiry)
	r.swap.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	out, err := r.write(ctx, func() (store.Outcome, error) { return r.store.ExpireHolds(ctx, r.now()) })
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("expired holds could not be committed; their time counts all the same", "error", err.Error())
		}
		return
	}
	if out.Commit != nil {
		r.log.Info("holds expired", "holds", len(out.Commit.Edits), "revision", out.Revision.Number)
	}
	r.swap.Lock()
	r.nextExpiry = earliestExpiry(r.present.Load().snapshot)
	r.swap.Unlock()
}

// write runs one write of the store and takes its commit over.
func (r *Root) write(ctx context.Context, do func() (store.Outcome, error)) (store.Outcome, error) {
	select {
	case r.writer <- struct{}{}:
	case <-ctx.Done():
		return store.Outcome{}, fmt.Errorf("wait for the writes before this one: %w", context.Cause(ctx))
	}
	defer func() { <-r.writer }()
	out, err := do()
	if err != nil {
		return out, err
	}
	r.heard()
	if out.Commit != nil && r.advance(consecutive([]store.Commit{*out.Commit})) {
		return out, nil
	}
	// Another root, or the making of a token, committed in between. What was
	// written is durable whatever comes now, so the caller is not told of a failure
	// to see it, and its leaving does not stop us.
	if err := r.follow(context.WithoutCancel(ctx), out.Revision); err != nil {
		r.log.Warn("a commit could not be followed; the next heartbeat tries again", "revision", out.Revision.Number, "error", err.Error())
	}
	return out, nil
}
