package client

import (
	"sync"
	"time"
)

// breaker spares a host that does not answer, and its callers the waiting: after
// repeated failure everybody is told at once, and after a rest one call tries.
type breaker struct {
	policy Policy

	mu      sync.Mutex
	failed  int           // failures in a row
	last    *Error        // the last of them
	rest    time.Duration // of the present opening; 0 while closed
	until   time.Time     // when the rest ends
	probing bool          // one call is trying
}

// admit lets a call through, or says why not: the failure that opened the
// breaker, and for how long. Who is let through must say how it went.
func (b *breaker) admit() *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == 0 {
		return nil
	}
	left := time.Until(b.until)
	if left <= 0 && !b.probing {
		b.probing = true
		return nil
	}
	return b.refusal(left)
}

// resting is admit for who does not say how it went: it is never the one call
// that tries.
func (b *breaker) resting() *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := time.Until(b.until)
	if b.rest == 0 || left <= 0 && !b.probing {
		return nil
	}
	return b.refusal(left)
}

// refusal says why nothing is let through. Called with mu held.
func (b *breaker) refusal(left time.Duration) *Error {
	told := *b.last
	told.Message += " It was not asked again, because it has failed " + times(b.failed) + " in a row."
	if left > 0 {
		told.Message += " It is tried again in " + max(time.Second, left.Round(time.Second)).String() + "."
	}
	return &told
}

// answered says that the host answered, whatever it said.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.last, b.rest, b.probing = 0, nil, 0, false
}

// fell says that the host did not answer. It reports whether this opened the
// breaker.
func (b *breaker) fell(e *Error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
	b.last = e
	if b.failed < b.policy.BreakAfter || b.rest > 0 && !b.probing {
		return false
	}
	b.rest = min(max(2*b.rest, b.policy.Rest), b.policy.LongestRest)
	b.until = time.Now().Add(b.rest)
	b.probing = false
	return true
}

// left says that the caller gave up, which tells nothing of the host.
func (b *breaker) left() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}
