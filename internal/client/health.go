package client

import (
	"sync"
	"time"
)

// Status is how well a service is reached.
type Status int

// The statuses, with the numbers of pbflags.v1.EvaluatorStatus.
const (
	Connecting Status = 1 // no contact yet
	Serving    Status = 2 // in contact
	Degraded   Status = 3 // degradedAfter or more failures in a row
)

// degradedAfter is how many failures in a row make a service Degraded (DESIGN §6.6).
const degradedAfter = 3

// Health is how well a service is reached, and what is known of it.
type Health struct {
	Status Status
	// SecondsSinceContact is how long ago the service last answered; -1: never.
	SecondsSinceContact int64
	// CachedFlags is how many flags are known to exist, fresh or not.
	CachedFlags int
	// Failures is how many fetches failed in a row.
	Failures int
}

// contact learns from how fetches end how well a service is reached.
type contact struct {
	// recovered gets a word when a fetch succeeds after failures, for who waits
	// longer because of them.
	recovered chan struct{}

	mu       sync.Mutex
	failures int       // in a row
	counted  int       // failures that ever counted
	last     time.Time // when the service last answered; zero: never
}

// begin is to be called before a fetch; failed wants what it gives.
func (c *contact) begin() (before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counted
}

// succeeded notes that the service answered.
func (c *contact) succeeded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if c.failures == 0 {
		return
	}
	c.failures = 0
	select {
	case c.recovered <- struct{}{}:
	default: // it is told already
	}
}

// failed notes that a fetch failed. Fetches that were under way together failed
// of one cause and count once: they are not in a row.
func (c *contact) failed(before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before == c.counted {
		c.failures++
		c.counted++
	}
}

// health gives the health, but for what is cached.
func (c *contact) health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := Health{Status: Serving, Failures: c.failures, SecondsSinceContact: -1}
	if !c.last.IsZero() {
		h.SecondsSinceContact = int64(time.Since(c.last) / time.Second)
	}
	switch {
	case c.failures >= degradedAfter:
		h.Status = Degraded
	case c.last.IsZero():
		h.Status = Connecting
	}
	return h
}

// slowed gives the time between polls, of which one is given for while all is well
// (DESIGN §6.6).
func (c *contact) slowed(interval time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failures == 0:
		return interval
	case c.failures < 3:
		return 2 * interval
	case c.failures < 6:
		return 4 * interval
	}
	return 8 * interval
}
