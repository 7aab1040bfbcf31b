package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// host is what all calls to one host share: how fast they may come, whether it
// answers at all, and how many may still be repeated.
type host struct {
	policy  Policy
	pace    *pace
	breaker breaker

	mu     sync.Mutex
	budget float64 // repetitions that are left
}

func newHost(policy Policy) *host {
	return &host{policy: policy, pace: newPace(policy), breaker: breaker{policy: policy}, budget: policy.RetryBudget}
}

// mayRepeat takes a repetition from the budget, if there is one left.
func (h *host) mayRepeat() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget < 1 {
		return false
	}
	h.budget--
	return true
}

func (h *host) refill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.budget = min(h.policy.RetryBudget, h.budget+h.policy.RetryRefill)
}

// heard learns from how an attempt ended.
func (c *Client) heard(err error) {
	h := c.host
	e, failed := errors.AsType[*Error](err)
	switch {
	case err == nil:
		h.refill()
		h.pace.succeeded()
		h.breaker.answered()
	case !failed:
		h.breaker.answered() // the server refused it
	case e.Kind == Canceled, e.Kind == Timeout && !e.again:
		h.breaker.left()
	case e.Kind == RateLimited:
		c.totals.add(func(t *Totals) { t.Pauses++ })
		h.pace.limited(e.RetryAfter)
		h.breaker.answered()
	case e.Kind == Unavailable || e.Kind == Timeout:
		if e.RetryAfter > 0 {
			c.totals.add(func(t *Totals) { t.Pauses++ })
			h.pace.paused(e.RetryAfter)
		}
		if h.breaker.fell(e) {
			c.totals.add(func(t *Totals) { t.BreakerOpenings++ })
		}
	default:
		h.breaker.answered()
	}
}

// repeat makes attempts at a call until one succeeds or another would be no use:
// the failure is not of the kind that passes, the call is not safe to repeat, the
// attempts or the budget are used up, or the time is.
//
// While it waits it holds no connection. Questions that travel together wait as
// one, and who comes meanwhile joins the next trip: to leave alone would ask a
// host in trouble a multiple.
func (c *Client) repeat(ctx context.Context, op string, safe bool, attempt func() error) error {
	c.totals.begin()
	defer c.totals.end(ctx, c.report)
	for n := 1; ; n++ {
		if err := c.admit(ctx, op); err != nil {
			return err
		}
		if n > 1 {
			c.totals.add(func(t *Totals) { t.Retries++ })
		}
		err := c.attempt(attempt)
		e, failed := errors.AsType[*Error](err)
		if !failed {
			return err
		}
		if !safe || !e.again || n >= c.host.policy.Attempts || !c.host.mayRepeat() {
			return tried(e, n)
		}
		if e.RetryAfter > 0 {
			continue // the pause is everybody's, and is waited for there
		}
		if sleep(ctx, c.host.policy.backoff(n)) != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return c.translate(ctx, ctx, op, ctx.Err())
			}
			return tried(e, n) // says more than that the time has ended
		}
	}
}

// attempt makes one, and learns from how it ended: of a panic nothing but that the
// next may try.
func (c *Client) attempt(call func() error) (err error) {
	ended := false
	defer func() {
		if !ended {
			c.host.breaker.left()
		}
	}()
	err = call()
	ended = true
	c.heard(err)
	return err
}

// admit waits until an attempt may be made, or says why none is.
func (c *Client) admit(ctx context.Context, op string) error {
	if e := c.host.breaker.admit(); e != nil {
		e.Op = op
		return e
	}
	tooLong, err := c.host.pace.wait(ctx)
	switch {
	case err != nil:
		c.host.breaker.left()
		return c.translate(ctx, ctx, op, err)
	case tooLong > 0:
		c.host.breaker.left()
		return &Error{Kind: RateLimited, Op: op, Endpoint: c.endpoint, RetryAfter: tooLong, Message: fmt.Sprintf(
			"%s asked not to be asked again for %s, which is longer than this operation may take. Try again then, or allow it more time (timeouts).",
			c.endpoint, max(time.Second, tooLong.Round(time.Second)))}
	}
	return nil
}

// tried adds how often the call was made.
func tried(e *Error, attempts int) error {
	if attempts == 1 {
		return e
	}
	told := *e
	told.Message += " Tried " + times(attempts) + "."
	return &told
}

func times(n int) string { return fmt.Sprintf("%d times", n) }
