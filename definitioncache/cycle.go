package definitioncache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// failuresToYield is after how many failed fetches in a row a leader lets somebody
// else try.
const failuresToYield = 3

// Cycle is a process's part in sharing definitions.
type Cycle struct {
	options Options

	mu        sync.Mutex // guards what follows; a step holds it, so one follows the other
	applied   *Header    // nil: nothing is in memory
	published Header     // what conditional fetches go by: it is in the shared copy for certain
	confirmed time.Time
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
		return nil, fmt.Errorf("the greatest age and the interval of fetching alone can not be negative; found %s and %s", options.MaxAge, options.Alone)
	}
	if err := options.Timing.Validate(); err != nil {
		return nil, err
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	alone := cmp.Or(options.Alone, 4*options.Timing.Poll)
	return &Cycle{options: options, budget: budget{every: alone}}, nil
}

// Run takes a step each poll until the context ends, and shuts the cache down.
// The error is of that.
func (c *Cycle) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_ = c.Step(ctx) // it was told
		// Less than a poll, so that two are never longer than the lock; and never quite
		// as long, so that many do not ask at once.
		timer := time.NewTimer(c.options.Timing.Poll - rand.N(c.options.Timing.Poll/10+1)) //nolint:gosec // Nobody gains by guessing it.
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-c.options.Wake:
		}
		timer.Stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockPatience)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown shuts the cache down, after the step that is under way. Twice is once.
func (c *Cycle) Shutdown(ctx context.Context) error {
	err := c.options.Cache.Shutdown(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
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
	if time.Now().Before(c.yieldTill) {
		if err := c.follow(ctx); err != nil {
			return err
		}
		return c.denial
	}
	c.denial = nil
	turn, err := c.options.Cache.ShouldFetch(ctx, Refresh)
	c.lead(err == nil && turn == Lead)
	switch {
	case errors.Is(err, ErrShutdown):
		return err
	case err != nil:
		return c.alone(ctx, err)
	case turn == Follow:
		return c.follow(ctx)
	default:
		return c.fetchAndPublish(ctx, c.published)
	}
}

// follow reads the shared copy.
func (c *Cycle) follow(ctx context.Context) error {
	found, err := c.options.Cache.Definitions(ctx, c.known())
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
	return c.keep(ctx, time.Since(c.confirmed))
}

// take applies the shared copy when it is newer.
func (c *Cycle) take(ctx context.Context, found *Copy) error {
	switch {
	case c.applied != nil && found.Revision == c.applied.Revision:
	case c.applied != nil && !found.Replaces(*c.applied):
		c.counts.RefusedAsOlder++
		err := older(found.Revision, c.applied.Revision)
		if found.Revision.Store != c.applied.Revision.Store {
			return c.alone(ctx, fmt.Errorf("the shared copy is not followed: what is served %w", err))
		}
		return c.keep(ctx, time.Since(c.confirmed))
	default:
		if err := c.options.Apply(ctx, *found); err != nil {
			return c.alone(ctx, fmt.Errorf("apply the shared copy: %w", err))
		}
		c.applied = &found.Header
	}
	c.published, c.confirmed = *c.applied, time.Now().Add(-found.Age)
	return c.keep(ctx, found.Age)
}

// keep serves what is in memory, and asks the server beside it when it is too old.
func (c *Cycle) keep(ctx context.Context, age time.Duration) error {
	if c.options.MaxAge > 0 && age > c.options.MaxAge {
		return c.alone(ctx, fmt.Errorf("the server confirmed the shared copy longer than %s ago", c.options.MaxAge))
	}
	c.budget.rest()
	return nil
}

// replace publishes anew what can not be used, if it is our turn.
func (c *Cycle) replace(ctx context.Context, cause error) error {
	if c.applied == nil {
		return errors.Join(cause, c.start(ctx))
	}
	if c.denial != nil {
		return cause
	}
	turn, err := c.options.Cache.ShouldFetch(ctx, NoCopy)
	if err != nil || turn == Follow {
		return c.alone(ctx, errors.Join(cause, err))
	}
	c.counts.CacheErrors++
	return errors.Join(cause, c.fetchAndPublish(ctx, Header{}))
}

// start gets the first definitions where there is no copy: at once, and one of
// many at a time. Who has waited for as long as a fetch may take asks by itself.
func (c *Cycle) start(ctx context.Context) error {
	if c.denial != nil {
		return c.denial
	}
	for until := time.Now().Add(c.options.Timing.Fetch); time.Now().Before(until); {
		turn, err := c.options.Cache.ShouldFetch(ctx, NoCopy)
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
		found, err := c.options.Cache.Definitions(ctx, Revision{})
		switch {
		case err != nil && !errors.Is(err, ErrUnusable):
			return c.alone(ctx, err)
		case found != nil:
			return c.take(ctx, found)
		}
	}
	return c.alone(ctx, errors.New("those whose turn it was to fetch published nothing"))
}

// fetchAndPublish is the leader's part. What was published last is known; the
// zero Header: fetch everything.
func (c *Cycle) fetchAndPublish(ctx context.Context, known Header) error {
	received, err := c.fetch(ctx, known.Revision)
	if err != nil {
		return err
	}
	if received.Unchanged {
		if received.Header = known; c.known() == known.Revision {
			c.confirmed = time.Now()
		}
		err := c.options.Cache.DefinitionsReceived(ctx, received)
		if errors.Is(err, ErrNoCopy) && known.Revision != (Revision{}) {
			c.published = Header{}
			return c.fetchAndPublish(ctx, Header{})
		}
		return c.publishing(ctx, err)
	}
	if err := c.apply(ctx, received); err != nil {
		return err
	}
	if err := c.publishing(ctx, c.options.Cache.DefinitionsReceived(ctx, received)); err != nil {
		return err
	}
	c.published = received.Header // not before: or what others never saw would be "unchanged" for ever
	c.counts.Published++
	return nil
}

// publishing says what became of it. We serve what we fetched ourselves.
func (c *Cycle) publishing(ctx context.Context, err error) error {
	switch {
	case err == nil:
		c.budget.rest()
		return nil
	case errors.Is(err, ErrOlder): // then the others have what is newer
		c.counts.RefusedAsOlder++
		return errors.Join(fmt.Errorf("share the definitions: %w", err), c.follow(ctx))
	default:
		c.counts.CacheErrors++
		return fmt.Errorf("share the definitions: %w", err)
	}
}

// alone asks the server without the cache, for the reason given. Who has nothing
// to serve asks soon; who has keeps to the budget.
func (c *Cycle) alone(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	c.counts.CacheErrors++
	if c.denial != nil {
		return cause
	}
	known := Header{}
	if c.applied != nil {
		if !c.budget.spend(time.Now()) {
			return cause
		}
		known = *c.applied
	} else if err := c.jitter(ctx); err != nil {
		return cause
	}
	received, err := c.fetch(ctx, known.Revision)
	switch {
	case err != nil:
	case received.Unchanged:
		c.confirmed = time.Now()
	default:
		err = c.apply(ctx, received)
	}
	return errors.Join(cause, err)
}

// fetch asks the server once.
func (c *Cycle) fetch(ctx context.Context, known Revision) (Received, error) {
	c.counts.Fetches++
	limited, cancel := context.WithTimeout(ctx, c.options.Timing.Fetch)
	defer cancel()
	received, err := c.options.Fetch(limited, known)
	if err == nil && received.Unchanged && known == (Revision{}) {
		err = errors.New("the server says that nothing changed, and was asked for everything")
	}
	if err == nil {
		c.failures = 0
		return received, nil
	}
	err = fmt.Errorf("fetch definitions: %w", err)
	c.failures++
	denied := errors.Is(err, ErrDenied)
	if denied || c.failures >= failuresToYield {
		// Until the lock has run out and somebody else could take it.
		c.failures, c.yieldTill = 0, time.Now().Add(2*c.options.Timing.Lock)
		c.lead(false)
	}
	if denied {
		c.denial = err
	}
	return Received{}, err
}

// apply takes over what the server said, unless it is older than what is served.
func (c *Cycle) apply(ctx context.Context, received Received) error {
	if c.applied != nil && c.applied.Revision.Store == received.Revision.Store {
		if received.Revision.Number < c.applied.Revision.Number {
			c.counts.RefusedAsOlder++
			return fmt.Errorf("the server's answer is not taken: what is served is newer: it has revision %d, the answer %d", c.applied.Revision.Number, received.Revision.Number)
		}
		if received.Revision == c.applied.Revision {
			c.confirmed = time.Now()
			return nil
		}
	}
	if err := c.options.Apply(ctx, Copy{Header: received.Header, Body: received.Body}); err != nil {
		return fmt.Errorf("apply the server's definitions: %w", err)
	}
	c.applied, c.confirmed = &received.Header, time.Now()
	return nil
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
		c.options.Log.WarnContext(ctx, "shared definitions: what was last known is served", "error", err)
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
