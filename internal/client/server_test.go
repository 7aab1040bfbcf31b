package client

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// TestAgainstTheServer goes through every call with a real server.
func TestAgainstTheServer(t *testing.T) {
	ctx := t.Context()
	server := startServer(t)
	c, err := New(Options{Endpoint: server.Endpoint + "/", Token: server.AdminToken, UserAgent: "bunting/1.2.3", ChangeNote: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	greeting, err := c.Server(ctx)
	if err != nil || greeting.Environment != "prod" || greeting.Version != "1.2.3" || greeting.Actor.Name != "admin" || !greeting.Actor.Has(token.Admin) || greeting.Revision.StoreID == "" {
		t.Fatalf("got %+v, %v", greeting, err)
	}
	if f, holds, err := c.Flag(ctx, "pay/fast"); err != nil || f != nil || holds != nil {
		t.Fatalf("before: %v, %v, %v", f, holds, err)
	}

	declared := newFlag("pay/fast")
	declared.Layer, declared.Changed = "user", flag.Stamp{}
	written, err := c.Write(ctx, flag.Put(declared))
	if err != nil || written.Object.Stamp().Actor != "admin" || written.Object.Stamp().Revision != written.Revision.Number || len(written.Holds) != 0 {
		t.Fatalf("got %+v, %v", written, err)
	}
	override := &flag.Override{FlagKey: "pay/fast", EntityID: "a:b/ü", State: flag.Enabled, Value: flag.BoolValue(false)}
	hold := &flag.Hold{FlagKey: "pay/fast", Holder: "admin", Reason: "r", ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	for _, o := range []flag.Object{override, hold, newFlag("pay"), newFlag("payment")} {
		if written, err = c.Write(ctx, flag.Put(o)); err != nil {
			t.Fatal(err)
		}
	}
	f, holds, err := c.Flag(ctx, "pay/fast")
	if err != nil || !f.SameDefinition(declared) || len(holds) != 1 || !holds[0].SameDefinition(hold) {
		t.Errorf("got %+v, %+v, %v", f, holds, err)
	}
	if o, err := c.Override(ctx, "pay/fast", "a:b/ü"); err != nil || !o.SameDefinition(override) {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := c.Override(ctx, "pay/fast", "nobody"); err != nil || o != nil {
		t.Errorf("got %+v, %v", o, err)
	}
	if holds, err := c.Holds(ctx, "pay"); err != nil || holds != nil {
		t.Errorf("got %+v, %v", holds, err)
	}

	s, err := c.Snapshot(ctx, "pay")
	if err != nil {
		t.Fatal(err)
	}
	if flags, overrides, holds := s.Counts(); flags != 2 || overrides != 1 || holds != 1 || s.Flag("payment") != nil || s.Environment != "prod" || s.Revision != written.Revision {
		t.Errorf("got %d, %d, %d of %q at %v", flags, overrides, holds, s.Environment, s.Revision)
	}
	e, err := c.Evaluate(ctx, Question{Key: "pay/fast", Minimum: written.Revision})
	if err != nil || e.Value != flag.BoolValue(false) || e.Source != flag.SourceKilled || e.Revision != written.Revision {
		t.Errorf("got %+v, %v", e, err)
	}
	all, err := c.BulkEvaluate(ctx, []flag.Key{"nope", "pay"}, flag.Context{TargetingKey: "u"}, flag.Revision{})
	if err != nil || all[0].ErrorCode != flag.ErrorFlagNotFound || all[1].Source != flag.SourceGlobal {
		t.Errorf("got %+v, %v", all, err)
	}
	if killed, err := c.KilledFlags(ctx); err != nil || !reflect.DeepEqual(killed, []flag.Key{"pay/fast"}) {
		t.Errorf("got %v, %v", killed, err)
	}

	// What is refused is a Problem, whichever call it is.
	unexpected := int64(1)
	conflict := flag.Put(declared)
	conflict.Expected = &unexpected
	for kind, refused := range map[flag.ProblemKind]func() error{
		flag.ProblemConflict: func() error { _, err := c.Write(ctx, conflict); return err },
		flag.ProblemNotFound: func() error { _, err := c.RevokeToken(ctx, "nobody"); return err },
		flag.ProblemInvalid:  func() error { _, _, err := c.CreateToken(ctx, token.Token{Name: "x"}); return err },
		flag.ProblemAlreadyExists: func() error {
			_, _, err := c.CreateToken(ctx, token.Token{Name: "admin", Scopes: []token.Scope{token.Read}})
			return err
		},
	} {
		if p, ok := errors.AsType[*flag.Problem](refused()); !ok || p.Kind != kind {
			t.Errorf("want a problem of kind %d, got %v", kind, refused())
		}
	}

	batch := Batch{Changes: []flag.Change{{Op: flag.ReleaseHold, Ref: hold.Ref()}, conflict}}
	dry := batch
	dry.DryRun = true
	for _, b := range []Batch{dry, batch} {
		done, err := c.Apply(ctx, b)
		if err != nil || done.Results[0].Status != flag.Applied || done.Results[1].Status != flag.Refused {
			t.Errorf("dry run %t: %+v, %v", b.DryRun, done, err)
		}
	}
	written, err = c.Write(ctx, flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("payment")})
	if err != nil || written.Object != nil {
		t.Errorf("got %+v, %v", written, err)
	}
	if by, err := c.RemovedBy(ctx, flag.FlagRef("payment")); err != nil || by == nil || by.Actor != "admin" || by.Revision != written.Revision.Number {
		t.Errorf("got %+v, %v", by, err)
	}
	for _, ref := range []flag.Ref{flag.FlagRef("never"), flag.FlagRef("pay")} {
		if by, err := c.RemovedBy(ctx, ref); err != nil || by != nil {
			t.Errorf("%s: got %+v, %v", ref, by, err)
		}
	}

	made, secret, err := c.CreateToken(ctx, token.Token{Name: "ev", Scopes: []token.Scope{token.Evaluate}, Prefix: "pay"})
	if err != nil || made.Name != "ev" || made.CreatedBy != "admin" {
		t.Fatalf("got %+v, %v", made, err)
	}
	evaluator, err := New(Options{Endpoint: server.Endpoint, Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer evaluator.Close()
	if e, err := evaluator.Evaluate(ctx, Question{Key: "pay/fast"}); err != nil || e.Source != flag.SourceGlobal {
		t.Errorf("got %+v, %v", e, err)
	}
	for name, err := range map[string]error{
		"SCOPE_TOO_SMALL": second(evaluator.Snapshot(ctx, "")),
		"PREFIX_DENIED":   second(evaluator.Evaluate(ctx, Question{Key: "other"})),
	} {
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Denied || e.Reason != name || e.StatusCode != 0 && e.StatusCode != http.StatusForbidden {
			t.Errorf("want %s, got %v", name, err)
		}
	}
	tokens, err := c.Tokens(ctx)
	if err != nil || !slices.ContainsFunc(tokens, func(k token.Token) bool { return k.Name == "ev" && k.Prefix == "pay" }) {
		t.Errorf("got %+v, %v", tokens, err)
	}
	if revoked, err := c.RevokeToken(ctx, "ev"); err != nil || revoked.RevokedAt.IsZero() {
		t.Errorf("got %+v, %v", revoked, err)
	}
	if _, err := evaluator.KilledFlags(ctx); !isKind(err, Unauthenticated) {
		t.Errorf("got %v", err)
	}
	if _, err := evaluator.Snapshot(ctx, ""); !isKind(err, Unauthenticated) {
		t.Errorf("got %v", err)
	}

	entries, next, err := c.Audit(ctx, AuditFilter{Key: "pay/fast", Limit: 2})
	if err != nil || len(entries) != 2 || entries[0].Action != "release_hold" || entries[0].Note != "a test" || next == "" {
		t.Fatalf("got %+v, %q, %v", entries, next, err)
	}
	if entries, _, err = c.Audit(ctx, AuditFilter{Key: "pay/fast", Page: next}); err != nil || len(entries) != 2 || entries[1].Action != "put_flag" {
		t.Errorf("got %+v, %v", entries, err)
	}

	if _, err := c.Evaluate(ctx, Question{Key: "pay", Minimum: flag.Revision{StoreID: "another", Number: 1}}); !isKind(err, StoreChanged) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Evaluate(ctx, Question{Key: "pay", Minimum: flag.Revision{StoreID: written.Revision.StoreID, Number: written.Revision.Number + 100}}); !isKind(err, RevisionNotReached) {
		t.Errorf("got %v", err)
	}

	server.Stop()
	if _, _, err := c.Flag(ctx, "pay"); !isKind(err, Unavailable) {
		t.Errorf("got %v", err)
	}
	server.Restart(t)
	if f, _, err := c.Flag(ctx, "pay"); err != nil || f == nil {
		t.Errorf("got %v, %v", f, err)
	}
}

// TestManyObjects: a snapshot of many chunks arrives whole.
func TestManyObjects(t *testing.T) {
	server := startServer(t)
	c, err := New(Options{Endpoint: server.Endpoint, Token: server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const many = 5000
	var batch Batch
	for i := range many {
		batch.Changes = append(batch.Changes, flag.Put(newFlag(flag.Key(fmt.Sprintf("a/%d", i)))))
	}
	done, err := c.Apply(t.Context(), batch)
	if err != nil || len(done.Results) != many {
		t.Fatal(err)
	}
	s, err := c.Snapshot(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if flags, _, _ := s.Counts(); flags != many || s.Revision != done.Revision {
		t.Errorf("%d flags at %v", flags, s.Revision)
	}
}

func second[T any](_ T, err error) error { return err }

func isKind(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}
