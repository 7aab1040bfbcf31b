package cachetest

import (
	"context"
	"errors"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

func theLead(p *place) {
	first, second := p.leader(), p.member()
	p.turn(second, definitioncache.Refresh, definitioncache.Follow)
	// Asked again it is extended.
	for range 3 {
		p.advance(Timing.Lock - time.Second)
		p.turn(first, definitioncache.Refresh, definitioncache.Lead)
		p.turn(second, definitioncache.Refresh, definitioncache.Follow)
	}
	// Two polls without a word do not cost it.
	p.advance(2*Timing.Poll + time.Second)
	p.turn(second, definitioncache.Refresh, definitioncache.Follow)
	p.advance(Timing.Poll)
	p.turn(second, definitioncache.Refresh, definitioncache.Lead)
	p.turn(first, definitioncache.Refresh, definitioncache.Follow)
}

func aLostLead(p *place) {
	first, second := p.leader(), p.member()
	p.advance(Timing.Lock + time.Second)
	p.turn(second, definitioncache.Refresh, definitioncache.Lead)
	want := Definitions(4)
	p.received(second, want, nil)
	p.received(first, Definitions(5), definitioncache.ErrNotLeader)
	p.received(first, unchanged(4), definitioncache.ErrNotLeader)
	p.has(first, &want)
}

func aLockThatNobodyHas(p *place) {
	first, second := p.leader(), p.member()
	p.advance(Timing.Lock + time.Second)
	// Whoever publishes has it.
	want := Definitions(1)
	p.received(first, want, nil)
	p.has(second, &want)
	p.turn(second, definitioncache.Refresh, definitioncache.Follow)
}

func oneAtATime(p *place) {
	p.leader() // and never publishes
	second, third, fourth := p.member(), p.member(), p.member()
	p.turn(second, definitioncache.Refresh, definitioncache.Follow)
	p.turn(second, definitioncache.NoCopy, definitioncache.Once)
	p.turn(third, definitioncache.NoCopy, definitioncache.Follow)
	p.turn(second, definitioncache.NoCopy, definitioncache.Once)
	p.advance(Timing.Fetch + time.Second)
	p.turn(third, definitioncache.NoCopy, definitioncache.Once)
	p.received(second, Definitions(1), definitioncache.ErrNotLeader)
	want := Definitions(2)
	p.received(third, want, nil)
	p.has(second, &want)
	// It was once.
	p.turn(fourth, definitioncache.NoCopy, definitioncache.Once)
	p.received(third, Definitions(3), definitioncache.ErrNotLeader)
	p.has(second, &want)
}

func shutdownOfTheLeader(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(1)
	p.received(leader, want, nil)
	for range 2 {
		if err := leader.Shutdown(p.Context()); err != nil {
			p.Errorf("Shutdown: %v", err)
		}
	}
	p.received(leader, Definitions(2), definitioncache.ErrShutdown)
	p.received(leader, unchanged(1), definitioncache.ErrShutdown)
	if turn, err := leader.ShouldFetch(p.Context(), definitioncache.Refresh); turn != definitioncache.Follow || !errors.Is(err, definitioncache.ErrShutdown) {
		p.Errorf("ShouldFetch after Shutdown = %d, %v; want Follow, ErrShutdown", turn, err)
	}
	if _, err := leader.Definitions(p.Context(), definitioncache.Revision{}); !errors.Is(err, definitioncache.ErrShutdown) {
		p.Errorf("Definitions after Shutdown says %v; want ErrShutdown", err)
	}
	p.has(follower, &want)
	p.turn(follower, definitioncache.Refresh, definitioncache.Lead)
	// Shut down again, it does not take what is another's now.
	if err := leader.Shutdown(p.Context()); err != nil {
		p.Errorf("Shutdown: %v", err)
	}
	p.turn(p.member(), definitioncache.Refresh, definitioncache.Follow)
}

func shutdownOfAFollower(p *place) {
	leader, follower := p.leader(), p.member()
	if err := follower.Shutdown(p.Context()); err != nil {
		p.Errorf("Shutdown: %v", err)
	}
	p.turn(p.member(), definitioncache.Refresh, definitioncache.Follow)
	want := Definitions(1)
	p.received(leader, want, nil)
	p.has(p.member(), &want)
	p.received(follower, Definitions(2), definitioncache.ErrShutdown)
}

func aContextThatEnded(p *place) {
	leader := p.leader()
	ended, cancel := context.WithCancel(p.Context())
	cancel()
	if _, err := leader.ShouldFetch(ended, definitioncache.Refresh); err == nil {
		p.Error("ShouldFetch says nothing of the context that ended")
	}
	if _, err := leader.Definitions(ended, definitioncache.Revision{}); err == nil {
		p.Error("Definitions says nothing of the context that ended")
	}
	if err := leader.DefinitionsReceived(ended, Definitions(1)); err == nil {
		p.Error("DefinitionsReceived says nothing of the context that ended")
	}
	p.has(leader, nil)
}
