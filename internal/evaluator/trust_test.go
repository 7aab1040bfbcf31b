package evaluator

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// become makes the double another store.
func (d *double) become(other *double) {
	other.mu.Lock()
	snapshot, commits := other.snapshot, other.commits
	other.mu.Unlock()
	d.set(func(d *double) { d.snapshot, d.commits = snapshot, commits })
}

func TestARefusalEndsWhenTheRightStoreIsBack(t *testing.T) {
	d, wrong, right := newDouble("s"), newDouble("wrong"), newDouble("s")
	e := start(t, d)
	apply(t, e, flag.Put(boolean("pay")))
	right.become(d)
	d.become(wrong)
	if err := e.CatchUp(t.Context()); err == nil || e.Refused() == nil || e.Trusted() != nil {
		t.Fatalf("%v, refused for %v", err, e.Refused())
	}
	d.become(right)
	if err := e.CatchUp(t.Context()); err != nil || e.Refused() != nil || e.Trusted() == nil || e.Health().Status != client.Serving {
		t.Errorf("%v, refused for %v, %+v", err, e.Refused(), e.Health())
	}
	apply(t, e, flag.Put(hold("pay", "ops", time.Time{})))
}

// A hold of another store that ends sooner than the known one would let it lapse.
func TestAHoldThatEndsSoonerIsNotTheSame(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		known, found time.Time
		trusted      bool
	}{
		"both without end":        {time.Time{}, time.Time{}, true},
		"now with an end":         {time.Time{}, now.Add(time.Hour), false},
		"now without one":         {now.Add(time.Hour), time.Time{}, true},
		"sooner":                  {now.Add(2 * time.Hour), now.Add(time.Hour), false},
		"later":                   {now.Add(time.Hour), now.Add(2 * time.Hour), true},
		"the known one is over":   {now.Add(-time.Hour), now.Add(-2 * time.Hour), true},
		"only the other is over":  {now.Add(time.Hour), now.Add(-time.Hour), false},
		"the same end, and later": {now.Add(time.Hour), now.Add(time.Hour), true},
	} {
		of := func(id string, expires time.Time) *flag.Snapshot {
			return flag.NewSnapshot("test", flag.Revision{StoreID: id, Number: 1}).With(flag.Revision{StoreID: id, Number: 2}, func(yield func(flag.Edit) bool) {
				f, h := boolean("pay"), hold("pay", "ops", expires)
				_ = yield(flag.Edit{Ref: f.Ref(), Object: f}) && yield(flag.Edit{Ref: h.Ref(), Object: h})
			})
		}
		if refusal := distrust(of("s", c.known), of("other", c.found), now); (refusal == nil) != c.trusted {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// What was confirmed was seen at a revision; another kill since then was not.
func TestAConfirmationIsOfWhatWasKnown(t *testing.T) {
	d, other := newDouble("s"), newDouble("other")
	e := start(t, d)
	at := apply(t, e, flag.Put(boolean("pay")), flag.Put(hold("pay", "ops", time.Time{})))
	other.behind(t, flag.Put(boolean("pay")))
	confirmed := func(place string) *RefusalError {
		s := other.snapshot.With(other.snapshot.Revision, func(func(flag.Edit) bool) {})
		s.Supersedes = []string{"else", place}
		return distrust(e.View().Snapshot, s, time.Now())
	}
	for place, trusted := range map[string]bool{at.Place(): true, "s": true, "s@0": false, "s@999": true, "s@": false, "s@x": false, "S@999": false, "": false} {
		if refusal := confirmed(place); (refusal == nil) != trusted {
			t.Errorf("%q: %v", place, refusal)
		}
	}
	apply(t, e, flag.Put(hold("pay", "ops-anna", time.Time{})))
	if confirmed(at.Place()) == nil {
		t.Error("a kill of after the confirmation is lifted")
	}
}

// A write that comes as the store becomes another one is not made in a store that
// is refused a moment later.
func TestAWriteIsMeantForTheStoreThatIsServed(t *testing.T) {
	d, wrong := newDouble("s"), newDouble("wrong")
	e := start(t, d)
	apply(t, e, flag.Put(boolean("pay")))
	d.become(wrong)
	_, err := e.Apply(t.Context(), batch(flag.Put(boolean("new"))))
	if _, refused := errors.AsType[*RefusalError](err); !refused || d.snapshot.Revision.Number != 0 {
		t.Errorf("%v, and the other store is at %d", err, d.snapshot.Revision.Number)
	}
	// One that is trusted gets it, whoever was faster.
	d, next := newDouble("s"), newDouble("next")
	e = start(t, d)
	next.behind(t, flag.Put(boolean("pay")))
	apply(t, e, flag.Put(boolean("pay")))
	d.become(next)
	if at := apply(t, e, flag.Put(boolean("new"))); at.StoreID != "next" || e.View().Flag("new") == nil {
		t.Errorf("it was written at %v", at)
	}
}

// An expiry that waits for a long write keeps nobody from hearing of other roots'
// changes.
func TestTheHeartbeatDoesNotWaitForExpiries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble("s")
		e := start(t, d)
		apply(t, e, flag.Put(boolean("pay")))
		apply(t, e, flag.Put(hold("pay", "ops", time.Now().Add(2*time.Second))))
		running(t, e)
		release := make(chan struct{})
		go func() {
			_, _ = e.write(t.Context(), func() (store.Outcome, error) { <-release; return store.Outcome{Revision: e.View().Revision}, nil })
		}()
		time.Sleep(3 * time.Second) // the expiry is due, and waits
		d.behind(t, flag.Put(hold("pay", "another-root", time.Time{})))
		time.Sleep(HeartbeatInterval + time.Millisecond)
		if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale {
			t.Errorf("a second later the answer is %+v", a)
		}
		close(release)
	})
}
