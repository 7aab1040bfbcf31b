package client

import (
	"math/rand/v2"
	"time"
)

// Policy says when a call is repeated and how a host is spared (DESIGN §6.5).
// Every number of it is here.
type Policy struct {
	// Attempts is how often a call is made in all; 1 is never repeated.
	Attempts int
	// Before the n-th repetition a random time up to Backoff·2ⁿ⁻¹ passes, at most
	// LongestBackoff: full jitter (M. Brooker, "Exponential Backoff and Jitter", 2015).
	Backoff, LongestBackoff time.Duration
	// Patience is the longest pause that a server may ask for where nothing else
	// limits the operation; beyond it the call fails at once.
	Patience time.Duration
	// Repetitions of all calls together: so many at first, and so many more for each
	// call that succeeds, so that a server in trouble is not asked a multiple.
	RetryBudget, RetryRefill float64
	// After so many failures in a row the host is not asked for Rest, which doubles
	// up to LongestRest while a single call in between fails, too.
	BreakAfter        int
	Rest, LongestRest time.Duration
	// MostPerSecond is how many requests a second are sent at most; 0 is no limit.
	MostPerSecond float64
	// After a 429 requests leave evenly spaced, at the rate seen times SlowDown;
	// each second without another 429 adds SpeedUp to the rate, a tenth of it near
	// the rate that was too much, and from FullSpeed on they are spaced no longer
	// (AIMD: Chiu and Jain, 1989).
	SlowDown, SpeedUp, FullSpeed float64
}

// DefaultPolicy is the policy where Options name none.
var DefaultPolicy = Policy{
	Attempts: 4, Backoff: 200 * time.Millisecond, LongestBackoff: 5 * time.Second, Patience: 2 * time.Minute,
	RetryBudget: 10, RetryRefill: 0.1,
	BreakAfter: 5, Rest: time.Second, LongestRest: 30 * time.Second,
	SlowDown: 0.5, SpeedUp: 1, FullSpeed: 200,
}

// UpstreamPolicy is that of a server which follows another one: it comes back by
// itself, so nothing is repeated, and it is to notice soon that an outage is over.
var UpstreamPolicy = Policy{
	Attempts: 1, Patience: 5 * time.Second,
	BreakAfter: 2, Rest: 500 * time.Millisecond, LongestRest: 2 * time.Second,
	SlowDown: 0.5, SpeedUp: 1, FullSpeed: 200,
}

// UpstreamTimeout is RequestTimeout for it: a healthy server answers within
// milliseconds, and a hung one is to be told from it soon.
const UpstreamTimeout = 3 * time.Second

// backoff gives the time before the n-th repetition.
func (p Policy) backoff(n int) time.Duration {
	longest := p.LongestBackoff
	if n < 30 { // or it would overflow
		longest = min(longest, p.Backoff<<(n-1))
	}
	return jitter(longest)
}

// jitter gives a random time up to the longest.
func jitter(longest time.Duration) time.Duration {
	if longest <= 0 {
		return 0
	}
	return rand.N(longest) //nolint:gosec // It spreads load, it keeps no secret.
}
