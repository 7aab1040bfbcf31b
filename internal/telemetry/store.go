package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// What a call of the store came to.
const (
	refused = "refused" // by its rules: the caller's fault
	failed  = "failed"  // the store's
)

// The backends of fetches.
const (
	backendStore    = "store"
	backendUpstream = "upstream"
)

// observedStore measures every call of a store that reads or writes. Only those
// within somebody's call get a span: a heartbeat each second would fill a
// collector with nothing.
type observedStore struct {
	store.Store

	telemetry *Telemetry
}

// Store gives the store with every call of it measured.
func (t *Telemetry) Store(s store.Store) store.Store { return observedStore{s, t} }

// observe makes one call of the store. fetch says that it brings definitions from
// the source of truth.
func observe[A any](ctx context.Context, s observedStore, operation string, fetch bool, do func(context.Context) (A, error)) (A, error) {
	began := time.Now()
	var under span
	if t := s.telemetry.tracing; t != nil && trace.SpanContextFromContext(ctx).IsValid() {
		ctx, under = t.begin(ctx, "store "+operation, trace.SpanKindInternal, attribute.String("bunting.store.operation", operation))
	}
	answer, err := do(ctx)
	outcome := outcomeOf(err)
	under.end(outcome)
	took := time.Since(began)
	s.telemetry.stores.observe(operation, outcome, took)
	if fetch {
		s.telemetry.fetches.observe(backendStore, operation, took)
	}
	return answer, err
}

func outcomeOf(err error) string {
	if err == nil {
		return ok
	}
	if _, problem := errors.AsType[*flag.Problem](err); problem || errors.Is(err, store.ErrRequestReused) {
		return refused
	}
	return failed
}

// Head is the store's.
func (s observedStore) Head(ctx context.Context) (flag.Revision, error) {
	return observe(ctx, s, "head", true, s.Store.Head)
}

// Snapshot is the store's.
func (s observedStore) Snapshot(ctx context.Context) (*flag.Snapshot, error) {
	return observe(ctx, s, "snapshot", true, s.Store.Snapshot)
}

// Since is the store's.
func (s observedStore) Since(ctx context.Context, number int64) (commits []store.Commit, whole bool, err error) {
	commits, err = observe(ctx, s, "since", true, func(ctx context.Context) (c []store.Commit, err error) {
		c, whole, err = s.Store.Since(ctx, number)
		return c, err
	})
	return commits, whole, err
}

// Apply is the store's.
func (s observedStore) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	return observe(ctx, s, "apply", false, func(ctx context.Context) (store.Outcome, error) { return s.Store.Apply(ctx, batch) })
}

// ExpireHolds is the store's.
func (s observedStore) ExpireHolds(ctx context.Context, now time.Time) (store.Outcome, error) {
	return observe(ctx, s, "expire_holds", false, func(ctx context.Context) (store.Outcome, error) { return s.Store.ExpireHolds(ctx, now) })
}

// Audit is the store's.
func (s observedStore) Audit(ctx context.Context, filter store.AuditFilter) (entries []store.AuditEntry, next string, err error) {
	entries, err = observe(ctx, s, "audit", false, func(ctx context.Context) (e []store.AuditEntry, err error) {
		e, next, err = s.Store.Audit(ctx, filter)
		return e, err
	})
	return entries, next, err
}

// CreateToken is the store's.
func (s observedStore) CreateToken(ctx context.Context, t token.Token, actor string) error {
	_, err := observe(ctx, s, "create_token", false, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.Store.CreateToken(ctx, t, actor) })
	return err
}

// RevokeToken is the store's.
func (s observedStore) RevokeToken(ctx context.Context, name, actor string, now time.Time) (token.Token, error) {
	return observe(ctx, s, "revoke_token", false, func(ctx context.Context) (token.Token, error) { return s.Store.RevokeToken(ctx, name, actor, now) })
}

// Tokens is the store's.
func (s observedStore) Tokens(ctx context.Context) ([]token.Token, error) {
	return observe(ctx, s, "tokens", false, s.Store.Tokens)
}

// Supersede is the store's.
func (s observedStore) Supersede(ctx context.Context, former, actor string, now time.Time) (flag.Revision, error) {
	return observe(ctx, s, "supersede", false, func(ctx context.Context) (flag.Revision, error) { return s.Store.Supersede(ctx, former, actor, now) })
}

// Renew is the store's.
func (s observedStore) Renew(ctx context.Context, former string, now time.Time) (flag.Revision, error) {
	return observe(ctx, s, "renew", false, func(ctx context.Context) (flag.Revision, error) { return s.Store.Renew(ctx, former, now) })
}
