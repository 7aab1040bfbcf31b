package evaluator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

func TestWhoWroteReadsIt(t *testing.T) {
	e := start(t, newDouble("s"))
	at := apply(t, e, flag.Put(boolean("pay")))
	view, err := e.WaitFor(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal || !a.Value.Bool() || a.Stale {
		t.Errorf("answer is %+v", a)
	}
	apply(t, e, flag.Put(hold("pay", "ops-anna", time.Time{})))
	if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Value.Bool() {
		t.Errorf("killed, but the answer is %+v", a)
	}
	if killed := slices.Collect(e.View().Killed("")); !slices.Equal(killed, []flag.Key{"pay"}) {
		t.Errorf("killed are %v", killed)
	}
	if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal {
		t.Errorf("a view changed with a later commit: %+v", a)
	}
}

func TestRevisionsNeverGoBack(t *testing.T) {
	d := newDouble("s")
	e := start(t, d)
	var writers, reader sync.WaitGroup
	done := make(chan struct{})
	reader.Go(func() {
		var last int64
		for {
			at := e.View().Revision.Number
			if at < last {
				t.Errorf("revision %d came after %d", at, last)
				return
			}
			last = at
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for w := range 8 {
		writers.Go(func() {
			for i := range 50 {
				out, err := e.Apply(t.Context(), batch(flag.Put(boolean(flag.Key(fmt.Sprintf("w%d/f%d", w, i))))))
				if err != nil {
					t.Error(err)
					return
				}
				if at := e.View().Revision.Number; at < out.Revision.Number {
					t.Errorf("wrote revision %d, but %d is served", out.Revision.Number, at)
				}
			}
		})
		writers.Go(func() { // another root on the same store
			for i := range 10 {
				d.behind(t, flag.Put(boolean(flag.Key(fmt.Sprintf("other%d/f%d", w, i)))))
			}
		})
	}
	writers.Wait()
	close(done)
	reader.Wait()
	if err := e.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if flags, _, _ := e.View().Counts(); flags != 8*60 {
		t.Errorf("%d flags are known, want %d", flags, 8*60)
	}
	commits, _, ok := e.Changes(flag.Revision{StoreID: "s"})
	if !ok || len(commits) != 8*60 {
		t.Fatalf("the journal has %d commits (%t), want %d", len(commits), ok, 8*60)
	}
	for i, c := range commits {
		if c.Revision.Number != int64(i)+1 {
			t.Fatalf("commit %d has the revision %d", i, c.Revision.Number)
		}
	}
}

// A commit of another root came between two of ours: what it changed is there
// before our own change is.
func TestACommitWhoseForerunnerIsMissingIsCaughtUp(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		d := newDouble("s")
		e := start(t, d)
		d.behind(t, flag.Put(boolean("theirs")))
		d.set(func(d *double) { d.forgets = forgets })
		at := apply(t, e, flag.Put(boolean("ours")))
		view := e.View()
		if view.Revision != at || view.Flag("theirs") == nil || view.Flag("ours") == nil {
			t.Errorf("forgets=%t: at %v (want %v), theirs %v, ours %v", forgets, view.Revision, at, view.Flag("theirs"), view.Flag("ours"))
		}
		if _, _, ok := e.Changes(flag.Revision{StoreID: "s"}); ok == forgets {
			t.Errorf("forgets=%t: the journal reaches back: %t", forgets, ok)
		}
	}
}

// What is committed is told as committed, whatever comes after.
func TestACommitIsToldEvenWhenItCannotBeFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		d.behind(t, flag.Put(boolean("theirs")))
		d.after = func(store.Outcome) { d.set(func(d *double) { d.failing = errors.New("disk gone") }) }
		out, err := e.Apply(t.Context(), batch(flag.Put(boolean("ours"))))
		if err != nil || out.Results[0].Status != flag.Applied {
			t.Fatalf("outcome %+v, error %v", out, err)
		}
		if _, err := e.WaitFor(t.Context(), out.Revision); !errors.Is(err, ErrNotReached) {
			t.Errorf("the wait ended with %v", err)
		}
		d.set(func(d *double) { d.failing = nil })
		running(t, e)
		time.Sleep(HeartbeatInterval)
		if _, err := e.WaitFor(t.Context(), out.Revision); err != nil {
			t.Errorf("after a heartbeat: %v", err)
		}
	})
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, newDouble("s"))
		began := time.Now()
		if _, err := e.WaitFor(t.Context(), flag.Revision{StoreID: "other", Number: 1}); !errors.Is(err, ErrStoreChanged) || time.Since(began) != 0 {
			t.Errorf("another store: %v after %s", err, time.Since(began))
		}
		if _, err := e.WaitFor(t.Context(), flag.Revision{StoreID: "s", Number: 5}); !errors.Is(err, ErrNotReached) || time.Since(began) != WaitLimit {
			t.Errorf("too new: %v after %s", err, time.Since(began))
		}
		go func() {
			time.Sleep(WaitLimit / 2)
			for i := range 5 {
				apply(t, e, flag.Put(boolean(flag.Key(fmt.Sprint("f", i)))))
			}
		}()
		began = time.Now()
		if view, err := e.WaitFor(t.Context(), flag.Revision{Number: 5}); err != nil || view.Revision.Number < 5 || time.Since(began) != WaitLimit/2 {
			t.Errorf("came while waiting: %v at %v after %s", err, view.Revision, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), WaitLimit/4)
		defer cancel()
		if _, err := e.WaitFor(ctx, flag.Revision{Number: 50}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's time ran out: %v", err)
		}
	})
}

func TestASilentStore(t *testing.T) {
	for name, fault := range map[string]func(d *double){
		"failing": func(d *double) { d.failing = errors.New("no such disk") },
		"hanging": func(d *double) { d.hanging = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDouble("s")
				e := start(t, d)
				apply(t, e, flag.Put(boolean("pay")), flag.Put(boolean("held")))
				apply(t, e, flag.Put(hold("held", "ops", time.Time{})), flag.Put(override("pay", "u1", false)))
				running(t, e)
				time.Sleep(10*HeartbeatInterval + HeartbeatInterval/2)
				if h := e.Health(); h.Status != client.Serving || h.Stale || h.Silence > HeartbeatInterval || h.Failures != 0 || h.Flags != 2 {
					t.Fatalf("while all is well: %+v", h)
				}
				d.set(fault)
				time.Sleep(2 * HeartbeatInterval)
				if h := e.Health(); h.Status != client.Serving || h.Stale {
					t.Errorf("after 2 s of silence: %+v", h)
				}
				time.Sleep(5 * HeartbeatInterval)
				if h := e.Health(); h.Status != client.Degraded || !h.Stale || h.Silence < DefaultStaleAfter {
					t.Errorf("after 7 s of silence: %+v", h)
				}
				view := e.View()
				for _, want := range []struct {
					key    flag.Key
					entity string
					answer flag.Answer
				}{
					{"pay", "", flag.Answer{Key: "pay", Type: flag.Bool, Value: flag.BoolValue(true), Source: flag.SourceCached, FreshSource: flag.SourceGlobal, Stale: true}},
					{"pay", "u1", flag.Answer{Key: "pay", Type: flag.Bool, Value: flag.BoolValue(false), Source: flag.SourceCached, FreshSource: flag.SourceOverride, Stale: true}},
					{"held", "", flag.Answer{Key: "held", Type: flag.Bool, Value: flag.BoolValue(false), Source: flag.SourceKilled, FreshSource: flag.SourceKilled, Stale: true}},
					{"nothing", "", flag.Answer{Key: "nothing", Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound, Stale: true}},
				} {
					if got := view.Evaluate(want.key, flag.Context{TargetingKey: want.entity}); got != want.answer {
						t.Errorf("%s for %q: %+v, want %+v", want.key, want.entity, got, want.answer)
					}
				}
				d.set(func(d *double) { d.failing, d.hanging = nil, false })
				time.Sleep(3 * HeartbeatInterval)
				if h := e.Health(); h.Status != client.Serving || h.Stale || h.Failures != 0 {
					t.Errorf("after it came back: %+v", h)
				}
				if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal || a.Stale {
					t.Errorf("after it came back: %+v", a)
				}
			})
		})
	}
}

func TestAnotherRootsChangesArriveWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		running(t, e)
		_, more, ok := e.Changes(e.View().Revision)
		if !ok {
			t.Fatal("the present revision is not known")
		}
		at := d.behind(t, flag.Put(boolean("pay"))).Revision
		select {
		case <-more:
		case <-time.After(HeartbeatInterval + time.Millisecond):
			t.Fatal("nobody was told")
		}
		if e.View().Revision != at {
			t.Errorf("at %v, want %v", e.View().Revision, at)
		}
	})
}

func TestHoldsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		apply(t, e, flag.Put(boolean("pay")))
		running(t, e)
		soon := time.Now().Add(90 * time.Second)
		apply(t, e, flag.Put(hold("pay", "late", time.Now().Add(time.Hour))))
		apply(t, e, flag.Put(hold("pay", "soon", soon)))
		at := e.View().Revision.Number

		time.Sleep(time.Until(soon) - time.Nanosecond)
		if d.count("ExpireHolds") != 0 {
			t.Error("the store was asked to expire before there was something to expire")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if h := e.View().Hold("pay", "soon"); h == nil || !h.Expired || h.Changed.Actor != store.ExpiryActor || e.View().Revision.Number != at+1 {
			t.Errorf("at its time the hold is %+v, revision %d", h, e.View().Revision.Number)
		}
		if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled {
			t.Errorf("the other hold stands, but: %+v", a)
		}
		time.Sleep(time.Hour)
		if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal {
			t.Errorf("both expired, but: %+v", a)
		}
		if n := d.count("ExpireHolds"); n != 2 {
			t.Errorf("the store was asked %d times to expire, want 2", n)
		}
	})
}

// The time counts before the commit is made, and when it cannot be made.
func TestAnExpiredHoldDoesNotKillWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		apply(t, e, flag.Put(boolean("pay")))
		apply(t, e, flag.Put(hold("pay", "soon", time.Now().Add(time.Minute))))
		running(t, e)
		time.Sleep(30 * time.Second)
		d.set(func(d *double) { d.failing = errors.New("away") })
		time.Sleep(31 * time.Second)
		view := e.View()
		if a := view.Evaluate("pay", flag.Context{}); a.FreshSource != flag.SourceGlobal || !a.Value.Bool() {
			t.Errorf("answer is %+v", a)
		}
		if killed := slices.Collect(view.Killed("")); len(killed) != 0 {
			t.Errorf("killed are %v", killed)
		}
		d.set(func(d *double) { d.failing = nil })
		time.Sleep(HeartbeatInterval + time.Millisecond)
		if h := e.View().Hold("pay", "soon"); !h.Expired {
			t.Error("the expiry was not committed once the store was back")
		}
	})
}

func TestAnotherStoreIsReadAnewUnlessItIsDangerous(t *testing.T) {
	for name, c := range map[string]struct {
		found   func(t *testing.T, other *double)
		refused string
	}{
		"equal and held": {func(t *testing.T, other *double) {
			t.Helper()
			other.behind(t, flag.Put(boolean("pay")))
			other.behind(t, flag.Put(hold("pay", "ops", time.Time{})))
		}, ""},
		"empty":        {func(*testing.T, *double) {}, "that is empty, while 1 flags are known"},
		"lacks a hold": {func(t *testing.T, other *double) { t.Helper(); other.behind(t, flag.Put(boolean("pay"))) }, `lacks the hold of "ops" on "pay"`},
		"the hold is spent": {func(t *testing.T, other *double) {
			t.Helper()
			other.behind(t, flag.Put(boolean("pay")))
			other.behind(t, flag.Put(hold("pay", "ops", time.Now().Add(time.Second))))
			time.Sleep(2 * time.Second)
		}, `lacks the hold of "ops" on "pay"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, other := newDouble("s"), newDouble("other")
				e := start(t, d)
				apply(t, e, flag.Put(boolean("pay")))
				at := apply(t, e, flag.Put(hold("pay", "ops", time.Time{})))
				c.found(t, other)
				d.set(func(d *double) { d.snapshot, d.commits = other.snapshot, other.commits })
				err := e.CatchUp(t.Context())
				if c.refused == "" {
					if err != nil || e.View().Revision.StoreID != "other" {
						t.Fatalf("%v, at %v", err, e.View().Revision)
					}
					if _, _, ok := e.Changes(at); ok {
						t.Error("a reader of the former store is told that nothing changed")
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.refused) || e.View().Revision != at {
					t.Fatalf("%v, at %v", err, e.View().Revision)
				}
				running(t, e)
				time.Sleep(5 * HeartbeatInterval)
				if h := e.Health(); h.Status != client.Degraded || !h.Stale {
					t.Errorf("%+v", h)
				}
				if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

func TestARolledBackStoreGetsAnotherId(t *testing.T) {
	d := newDouble("s")
	e := start(t, d)
	before := d.snapshot
	at := apply(t, e, flag.Put(boolean("pay")))
	d.set(func(d *double) { d.snapshot = before })
	if err := e.CatchUp(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty") || e.View().Revision != at {
		t.Errorf("%v, at %v", err, e.View().Revision)
	}
	if id := d.snapshot.Revision.StoreID; id == at.StoreID {
		t.Error("the store kept the id under which other revisions have been told")
	}
}

func TestTheSystemsClockSetBackMakesNothingFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		offset := time.Duration(0)
		e, err := NewRoot(t.Context(), d, Options{Now: func() time.Time { return time.Now().Add(offset) }})
		if err != nil {
			t.Fatal(err)
		}
		offset = -time.Hour
		time.Sleep(DefaultStaleAfter)
		if !e.View().Stale {
			t.Error("nobody asked the store for 3 s, but the answers are called fresh")
		}
	})
}

func TestNewTellsTheStoresError(t *testing.T) {
	d := newDouble("s")
	d.failing = errors.New("no such disk")
	if _, err := NewRoot(t.Context(), d, Options{}); err == nil || !strings.Contains(err.Error(), "read the definitions: no such disk") {
		t.Errorf("error is %v", err)
	}
}

func TestAWriterThatWaitsCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		d.set(func(d *double) { d.hanging = true })
		first, cancelFirst := context.WithCancel(t.Context())
		go func() { _, _ = e.Apply(first, batch(flag.Put(boolean("a")))) }()
		synctest.Wait()
		second, cancelSecond := context.WithTimeout(t.Context(), time.Minute)
		defer cancelSecond()
		if _, err := e.Apply(second, batch(flag.Put(boolean("b")))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if n := d.count("Apply"); n != 1 {
			t.Errorf("the store was asked %d times", n)
		}
		cancelFirst()
		synctest.Wait()
	})
}
