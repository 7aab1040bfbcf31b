package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// testRandomBatches makes random batches and wants, after each: the dry run told
// the same; the commit and Since lead from every snapshot before to the present
// one; the invariants hold; and at the end the audit log tells it all.
func testRandomBatches(t *testing.T, open Opener) {
	t.Helper()
	most := 6
	if soak() {
		most = 20
	}
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		s := open(t, "test")
		defer func() {
			if err := s.Close(); err != nil {
				r.Fatalf("close: %v", err)
			}
		}()
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		batches := rapid.IntRange(1, most).Draw(r, "batches")
		snapshots := make([]*flag.Snapshot, 0, batches+1)
		snapshots = append(snapshots, mustSnapshot(ctx, r, s))
		for range batches {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(r, "minutes")) * time.Minute)
			before := snapshots[len(snapshots)-1]
			outcome := randomStep(ctx, r, s, before, now)
			after := mustSnapshot(ctx, r, s)
			if outcome.Revision != after.Revision {
				r.Fatalf("revision %v told, %v kept", outcome.Revision, after.Revision)
			}
			if outcome.Commit != nil {
				wantSame(r, "what the commit makes of the snapshot before", content(before.With(outcome.Revision, edits(*outcome.Commit))), content(after))
			}
			wantInvariants(r, after)
			snapshots = append(snapshots, after)
		}
		head := snapshots[len(snapshots)-1]
		old := snapshots[rapid.IntRange(0, len(snapshots)-1).Draw(r, "old")]
		commits, ok, err := s.Since(ctx, old.Revision.Number)
		if err != nil || !ok {
			r.Fatalf("since %v: %t, %v", old.Revision, ok, err)
		}
		for _, c := range commits {
			old = old.With(c.Revision, edits(c))
		}
		wantSame(r, "what Since makes of an old snapshot", content(old), content(head))
		WantComplete(ctx, r, s)
	})
}

func mustSnapshot(ctx context.Context, r *rapid.T, s store.Store) *flag.Snapshot {
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		r.Fatalf("snapshot: %v", err)
	}
	return snapshot
}

// randomStep expires holds or applies a random batch, and compares with the dry
// run.
func randomStep(ctx context.Context, r *rapid.T, s store.Store, before *flag.Snapshot, now time.Time) store.Outcome {
	if rapid.IntRange(0, 5).Draw(r, "expire") == 0 {
		outcome, err := s.ExpireHolds(ctx, now)
		if err != nil {
			r.Fatalf("expire: %v", err)
		}
		return outcome
	}
	batch := store.Batch{
		Actor: rapid.SampledFrom([]token.Actor{anna, boris, admin, ci}).Draw(r, "actor"), Atomic: rapid.IntRange(0, 3).Draw(r, "atomic") == 0, Now: now,
	}
	for range rapid.IntRange(1, 6).Draw(r, "changes") {
		batch.Changes = append(batch.Changes, randomChange(r, before, now))
	}
	dry := store.DryRun(before, batch)
	outcome, err := s.Apply(ctx, batch)
	if err != nil {
		r.Fatalf("apply: %v", err)
	}
	for i, result := range outcome.Results {
		if p := result.Problem; p != nil && p.Kind == flag.ProblemNotFound && p.By != nil {
			continue // a dry run does not know who
		}
		wantSame(r, fmt.Sprintf("the dry run's result of %+v", batch.Changes[i]), told(dry.Results[i]), told(result))
	}
	return outcome
}

func randomChange(r *rapid.T, s *flag.Snapshot, now time.Time) flag.Change {
	key := rapid.SampledFrom([]flag.Key{"a", "a/b", "ab"}).Draw(r, "key")
	entity := rapid.SampledFrom([]string{"u1", "u2"}).Draw(r, "entity")
	owner := rapid.SampledFrom([]string{"", payments, search, unnamed}).Draw(r, "owner")
	holders := []string{"anna", "terraform"}
	if owner != "" { // its own kind mostly, or nothing would be placed
		holders = []string{"terraform", "terraform", "terraform/x", "anna"}
	}
	holder := rapid.SampledFrom(holders).Draw(r, "holder")
	op := rapid.SampledFrom([]flag.Op{
		flag.PutFlag, flag.PutFlag, flag.PutFlag, flag.ArchiveFlag, flag.RestoreFlag, flag.DeleteFlag,
		flag.SetOverride, flag.SetOverride, flag.RemoveOverride, flag.PlaceHold, flag.PlaceHold, flag.ReleaseHold,
	}).Draw(r, "op")
	c := flag.Change{Op: op, OwnerID: owner, TakeOver: owner != "" && rapid.IntRange(0, 4).Draw(r, "take over") == 0}
	switch op {
	case flag.PutFlag:
		f := aFlag(key)
		f.Description = rapid.SampledFrom([]string{"1", "2"}).Draw(r, "description")
		f.Layer = rapid.SampledFrom([]string{"user", "user", "user", ""}).Draw(r, "layer")
		f.State = rapid.SampledFrom([]flag.State{flag.Enabled, flag.Default}).Draw(r, "state")
		if rapid.IntRange(0, 4).Draw(r, "numeric") == 0 {
			numeric(f)
		}
		c.Object = f
	case flag.SetOverride:
		o := anOverride(key, entity)
		if rapid.Bool().Draw(r, "default") {
			servingDefault(o)
		}
		c.Object = o
	case flag.PlaceHold:
		h := aHold(key, holder)
		if minutes := rapid.IntRange(-10, 120).Draw(r, "expiry"); minutes < 90 {
			h.ExpiresAt = now.Add(time.Duration(minutes) * time.Minute)
		}
		c.Object = h
	default:
		c.Ref = flag.Ref{Kind: op.Kind(), Key: key, ID: map[flag.Kind]string{flag.KindOverride: entity, flag.KindHold: holder}[op.Kind()]}
	}
	if c.Object != nil {
		c.Ref = c.Object.Ref()
	}
	present := int64(0)
	if o := s.Object(c.Ref); o != nil {
		present = o.Stamp().Revision
	}
	switch rapid.IntRange(0, 5).Draw(r, "expects") {
	case 0:
		c = expecting(0, c)
	case 1:
		c = expecting(present, c)
	case 2:
		c = expecting(max(0, present-1), c)
	}
	return c
}

// wantInvariants checks what is true of every snapshot.
func wantInvariants(r *rapid.T, s *flag.Snapshot) {
	for f := range s.Flags("") {
		if err := f.Validate(); err != nil {
			r.Errorf("flag %s is not valid: %v", f.Key, err)
		}
		if f.Archived() && f.OwnerID != "" {
			r.Errorf("flag %s is archived and managed", f.Key)
		}
		if f.Changed.Revision > s.Revision.Number {
			r.Errorf("flag %s is of revision %d, after the snapshot's", f.Key, f.Changed.Revision)
		}
	}
	for o := range s.Overrides("") {
		if s.Flag(o.FlagKey) == nil {
			r.Errorf("override %s has no flag", o.Ref())
		}
	}
	for h := range s.Holds("") {
		if s.Flag(h.FlagKey) == nil {
			r.Errorf("hold %s has no flag", h.Ref())
		}
		if flag.IsTerraformHolder(h.Holder) != (h.OwnerID != "") {
			r.Errorf("hold %s is of owner %q", h.Ref(), h.OwnerID)
		}
	}
}
