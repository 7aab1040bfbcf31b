package client

import (
	"testing"
	"time"
)

func TestOnDemandPolicy(t *testing.T) {
	if _, err := NewOnDemand(newPlainService().client(t), OnDemandPolicy{}, nil); !isKind(err, Config) {
		t.Errorf("got %v", err)
	}
	for _, tc := range []struct {
		change  func(p *OnDemandPolicy)
		message string
	}{
		{func(*OnDemandPolicy) {}, ""},
		{func(p *OnDemandPolicy) { p.JitterPercent, p.FlagEntries, p.FlagTTL = 0, 1, time.Millisecond }, ""},
		{func(p *OnDemandPolicy) { p.JitterPercent, p.OverrideEntries, p.FlagTTL = 100, mostEntries, longestTTL }, ""},
		{func(p *OnDemandPolicy) { p.FlagTTL = 0 }, `flag_ttl is 0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.OverrideTTL = -time.Second }, `override_ttl is -1s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.KillTTL = 25 * time.Hour }, `kill_ttl is 25h0m0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.FetchTimeout = 0 }, `fetch_timeout is 0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.FailureTTL = 1 }, `failure_ttl is 1ns, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.JitterPercent = 101 }, `jitter_percent is 101, but it must be from 0 to 100: it is how much of a TTL may be taken off. Write a number like 20.`},
		{func(p *OnDemandPolicy) { p.JitterPercent = -1 }, `jitter_percent is -1, but it must be from 0 to 100: it is how much of a TTL may be taken off. Write a number like 20.`},
		{func(p *OnDemandPolicy) { p.FlagEntries = 0 }, `flag_max_entries is 0, but it must be from 1 to 10000000. Write a number like 10000.`},
		{func(p *OnDemandPolicy) { p.OverrideEntries = mostEntries + 1 }, `override_max_entries is 10000001, but it must be from 1 to 10000000. Write a number like 10000.`},
	} {
		policy := DefaultOnDemandPolicy
		tc.change(&policy)
		err := policy.Validate()
		if tc.message == "" && err != nil || tc.message != "" && (!isKind(err, Config) || err.Error() != "cannot use the settings of the cache: "+tc.message) {
			t.Errorf("got %v, want %s", err, tc.message)
		}
	}
}
