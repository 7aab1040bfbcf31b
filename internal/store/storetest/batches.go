package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// wantStatuses compares the statuses of an outcome.
func (w *world) wantStatuses(o store.Outcome, want ...flag.Status) {
	w.t.Helper()
	for i, r := range o.Results {
		if r.Status != want[i] {
			w.t.Errorf("change %d: %s, want status %d", i, told(r), want[i])
		}
	}
}

func testBatches(t *testing.T, open Opener) {
	t.Helper()
	put := func(key flag.Key, description string) flag.Change {
		f := aFlag(key)
		f.Description = description
		return flag.Put(f)
	}
	bad := func(key flag.Key) flag.Change {
		f := aFlag(key)
		f.Default = flag.Value{}
		return flag.Put(f)
	}
	cases := []struct {
		name    string
		given   []flag.Change
		atomic  bool
		changes []flag.Change
		want    []flag.Status
		flags   string // the keys and descriptions of what is there after
	}{
		{name: "nothing asked", want: []flag.Status{}},
		{
			name: "each for itself", changes: []flag.Change{put("a", "1"), bad("b"), put("c", "1")},
			want: []flag.Status{flag.Applied, flag.Refused, flag.Applied}, flags: "a=1 c=1",
		},
		{
			name: "atomic, all fine", atomic: true, changes: []flag.Change{put("a", "1"), put("b", "1")},
			want: []flag.Status{flag.Applied, flag.Applied}, flags: "a=1 b=1",
		},
		{
			name: "atomic, one refused", atomic: true, given: []flag.Change{put("c", "1")}, changes: []flag.Change{put("a", "1"), bad("b"), put("c", "1"), bad("d")},
			want: []flag.Status{flag.Abandoned, flag.Refused, flag.Abandoned, flag.Refused}, flags: "c=1",
		},
		{
			name: "atomic, refused for what the batch itself did", atomic: true, given: []flag.Change{put("a", "1")},
			changes: []flag.Change{put("b", "1"), expecting(0, put("b", "2")), change(flag.DeleteFlag, flag.FlagRef("a")), change(flag.ArchiveFlag, flag.FlagRef("a"))},
			want:    []flag.Status{flag.Abandoned, flag.Refused, flag.Abandoned, flag.Refused}, flags: "a=1",
		},
		{
			name: "nothing new", given: []flag.Change{put("a", "1"), put("b", "1")}, changes: []flag.Change{put("a", "1"), put("b", "1")},
			want: []flag.Status{flag.Unchanged, flag.Unchanged}, flags: "a=1 b=1",
		},
		{
			name: "one object, several times", changes: []flag.Change{put("a", "1"), put("a", "2"), put("a", "2"), expecting(0, put("a", "3"))},
			want: []flag.Status{flag.Applied, flag.Applied, flag.Unchanged, flag.Refused}, flags: "a=2",
		},
		{
			name: "made and removed", changes: []flag.Change{put("a", "1"), change(flag.DeleteFlag, flag.FlagRef("a")), change(flag.DeleteFlag, flag.FlagRef("a"))},
			want: []flag.Status{flag.Applied, flag.Applied, flag.Refused},
		},
		{
			name: "removed and made anew", given: []flag.Change{put("a", "1")}, changes: []flag.Change{change(flag.DeleteFlag, flag.FlagRef("a")), expecting(0, put("a", "2"))},
			want: []flag.Status{flag.Applied, flag.Applied}, flags: "a=2",
		},
		{
			name: "a flag with all that belongs to it", atomic: true,
			changes: []flag.Change{put("a", "1"), flag.Put(anOverride("a", "u1")), flag.Put(aHold("a", "anna")), change(flag.ArchiveFlag, flag.FlagRef("a"))},
			want:    []flag.Status{flag.Applied, flag.Applied, flag.Applied, flag.Applied}, flags: "a=1",
		},
		{
			name: "an override before its flag", changes: []flag.Change{flag.Put(anOverride("a", "u1")), put("a", "1"), flag.Put(anOverride("a", "u1"))},
			want: []flag.Status{flag.Refused, flag.Applied, flag.Applied}, flags: "a=1",
		},
		{
			name: "a value that is too large beside others", changes: []flag.Change{put("a", "1"), put("b", strings.Repeat("x", flag.MaxDescriptionBytes+1)), put("c", "1")},
			want: []flag.Status{flag.Applied, flag.Refused, flag.Applied}, flags: "a=1 c=1",
		},
		{
			name: "what no JSON can hold beside others", given: []flag.Change{put("a", "1")}, changes: []flag.Change{flag.Put(aHold("a", "anna")), flag.Put(&flag.Hold{FlagKey: "a", Holder: "boris", Reason: "r", ExpiresAt: time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)})},
			want: []flag.Status{flag.Applied, flag.Refused}, flags: "a=1",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			if len(c.given) > 0 {
				w.must(anna, c.given...)
			}
			before := w.snapshot()
			batch := store.Batch{Actor: anna, Changes: c.changes, Atomic: c.atomic, Note: "because", RequestID: "r", Now: w.now.Add(time.Second)}
			dry := store.DryRun(before, batch)
			o := w.batch(batch)
			w.wantStatuses(o, c.want...)
			var flags []string
			after := w.snapshot()
			for f := range after.Flags("") {
				flags = append(flags, fmt.Sprintf("%s=%s", f.Key, f.Description))
			}
			wantSame(t, "the flags after", strings.Join(flags, " "), c.flags)
			for i := range dry.Results {
				wantSame(t, fmt.Sprintf("the dry run's result %d", i), told(dry.Results[i]), told(o.Results[i]))
			}
			for i, r := range o.Results {
				if c.atomic && o.Commit == nil {
					wantSame(t, fmt.Sprintf("the object in result %d, as it stays", i), document(r.Object), document(before.Object(c.changes[i].Ref)))
				}
			}
			if o.Commit != nil {
				wantSame(t, "what the commit makes of the snapshot before", content(before.With(o.Revision, edits(*o.Commit))), content(after))
			}
			if o.Revision != after.Revision || after.Revision.Number > before.Revision.Number+1 {
				t.Errorf("revision %v told, %v kept, %v before: one batch is one revision", o.Revision, after.Revision, before.Revision)
			}
			w.wantNote(before.Revision.Number, "because")
			WantComplete(t.Context(), t, w.s)
		})
	}
}

// wantNote wants the note on every audit entry after the revision.
func (w *world) wantNote(after int64, note string) {
	w.t.Helper()
	for _, e := range auditLog(w.t.Context(), w.t, w.s, store.AuditFilter{}) {
		if e.Revision > after && e.Note != note {
			w.t.Errorf("an audit entry has another note than %q: %+v", note, e)
		}
	}
}

func testTakeOver(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(ci, of(payments, flag.Put(aFlag("a"))), of(payments, flag.Put(anOverride("a", "u1"))), of(payments, flag.Put(aHold("a", "terraform"))))
	take := []flag.Change{of(search, flag.Put(aFlag("a"))), of(search, flag.Put(anOverride("a", "u1"))), of(search, flag.Put(aHold("a", "terraform")))}
	for i := range take {
		take[i].TakeOver = true
	}
	w.must(ci, take...)
	w.wantStatuses(w.apply(ci, take...), flag.Unchanged, flag.Unchanged, flag.Unchanged)
	var got []string
	for _, e := range auditLog(t.Context(), t, w.s, store.AuditFilter{}) {
		if e.Action == "take_over" {
			got = append(got, e.Object+" "+e.Before+" "+e.After+" "+e.OwnerID)
		}
	}
	const from, to = `{"owner_id":"workspace:payments"}`, `{"owner_id":"workspace:search"} workspace:search`
	wantSame(t, "the take_over entries", strings.Join(got, "\n"), strings.Join([]string{
		"a " + from + " " + to, "a:u1 " + from + " " + to, "a:terraform " + from + " " + to,
	}, "\n"))
	WantComplete(t.Context(), t, w.s)
}

func testLimits(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	cases := []struct {
		name  string
		batch store.Batch
		field string
	}{
		{"too many changes", store.Batch{Changes: make([]flag.Change, store.MaxChanges+1)}, "changes"},
		{"a request id that is too long", store.Batch{RequestID: strings.Repeat("r", store.MaxRequestIDBytes+1)}, "request_id"},
		{"a request id that is no text", store.Batch{RequestID: "\xff"}, "request_id"},
		{"a note that is too long", store.Batch{Note: strings.Repeat("n", store.MaxNoteBytes+1)}, "note"},
		{"a note with a control character", store.Batch{Note: "a\x00b"}, "note"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.batch.Actor, c.batch.Now = anna, w.now
			_, err := w.s.Apply(t.Context(), c.batch)
			p, ok := errors.AsType[*flag.Problem](err)
			if !ok || p.Field != c.field || p.Kind != flag.ProblemInvalid {
				t.Errorf("error %v, want a problem about %s", err, c.field)
			}
			for _, r := range store.DryRun(w.snapshot(), c.batch).Results {
				if r.Problem == nil || r.Problem.Field != c.field {
					t.Fatalf("the dry run says %s", told(r))
				}
			}
		})
	}
}

func testScopes(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(admin, flag.Put(aFlag("in/a")), flag.Put(aFlag("out")))
	actor := func(prefix flag.Key, scopes ...token.Scope) token.Actor {
		return token.Actor{Name: "t", Scopes: scopes, Prefix: prefix}
	}
	other := aFlag("in/a")
	other.Description = "other"
	write, kill := flag.Put(other), flag.Put(aHold("in/a", "anna"))
	outside := change(flag.ArchiveFlag, flag.FlagRef("out"))
	cases := []struct {
		name    string
		actor   token.Actor
		change  flag.Change
		allowed bool // to make it
		seen    bool // in a dry run
	}{
		{"read may not write", actor("", token.Read), write, false, true},
		{"evaluate may not write", actor("", token.Evaluate), write, false, true},
		{"write may write", actor("", token.Write), write, true, true},
		{"write may not kill", actor("", token.Write), kill, false, true},
		{"kill may kill", actor("", token.Kill), kill, true, true},
		{"kill may not write", actor("", token.Kill), write, false, true},
		{"admin may all", actor("", token.Admin), write, true, true},
		{"within the prefix", actor("in", token.Write), write, true, true},
		{"outside the prefix", actor("in", token.Write), outside, false, false},
		{"a prefix is whole segments", actor("ou", token.Write), outside, false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t: t, s: w.s, now: w.now}
			before := w.snapshot()
			batch := store.Batch{Actor: c.actor, Changes: []flag.Change{c.change}, Now: w.now}
			if seen := store.DryRun(before, batch).Results[0].Status != flag.Refused; seen != c.seen {
				t.Errorf("a dry run tells: %t, want %t", seen, c.seen)
			}
			batch.Atomic = true
			batch.Changes = append(batch.Changes, flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("in/nothing")}) // so that nothing is committed
			r := w.batch(batch).Results[0]
			switch {
			case c.allowed && r.Status != flag.Abandoned:
				t.Errorf("%s, want it allowed", told(r))
			case !c.allowed && (r.Status != flag.Refused || r.Problem.Kind != flag.ProblemDenied || r.Object != nil):
				t.Errorf("%s, want it denied, without the object", told(r))
			}
			wantSame(t, "content", content(w.snapshot()), content(before))
		})
	}
	// An owner id is no secret: it must not stand in for the scope.
	t.Run("write may not lift a hold by deleting its flag", func(t *testing.T) {
		w := &world{t: t, s: w.s, now: w.now}
		w.must(ci, of(payments, flag.Put(aFlag("in/held"))), of(payments, flag.Put(aHold("in/held", "terraform"))))
		before := w.snapshot()
		deletion := of(payments, change(flag.DeleteFlag, flag.FlagRef("in/held")))
		if r := w.apply(wanda, deletion).Results[0]; r.Status != flag.Refused || r.Problem.Kind != flag.ProblemHeld {
			t.Errorf("%s, want it refused", told(r))
		}
		wantSame(t, "content", content(w.snapshot()), content(before))
	})
}
