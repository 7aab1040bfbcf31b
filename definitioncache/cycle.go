package definitioncache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// failuresToYield is after how many failed fetches in a row a leader lets somebody
// else try.
const failuresToYield = 3

// restAfter is how many times as long as a step that was woken took it rests before
// the next.
const restAfter = 10

// shutdownPatience is how long Run waits at its end for the lock to be released.
const shutdownPatience = 5 * time.Second

// Cycle is a process's part in sharing definitions.
type Cycle struct {
	options Options

	mu        sync.Mutex // guards what follows; a step holds it, so one follows the other
	applied   *Header    // nil: nothing is in memory
	proven    bool       // the server itself told us of it, and not the shared copy alone
	confirmed time.Time  // when the server last said so, to us or to who renewed the copy
	copied    time.Time  // when the shared copy was last confirmed, as far as it was read
	published Header     // what conditional fetches go by: it is in the shared copy for certain
	doubt     doubt
	tooLarge  error     // what is served is, to be shared; nil: it is not
	overruled Revision  // a copy of just this one is not taken, and replaced: the server does not have it, or it cannot be read
	patience  time.Time // until when this step waits for the cache
	failures  int       // of fetches, in a row
	yieldTill time.Time // somebody else is to lead
	denial    error     // why nothing is asked of the server until then; nil: it may be asked
	budget    budget
	counts    Counts
	trouble   bool // was told
	toldAt    time.Time
}

// New checks what a cycle is made of.
func New(options Options) (*Cycle, error) {
	switch {
	case options.Cache == nil:
		return nil, errors.New("sharing definitions needs a cache; found none")
	case options.Fetch == nil || options.Apply == nil:
		return nil, errors.New("sharing definitions needs a way to fetch and one to apply them; found none")
	case options.MaxAge < 0 || options.Alone < 0:
		return nil, fmt.Errorf("the greatest age and the interval of fetching alone cannot be negative; found %s and %s", options.MaxAge, options.Alone)
	}
	if err := options.Timing.Validate(); err != nil {
		return nil, err
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Cycle{options: options, budget: newBudget(options)}, nil
}

// Run takes a step each poll until the context ends, and one at once when it is woken,
// but for a rest after a step that was: many changes in a row cost their share of the
// time, and wait for a poll at most. It shuts the cache down; the error is of that.
func (c *Cycle) Run(ctx context.Context) error {
	wake, woken := c.options.Wake, false
	for ctx.Err() == nil {
		began := time.Now()
		_ = c.Step(ctx) // it was told
		pause := c.pause()
		if woken {
			rest := min(restAfter*time.Since(began), pause)
			_ = wait(ctx, rest) // the loop sees to the context
			if pause -= rest; pause == 0 {
				continue
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
			woken = false
		case _, woken = <-wake:
			if !woken {
				wake = nil
			}
		}
		timer.Stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown shuts the cache down, after the step that is under way. Twice is once.
func (c *Cycle) Shutdown(ctx context.Context) error {
	err := c.options.Cache.Shutdown(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.cause = nil
	c.lead(false)
	c.observe()
	return err
}

// Step brings what is in memory up to date once. The error says what went wrong;
// what was in memory is there still.
func (c *Cycle) Step(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.step(ctx)
	c.tell(ctx, err)
	c.observe()
	return err
}

// step: c.mu is held, as in all that it calls.
func (c *Cycle) step(ctx context.Context) error {
	now := time.Now()
	if c.overdue(now) {
		// Not the cache first: its calls may take long to fail. The next poll tries it.
		return errors.Join(c.budget.cause, c.ask(ctx))
	}
	c.patience = c.waits(now)
	if now.Before(c.yieldTill) {
		if err := c.follow(ctx); err != nil {
			return err
		}
		return c.denial
	}
	c.denial = nil
	turn, err := c.shouldFetch(ctx, Refresh)
	c.lead(err == nil && turn == Lead)
	switch {
	case errors.Is(err, ErrShutdown):
		return err
	case err != nil:
		return c.alone(ctx, err)
	case turn == Follow:
		return c.follow(ctx)
	case c.applied == nil:
		return c.takeOver(ctx)
	default:
		return c.fetchAndPublish(ctx, c.published)
	}
}

// follow reads the shared copy.
func (c *Cycle) follow(ctx context.Context) error {
	found, err := c.definitions(ctx)
	switch {
	case errors.Is(err, ErrUnusable):
		return c.replace(ctx, err)
	case err != nil:
		return c.alone(ctx, err)
	case found != nil:
		return c.take(ctx, found)
	case c.applied == nil:
		return c.start(ctx)
	}
	return c.keep(ctx)
}

// take applies the shared copy when it is newer.
func (c *Cycle) take(ctx context.Context, found *Copy) error {
	c.copied, c.overruled = time.Now().Add(-found.Age), Revision{}
	switch {
	case c.applied == nil || found.Revision != c.applied.Revision && found.Replaces(*c.applied):
		if err := c.applyCopy(ctx, found); err != nil {
			return c.alone(ctx, err)
		}
	case found.Revision.Store != c.applied.Revision.Store:
		c.counts.RefusedAsOlder++
		return c.alone(ctx, fmt.Errorf("the shared copy is not followed: it is of store %q, which does not say that it supersedes the store %q of what is served", found.Revision.Store, c.applied.Revision.Store))
	case found.Revision != c.applied.Revision:
		c.counts.RefusedAsOlder++
		return c.alone(ctx, fmt.Errorf("the shared copy is not followed: it has revision %d, what is served has %d", found.Revision.Number, c.applied.Revision.Number))
	case c.copied.After(c.confirmed):
		c.confirmed = c.copied
	}
	c.published = *c.applied
	return c.keep(ctx)
}

// keep serves what is in memory, and asks the server beside it when the copy was
// not renewed for too long.
func (c *Cycle) keep(ctx context.Context) error {
	if c.options.MaxAge > 0 && !time.Now().Before(c.late()) {
		return c.alone(ctx, fmt.Errorf("the shared copy was last confirmed %s ago, and before %s have passed the server is asked: whoever leads is away, or does not hear it", time.Since(c.copied).Round(time.Millisecond), c.options.MaxAge))
	}
	c.rest()
	return nil
}

// replace publishes anew what cannot be used, if it is our turn.
func (c *Cycle) replace(ctx context.Context, cause error) error {
	if c.applied == nil {
		return errors.Join(cause, c.start(ctx))
	}
	if c.denial != nil {
		return cause
	}
	turn, err := c.shouldFetch(ctx, NoCopy)
	if err != nil || turn == Follow {
		return c.alone(ctx, errors.Join(cause, err))
	}
	return errors.Join(cause, c.fetchAndPublish(ctx, Header{}))
}

// start gets the first definitions where there is no copy: at once, and one of
// many at a time. Who has waited for as long as a fetch may take asks by itself.
func (c *Cycle) start(ctx context.Context) error {
	if c.denial != nil {
		return c.denial
	}
	for until := time.Now().Add(c.options.Timing.Fetch); time.Now().Before(until); {
		turn, err := c.shouldFetch(ctx, NoCopy)
		if err != nil {
			return c.alone(ctx, err)
		}
		if turn != Follow {
			c.lead(turn == Lead)
			return c.fetchAndPublish(ctx, Header{})
		}
		if err := c.jitter(ctx); err != nil {
			return err
		}
		found, err := c.definitions(ctx)
		switch {
		case err != nil && !errors.Is(err, ErrUnusable):
			return c.alone(ctx, err)
		case found != nil:
			return c.take(ctx, found)
		}
	}
	return c.alone(ctx, errors.New("those whose turn it was to fetch published nothing"))
}

func (c *Cycle) known() Revision {
	if c.applied == nil {
		return Revision{}
	}
	return c.applied.Revision
}

// jitter keeps many that start at once apart.
func (c *Cycle) jitter(ctx context.Context) error {
	most := min(c.options.Timing.Poll, c.options.Timing.Fetch/10, time.Second)
	return wait(ctx, most/4+rand.N(most+1)) //nolint:gosec // Nobody gains by guessing it.
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Cycle) lead(leader bool) {
	if c.counts.Leader != leader {
		c.counts.Leader = leader
		c.counts.LeadershipChanges++
	}
}

// tell writes one line when something goes wrong, one a minute as long as it does,
// and one when all is well again.
func (c *Cycle) tell(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil && c.trouble:
		c.trouble = false
		c.options.Log.InfoContext(ctx, "shared definitions: all is well again")
	case err != nil && (!c.trouble || time.Since(c.toldAt) >= time.Minute):
		c.trouble, c.toldAt = true, time.Now()
		c.options.Log.WarnContext(ctx, "shared definitions: not all is well", "error", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func (c *Cycle) observe() {
	if c.applied != nil {
		c.counts.Age = time.Since(c.confirmed)
	}
	if c.options.Observe != nil {
		c.options.Observe(c.counts)
	}
}
