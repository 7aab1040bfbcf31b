package cachetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

func nothingWasPublished(p *place) {
	p.has(p.leader(), nil)
	p.has(p.member(), nil)
}

func publishedIsRead(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(7)
	want.Supersedes = []string{"Z", "Y with spaces\n and a line"}
	p.received(leader, want, nil)
	for _, cache := range []definitioncache.Cache{leader, follower, p.member()} {
		found := p.has(cache, &want)
		if found.Key != Key || !found.FetchedAt.Equal(want.FetchedAt) || fmt.Sprint(found.Supersedes) != fmt.Sprint(want.Supersedes) {
			p.Errorf("the header is %+v; want %+v", found.Header, want.Header)
		}
	}
	next := Definitions(1 << 62) // beyond what a float64 tells apart
	p.received(leader, next, nil)
	p.received(leader, Definitions(1<<62-1), definitioncache.ErrOlder)
	p.has(follower, &next)
}

func anEmptyListIsAValue(p *place) {
	leader, follower := p.leader(), p.member()
	full, empty := Definitions(1), Definitions(2)
	empty.Body = nil
	p.received(leader, full, nil)
	p.received(leader, empty, nil)
	p.has(follower, &empty)
	p.received(leader, unchanged(2), nil)
	p.has(follower, &empty)
}

func whatIsKnown(p *place) {
	leader, follower := p.leader(), p.member()
	p.received(leader, Definitions(3), nil)
	found, err := follower.Definitions(p.Context(), Definitions(3).Revision)
	if err != nil || found == nil || !found.Known || found.Body != nil || found.Revision != Definitions(3).Revision {
		p.Errorf("Definitions gives %+v, %v; want no bytes of what is known", found, err)
	}
	for _, known := range []definitioncache.Revision{{Store: "A", Number: 2}, {Store: "A", Number: 4}, {Store: "B", Number: 3}} {
		found, err := follower.Definitions(p.Context(), known)
		if err != nil || found == nil || found.Known || !bytes.Equal(found.Body, Definitions(3).Body) {
			p.Errorf("who knows %+v gets %+v, %v; want the bytes of revision 3", known, found, err)
		}
	}
}

func writtenOver(p *place) {
	leader, follower := p.leader(), p.member()
	want, given := Definitions(1), Definitions(1)
	p.received(leader, given, nil)
	given.Body[0] = '!'
	p.has(follower, &want).Body[0] = '!'
	p.has(follower, &want)
}

func olderNeverReplacesNewer(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(10)
	p.received(leader, want, nil)
	p.received(leader, Definitions(9), definitioncache.ErrOlder)
	p.has(follower, &want)
	// Nor does the next leader's older.
	p.advance(Timing.Lock + time.Second)
	p.turn(follower, definitioncache.Refresh, definitioncache.Lead)
	p.received(follower, Definitions(9), definitioncache.ErrOlder)
	p.has(leader, &want)
	// What was refused does not renew the copy's life.
	p.advance(Timing.Copy - Timing.Lock - time.Second - slack)
	p.turn(follower, definitioncache.Refresh, definitioncache.Lead)
	p.received(follower, Definitions(9), definitioncache.ErrOlder)
	p.advance(2 * slack)
	p.has(leader, nil)
}

func whatIsOverruled(p *place) {
	leader, follower := p.leader(), p.member()
	hostile := Definitions(1<<63 - 1)
	p.received(leader, hostile, nil)
	want := Definitions(9)
	want.Overrules = Definitions(1<<63 - 2).Revision
	p.received(leader, want, definitioncache.ErrOlder)
	p.has(follower, &hostile)
	want.Overrules = hostile.Revision
	p.received(follower, want, definitioncache.ErrNotLeader)
	p.received(leader, want, nil)
	p.has(follower, &want)
	want = Definitions(10)
	p.received(leader, want, nil)
	p.received(leader, Definitions(9), definitioncache.ErrOlder)
	p.has(follower, &want)
}

func theSameRevision(p *place) {
	leader, follower := p.leader(), p.member()
	p.received(leader, Definitions(1), nil)
	p.advance(Timing.Copy - slack)
	want := Definitions(1)
	p.received(leader, want, nil)
	p.advance(2 * slack)
	p.has(follower, &want)
}

func unchangedRenews(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(1)
	p.received(leader, want, nil)
	for range 3 {
		p.advance(Timing.Copy - slack)
		p.received(leader, unchanged(1), nil)
	}
	p.advance(2 * slack)
	p.has(follower, &want)
}

func unchangedOfNothing(p *place) {
	leader, follower := p.leader(), p.member()
	p.received(leader, unchanged(1), definitioncache.ErrNoCopy)
	p.has(follower, nil)
	want := Definitions(2)
	p.received(leader, want, nil)
	p.received(leader, unchanged(1), definitioncache.ErrNoCopy)
	p.received(leader, unchanged(3), definitioncache.ErrNoCopy)
	p.has(follower, &want)
	p.advance(Timing.Copy + time.Second)
	p.received(leader, unchanged(2), definitioncache.ErrNoCopy)
	p.has(follower, nil)
}

func theCopysLifeEnds(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(1)
	p.received(leader, want, nil)
	p.advance(Timing.Copy - slack)
	p.has(follower, &want)
	p.advance(2 * slack)
	p.has(follower, nil)
	found, err := follower.Definitions(p.Context(), want.Revision)
	if found != nil || err != nil {
		p.Errorf("who knows the copy whose life is over gets %+v, %v; want none", found, err)
	}
}

func age(p *place) {
	leader, follower := p.leader(), p.member()
	p.received(leader, Definitions(1), nil)
	p.hasAge(follower, 0)
	p.advance(20 * time.Second)
	p.hasAge(follower, 20*time.Second)
	p.received(leader, unchanged(1), nil)
	p.hasAge(follower, 0)
}

// hasAge tells when the copy is of another age than wanted.
func (p *place) hasAge(cache definitioncache.Cache, want time.Duration) {
	p.Helper()
	for _, known := range []definitioncache.Revision{{}, Definitions(1).Revision} {
		found, err := cache.Definitions(p.Context(), known)
		if err != nil || found == nil || found.Age < want || found.Age > want+slack {
			p.Errorf("the copy is %+v, %v; want the age %s", found, err, want)
		}
	}
}

// aClockThatWentBack, as after a failover: the copy is there, as old as can be, and
// nothing older takes its place.
func aClockThatWentBack(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(10)
	p.received(leader, want, nil)
	p.advance(-time.Hour)
	if found := p.has(follower, &want); found.Age < Timing.Copy-time.Second || found.Age >= Timing.Copy {
		p.Errorf("the copy is %s old; want almost %s", found.Age, Timing.Copy)
	}
	p.turn(follower, definitioncache.Refresh, definitioncache.Lead)
	p.received(follower, Definitions(9), definitioncache.ErrOlder)
	p.has(leader, &want)
	p.received(follower, unchanged(10), nil)
	if found := p.has(leader, &want); found.Age > slack {
		p.Errorf("the copy that was renewed is %s old", found.Age)
	}
	p.advance(-time.Hour)
	p.turn(follower, definitioncache.Refresh, definitioncache.Lead)
	want = Definitions(11)
	p.received(follower, want, nil)
	p.has(leader, &want)
}

func anotherStore(p *place) {
	leader, follower := p.leader(), p.member()
	a := Definitions(100)
	b := Definitions(1)
	b.Revision.Store = "B"
	p.received(leader, a, nil)
	p.advance(2*Timing.Lock - slack)
	p.turn(leader, definitioncache.Refresh, definitioncache.Lead)
	p.received(leader, b, definitioncache.ErrOlder)
	p.has(follower, &a)
	p.received(leader, unchanged(100), nil)
	b.Supersedes = []string{"X", "A"}
	p.received(leader, b, nil)
	p.has(follower, &b)
	// There is no way back.
	p.received(leader, Definitions(101), definitioncache.ErrOlder)
	p.has(follower, &b)
	// Unless nobody who has that store is there any more.
	p.advance(2 * Timing.Lock)
	p.turn(leader, definitioncache.Refresh, definitioncache.Lead)
	p.received(leader, a, nil)
	p.has(follower, &a)
}

func keysAreKeptApart(p *place) {
	keys := []definitioncache.Key{
		Key,
		{Environment: "staging", Scope: "read", Schema: 1},
		{Environment: "production", Scope: "admin", Schema: 1},
		{Environment: "production", Scope: "read", Schema: 2},
		{Environment: "production", Scope: "read", Schema: 1, Store: "A"},
		{Environment: "productionread", Scope: "read", Schema: 1},
		{Environment: "production/read", Scope: "1", Schema: 1},
		{Environment: "production", Scope: "read/1", Schema: 1},
		{Environment: "production", Scope: "{read}", Schema: 1},
		{Environment: "../production", Scope: "re:ad*\n\x00", Schema: 1},
	}
	caches := make([]definitioncache.Cache, len(keys))
	for i, key := range keys {
		caches[i] = p.join(key)
		p.turn(caches[i], definitioncache.Refresh, definitioncache.Lead)
		p.has(caches[i], nil)
		received := Definitions(int64(i))
		received.Key = key
		p.received(caches[i], received, nil)
	}
	for i, cache := range caches {
		want := Definitions(int64(i))
		if found := p.has(cache, &want); found.Key != keys[i] {
			p.Errorf("under %+v are definitions of %+v", keys[i], found.Key)
		}
	}
}

func whatDoesNotBelong(p *place) {
	leader := p.leader()
	good := Definitions(1)
	for name, spoil := range map[string]func(*definitioncache.Received){
		"a stronger token's": func(r *definitioncache.Received) { r.Key.Scope = "admin" },
		"another environment's": func(r *definitioncache.Received) {
			r.Key.Environment = "staging"
		},
		"another schema's":    func(r *definitioncache.Received) { r.Key.Schema = 2 },
		"no store's":          func(r *definitioncache.Received) { r.Revision.Store = "" },
		"a negative revision": func(r *definitioncache.Received) { r.Revision.Number = -1 },
	} {
		received := good
		spoil(&received)
		if err := leader.DefinitionsReceived(p.Context(), received); err == nil {
			p.Errorf("%s is taken", name)
		}
	}
	p.has(leader, nil)
	one := p.join(definitioncache.Key{Environment: "production", Scope: "read", Schema: 1, Store: "B"})
	p.turn(one, definitioncache.Refresh, definitioncache.Lead)
	good.Key.Store = "B"
	if err := one.DefinitionsReceived(p.Context(), good); err == nil {
		p.Error("definitions of store A are taken where only those of store B are shared")
	}
}

func tooLarge(p *place) {
	leader, follower := p.leader(), p.member()
	want := Definitions(1)
	p.received(leader, want, nil)
	large := Definitions(2)
	large.Body = make([]byte, definitioncache.MaxSize+1)
	p.received(leader, large, definitioncache.ErrTooLarge)
	p.has(follower, &want)
}

// manyAtOnce: writers that take the lead from each other publish in any order,
// and no reader ever sees a revision go backwards, or the bytes of one with the header
// of another.
func manyAtOnce(p *place) {
	const writers, readers, rounds = 4, 4, 15
	var wg sync.WaitGroup
	for i := range writers {
		writer := p.member()
		wg.Go(func() {
			for n := range rounds {
				// Some are told to, and some publish what they think they may.
				if _, err := writer.ShouldFetch(p.Context(), definitioncache.NoCopy); err != nil {
					p.Errorf("ShouldFetch: %v", err)
				}
				err := writer.DefinitionsReceived(p.Context(), Definitions(int64(n*(i+1))))
				if err != nil && !errors.Is(err, definitioncache.ErrOlder) && !errors.Is(err, definitioncache.ErrNotLeader) {
					p.Errorf("DefinitionsReceived: %v", err)
				}
			}
		})
	}
	for range readers {
		reader := p.member()
		wg.Go(func() {
			last := int64(-1)
			for range 2 * rounds {
				found, err := reader.Definitions(p.Context(), definitioncache.Revision{})
				switch {
				case err != nil:
					p.Errorf("Definitions: %v", err)
				case found == nil:
				case found.Revision.Number < last:
					p.Errorf("revision %d follows %d", found.Revision.Number, last)
				case !bytes.Equal(found.Body, Definitions(found.Revision.Number).Body):
					p.Errorf("a torn read: %q under revision %d", found.Body, found.Revision.Number)
				default:
					last = found.Revision.Number
				}
			}
		})
	}
	wg.Wait()
}
