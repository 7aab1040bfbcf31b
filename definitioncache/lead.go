package definitioncache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A server that answers with an older revision than the shared copy's is believed
// when it has said so disbelief times in a row, for as long as distrust: a replica
// that lags behind the others does for seconds.
const (
	disbelief = 5
	distrust  = 10 * time.Second
)

// doubt is what the server, asked directly, says against a revision that only the
// shared copy knows.
type doubt struct {
	times int
	since time.Time
}

// takeOver is the part of a leader that has nothing in memory: what others shared is
// served first, and the server asked what is newer. No error of the reading keeps it
// from fetching.
func (c *Cycle) takeOver(ctx context.Context) error {
	found, err := c.definitions(ctx, Revision{})
	switch {
	case err != nil:
		err = fmt.Errorf("read what was shared: %w", err)
	case found != nil:
		if err = c.options.Apply(ctx, *found); err != nil {
			err = fmt.Errorf("apply the shared copy: %w", err)
			break
		}
		c.applied, c.published, c.copied = &found.Header, found.Header, time.Now().Add(-found.Age)
		c.confirmed = c.copied
	}
	if err != nil {
		c.counts.CacheErrors++
	}
	return errors.Join(err, c.fetchAndPublish(ctx, c.published))
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
			c.confirm()
		}
		err := c.options.Cache.DefinitionsReceived(ctx, received)
		if errors.Is(err, ErrNoCopy) && known.Revision != (Revision{}) {
			c.published = Header{}
			return c.fetchAndPublish(ctx, Header{})
		}
		return c.publishing(ctx, err)
	}
	if received.Overrules, err = c.apply(ctx, received); err != nil {
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
		c.copied = time.Now()
		c.rest()
		return nil
	case errors.Is(err, ErrOlder): // then the others have what is newer
		c.counts.RefusedAsOlder++
		return errors.Join(fmt.Errorf("share the definitions: %w", err), c.follow(ctx))
	default:
		c.counts.CacheErrors++
		return fmt.Errorf("share the definitions: %w", err)
	}
}

// fetch asks the server once.
func (c *Cycle) fetch(ctx context.Context, known Revision) (Received, error) {
	c.counts.Fetches++
	limited, cancel := context.WithTimeout(ctx, c.options.Timing.Fetch)
	defer cancel()
	received, err := c.options.Fetch(limited, known)
	if errors.Is(err, ErrAhead) && known != (Revision{}) {
		c.counts.Fetches++
		known = Revision{}
		received, err = c.options.Fetch(limited, known)
	}
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

// apply takes over what the server said. What is older than what is served is not
// taken, but for what the server has said again and again against a revision that
// only the shared copy knows: that is overruled.
func (c *Cycle) apply(ctx context.Context, received Received) (overrules Revision, err error) {
	if c.applied != nil && c.applied.Revision.Store == received.Revision.Store {
		switch {
		case received.Revision == c.applied.Revision:
			c.confirm()
			return Revision{}, nil
		case received.Revision.Number < c.applied.Revision.Number:
			if !c.disbelieved() {
				c.counts.RefusedAsOlder++
				return Revision{}, fmt.Errorf("the server's answer is not taken: what is served is newer: it has revision %d, the answer %d", c.applied.Revision.Number, received.Revision.Number)
			}
			overrules = c.applied.Revision
		}
	}
	if err := c.options.Apply(ctx, Copy{Header: received.Header, Body: received.Body}); err != nil {
		return Revision{}, fmt.Errorf("apply the server's definitions: %w", err)
	}
	c.applied = &received.Header
	c.confirm()
	return overrules, nil
}

// confirm keeps that the server itself has just told us what is served.
func (c *Cycle) confirm() {
	c.proven, c.confirmed, c.doubt = true, time.Now(), doubt{}
}

// disbelieved counts an older answer of the server, and tells whether what is served
// is not to be believed any more. What the server itself told us always is: its
// revisions do not go backwards, so who says otherwise is behind.
func (c *Cycle) disbelieved() bool {
	if c.proven {
		return false
	}
	if c.doubt.times == 0 {
		c.doubt.since = time.Now()
	}
	c.doubt.times++
	return c.doubt.times >= disbelief && time.Since(c.doubt.since) >= distrust
}
