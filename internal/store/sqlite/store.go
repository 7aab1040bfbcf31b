package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// read runs do in a read transaction: all it sees is of one revision.
func (s *Store) read(ctx context.Context, doing string, do func(context.Context, querier) error) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reading, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	defer func() { _ = reading.Rollback() }() // nothing was written
	return s.failed(ctx, doing, do(ctx, reading))
}

// Head gives the present revision.
func (s *Store) Head(ctx context.Context) (revision flag.Revision, err error) {
	err = s.read(ctx, "read the revision", func(ctx context.Context, q querier) (err error) {
		revision, err = head(ctx, q)
		return err
	})
	return revision, err
}

func head(ctx context.Context, q querier) (revision flag.Revision, err error) {
	err = q.QueryRowContext(ctx, `SELECT store_id, revision FROM meta`).Scan(&revision.StoreID, &revision.Number)
	return revision, err
}

// empty gives the snapshot without its objects.
func (s *Store) empty(ctx context.Context, q querier) (*flag.Snapshot, error) {
	var revision flag.Revision
	var supersedes string
	if err := q.QueryRowContext(ctx, `SELECT store_id, revision, supersedes FROM meta`).Scan(&revision.StoreID, &revision.Number, &supersedes); err != nil {
		return nil, err
	}
	snapshot := flag.NewSnapshot(s.env, revision)
	if err := json.Unmarshal([]byte(supersedes), &snapshot.Supersedes); err != nil {
		return nil, fmt.Errorf("read which stores it supersedes: %w", err)
	}
	return snapshot, nil
}

// Snapshot reads everything at one revision.
func (s *Store) Snapshot(ctx context.Context) (snapshot *flag.Snapshot, err error) {
	err = s.read(ctx, "read all definitions", func(ctx context.Context, q querier) error {
		snapshot, err = s.empty(ctx, q)
		if err != nil {
			return err
		}
		rows := reading{ctx: ctx, from: q}
		snapshot = snapshot.With(snapshot.Revision, rows.objects(`SELECT 1, key, '', document FROM flags
			UNION ALL SELECT 2, flag_key, entity_id, document FROM overrides
			UNION ALL SELECT 3, flag_key, holder, document FROM holds`))
		return rows.err
	})
	if err != nil {
		return nil, err
	}
	return snapshot, nil
}

// reading reads objects, one at a time: there may be more than should be in
// memory twice.
type reading struct {
	ctx   context.Context //nolint:containedctx // Lives within one read.
	from  querier
	texts flag.Texts
	err   error // the first one, after which nothing is read
}

// objects gives what the rows of kind, key, id and document say.
func (r *reading) objects(query string, args ...any) iter.Seq[flag.Edit] {
	return func(yield func(flag.Edit) bool) {
		if r.err != nil {
			return
		}
		rows, err := r.from.QueryContext(r.ctx, query, args...)
		if err != nil {
			r.err = err
			return
		}
		defer func() { _ = rows.Close() }() // what went wrong is in Err
		for rows.Next() {
			var edit flag.Edit
			if edit, r.err = r.object(rows); r.err != nil || !yield(edit) {
				return
			}
		}
		r.err = rows.Err()
	}
}

func (r *reading) object(rows *sql.Rows) (flag.Edit, error) {
	var ref flag.Ref
	var document string
	if err := rows.Scan(&ref.Kind, &ref.Key, &ref.ID, &document); err != nil {
		return flag.Edit{}, err
	}
	o, err := store.ParseDocument(ref, document)
	if err != nil {
		return flag.Edit{}, err
	}
	r.texts.Share(o)
	return flag.Edit{Ref: o.Ref(), Object: o}, nil
}

// Since gives the commits after the revision number, from the audit log.
func (s *Store) Since(ctx context.Context, number int64) (commits []store.Commit, ok bool, err error) {
	err = s.read(ctx, "read what changed", func(ctx context.Context, q querier) error {
		present, err := head(ctx, q)
		if err != nil {
			return err
		}
		commits, ok, err = store.CommitsSince(number, present, func() ([]store.AuditEntry, error) {
			return readAudit(ctx, q, `WHERE revision > ? ORDER BY revision, ordinal`, number)
		})
		return err
	})
	return commits, ok, err
}

// ExpireHolds commits the expiry of every hold whose time has come.
func (s *Store) ExpireHolds(ctx context.Context, now time.Time) (outcome store.Outcome, err error) {
	// Asked each second, and there is hardly ever one: nobody is kept from
	// writing to find that out.
	due := false
	err = s.read(ctx, "look for holds to expire", func(ctx context.Context, q querier) (err error) {
		if outcome.Revision, err = head(ctx, q); err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT EXISTS (`+dueHolds+`)`, now.UnixMicro()).Scan(&due)
	})
	if err != nil || !due {
		return outcome, err
	}
	err = s.transact(ctx, "expire holds", func(ctx context.Context, t tx) (err error) {
		outcome, err = store.Expire(ctx, t, now)
		return err
	})
	if err != nil {
		return store.Outcome{}, err
	}
	return outcome, nil
}

// Audit lists audit entries, newest first.
func (s *Store) Audit(ctx context.Context, filter store.AuditFilter) (entries []store.AuditEntry, next string, err error) {
	revision, ordinal, later, err := filter.PageStart()
	if err != nil {
		return nil, "", err
	}
	where, args := "WHERE TRUE", []any{}
	and := func(set bool, condition string, values ...any) {
		if set {
			where, args = where+" AND "+condition, append(args, values...)
		}
	}
	and(filter.Key != "", "flag_key = ?", filter.Key)
	and(filter.Actor != "", "actor = ?", filter.Actor)
	// The entries stay in the order of revisions and are read until the page is
	// full; by the index of times (the + keeps it to the inner query) all since then would
	// be sorted for each page.
	and(!filter.Since.IsZero(), "revision >= (SELECT min(+revision) FROM audit WHERE time >= ?) AND +time >= ?", filter.Since.UnixMicro(), filter.Since.UnixMicro())
	and(later, "(revision, ordinal) < (?, ?)", revision, ordinal)
	size := filter.PageSize()
	err = s.read(ctx, "read the audit log", func(ctx context.Context, q querier) (err error) {
		entries, err = readAudit(ctx, q, where+" ORDER BY revision DESC, ordinal DESC LIMIT ?", append(args, size+1)...)
		return err
	})
	if len(entries) > size {
		entries = entries[:size]
		next = entries[size-1].Page()
	}
	return entries, next, err
}

func readAudit(ctx context.Context, q querier, where string, args ...any) ([]store.AuditEntry, error) {
	rows, err := q.QueryContext(ctx, `SELECT revision, ordinal, time, actor, owner_id, action, kind, flag_key, object, before, after, note FROM audit `+where, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // what went wrong is in Err
	var entries []store.AuditEntry
	for rows.Next() {
		var e store.AuditEntry
		var at int64
		if err := rows.Scan(&e.Revision, &e.Ordinal, &at, &e.Actor, &e.OwnerID, &e.Action, &e.Kind, &e.Key, &e.Object, &e.Before, &e.After, &e.Note); err != nil {
			return nil, err
		}
		e.Time = time.UnixMicro(at).UTC()
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// Notified is nil: nobody else can write to the file.
func (s *Store) Notified() <-chan struct{} { return nil }

// Tokens lists all tokens.
func (s *Store) Tokens(ctx context.Context) (tokens []token.Token, err error) {
	err = s.read(ctx, "read the tokens", func(ctx context.Context, q querier) (err error) {
		tokens, err = readTokens(ctx, q, `SELECT hash, document FROM tokens ORDER BY name, id`)
		return err
	})
	return tokens, err
}

func readTokens(ctx context.Context, q querier, query string, args ...any) ([]token.Token, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // what went wrong is in Err
	var tokens []token.Token
	for rows.Next() {
		var t token.Token
		var hash, document string
		if err := rows.Scan(&hash, &document); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(document), &t); err != nil {
			return nil, fmt.Errorf("read a stored token: %w", err)
		}
		t.Hash = hash
		tokens = append(tokens, t)
	}
	return tokens, rows.Err()
}
