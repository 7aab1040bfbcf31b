package client

import "time"

// CacheCounts is what an OnDemand was asked since it was made, and what it holds.
type CacheCounts struct {
	// Flag, Override and Answer are its knowledge of flags' states, of entities'
	// overrides and of answers that were passed on. Kill is the kill set, which
	// every evaluation asks first.
	Flag, Override, Answer, Kill TierCounts

	Overrides int       // fresh ones; an entity that has none counts as one
	Killed    int       // flags in the kill set
	Polled    time.Time // when the kill set came; zero: it never did
}

// TierCounts counts questions. A miss is one for which nothing fresh was there,
// whatever was answered then.
type TierCounts struct{ Hits, Misses int64 }

// Counts gives the counts.
func (d *OnDemand) Counts() CacheCounts {
	var c CacheCounts
	c.Flag, _ = d.flags.counted()
	c.Override, c.Overrides = d.overrides.counted()
	c.Answer, _ = d.answers.counted()
	c.Kill = TierCounts{Hits: d.kills.hits.Load(), Misses: d.kills.misses.Load()}
	if s := d.kills.present.Load(); s != nil {
		c.Killed, c.Polled = len(s.flags), s.came
	}
	return c
}
