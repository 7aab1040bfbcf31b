package definitioncache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// budget is what one process may ask of the server while the shared cache is of no
// use: for the first time when what it serves is between half an interval and a whole
// one old, at a moment of its own, so that many that lost the cache at once do not
// all ask at once; and from then on once an interval.
type budget struct {
	every time.Duration
	share float64 // of half an interval: this process's own
	asked time.Time
	cause error // why the cache is of no use; nil: it is of use
}

func newBudget(options Options) budget {
	every := cmp.Or(options.Alone, 4*options.Timing.Poll)
	if options.Alone == 0 && options.MaxAge > 0 {
		every = min(every, options.MaxAge)
	}
	return budget{every: every, share: rand.Float64()} //nolint:gosec // Nobody gains by guessing it.
}

// alone asks the server without the cache, for the reason given, if it is time.
func (c *Cycle) alone(ctx context.Context, cause error) error {
	if ctx.Err() != nil || errors.Is(cause, ErrShutdown) {
		return cause
	}
	c.budget.cause = cause
	return errors.Join(cause, c.ask(ctx))
}

// ask asks the server if the budget allows it. Who has nothing to serve asks soon.
func (c *Cycle) ask(ctx context.Context) error {
	switch {
	case c.denial != nil:
		return nil //nolint:nilerr // It was said, and nothing is asked.
	case c.applied == nil:
		if err := c.jitter(ctx); err != nil {
			return err
		}
	case time.Now().Before(c.due()):
		return nil
	}
	c.budget.asked = time.Now()
	received, err := c.fetch(ctx, c.known())
	switch {
	case err != nil:
		return err
	case received.Unchanged:
		c.confirm()
		return nil
	}
	return c.apply(ctx, received)
}

// rest keeps that the cache is of use, and what it says confirmed by others.
func (c *Cycle) rest() {
	c.budget.cause, c.doubt = nil, doubt{}
}

// due is when the server is to be asked without the cache, should that be of no use.
func (c *Cycle) due() time.Time {
	half := c.budget.every / 2
	due := c.confirmed.Add(half + time.Duration(c.budget.share*float64(half)))
	if next := c.budget.asked.Add(c.budget.every); next.After(due) {
		return next
	}
	return due
}

// late is when a copy that nobody renews is no longer good enough: at a moment of
// this process's own in the last quarter of MaxAge, so that the next leader, who may be
// about to come, spares everybody the asking.
func (c *Cycle) late() time.Time {
	quarter := c.options.MaxAge / 4
	return c.copied.Add(3*quarter + time.Duration(c.budget.share*float64(quarter)))
}

// overdue tells whether the cache, which was of no use when last asked, is to be left
// aside for once.
func (c *Cycle) overdue(now time.Time) bool {
	return c.budget.cause != nil && c.applied != nil && c.denial == nil && !now.Before(c.due())
}

// waits is until when a step waits for the cache: who has something to serve does not
// wait until that is too old, but for a poll at least where the cache was of use.
func (c *Cycle) waits(now time.Time) time.Time {
	if c.applied == nil {
		return time.Time{}
	}
	due, poll := c.due(), now.Add(c.options.Timing.Poll)
	if due.After(poll) || c.budget.cause != nil && due.After(now) {
		return due
	}
	return poll
}

// patiently gives a context for a call of the cache.
func (c *Cycle) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.patience.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, c.patience)
}

func (c *Cycle) shouldFetch(ctx context.Context, need Need) (Turn, error) {
	ctx, cancel := c.patiently(ctx)
	defer cancel()
	turn, err := c.options.Cache.ShouldFetch(ctx, need)
	c.failedCache(err)
	return turn, err
}

// failedCache counts a call of the cache that failed.
func (c *Cycle) failedCache(err error) {
	if err != nil && !errors.Is(err, ErrShutdown) {
		c.counts.CacheErrors++
	}
}

// definitions reads the shared copy, but for the bytes of one that is overruled.
func (c *Cycle) definitions(ctx context.Context) (*Copy, error) {
	ctx, cancel := c.patiently(ctx)
	defer cancel()
	found, err := c.options.Cache.Definitions(ctx, cmp.Or(c.overruled, c.known()))
	c.failedCache(err)
	if err == nil && found != nil && found.Revision == c.overruled {
		return nil, fmt.Errorf("the shared copy is not taken: it has revision %d, which could not be read, or which the server does not have", found.Revision.Number)
	}
	return found, err
}

// pause is how long Run rests: less than a poll, so that two are never longer than
// the lock, and never quite as long, so that many do not ask at once. It ends when the
// server is to be asked without the cache; and it is short while a leader is late, so
// that somebody finds the lock as soon as it has run out.
func (c *Cycle) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	poll, now := c.options.Timing.Poll, time.Now()
	pause := poll - rand.N(poll/10+1) //nolint:gosec // Nobody gains by guessing it.
	if c.applied == nil {
		return pause
	}
	if age := now.Sub(c.copied); !c.counts.Leader && age > 2*poll && age < 2*c.options.Timing.Lock {
		pause /= 4
	}
	moment := c.due()
	if c.budget.cause == nil {
		if c.options.MaxAge == 0 {
			return pause
		}
		moment = c.late()
	}
	if left := moment.Sub(now); left > 0 {
		pause = min(pause, left)
	}
	return pause
}
