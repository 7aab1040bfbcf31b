package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// present is the revision as identity scans it. The id holds the timeline, which
// changes when another server takes over (and might lack the last commits): it
// is in the name of the log's file, which a standby refuses to tell.
const present = `store_id || '-' || ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0'), revision, environment`

// identity scans present.
type identity struct {
	flag.Revision

	environment string
}

func (i *identity) targets() []any { return []any{&i.StoreID, &i.Number, &i.environment} }

// admit refuses another environment's store: the database may have been
// restored, or its address given to another.
func (s *Store) admit(i identity) error {
	return store.Schema{Environment: i.environment}.Admit(s.env)
}

func (s *Store) head(ctx context.Context, q querier) (flag.Revision, error) {
	var i identity
	if err := q.QueryRow(ctx, `SELECT `+present+` FROM bunting.meta`).Scan(i.targets()...); err != nil {
		return flag.Revision{}, err
	}
	return i.Revision, s.admit(i)
}

// read runs do in a read transaction: all it sees is of one revision.
func (s *Store) read(ctx context.Context, doing string, do func(context.Context, querier) error) error {
	limit := wholeFactor * s.limit
	return s.call(ctx, doing, limit, func(ctx context.Context) error {
		reading, err := s.pool.BeginTx(ctx, pgx.TxOptions{
			BeginQuery: `BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = ` + strconv.FormatInt(limit.Milliseconds(), 10),
		})
		if err != nil {
			return err
		}
		defer func() { _ = reading.Rollback(ctx) }() // nothing was written
		return do(ctx, reading)
	})
}

// Head gives the present revision.
func (s *Store) Head(ctx context.Context) (revision flag.Revision, err error) {
	err = s.call(ctx, "read the revision of", s.limit, func(ctx context.Context) (err error) {
		revision, err = s.head(ctx, s.pool)
		return err
	})
	if err != nil {
		return flag.Revision{}, err
	}
	return revision, nil
}

// Snapshot reads everything at one revision.
func (s *Store) Snapshot(ctx context.Context) (snapshot *flag.Snapshot, err error) {
	err = s.read(ctx, "read all definitions of", func(ctx context.Context, q querier) error {
		if snapshot, err = s.empty(ctx, q); err != nil {
			return err
		}
		rows, err := q.Query(ctx, `SELECT 1, key, '', document FROM bunting.flags
			UNION ALL SELECT 2, flag_key, entity_id, document FROM bunting.overrides
			UNION ALL SELECT 3, flag_key, holder, document FROM bunting.holds`)
		if err != nil {
			return err
		}
		snapshot, err = withRows(snapshot, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return snapshot, nil
}

// empty gives the snapshot without its objects.
func (s *Store) empty(ctx context.Context, q querier) (*flag.Snapshot, error) {
	var i identity
	var supersedes []string
	if err := q.QueryRow(ctx, `SELECT `+present+`, supersedes FROM bunting.meta`).Scan(append(i.targets(), &supersedes)...); err != nil {
		return nil, err
	}
	snapshot := flag.NewSnapshot(s.env, i.Revision)
	snapshot.Supersedes = supersedes
	return snapshot, s.admit(i)
}

// withRows adds rows of kind, key, id and document as they come.
func withRows(snapshot *flag.Snapshot, rows pgx.Rows) (_ *flag.Snapshot, err error) {
	defer rows.Close()
	var texts flag.Texts
	snapshot = snapshot.With(snapshot.Revision, func(yield func(flag.Edit) bool) {
		for rows.Next() {
			var ref flag.Ref
			var document string
			if err = rows.Scan(&ref.Kind, &ref.Key, &ref.ID, &document); err != nil {
				return
			}
			var o flag.Object
			if o, err = store.ParseDocument(ref, document); err != nil {
				return
			}
			texts.Share(o)
			if !yield(flag.Edit{Ref: ref, Object: o}) {
				return
			}
		}
		err = rows.Err()
	})
	return snapshot, err
}

// Since gives the commits after the revision number, from the audit log.
func (s *Store) Since(ctx context.Context, number int64) (commits []store.Commit, ok bool, err error) {
	err = s.read(ctx, "read what changed in", func(ctx context.Context, q querier) error {
		head, err := s.head(ctx, q)
		if err != nil {
			return err
		}
		commits, ok, err = store.CommitsSince(number, head, func() ([]store.AuditEntry, error) {
			return readAudit(ctx, q, `WHERE revision > $1 ORDER BY revision, ordinal`, number)
		})
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return commits, ok, nil
}

// Audit lists audit entries, newest first.
func (s *Store) Audit(ctx context.Context, filter store.AuditFilter) (entries []store.AuditEntry, next string, err error) {
	revision, ordinal, later, err := filter.PageStart()
	if err != nil {
		return nil, "", err
	}
	where, args := "WHERE TRUE", []any{}
	and := func(set bool, condition string, values ...any) {
		if !set {
			return
		}
		for _, value := range values {
			args = append(args, value)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where += " AND " + condition
	}
	and(filter.Key != "", "flag_key = ?", string(filter.Key))
	and(filter.Actor != "", "actor = ?", filter.Actor)
	// As in SQLite: entries stay in the order of revisions and are read until the
	// page is full, from the first revision since then.
	and(!filter.Since.IsZero(), "revision >= (SELECT min(revision) FROM bunting.audit WHERE time >= ?) AND time >= ?", filter.Since.UnixMicro(), filter.Since.UnixMicro())
	and(later, "(revision, ordinal) < (?, ?)", revision, ordinal)
	size := filter.PageSize()
	and(true, "TRUE ORDER BY revision DESC, ordinal DESC LIMIT ?", size+1)
	err = s.call(ctx, "read the audit log of", s.limit, func(ctx context.Context) (err error) {
		if !storable(string(filter.Key)) || !storable(filter.Actor) {
			return nil // nothing is kept under such a name
		}
		entries, err = readAudit(ctx, s.pool, where, args...)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(entries) > size {
		entries = entries[:size]
		next = entries[size-1].Page()
	}
	return entries, next, nil
}

// storable reports whether PostgreSQL can be asked for the text.
func storable(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }

func readAudit(ctx context.Context, q querier, where string, args ...any) ([]store.AuditEntry, error) {
	rows, err := q.Query(ctx, `SELECT revision, ordinal, time, actor, owner_id, action, kind, flag_key, object, before, after, note FROM bunting.audit `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e store.AuditEntry, err error) {
		var at int64
		err = row.Scan(&e.Revision, &e.Ordinal, &at, &e.Actor, &e.OwnerID, &e.Action, &e.Kind, &e.Key, &e.Object, &e.Before, &e.After, &e.Note)
		e.Time = time.UnixMicro(at).UTC()
		return e, err
	})
}

// Tokens lists all tokens.
func (s *Store) Tokens(ctx context.Context) (tokens []token.Token, err error) {
	err = s.call(ctx, "read the tokens of", s.limit, func(ctx context.Context) (err error) {
		tokens, err = readTokens(ctx, s.pool, `SELECT hash, document FROM bunting.tokens ORDER BY name, id`)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

func readTokens(ctx context.Context, q querier, query string, args ...any) ([]token.Token, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t token.Token, err error) {
		var hash, document string
		if err := row.Scan(&hash, &document); err != nil {
			return t, err
		}
		if err := json.Unmarshal([]byte(document), &t); err != nil {
			return t, fmt.Errorf("read a stored token: %w", err)
		}
		t.Hash = hash
		return t, nil
	})
}
