package evaluator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func commit(number int64, description int) Commit {
	f := boolean("pay")
	f.Description = strings.Repeat("x", description)
	made := store.Commit{Revision: flag.Revision{StoreID: "s", Number: number}, Edits: []flag.Edit{{Ref: f.Ref(), Object: f}}}
	return Commit{Commit: made, Previous: number - 1}
}

func TestTheJournalKeepsItsBounds(t *testing.T) {
	for name, c := range map[string]struct{ commits, description int }{
		"many small commits": {2 * journalCommits, 0},
		"few large commits":  {300, 100_000},
		"one too large":      {1, 2 * journalBytes},
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			for n := range int64(c.commits) {
				before, had := j, []Commit(nil)
				if n%1000 == 0 {
					had = slices.Clone(j.commits)
				}
				j = j.with([]Commit{commit(n+1, c.description)})
				if n%1000 == 0 && !slices.EqualFunc(had, before.commits, func(a, b Commit) bool { return a.Revision == b.Revision }) {
					t.Fatal("a journal changed under its reader")
				}
				var sum int64
				if n%500 == 0 {
					for _, c := range j.commits {
						sum += commitBytes(c)
					}
					if sum != j.bytes {
						t.Fatalf("counted %d bytes, there are %d", j.bytes, sum)
					}
				}
				if len(j.commits) > journalCommits || j.bytes > journalBytes {
					t.Fatalf("%d commits of %d bytes", len(j.commits), j.bytes)
				}
				if len(j.commits) > 0 && !j.leadsTo(flag.Revision{StoreID: "s", Number: n + 1}) {
					t.Fatal("the journal has a gap")
				}
			}
			if c.commits > journalCommits && len(j.commits) < journalCommits/2 {
				t.Errorf("only %d commits are left", len(j.commits))
			}
		})
	}
}

func TestJournalAfter(t *testing.T) {
	j := journal{}.with([]Commit{commit(5, 0), commit(6, 0), commit(7, 0)})
	for _, c := range []struct {
		number int64
		want   int
		ok     bool
	}{{7, 0, true}, {6, 1, true}, {4, 3, true}, {3, 0, false}, {8, 0, false}, {-1 << 63, 0, false}, {1<<63 - 1, 0, false}} {
		commits, ok := j.after(c.number, 7)
		if ok != c.ok || len(commits) != c.want {
			t.Errorf("after %d: %d commits, %t", c.number, len(commits), ok)
		}
	}
}

func TestTheJournalIsFilledAtTheStart(t *testing.T) {
	d := newDouble("s")
	for i := range 10 {
		d.behind(t, flag.Put(boolean(flag.Key(fmt.Sprint("f", i)))))
	}
	e := start(t, d)
	if commits, _, ok := e.Changes(flag.Revision{StoreID: "s", Number: 4}); !ok || len(commits) != 6 {
		t.Errorf("%d commits, %t", len(commits), ok)
	}
	// What is told of the oldest commit may not be all of it.
	var many []flag.Change
	for i := range journalFill - 5 {
		many = append(many, flag.Put(boolean(flag.Key(fmt.Sprint("many", i)))))
	}
	d.behind(t, many...)
	for i := range 2 {
		d.behind(t, flag.Put(boolean(flag.Key(fmt.Sprint("g", i)))))
	}
	for since, want := range map[int64]bool{6: false, 7: true, 10: true, 12: true} {
		if _, _, ok := start(t, d).Changes(flag.Revision{StoreID: "s", Number: since}); ok != want {
			t.Errorf("since %d, of %s: %t", since, d.snapshot.Revision, ok)
		}
	}
	for i := range many { // more than is read
		many[i].Op, many[i].Object = flag.DeleteFlag, nil
	}
	d.behind(t, append(many, flag.Put(boolean("h")), flag.Put(boolean("i")), flag.Put(boolean("j")), flag.Put(boolean("k")), flag.Put(boolean("l")), flag.Put(boolean("m")))...)
	if _, _, ok := start(t, d).Changes(flag.Revision{StoreID: "s", Number: d.snapshot.Revision.Number - 1}); ok {
		t.Error("a part of a commit is told as if it were all of it")
	}
	// A store that does not reach back is no reason not to start.
	d.forgets = true
	e = start(t, d)
	if _, _, ok := e.Changes(flag.Revision{StoreID: "s", Number: 4}); ok {
		t.Error("the journal tells of commits that nobody gave it")
	}
}

// A reader who applies deltas has at any time what a reader of everything has.
func TestDeltasLeadToTheSnapshot(t *testing.T) {
	e := start(t, newDouble("s"))
	random := rand.New(rand.NewPCG(1, 2))
	mine := flag.NewSnapshot("test", e.View().Revision)
	for range 400 {
		key := flag.Key(fmt.Sprint("f", random.IntN(5)))
		change := []flag.Change{
			flag.Put(boolean(key)), flag.Put(override(key, fmt.Sprint("u", random.IntN(3)), random.IntN(2) == 0)),
			{Op: flag.RemoveOverride, Ref: flag.OverrideRef(key, fmt.Sprint("u", random.IntN(3)))},
			{Op: flag.DeleteFlag, Ref: flag.FlagRef(key)}, {Op: flag.ArchiveFlag, Ref: flag.FlagRef(key)},
		}[random.IntN(5)]
		if _, err := e.Apply(t.Context(), batch(change)); err != nil {
			t.Fatal(err)
		}
		if random.IntN(3) > 0 {
			continue
		}
		view, delta, ok := e.Delta(mine.Revision)
		if !ok {
			t.Fatal("no delta")
		}
		if !slices.IsSortedFunc(delta, func(a, b flag.Edit) int { return a.Ref.Compare(b.Ref) }) {
			t.Fatal("the delta is not in order")
		}
		mine = mine.With(view.Revision, slices.Values(delta))
		if got, want := all(mine), all(view.Snapshot); !slices.Equal(got, want) {
			t.Fatalf("the reader has\n%v\nthere is\n%v", got, want)
		}
	}
}

func all(s *flag.Snapshot) (lines []string) {
	add := func(o flag.Object) { lines = append(lines, fmt.Sprint(o.Ref().Kind, o.Ref(), o.Stamp().Revision)) }
	for f := range s.Flags("") {
		add(f)
	}
	for o := range s.Overrides("") {
		add(o)
	}
	for h := range s.Holds("") {
		add(h)
	}
	return lines
}

var farAhead = time.Now().Add(24 * time.Hour)

func TestSizeIsAboutWhatTheWireTakes(t *testing.T) {
	e := start(t, newDouble("s"))
	for i := range 50 {
		key := flag.Key(fmt.Sprintf("team-%d/feature-%d", i%2, i))
		f := boolean(key)
		f.Description, f.Owner, f.Tags = "What the feature does, in a sentence or two", "payments", []string{"checkout", "web"}
		apply(t, e, flag.Put(f), flag.Put(override(key, fmt.Sprint("user-", i), true)), flag.Put(hold(key, "ops-anna", farAhead)))
		apply(t, e, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef(key, "ops-anna")})
		apply(t, e, flag.Put(hold(key, "ops-anna", farAhead)))
	}
	for _, prefix := range []flag.Key{"", "team-1"} {
		want := 0
		view := e.View()
		for f := range view.Flags(prefix) {
			want += proto.Size(wire.FromObject(f.Ref(), f))
		}
		for o := range view.Overrides(prefix) {
			want += proto.Size(wire.FromObject(o.Ref(), o))
		}
		for h := range view.Holds(prefix) {
			want += proto.Size(wire.FromObject(h.Ref(), h))
		}
		flags, overrides, holds, bytes := e.Size(prefix)
		if ratio := float64(bytes) / float64(want); ratio < 0.75 || ratio > 1.33 {
			t.Errorf("prefix %q: %d bytes told, %d on the wire", prefix, bytes, want)
		}
		if each := 50 - 25*min(1, len(prefix)); flags != each || overrides != each || holds != each {
			t.Errorf("prefix %q: %d flags, %d overrides, %d holds", prefix, flags, overrides, holds)
		}
	}
	// The running sum is what counting anew gives.
	if _, _, _, bytes := e.Size(""); bytes != snapshotBytes(e.View().Snapshot, "") {
		t.Errorf("the running sum is %d, counted anew it is %d", bytes, snapshotBytes(e.View().Snapshot, ""))
	}
}
