package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func testRequests(t *testing.T, open Opener) {
	t.Helper()
	// The first request: a flag, an override and a hold made, one change refused
	// with a stamp, one without effect.
	first := func(w *world) (store.Batch, store.Outcome) {
		w.must(anna, flag.Put(aFlag("there")))
		hold := aHold("a", "anna")
		hold.ExpiresAt = w.now.Add(time.Hour)
		batch := store.Batch{Actor: anna, RequestID: "request", Note: "note", Changes: []flag.Change{
			flag.Put(aFlag("a")), flag.Put(anOverride("a", "u1")), flag.Put(hold),
			expecting(0, flag.Put(aFlag("there"))), flag.Put(aFlag("there")),
			change(flag.ReleaseHold, flag.HoldRef("a", "nobody")),
		}}
		outcome := w.batch(batch)
		w.wantStatuses(outcome, flag.Applied, flag.Applied, flag.Applied, flag.Refused, flag.Unchanged, flag.Refused)
		return batch, outcome
	}
	later := func(d time.Duration) func(*world, *store.Batch) {
		return func(w *world, _ *store.Batch) { w.now = w.now.Add(d) }
	}
	cases := []struct {
		name   string
		change func(*world, *store.Batch)
		want   string // "repeated", "reused" or "anew"
	}{
		{"at once", later(0), "repeated"},
		{"just before its end", later(store.RequestLife - 2*time.Second), "repeated"},
		{"after its end", later(store.RequestLife), "anew"},
		{"with another clock reading and other scopes", func(_ *world, b *store.Batch) { b.Actor.Scopes = []token.Scope{token.Admin} }, "repeated"},
		{"after the object was changed by others", func(w *world, _ *store.Batch) {
			w.must(boris, change(flag.ArchiveFlag, flag.FlagRef("there")))
		}, "repeated"},
		{"by another actor", func(_ *world, b *store.Batch) { b.Actor.Name = "boris" }, "anew"},
		{"with another id", func(_ *world, b *store.Batch) { b.RequestID = "another" }, "anew"},
		{"with an id that not every database takes for text", func(_ *world, b *store.Batch) { b.RequestID = "a\x00b" }, "anew"},
		{"with another note", func(_ *world, b *store.Batch) { b.Note = "" }, "reused"},
		{"atomic now", func(_ *world, b *store.Batch) { b.Atomic = true }, "reused"},
		{"with one change less", func(_ *world, b *store.Batch) { b.Changes = b.Changes[1:] }, "reused"},
		{"with another value", func(_ *world, b *store.Batch) {
			f := aFlag("a")
			f.Value = flag.Value{}
			b.Changes[0] = flag.Put(f)
		}, "reused"},
		{"expecting another revision", func(_ *world, b *store.Batch) { b.Changes[0] = expecting(0, b.Changes[0]) }, "reused"},
		{"of another owner", func(_ *world, b *store.Batch) { b.Changes[0] = of(payments, b.Changes[0]) }, "reused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			batch, outcome := first(w)
			c.change(w, &batch)
			before := w.snapshot()
			batch.Now = w.now.Add(time.Second)
			again, err := w.s.Apply(t.Context(), batch)
			if c.want == "reused" {
				if !errors.Is(err, store.ErrRequestReused) {
					t.Errorf("error %v, want %v", err, store.ErrRequestReused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if again.Repeated != (c.want == "repeated") {
				t.Fatalf("repeated: %t, want %s", again.Repeated, c.want)
			}
			if !again.Repeated {
				return
			}
			wantSame(t, "the answer again", outcomeText(again), outcomeText(outcome))
			if again.Commit != nil {
				t.Errorf("the answer again has a commit: %v", again.Commit)
			}
			after := w.snapshot()
			wantSame(t, "content after the repeated request", content(after), content(before))
			if after.Revision != before.Revision {
				t.Errorf("the repeated request made revision %v of %v", after.Revision, before.Revision)
			}
		})
	}

	t.Run("without an id", func(t *testing.T) {
		w := newWorld(t, open)
		w.must(anna, flag.Put(aFlag("a")))
		if o := w.apply(anna, flag.Put(aFlag("a"))); o.Repeated {
			t.Error("a request without an id was taken for a repeated one")
		}
	})

	t.Run("the id is kept when nothing was changed", func(t *testing.T) {
		w := newWorld(t, open)
		batch := store.Batch{Actor: anna, RequestID: "r", Changes: []flag.Change{change(flag.ArchiveFlag, flag.FlagRef("a"))}}
		w.batch(batch)
		w.must(anna, flag.Put(aFlag("a")))
		if o := w.batch(batch); !o.Repeated || o.Results[0].Status != flag.Refused || o.Results[0].Problem.Kind != flag.ProblemNotFound {
			t.Errorf("the refusal was not given again: %+v", o)
		}
	})

	t.Run("used anew after its end", func(t *testing.T) {
		w := newWorld(t, open)
		batch, _ := first(w)
		w.now = w.now.Add(store.RequestLife)
		batch.Note = "other content"
		second := w.batch(batch)
		wantSame(t, "the second answer again", outcomeText(w.batch(batch)), outcomeText(second))
	})
}

func outcomeText(o store.Outcome) string {
	lines := make([]string, 0, 1+len(o.Results))
	lines = append(lines, o.Revision.String())
	for _, r := range o.Results {
		lines = append(lines, told(r))
	}
	return strings.Join(lines, "\n")
}
