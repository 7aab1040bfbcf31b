package evaluator

import (
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Whatever happened between two revisions, the difference leads from one to the
// other.
func TestTheDifferenceLeadsToWhatIsLater(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := flag.Revision{StoreID: "s", Number: 1}
		snapshot := flag.NewSnapshot("test", at)
		change := func(label string) {
			for range rapid.IntRange(0, 6).Draw(t, label) {
				at.Number++
				stamp := flag.Stamp{Revision: at.Number}
				key := flag.Key(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"))
				var edit flag.Edit
				switch rapid.IntRange(0, 2).Draw(t, "kind") {
				case 0:
					f := boolean(key)
					f.Changed = stamp
					edit = flag.Edit{Ref: f.Ref(), Object: f}
				case 1:
					o := override(key, "e", true)
					o.Changed = stamp
					edit = flag.Edit{Ref: o.Ref(), Object: o}
				default:
					h := hold(key, "ops", time.Time{})
					h.Changed = stamp
					edit = flag.Edit{Ref: h.Ref(), Object: h}
				}
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					edit.Object = nil
				}
				snapshot = snapshot.With(at, slices.Values([]flag.Edit{edit}))
			}
		}
		change("before")
		known := snapshot
		change("after")
		e := newEvaluator(Options{Known: known})
		c := difference(known, wire.Definitions{Snapshot: snapshot})
		if !e.advance([]Commit{c}) {
			t.Fatalf("%+v does not lead on from %v", c, known.Revision)
		}
		got, want := slices.Collect(e.View().Objects()), slices.Collect(snapshot.Objects())
		if e.View().Revision != snapshot.Revision || !reflect.DeepEqual(got, want) {
			t.Fatalf("at %v: %+v, want %+v", e.View().Revision, got, want)
		}
		for _, edit := range c.Edits {
			if reflect.DeepEqual(known.Object(edit.Ref), snapshot.Object(edit.Ref)) {
				t.Fatalf("%s is told of, and did not change", edit.Ref)
			}
		}
	})
}

func TestTheDifferenceTellsOfTokens(t *testing.T) {
	t.Parallel()
	revoked := []wire.RevokedToken{{ID: "seventh", Revision: 7}, {ID: "fourth", Revision: 4}}
	for name, c := range map[string]struct {
		known  int64
		joined bool
		ended  []string
	}{
		"all is known":                      {7, false, nil},
		"one is not":                        {5, false, []string{"seventh"}},
		"none is":                           {3, false, []string{"seventh", "fourth"}},
		"it is older than what is told of":  {2, true, []string{"seventh", "fourth"}},
		"just as old as that":               {3, false, []string{"seventh", "fourth"}},
		"the revision that revoked the one": {4, false, []string{"seventh"}},
	} {
		got := difference(flag.NewSnapshot("test", flag.Revision{StoreID: "s", Number: c.known}),
			wire.Definitions{Snapshot: flag.NewSnapshot("test", flag.Revision{StoreID: "s", Number: 8}), Revoked: revoked, TokensSince: 3})
		var ended []string
		for _, of := range got.Tokens {
			ended = append(ended, of.ID)
		}
		if got.Joined != c.joined || !slices.Equal(ended, c.ended) || got.Previous != c.known {
			t.Errorf("%s: %+v", name, got)
		}
	}
	later := flag.NewSnapshot("test", flag.Revision{StoreID: "s", Number: 8})
	later.Supersedes = []string{"former"}
	if got := difference(flag.NewSnapshot("test", flag.Revision{StoreID: "s", Number: 7}), wire.Definitions{Snapshot: later}); !got.Joined || !slices.Equal(got.Superseded, later.Supersedes) {
		t.Errorf("of a store that was confirmed it tells %+v", got)
	}
}

func TestTheJournalTellsOfRevokedTokens(t *testing.T) {
	t.Parallel()
	step := func(number, previous int64, joined bool, tokens ...token.Token) Commit {
		return Commit{Commit: store.Commit{Revision: flag.Revision{StoreID: "s", Number: number}, Tokens: tokens}, Previous: previous, Joined: joined}
	}
	ended := func(id string) token.Token { return token.Token{ID: id, RevokedAt: time.Unix(1, 0)} }
	for name, c := range map[string]struct {
		commits []Commit
		since   int64
		revoked []wire.RevokedToken
	}{
		"nothing is known":        {nil, 9, nil},
		"a difference is the end": {[]Commit{step(9, 5, true, ended("x"))}, 9, nil},
		"one by one":              {[]Commit{step(8, 7, false, ended("a")), step(9, 8, false, token.Token{ID: "made"})}, 7, []wire.RevokedToken{{ID: "a", Revision: 8}}},
		"after a difference":      {[]Commit{step(6, 5, false, ended("x")), step(7, 6, true), step(9, 7, false, ended("b"))}, 7, []wire.RevokedToken{{ID: "b", Revision: 9}}},
	} {
		revoked, since := journal{}.with(c.commits).revoked(9)
		if since != c.since || !slices.Equal(revoked, c.revoked) {
			t.Errorf("%s: %v since %d", name, revoked, since)
		}
	}
}

// What others heard of the source counts for as long as if it had been heard here.
func TestWhatWasHeardBeforeGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvaluator(Options{})
		is := func(when string, stale bool, silence time.Duration) {
			t.Helper()
			if h := e.Health(); h.Stale != stale || h.Silence != silence {
				t.Errorf("%s: %+v", when, h)
			}
		}
		e.heardBefore(DefaultStaleAfter)
		is("too old to be fresh", true, -1)
		e.heardBefore(time.Second)
		is("before the start", false, time.Second)
		time.Sleep(time.Second)
		is("a second later", false, 2*time.Second)
		e.heardBefore(2500 * time.Millisecond)
		is("what is older changes nothing", false, 2*time.Second)
		e.heard()
		is("heard here", false, 0)
		time.Sleep(DefaultStaleAfter)
		is("silent for too long", true, DefaultStaleAfter)
		e.heardBefore(0)
		is("heard by another", false, 0)
	})
}

// Whoever looks while an older snapshot takes the place of what the source does not have
// sees that marked stale, and the older one fresh.
func TestWhatTheSourceDoesNotHaveIsNeverFresh(t *testing.T) {
	t.Parallel()
	ahead, older := flag.Revision{StoreID: "s", Number: 2}, flag.Revision{StoreID: "s", Number: 1}
	for range 300 {
		e := newEvaluator(Options{Known: flag.NewSnapshot("test", ahead)})
		looks, seen := make(chan struct{}), make(chan View)
		go func() {
			close(looks)
			defer close(seen)
			for {
				view := e.View()
				if view.Stale != (view.Revision == ahead) {
					seen <- view
				}
				if view.Revision == older {
					return
				}
			}
		}()
		<-looks
		e.goBack(flag.NewSnapshot("test", older))
		for view := range seen {
			t.Errorf("at %v the answers are stale: %t", view.Revision, view.Stale)
		}
		if view := e.View(); t.Failed() || view.Revision != older || view.Stale {
			t.Fatalf("at last it is at %v, and its answers are stale: %t", view.Revision, view.Stale)
		}
	}
}
