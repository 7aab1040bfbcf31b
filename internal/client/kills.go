package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// killSet is which flags are known to be killed. It never changes.
type killSet struct {
	flags       map[flag.Key]bool
	entities    map[flag.Ref]bool // what other services kill for one entity only
	asked, came time.Time         // of the poll that brought it; zero: none ever did
	err         error             // why the last poll brought nothing; the set is that of before
	// untold is why there is none: the service does not have the call. That is no
	// outage. Kills are known from what it says of each flag then, as late as that
	// is asked for.
	untold error
}

// has reports whether the flag is killed, for everybody or for the entity.
func (s *killSet) has(key flag.Key, entity string) bool {
	return s.flags[key] || len(s.entities) > 0 && s.entities[flag.OverrideRef(key, entity)]
}

// lifted reports whether a kill that was told at the time has been lifted since.
func (s *killSet) lifted(told time.Time, key flag.Key, entity string) bool {
	return s.asked.After(told) && !s.has(key, entity)
}

// killPoller keeps the kill set: polled at once, then again and again, more
// rarely while the service fails. What is known stays for as long as that takes.
type killPoller struct {
	fetcher *fetcher

	present atomic.Pointer[killSet] // nil until the first poll ended
	first   chan struct{}           // closed when it did

	hits, misses atomic.Int64
}

// known gives the kill set, and waits for the first one. The error is the context's.
func (p *killPoller) known(ctx context.Context) (*killSet, error) {
	if s := p.present.Load(); s != nil {
		p.hits.Add(1)
		return s, nil
	}
	p.misses.Add(1)
	select {
	case <-p.first:
		return p.present.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run polls until the fetcher is closed.
func (p *killPoller) run() {
	p.poll()
	close(p.first)
	for p.pause() {
		p.poll()
	}
}

func (p *killPoller) poll() {
	asked := time.Now()
	var set *killSet
	err := p.fetcher.attempt(p.fetcher.life, opKills, func(ctx context.Context) (err error) {
		set, err = p.fetcher.client.askKills(ctx)
		if before := p.present.Load(); unknownCall(err) && (before == nil || before.asked.IsZero()) {
			set, err = &killSet{untold: err}, nil
		}
		return err
	})
	if err != nil {
		set = &killSet{}
		if before := p.present.Load(); before != nil {
			*set = *before
		}
		set.err = err
		p.present.Store(set)
		return
	}
	if set.untold == nil {
		set.asked, set.came = asked, time.Now()
	}
	p.present.Store(set)
	select {
	case <-p.fetcher.contact.recovered: // by this poll, or before what it brought
	default:
	}
}

// pause waits for the time of the next poll, and no longer than until the service
// answers somebody else again. It reports whether there is a next one.
func (p *killPoller) pause() bool {
	life := p.fetcher.life
	timer := time.NewTimer(p.fetcher.contact.slowed(p.fetcher.policy.KillTTL))
	defer timer.Stop()
	ended := time.Now()
	select {
	case <-timer.C:
		return true
	case <-life.Done():
		return false
	case <-p.fetcher.contact.recovered:
	}
	// A poll that fails while others succeed is no more often repeated than any
	// other fetch.
	return sleep(life, p.fetcher.policy.FailureTTL-time.Since(ended)) == nil
}
