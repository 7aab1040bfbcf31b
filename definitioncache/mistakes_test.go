package definitioncache_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// The mistakes that are known of such caches, each as a test.

func TestTheTagAdvancesOnlyAfterThePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		cache := &breakable{Cache: memory.Join()}
		leader, follower := newProcess(t, cache, s), newProcess(t, memory.Join(), s)
		leader.good(t, 1)
		follower.good(t, 1)
		s.set(func() { s.revision.Number = 2 })
		cache.set(nil, nil, errDown)
		leader.bad(t, 2, errDown) // it serves what it fetched
		follower.good(t, 1)
		cache.set(nil, nil, nil)
		leader.good(t, 2)
		follower.good(t, 2) // what was not published was asked for again
		if want := int64(1); s.asked[len(s.asked)-1].Number != want {
			t.Errorf("after the publish that failed the server was asked for what is newer than %+v; want %d", s.asked[len(s.asked)-1], want)
		}
	})
}

func TestUnchangedKeepsTheCopyAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		leader := newProcess(t, memory.Join(), s)
		for range 3 * timing.Copy / timing.Poll {
			leader.good(t, 1)
			<-time.After(timing.Poll)
		}
		before := s.requests()
		newProcess(t, memory.Join(), s).good(t, 1)
		if s.requests() != before {
			t.Error("the copy died of the server's saying unchanged: whoever came fetched")
		}
		if counts := leader.seen(); counts.Published != 1 || !counts.Leader || counts.LeadershipChanges != 1 {
			t.Errorf("the leader counts %+v; want one publication", counts)
		}
	})
}

// When the copy is gone though the server says unchanged, it is published anew.
func TestUnchangedBringsBackTheCopyThatWasEvicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		cache := memory.Join()
		leader := newProcess(t, cache, s)
		leader.good(t, 1)
		<-time.After(timing.Copy + time.Second)
		if found, err := cache.Definitions(t.Context(), definitioncache.Revision{}); found != nil || err != nil {
			t.Fatalf("there is a copy still: %+v, %v", found, err)
		}
		leader.good(t, 1)
		if found, err := cache.Definitions(t.Context(), definitioncache.Revision{}); found == nil || err != nil {
			t.Errorf("the copy was not published anew: %v", err)
		}
	})
}

func TestALockShorterThanTwoPollsIsRefused(t *testing.T) {
	t.Parallel()
	short := definitioncache.Timing{Poll: 10 * time.Second, Lock: 20 * time.Second, Copy: time.Minute, Fetch: time.Second}
	_, memory := definitioncache.NewMemory(cachetest.Key, short)
	_, file := definitioncache.NewFile(t.TempDir(), cachetest.Key, short)
	s := newServer(1)
	_, cycle := definitioncache.New(definitioncache.Options{Cache: newMemory(t).Join(), Timing: short, Fetch: s.fetch, Apply: (&process{}).apply})
	for _, err := range []error{memory, file, cycle} {
		if err == nil || !strings.Contains(err.Error(), "the lock must outlive two polls") || !strings.Contains(err.Error(), "more than 20s; found 20s") {
			t.Errorf("a lock of two polls is answered with %v", err)
		}
	}
}

func TestNothingIsPublishedAfterShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(1)
		cache, other := memory.Join(), memory.Join()
		leader := newProcess(t, cache, s)
		leader.good(t, 1)
		s.set(func() { s.revision.Number, s.latency = 2, time.Second })
		done := make(chan error, 1)
		go func() { done <- leader.Step(t.Context()) }()
		synctest.Wait() // it waits for the server
		if err := errors.Join(cache.Shutdown(t.Context()), cache.Shutdown(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, definitioncache.ErrShutdown) {
			t.Errorf("the step under way says %v; want ErrShutdown", err)
		}
		if found, err := other.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found == nil || found.Revision.Number != 1 {
			t.Errorf("the copy is %+v, %v; want revision 1", found, err)
		}
		if turn, err := other.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
			t.Errorf("the lock was not released: %d, %v", turn, err)
		}
		if err := leader.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		before := s.requests()
		leader.bad(t, 2, definitioncache.ErrShutdown)
		if s.requests() != before {
			t.Error("after Shutdown a step asked the server")
		}
	})
}

func TestAnEmptyListIsNotTakenForAMiss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s := newMemory(t), newServer(0)
		s.empty = true
		newProcess(t, memory.Join(), s).good(t, 0)
		before := s.requests()
		for range 5 {
			newProcess(t, memory.Join(), s).good(t, 0)
		}
		if s.requests() != before {
			t.Errorf("an empty list was fetched %d times more", s.requests()-before)
		}
	})
}

// Two leaders at once, one of whose servers is behind.
func TestOlderDoesNotOverwriteNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, s, behind := newMemory(t), newServer(5), newServer(3)
		cache := &breakable{Cache: memory.Join()}
		first, second, follower := newProcess(t, memory.Join(), s), newProcess(t, cache, behind), newProcess(t, memory.Join(), s)
		first.good(t, 5)
		follower.good(t, 5)
		<-time.After(timing.Lock) // second leads, knowing nothing, and cannot read what there is
		cache.set(nil, errDown, nil)
		second.bad(t, 3, definitioncache.ErrOlder)
		cache.set(nil, nil, nil)
		second.bad(t, 5, definitioncache.ErrOlder)
		if err := second.backwards(); err != nil {
			t.Log(err)
		}
		follower.good(t, 5)
		newProcess(t, memory.Join(), s).good(t, 5)
		if counts := second.seen(); counts.RefusedAsOlder != 2 || counts.Published != 0 {
			t.Errorf("who was behind counts %+v", counts)
		}
		// Who knows the newer does not take the older from its server.
		<-time.After(timing.Poll)
		if err := second.Step(t.Context()); err == nil || second.has() != 5 {
			t.Errorf("revision %d is served, %v; want 5, and an error", second.has(), err)
		}
	})
}

func TestNoStampedeWhenTheCacheIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const processes, outage = 500, time.Minute
		memory, s := newMemory(t), newServer(1)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		caches := make([]*breakable, processes)
		fleet := make([]*process, processes)
		for i := range fleet {
			caches[i] = &breakable{Cache: memory.Join()}
			fleet[i] = newProcess(t, caches[i], s)
			wg.Go(func() {
				if err := fleet[i].Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(timing.Copy)
		if n := s.requests(); n > 3*int(timing.Copy/timing.Poll)/2 {
			t.Errorf("%d processes asked %d times in %s; want about one each %s, of the leader", processes, n, timing.Copy, timing.Poll)
		}
		before := s.requests()
		for _, cache := range caches {
			cache.set(errDown, errDown, errDown)
		}
		<-time.After(outage / 2)
		s.set(func() { s.revision.Number = 2 })
		<-time.After(outage / 2)
		s.mu.Lock()
		at := slices.Clone(s.at[before:])
		s.mu.Unlock()
		if most := processes * int(outage/(4*timing.Poll)); len(at) > most {
			t.Errorf("in the outage there were %d requests; want at most one for each process and 4 polls: %d", len(at), most)
		}
		for i, first := range at {
			n, _ := slices.BinarySearchFunc(at[i:], first.Add(timing.Poll/10), time.Time.Compare)
			if n > processes/8 { // spread over two polls they are a twentieth
				t.Fatalf("within a tenth of a poll %d of %d asked at once", n, processes)
			}
		}
		stop()
		wg.Wait()
		for _, p := range fleet {
			if err := p.backwards(); err != nil || p.has() != 2 {
				t.Errorf("a process serves revision %d, %v; want 2", p.has(), err)
			}
		}
	})
}

func TestAWeakerTokenDoesNotReadWhatAStrongerOneCached(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	strong := cachetest.Key
	strong.Scope = "read"
	weak := strong
	weak.Scope = "read below team/a"
	a, err := definitioncache.NewFile(folder, strong, timing)
	if err != nil {
		t.Fatal(err)
	}
	b, err := definitioncache.NewFile(folder, weak, timing)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.DefinitionsReceived(t.Context(), cachetest.Definitions(1)); err != nil {
		t.Fatal(err)
	}
	if found, err := b.Definitions(t.Context(), definitioncache.Revision{}); found != nil || err != nil {
		t.Errorf("the weaker token reads %+v, %v", found, err)
	}
	// Nor where somebody put the one's files in the other's place.
	move(t, a, b)
	if found, err := b.Definitions(t.Context(), definitioncache.Revision{}); found != nil || err != nil {
		t.Errorf("the weaker token reads %+v, %v", found, err)
	}
	value, err := definitioncache.Encode(cachetest.Definitions(1))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := definitioncache.Decode(value, weak); found != nil || !errors.Is(err, definitioncache.ErrUnusable) {
		t.Errorf("the weaker token reads %+v, %v", found, err)
	}
	if _, err := definitioncache.NewFile(folder, definitioncache.Key{Environment: "production"}, timing); err == nil {
		t.Error("a key without a scope is taken")
	}
}
