// Package cachetest is what every shared cache of definitions must do, as tests
// for whoever writes one.
package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// Shared is a shared place, new for each test.
type Shared struct {
	// Join gives another process's part under a key. It is shut down after the test.
	Join func(tb testing.TB, key definitioncache.Key) definitioncache.Cache
	// Advance lets time go by at the shared place. A negative time sets its clock back.
	Advance func(tb testing.TB, by time.Duration)
}

// Key is the key of most tests.
var Key = definitioncache.Key{Environment: "production", Scope: "read", Schema: 1}

// Timing is what the shared place must be made with.
var Timing = definitioncache.Timing{Poll: 10 * time.Second, Lock: 30 * time.Second, Copy: 5 * time.Minute, Fetch: 15 * time.Second}

// slack is the time that a test itself may take, which goes by at the shared place as well.
const slack = 10 * time.Second

// Run runs the suite; each test makes a place of its own.
func Run(t *testing.T, start func(tb testing.TB) Shared) {
	t.Helper()
	for name, test := range map[string]func(*place){
		"the lead":                               theLead,
		"a lost lead":                            aLostLead,
		"a lock that nobody has":                 aLockThatNobodyHas,
		"one at a time for want of a copy":       oneAtATime,
		"nothing was published":                  nothingWasPublished,
		"published is read":                      publishedIsRead,
		"an empty list is a value":               anEmptyListIsAValue,
		"what is known is not sent again":        whatIsKnown,
		"what was handed in may be written over": writtenOver,
		"older never replaces newer":             olderNeverReplacesNewer,
		"what the server overrules":              whatIsOverruled,
		"the same revision again":                theSameRevision,
		"unchanged renews the copy's life":       unchangedRenews,
		"unchanged of what is not there":         unchangedOfNothing,
		"the copy's life ends":                   theCopysLifeEnds,
		"age":                                    age,
		"a clock that went back":                 aClockThatWentBack,
		"another store":                          anotherStore,
		"keys are kept apart":                    keysAreKeptApart,
		"what does not belong is refused":        whatDoesNotBelong,
		"too large":                              tooLarge,
		"shutdown of the leader":                 shutdownOfTheLeader,
		"shutdown of a follower":                 shutdownOfAFollower,
		"a context that ended":                   aContextThatEnded,
		"many at once":                           manyAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&place{T: t, shared: start(t)})
		})
	}
}

// place is a shared place in a test.
type place struct {
	*testing.T

	shared Shared
}

// member joins with the usual key.
func (p *place) member() definitioncache.Cache {
	p.Helper()
	return p.join(Key)
}

func (p *place) join(key definitioncache.Key) definitioncache.Cache {
	p.Helper()
	cache := p.shared.Join(p, key)
	p.Cleanup(func() {
		if err := cache.Shutdown(context.WithoutCancel(p.Context())); err != nil {
			p.Errorf("Shutdown after the test: %v", err)
		}
	})
	return cache
}

func (p *place) advance(by time.Duration) {
	p.Helper()
	p.shared.Advance(p, by)
}

// turn asks for a turn and tells when it is another than wanted.
func (p *place) turn(cache definitioncache.Cache, need definitioncache.Need, want definitioncache.Turn) {
	p.Helper()
	if got, err := cache.ShouldFetch(p.Context(), need); err != nil || got != want {
		p.Fatalf("ShouldFetch(%d) = %d, %v; want %d", need, got, err, want)
	}
}

// leader joins and takes the lead.
func (p *place) leader() definitioncache.Cache {
	p.Helper()
	cache := p.member()
	p.turn(cache, definitioncache.Refresh, definitioncache.Lead)
	return cache
}

// received hands in and tells when the error is another than wanted.
func (p *place) received(cache definitioncache.Cache, received definitioncache.Received, want error) {
	p.Helper()
	if err := cache.DefinitionsReceived(p.Context(), received); !errors.Is(err, want) {
		p.Fatalf("DefinitionsReceived(%+v, unchanged: %t) = %v; want %v", received.Revision, received.Unchanged, err, want)
	}
}

// has tells when the copy is not what is wanted; nil: none.
func (p *place) has(cache definitioncache.Cache, want *definitioncache.Received) *definitioncache.Copy {
	p.Helper()
	found, err := cache.Definitions(p.Context(), definitioncache.Revision{})
	switch {
	case err != nil:
		p.Fatalf("Definitions: %v", err)
	case want == nil && found != nil:
		p.Fatalf("Definitions gives %+v; want none", found.Revision)
	case want == nil:
	case found == nil:
		p.Fatalf("Definitions gives none; want %+v", want.Revision)
	case found.Revision != want.Revision || !bytes.Equal(found.Body, want.Body) || found.Known:
		p.Fatalf("Definitions gives %+v %.100q, known: %t; want %+v %.100q", found.Revision, found.Body, found.Known, want.Revision, want.Body)
	}
	return found
}

// Definitions gives definitions of a revision of store A, for tests.
func Definitions(number int64) definitioncache.Received {
	return definitioncache.Received{
		Header: definitioncache.Header{
			Key: Key, Revision: definitioncache.Revision{Store: "A", Number: number},
			FetchedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		},
		Body: fmt.Appendf(nil, "definitions of revision %d", number),
	}
}

func unchanged(number int64) definitioncache.Received {
	received := Definitions(number)
	received.Body, received.Unchanged = nil, true
	return received
}
