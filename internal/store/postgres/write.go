package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// transact runs do in a write transaction that has locked the revision row, and
// commits what it did, or, on any error, nothing.
func (s *Store) transact(ctx context.Context, doing string, do func(context.Context, tx) error) error {
	return s.call(ctx, doing, wholeFactor*s.limit, func(ctx context.Context) error {
		// Whatever the database's default: the lock keeps writers apart, and whoever
		// waited for it must see what the one before has written.
		writing, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
		if err != nil {
			return err
		}
		defer func() { _ = writing.Rollback(context.WithoutCancel(ctx)) }() // after the commit there is nothing to roll back
		if err := s.lock(ctx, writing); err != nil {
			return err
		}
		if err := do(ctx, tx{s, writing}); err != nil {
			return err
		}
		return s.commit(ctx, writing)
	})
}

// lock waits for the revision row. Whoever has it is alone until its commit, so
// the order of commits is that of revisions. A sequence would not do: its numbers
// are given out before the commits that use them.
func (s *Store) lock(ctx context.Context, q querier) error {
	var i identity
	schema := store.Schema{Newest: newest}
	err := q.QueryRow(ctx, `SELECT `+present+`, minimum_version, (SELECT max(version_id) FROM `+versions+` WHERE is_applied) FROM bunting.meta FOR UPDATE`).
		Scan(append(i.targets(), &schema.MinimumVersion, &schema.Version)...)
	if err != nil {
		return err
	}
	// A newer root may have changed the schema since this one started: what it
	// needs written is not known here.
	schema.Environment = i.environment
	return schema.Admit(s.env)
}

// commit ends the transaction. It is not given up when the caller leaves: the
// caller must know how it ended.
func (s *Store) commit(ctx context.Context, writing pgx.Tx) error {
	if err := ctx.Err(); err != nil {
		return err // not begun, so nothing is written
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limit)
	defer cancel()
	err := writing.Commit(ctx)
	refusal, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil || errors.Is(err, pgx.ErrTxCommitRollback):
		return err
	case refused && (refusal.SeverityUnlocalized == "ERROR" || refusal.Code == pausedState):
		return err // the transaction was rolled back; any other end may have come after the commit
	}
	return fmt.Errorf("%w: the connection was lost while committing, so whether the changes were written is not known. Read what is there, or send the same request id again: then it is made once: %w", store.ErrUnreachable, err)
}

// Apply makes a batch of changes.
func (s *Store) Apply(ctx context.Context, batch store.Batch) (outcome store.Outcome, err error) {
	err = s.transact(ctx, "apply changes in", func(ctx context.Context, t tx) (err error) {
		outcome, err = store.Write(ctx, t, batch)
		return err
	})
	if err != nil {
		return store.Outcome{}, err
	}
	return outcome, nil
}

// ExpireHolds commits the expiry of every hold whose time has come.
func (s *Store) ExpireHolds(ctx context.Context, now time.Time) (outcome store.Outcome, err error) {
	// Asked each second, and there is hardly ever one: nobody is kept from
	// writing to find that out.
	due := false
	err = s.call(ctx, "look for holds to expire in", s.limit, func(ctx context.Context) error {
		var i identity
		err := s.pool.QueryRow(ctx, `SELECT `+present+`, EXISTS (`+dueHolds+`) FROM bunting.meta`, now.UnixMicro()).Scan(append(i.targets(), &due)...)
		outcome.Revision = i.Revision
		return errors.Join(err, s.admit(i))
	})
	if err == nil && due {
		err = s.transact(ctx, "expire holds in", func(ctx context.Context, t tx) (err error) {
			outcome, err = store.Expire(ctx, t, now)
			return err
		})
	}
	if err != nil {
		return store.Outcome{}, err
	}
	return outcome, nil
}

// CreateToken keeps a new token.
func (s *Store) CreateToken(ctx context.Context, t token.Token, actor string) error {
	return s.transact(ctx, "create a token in", func(ctx context.Context, tx tx) error { return store.AddToken(ctx, tx, t, actor) })
}

// RevokeToken ends the living token of the name.
func (s *Store) RevokeToken(ctx context.Context, name, actor string, now time.Time) (revoked token.Token, err error) {
	err = s.transact(ctx, "revoke a token in", func(ctx context.Context, tx tx) (err error) {
		revoked, err = store.EndToken(ctx, tx, name, actor, now)
		return err
	})
	if err != nil {
		return token.Token{}, err
	}
	return revoked, nil
}

// Supersede notes that this store has taken the place of the former one.
func (s *Store) Supersede(ctx context.Context, former, actor string, now time.Time) (revision flag.Revision, err error) {
	err = s.transact(ctx, "supersede a store in", func(ctx context.Context, tx tx) (err error) {
		revision, err = store.TakePlace(ctx, tx, former, actor, now)
		return err
	})
	if err != nil {
		return flag.Revision{}, err
	}
	return revision, nil
}

// Renew gives the store of the id former a new random one.
func (s *Store) Renew(ctx context.Context, former string, now time.Time) (revision flag.Revision, err error) {
	err = s.transact(ctx, "renew the store's id in", func(ctx context.Context, tx tx) (err error) {
		revision, err = store.Rename(ctx, tx, former, now)
		return err
	})
	if err != nil {
		return flag.Revision{}, err
	}
	return revision, nil
}
