package store

import (
	"context"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Writes are those of Writer that are nothing but a rule of this package in a
// transaction of the store that embeds them.
type Writes struct {
	// Transact runs do in a transaction that has locked the revision, and commits
	// what it did, or, on any error, nothing. doing names the work for messages.
	Transact func(ctx context.Context, doing string, do func(context.Context, Tx) error) error
}

// written runs one rule and gives what came of it, or, with an error, nothing.
func written[T any](ctx context.Context, w Writes, doing string, rule func(context.Context, Tx) (T, error)) (T, error) {
	var outcome, none T
	err := w.Transact(ctx, doing, func(ctx context.Context, tx Tx) (err error) {
		outcome, err = rule(ctx, tx)
		return err
	})
	if err != nil {
		return none, err
	}
	return outcome, nil
}

// Apply makes a batch of changes.
func (w Writes) Apply(ctx context.Context, batch Batch) (Outcome, error) {
	return written(ctx, w, "apply changes", func(ctx context.Context, tx Tx) (Outcome, error) { return Write(ctx, tx, batch) })
}

// CreateToken keeps a new token.
func (w Writes) CreateToken(ctx context.Context, t token.Token, actor string) error {
	return w.Transact(ctx, "create a token", func(ctx context.Context, tx Tx) error { return AddToken(ctx, tx, t, actor) })
}

// RevokeToken ends the living token of the name.
func (w Writes) RevokeToken(ctx context.Context, name, actor string, now time.Time) (token.Token, error) {
	return written(ctx, w, "revoke a token", func(ctx context.Context, tx Tx) (token.Token, error) { return EndToken(ctx, tx, name, actor, now) })
}

// Supersede notes that this store has taken the place of the former one.
func (w Writes) Supersede(ctx context.Context, former, actor string, now time.Time) (flag.Revision, error) {
	return written(ctx, w, "supersede a store", func(ctx context.Context, tx Tx) (flag.Revision, error) { return TakePlace(ctx, tx, former, actor, now) })
}

// Renew gives the store of the id former a new random one.
func (w Writes) Renew(ctx context.Context, former string, now time.Time) (flag.Revision, error) {
	return written(ctx, w, "renew the store's id", func(ctx context.Context, tx Tx) (flag.Revision, error) { return Rename(ctx, tx, former, now) })
}
