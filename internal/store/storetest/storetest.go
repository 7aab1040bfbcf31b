// Package storetest is the conformance suite of store.Store. A store passes it
// by calling Run from a test; the suite knows no store by name.
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Opener makes a new, empty store of the environment. The suite closes it.
type Opener func(t *testing.T, environment string) store.Store

// Reopener closes a store and opens what it kept.
type Reopener func(t *testing.T, s store.Store) store.Store

// Run proves that a store keeps the contract of store.Store. Without a reopen
// (a store that keeps nothing) the cases that need one are not there.
func Run(t *testing.T, open Opener, reopen Reopener) {
	t.Helper()
	suite := []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"rules", testRules},
		{"taking over is audited", testTakeOver},
		{"a batch", testBatches},
		{"limits", testLimits},
		{"tokens' scopes", testScopes},
		{"request ids", testRequests},
		{"expiry", testExpiry},
		{"values", testValues},
		{"audit log", testAudit},
		{"since", testSince},
		{"tokens", testTokens},
		{"superseding a store", testSupersede},
		{"renewing the store's id", testRenew},
		{"writers at once", testWritersAtOnce},
		{"lost updates", testLostUpdates},
		{"random batches", testRandomBatches},
		{"cancellation", testCancellation},
		{"closing", testClosing},
	}
	for _, part := range suite {
		t.Run(part.name, func(t *testing.T) { part.run(t, open) })
	}
	if reopen != nil {
		t.Run("opening again", func(t *testing.T) { testReopen(t, open, reopen) })
	}
}

// soak reports whether the long run was asked for.
func soak() bool { return os.Getenv("BUNTING_SOAK") == "1" }

// The callers of the suite.
var (
	ci    = token.Actor{Name: "ci", Scopes: []token.Scope{token.Write, token.Kill}} // Terraform's
	anna  = token.Actor{Name: "anna", Scopes: []token.Scope{token.Write, token.Kill}}
	boris = token.Actor{Name: "boris", Scopes: []token.Scope{token.Write, token.Kill}}
	admin = token.Actor{Name: "admin", Scopes: []token.Scope{token.Admin}}
	wanda = token.Actor{Name: "wanda", Scopes: []token.Scope{token.Write}} // may write, but not kill
)

// The Terraform owners of the suite.
var (
	payments = flag.WorkspaceOwner("payments")
	search   = flag.WorkspaceOwner("search")
	unnamed  = flag.ObjectOwner("1")
	another  = flag.ObjectOwner("2")
)

// world is a store with a clock that the test turns.
type world struct {
	t   *testing.T
	s   store.Store
	now time.Time
}

func newWorld(t *testing.T, open Opener) *world {
	t.Helper()
	s := open(t, "test")
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &world{t: t, s: s, now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
}

// apply makes the changes as the actor, a second later than what was before.
func (w *world) apply(actor token.Actor, changes ...flag.Change) store.Outcome {
	w.t.Helper()
	return w.batch(store.Batch{Actor: actor, Changes: changes})
}

func (w *world) batch(b store.Batch) store.Outcome {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	b.Now = w.now
	outcome, err := w.s.Apply(w.t.Context(), b)
	if err != nil {
		w.t.Fatalf("apply: %v", err)
	}
	if len(outcome.Results) != len(b.Changes) {
		w.t.Fatalf("apply gave %d results for %d changes", len(outcome.Results), len(b.Changes))
	}
	return outcome
}

// must makes the changes and wants each to be applied.
func (w *world) must(actor token.Actor, changes ...flag.Change) store.Outcome {
	w.t.Helper()
	outcome := w.apply(actor, changes...)
	for i, c := range changes {
		if r := outcome.Results[i]; r.Status != flag.Applied {
			w.t.Fatalf("change %d (%s of %s) was not applied but %s", i, c.Op, c.Ref, told(r))
		}
	}
	return outcome
}

func (w *world) snapshot() *flag.Snapshot {
	w.t.Helper()
	return snapshotOf(w.t, w.s)
}

func snapshotOf(t *testing.T, s store.Store) *flag.Snapshot {
	t.Helper()
	snapshot, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return snapshot
}

// told gives a result as text: two results are the same when their texts are.
func told(r flag.Result) string {
	problem, err := json.Marshal(r.Problem)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("status %d, object %s, problem %s", r.Status, document(r.Object), problem)
}

func document(o flag.Object) string {
	text, err := store.Document(o)
	if err != nil {
		return err.Error()
	}
	return text
}

// content gives everything in a snapshot, a line an object, in order.
func content(s *flag.Snapshot) string {
	var lines []string
	for f := range s.Flags("") {
		lines = append(lines, "flag "+document(f))
	}
	for o := range s.Overrides("") {
		lines = append(lines, "override "+document(o))
	}
	for h := range s.Holds("") {
		lines = append(lines, "hold "+document(h))
	}
	return strings.Join(lines, "\n")
}

// Reporter is what a *testing.T and a *rapid.T have in common.
type Reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func wantSame(t Reporter, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got: %s\nwant: %s", what, got, want)
	}
}

// auditLog reads the whole log, oldest first, in pages of the size.
func auditLog(ctx context.Context, t Reporter, s store.Store, filter store.AuditFilter) []store.AuditEntry {
	t.Helper()
	var all []store.AuditEntry
	for {
		entries, next, err := s.Audit(ctx, filter)
		if err != nil {
			t.Fatalf("audit: %v", err)
		}
		all = append(all, entries...)
		if filter.Page = next; next == "" {
			break
		}
	}
	slices.Reverse(all)
	return all
}

// WantComplete rebuilds the store's content from its audit log alone: no
// revision and no ordinal is missing, each entry's "before" is what the entry
// before it left, and the end is what the store holds. Stores' own tests ask it
// after accidents.
func WantComplete(ctx context.Context, t Reporter, s store.Store) {
	t.Helper()
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	rebuilt := flag.NewSnapshot(snapshot.Environment, flag.Revision{StoreID: snapshot.Revision.StoreID})
	revision, ordinal := int64(0), -1
	for _, e := range auditLog(ctx, t, s, store.AuditFilter{Limit: 1000}) {
		if e.Revision == revision {
			ordinal++
		} else {
			revision, ordinal = revision+1, 0
		}
		if e.Revision != revision || e.Ordinal != ordinal {
			t.Fatalf("the audit log goes on with entry %d.%d, want %d.%d", e.Revision, e.Ordinal, revision, ordinal)
		}
		if e.Actor == "" || e.Time.IsZero() || e.Action == "" || e.Object == "" {
			t.Errorf("audit entry %d.%d leaves something out: %+v", e.Revision, e.Ordinal, e)
		}
		rebuilt.Revision.Number = revision
		if e.Kind == 0 || e.Action == "take_over" {
			continue
		}
		ref := e.Ref()
		wantSame(t, fmt.Sprintf("before of audit entry %d.%d (%s of %s)", e.Revision, e.Ordinal, e.Action, ref), e.Before, document(rebuilt.Object(ref)))
		edit := flag.Edit{Ref: ref}
		if e.After != "" {
			if edit.Object, err = store.ParseDocument(ref, e.After); err != nil {
				t.Fatalf("after of audit entry %d.%d: %v", e.Revision, e.Ordinal, err)
			}
			if stamp := edit.Object.Stamp(); stamp.Revision != e.Revision || stamp.Actor != e.Actor || !stamp.Time.Equal(e.Time) || stamp.OwnerID != e.OwnerID {
				t.Errorf("audit entry %d.%d and the object's stamp %+v differ: %+v", e.Revision, e.Ordinal, stamp, e)
			}
		}
		rebuilt = rebuilt.With(rebuilt.Revision, slices.Values([]flag.Edit{edit}))
	}
	if rebuilt.Revision != snapshot.Revision {
		t.Errorf("the audit log ends at revision %v, the store is at %v", rebuilt.Revision, snapshot.Revision)
	}
	wantSame(t, "the content rebuilt from the audit log", content(rebuilt), content(snapshot))
}

// The objects of the suite.

// aFlag is a valid flag with a layer.
func aFlag(key flag.Key) *flag.Flag {
	return &flag.Flag{
		Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled, Layer: "user",
		Description: "made by the suite", Owner: "team", Tags: []string{"a", "b"},
	}
}

func anOverride(key flag.Key, entity string) *flag.Override {
	return &flag.Override{FlagKey: key, EntityID: entity, State: flag.Enabled, Value: flag.BoolValue(true)}
}

func aHold(key flag.Key, holder string) *flag.Hold {
	return &flag.Hold{FlagKey: key, Holder: holder, Reason: "it burns"}
}

func change(op flag.Op, ref flag.Ref) flag.Change { return flag.Change{Op: op, Ref: ref} }

func of(owner string, c flag.Change) flag.Change {
	c.OwnerID = owner
	return c
}

func expecting(revision int64, c flag.Change) flag.Change {
	c.Expected = &revision
	return c
}
