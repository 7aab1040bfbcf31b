package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
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
