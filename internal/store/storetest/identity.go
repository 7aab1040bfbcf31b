package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// testSupersede takes other stores' places: told by every snapshot from then on,
// by Since once, and audited.
func testSupersede(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	before := w.must(anna, flag.Put(aFlag("a"))).Revision
	supersede := func(former string) flag.Revision {
		t.Helper()
		revision, err := w.s.Supersede(t.Context(), former, "anna", w.now)
		if err != nil {
			t.Fatalf("supersede %q: %v", former, err)
		}
		if head, err := w.s.Head(t.Context()); err != nil || head != revision {
			t.Errorf("superseding %q gave revision %v, the store is at %v (%v)", former, revision, head, err)
		}
		return revision
	}
	if got := w.snapshot().Supersedes; len(got) != 0 {
		t.Errorf("a new store supersedes %q", got)
	}
	first := supersede("one")
	again := supersede("one") // known: nothing to do
	second := supersede("two")
	if first.Number != before.Number+1 || again != first || second.Number != first.Number+1 || second.StoreID != before.StoreID {
		t.Errorf("revisions %v, %v, %v after %v", first, again, second, before)
	}
	w.must(anna, flag.Put(aFlag("b"))) // a write keeps them
	if got := w.snapshot().Supersedes; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the store supersedes %q, want one and two", got)
	}
	for _, former := range []string{"", before.StoreID, "a\x00b", "\xff", strings.Repeat("x", store.MaxStoreIDBytes+1)} {
		revision, err := w.s.Supersede(t.Context(), former, "anna", w.now)
		if p, ok := errors.AsType[*flag.Problem](err); !ok || p.Kind != flag.ProblemInvalid || p.Field != "former_store_id" {
			t.Errorf("superseding %q gave %v and the error %v, want a problem about former_store_id", former, revision, err)
		}
	}

	commits, ok, err := w.s.Since(t.Context(), before.Number)
	if err != nil || !ok || len(commits) != 3 {
		t.Fatalf("since: %d commits, %t, %v; want 3", len(commits), ok, err)
	}
	for i, want := range []string{"one", "two", ""} {
		if c := commits[i]; c.Supersedes != want || (len(c.Edits) == 0) != (want != "") {
			t.Errorf("commit %v supersedes %q with %d edits, want %q", c.Revision, c.Supersedes, len(c.Edits), want)
		}
	}
	var got strings.Builder
	for _, e := range auditLog(t.Context(), t, w.s, store.AuditFilter{Actor: "anna"}) {
		got.WriteString(e.Action + " " + e.Object + "\n")
	}
	wantSame(t, "the audit log", got.String(), "put_flag a\nsupersede_store one\nsupersede_store two\nput_flag b\n")
	WantComplete(t.Context(), t, w.s)
}

// testRenew gives a store another id, once: the numbers go on, and everything else
// stays.
func testRenew(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(anna, flag.Put(aFlag("a")))
	if _, err := w.s.Supersede(t.Context(), "one", "anna", w.now); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	former := before.Revision.StoreID
	renewed, err := w.s.Renew(t.Context(), former, w.now)
	if err != nil {
		t.Fatal(err)
	}
	// Another root has noticed the same.
	if again, err := w.s.Renew(t.Context(), former, w.now); err != nil || again != renewed {
		t.Errorf("renewed once more to %v, %v; want %v", again, err, renewed)
	}
	head, err := w.s.Head(t.Context())
	if err != nil || renewed.Number != before.Revision.Number+1 || renewed.StoreID == before.Revision.StoreID || len(renewed.StoreID) < 16 || head != renewed {
		t.Errorf("renewed %v to %v, the store is at %v (%v)", before.Revision, renewed, head, err)
	}
	after := w.snapshot()
	wantSame(t, "the content", content(after), content(before))
	// What was lost may be a kill, so the former id is not taken for confirmed.
	if after.Revision != renewed || !slices.Equal(after.Supersedes, []string{"one"}) {
		t.Errorf("the snapshot is %v and supersedes %q", after.Revision, after.Supersedes)
	}
	outcome := w.must(anna, flag.Put(aFlag("b")))
	if want := (flag.Revision{StoreID: renewed.StoreID, Number: renewed.Number + 1}); outcome.Revision != want || outcome.Commit.Revision != want {
		t.Errorf("the next commit is %v (%v), want %v", outcome.Revision, outcome.Commit.Revision, want)
	}
	commits, ok, err := w.s.Since(t.Context(), before.Revision.Number)
	if err != nil || !ok || len(commits) != 2 || commits[0].Revision != renewed || len(commits[0].Edits) != 0 {
		t.Errorf("since: %v, %t, %v", commits, ok, err)
	}
	entries := auditLog(t.Context(), t, w.s, store.AuditFilter{Actor: store.RenewalActor})
	if len(entries) != 1 || entries[0].Action != "renew_store" || entries[0].Object != former || entries[0].Revision != renewed.Number {
		t.Errorf("the audit log tells %+v", entries)
	}
	WantComplete(t.Context(), t, w.s)
}
