package storetest

import (
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

func testExpiry(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	expire := func() store.Outcome {
		t.Helper()
		o, err := w.s.ExpireHolds(t.Context(), w.now)
		if err != nil {
			t.Fatalf("expire holds: %v", err)
		}
		return o
	}
	at := w.now.Add(time.Hour)
	until := func(key flag.Key, holder string, at time.Time) flag.Change {
		h := aHold(key, holder)
		h.ExpiresAt = at
		return flag.Put(h)
	}
	w.must(anna, flag.Put(aFlag("a")), flag.Put(aFlag("b")), flag.Put(aFlag("c")))
	w.must(anna, until("a", "anna", at), until("b", "anna", at.Add(time.Hour)), flag.Put(aHold("c", "anna")))
	w.must(ci, of(payments, until("b", "terraform", at)))

	before := w.snapshot()
	for _, now := range []time.Time{w.now, at.Add(-time.Nanosecond)} {
		w.now = now
		if o := expire(); o.Commit != nil || len(o.Results) != 0 || o.Revision != before.Revision {
			t.Fatalf("before its time: %+v", o)
		}
	}
	w.now = at
	if w.snapshot().Killed("a", w.now) {
		t.Error("killed at the time of the expiry, before it was committed")
	}
	o := expire()
	after := w.snapshot()
	if o.Commit == nil || len(o.Commit.Edits) != 2 || len(o.Results) != 2 || o.Revision.Number != before.Revision.Number+1 {
		t.Fatalf("two holds are due, but: %+v", o)
	}
	wantSame(t, "what the commit makes of the snapshot before", content(before.With(o.Revision, edits(*o.Commit))), content(after))
	for _, want := range []struct {
		key     flag.Key
		holder  string
		expired bool
		owner   string
	}{{"a", "anna", true, ""}, {"b", "terraform", true, payments}, {"b", "anna", false, ""}, {"c", "anna", false, ""}} {
		h := after.Hold(want.key, want.holder)
		if h == nil || h.Expired != want.expired || h.OwnerID != want.owner || h.Expired && (h.Changed.Actor != store.ExpiryActor || !h.Changed.Time.Equal(at)) {
			t.Errorf("hold of %s on %s: %s, want expired %t", want.holder, want.key, document(after.Object(flag.HoldRef(want.key, want.holder))), want.expired)
		}
	}
	if o := expire(); o.Commit != nil {
		t.Errorf("expired twice: %+v", o)
	}
	log := auditLog(t.Context(), t, w.s, store.AuditFilter{Actor: store.ExpiryActor})
	if len(log) != 2 || log[0].Action != "expire_hold" {
		t.Errorf("the audit log has these entries of %s: %+v", store.ExpiryActor, log)
	}

	// Placed again it stands again, and its new expiry comes too.
	w.must(anna, until("a", "anna", at.Add(2*time.Hour)))
	if !w.snapshot().Killed("a", w.now) {
		t.Error("placed again, but not killed")
	}
	w.now = at.Add(2 * time.Hour)
	if o := expire(); o.Commit == nil || len(o.Commit.Edits) != 2 {
		t.Errorf("two holds are due again, but: %+v", o)
	}
	WantComplete(t.Context(), t, w.s)
}
