package evaluator

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// killedBefore is a store with the flag "pay", which is held, and what a root kept
// of it.
func killedBefore(t *testing.T) (d *double, known *flag.Snapshot) {
	t.Helper()
	d = newDouble("s")
	e := start(t, d)
	apply(t, e, flag.Put(boolean("pay")))
	apply(t, e, flag.Put(hold("pay", "ops", time.Time{})))
	return d, e.Trusted()
}

// A root whose store is away, or hangs, starts soon from what was last known,
// stale, and goes on when the store is back.
func TestARootStartsFromWhatWasLastKnown(t *testing.T) {
	for name, away := range map[string]func(*double){
		"unreachable":      func(d *double) { d.failing = store.ErrUnreachable },
		"hung":             func(d *double) { d.hanging = true },
		"hung after Head":  func(d *double) { d.hangsIn = "Since" },
		"hung at the last": func(d *double) { d.hangsIn, d.forgets = "Snapshot", true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, known := killedBefore(t)
				d.behind(t, flag.Put(boolean("later")))
				d.set(away)
				began := time.Now()
				e, err := NewRoot(t.Context(), d, Options{Known: known})
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > firstContact {
					t.Errorf("it took %s to start", took)
				}
				if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || !a.Stale {
					t.Errorf("the answer is %+v", a)
				}
				if h := e.Health(); h.Status != client.Connecting || !h.Stale || h.Silence >= 0 || h.Flags != 1 {
					t.Errorf("its health is %+v", h)
				}
				if e.Trusted() != known {
					t.Error("what was last known is not there for another start")
				}
				running(t, e)
				time.Sleep(time.Minute)
				if a := e.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || !a.Stale {
					t.Errorf("a minute later the answer is %+v", a)
				}
				d.set(func(d *double) { d.failing, d.hanging, d.hangsIn = nil, false, "" })
				time.Sleep(catchUpTimeout + HeartbeatInterval) // the question that hangs has its time
				synctest.Wait()
				if a := e.View().Evaluate("later", flag.Context{}); a.Source != flag.SourceGlobal || a.Stale {
					t.Errorf("with the store back the answer is %+v", a)
				}
			})
		})
	}
}

// What is wrong with a store, and does not pass, stops the start whatever is known;
// and so does a store that is away when nothing is.
func TestARootThatCannotStartSaysWhy(t *testing.T) {
	d, known := killedBefore(t)
	d.set(func(d *double) { d.failing = errors.New("the schema is newer") })
	if _, err := NewRoot(t.Context(), d, Options{Known: known}); err == nil || !strings.Contains(err.Error(), "the schema is newer") {
		t.Errorf("got %v", err)
	}
	d.set(func(d *double) { d.failing = store.ErrUnreachable })
	if _, err := NewRoot(t.Context(), d, Options{}); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestARootReadsOnlyWhatChangedSinceItsCopy(t *testing.T) {
	d, known := killedBefore(t)
	d.behind(t, flag.Put(boolean("later")))
	d.set(func(d *double) { clear(d.asked) })
	e, err := NewRoot(t.Context(), d, Options{Known: known})
	if err != nil {
		t.Fatal(err)
	}
	if e.View().Flag("later") == nil || e.View().Stale || d.count("Snapshot") != 0 {
		t.Errorf("at %v, and read everything %d times", e.View().Revision, d.count("Snapshot"))
	}
}

// A copy that is ahead of its store proves that the store was rolled back: it gets
// another id before anything of it is served, and lacking a hold it is refused.
func TestAStoreThatWasRolledBackBeforeTheStartIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		lost    []flag.Change // after the moment that the store went back to
		refused bool
	}{
		"a flag": {[]flag.Change{flag.Put(boolean("other"))}, false},
		"a kill": {[]flag.Change{flag.Put(hold("pay", "ops-anna", time.Time{}))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := killedBefore(t)
			back := d.snapshot
			before := start(t, d)
			apply(t, before, c.lost...)
			known := before.Trusted()
			d.set(func(d *double) {
				d.snapshot = back
				d.commits = slices.DeleteFunc(d.commits, func(c store.Commit) bool { return c.Revision.Number > back.Revision.Number })
			})
			e, err := NewRoot(t.Context(), d, Options{Known: known})
			if err != nil {
				t.Fatal(err)
			}
			if d.snapshot.Revision.StoreID == "s" {
				t.Error("the store kept the id under which other revisions have been told")
			}
			if served := e.View().Revision; c.refused != (e.Refused() != nil) || c.refused != (served == known.Revision) {
				t.Errorf("refused is %v, served %v", e.Refused(), served)
			}
			if c.refused != (e.Trusted() == nil) {
				t.Error("what is kept for another start would be another one")
			}
		})
	}
}
