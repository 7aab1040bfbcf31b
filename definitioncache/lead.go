package definitioncache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A server that answers with an older revision than the shared copy's is believed
// when it has said nothing else for as long as distrust, and as disbelief polls take:
// a replica that lags behind the others does for seconds.
const (
	disbelief = 3
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
	found, err := c.definitions(ctx)
	switch {
	case err != nil:
		err = fmt.Errorf("read what was shared: %w", err)
	case found != nil:
		c.copied = time.Now().Add(-found.Age)
		if err = c.applyCopy(ctx, found); err == nil {
			c.published = found.Header
		}
	}
	return errors.Join(err, c.fetchAndPublish(ctx, c.published))
}

// fetchAndPublish is the leader's part. What was published last is known; the
// zero Header: fetch everything.
func (c *Cycle) fetchAndPublish(ctx context.Context, known Header) error {
	asked := known.Revision
	if c.tooLarge != nil {
		asked = c.known()
	}
	received, err := c.fetch(ctx, asked)
	switch {
	case err != nil:
		return err
	case received.Unchanged && c.tooLarge != nil:
		c.confirm()
		return c.tooLarge
	case received.Unchanged:
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
	if err := c.apply(ctx, received); err != nil {
		return err
	}
	received.Overrules = c.overruled
	if err := c.publishing(ctx, c.options.Cache.DefinitionsReceived(ctx, received)); err != nil {
		return err
	}
	c.published = received.Header // not before: or what others never saw would be "unchanged" for ever
	c.overruled = Revision{}
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
		c.failedCache(err)
		err = fmt.Errorf("share the definitions: %w", err)
		if errors.Is(err, ErrTooLarge) {
			c.tooLarge = err
		}
		return err
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
	if err != nil {
		return Received{}, c.failed(fmt.Errorf("fetch definitions: %w", err))
	}
	return received, nil
}

// failed counts a server that is of no use, and lets somebody else lead.
func (c *Cycle) failed(err error) error {
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
	return err
}

// apply takes over what the server said. What is older than what is served is not
// taken, but for what the server has said again and again against a revision that
// only the shared copy knows: that is overruled.
func (c *Cycle) apply(ctx context.Context, received Received) error {
	if c.applied != nil && c.applied.Revision.Store == received.Revision.Store {
		switch {
		case received.Revision == c.applied.Revision:
			c.confirm()
			return nil
		case received.Revision.Number < c.applied.Revision.Number:
			if err := c.disbelieve(received.Revision); err != nil {
				return err
			}
			c.overruled, c.published = c.applied.Revision, Header{} // nor is it "unchanged"
		}
	}
	if err := c.options.Apply(ctx, Copy{Header: received.Header, Body: received.Body}); err != nil {
		return fmt.Errorf("apply the server's definitions: %w", err)
	}
	if received.Replaces(Header{Revision: c.overruled}) {
		c.overruled = Revision{} // the server has got there
	}
	c.applied, c.tooLarge = &received.Header, nil
	c.confirm()
	return nil
}

// applyCopy takes over the shared copy. One that cannot be read is overruled.
func (c *Cycle) applyCopy(ctx context.Context, found *Copy) error {
	if err := c.options.Apply(ctx, *found); err != nil {
		if errors.Is(err, ErrUnusable) {
			c.overruled = found.Revision
			c.counts.CacheErrors++
		}
		return fmt.Errorf("apply the shared copy: %w", err)
	}
	c.applied, c.tooLarge, c.proven, c.confirmed = &found.Header, nil, false, c.copied
	return nil
}

// confirm keeps that the server itself has just told us what is served.
func (c *Cycle) confirm() {
	c.proven, c.confirmed, c.doubt, c.failures = true, time.Now(), doubt{}, 0
}

// disbelieve hears an older answer of the server. Nil means that what is served is not
// to be believed any more. What the server itself told us always is: its revisions do
// not go backwards, so who says otherwise is behind, and not the one to lead by.
func (c *Cycle) disbelieve(answer Revision) error {
	if c.doubt.times == 0 {
		c.doubt.since = time.Now()
	}
	c.doubt.times++
	if long := max(distrust, disbelief*c.options.Timing.Poll); !c.proven && c.doubt.times > 1 && time.Since(c.doubt.since) >= long {
		return nil
	}
	c.counts.RefusedAsOlder++
	err := fmt.Errorf("the server's answer is not taken: what is served is newer: it has revision %d, the answer %d", c.applied.Revision.Number, answer.Number)
	if c.proven {
		return c.failed(err)
	}
	return err
}
