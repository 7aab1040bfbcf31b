package client

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// OnDemandPolicy says for how long and how much an OnDemand keeps (DESIGN §6.6).
// Every number of it is here.
type OnDemandPolicy struct {
	// FlagTTL and OverrideTTL are the longest that a flag's state and an entity's
	// overrides are served without being asked for again. What the service itself
	// says (Cache-Control: max-age) goes before. An answer that was passed on holds
	// both, and is kept for the shorter.
	FlagTTL, OverrideTTL time.Duration
	// KillTTL is the time between two polls of the kill set while all is well. No
	// hint of the service makes it longer.
	KillTTL time.Duration
	// JitterPercent is how much of a TTL may be taken off at random, so that what
	// came together is not asked for together again.
	JitterPercent int
	// FlagEntries is how many flags are kept. OverrideEntries is how many overrides
	// are, an entity that has none counting as one; and, apart from them, how many
	// answers that were passed on, each KB of the question counting as one more.
	FlagEntries, OverrideEntries int
	// FetchTimeout limits one fetch, with its repetitions: what a caller may have
	// to wait.
	FetchTimeout time.Duration
	// FailureTTL is how long a fetch that failed is not made again.
	FailureTTL time.Duration
}

// DefaultOnDemandPolicy is the policy that DESIGN §6.6 states.
var DefaultOnDemandPolicy = OnDemandPolicy{
	FlagTTL: 5 * time.Minute, OverrideTTL: 5 * time.Minute, KillTTL: 30 * time.Second, JitterPercent: 20,
	FlagEntries: 10_000, OverrideEntries: 10_000,
	FetchTimeout: 500 * time.Millisecond, FailureTTL: time.Second,
}

// The bounds of a policy. Beyond the longest time a cache is none but a copy that
// nobody renews, and beyond the most entries a snapshot is the better way.
const (
	longestTTL  = 24 * time.Hour
	mostEntries = 10_000_000
)

// Validate checks the bounds. The error is an *Error of the kind Config that
// names the setting, as configurations call it.
func (p OnDemandPolicy) Validate() error {
	const op = "use the settings of the cache"
	for _, t := range []struct {
		name  string
		value time.Duration
	}{
		{"flag_ttl", p.FlagTTL}, {"override_ttl", p.OverrideTTL}, {"kill_ttl", p.KillTTL},
		{"fetch_timeout", p.FetchTimeout}, {"failure_ttl", p.FailureTTL},
	} {
		if t.value < time.Millisecond || t.value > longestTTL {
			return configError(op, fmt.Sprintf("%s is %s, but it must be from %s to %s. Write a duration like %q.", t.name, t.value, time.Millisecond, longestTTL, "30s"))
		}
	}
	if p.JitterPercent < 0 || p.JitterPercent > 100 {
		return configError(op, fmt.Sprintf("jitter_percent is %d, but it must be from 0 to 100: it is how much of a TTL may be taken off. Write a number like 20.", p.JitterPercent))
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"flag_max_entries", p.FlagEntries}, {"override_max_entries", p.OverrideEntries}} {
		if n.value < 1 || n.value > mostEntries {
			return configError(op, fmt.Sprintf("%s is %d, but it must be from 1 to %d. Write a number like 10000.", n.name, n.value, mostEntries))
		}
	}
	return nil
}

// jittered gives the TTL less a random part. It is never more than the TTL, and
// more than 0 where that is.
func (p OnDemandPolicy) jittered(ttl time.Duration) time.Duration {
	most := ttl / 100 * time.Duration(p.JitterPercent)
	if most <= 0 {
		return ttl
	}
	return ttl - rand.N(most) //nolint:gosec // It spreads load, it keeps no secret.
}
