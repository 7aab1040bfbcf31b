package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// tx is a transaction that has the one write lock, so nobody else can be between
// its reading of the revision and its commit.
type tx struct {
	*Store
	conn *sql.Conn
}

var _ store.Tx = tx{}

// transact runs do in a write transaction and commits what it did, or, on any
// error, nothing.
func (s *Store) transact(ctx context.Context, doing string, do func(context.Context, tx) error) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		rollback(ctx, conn) // cancelled just then, it may have begun and say that it has not
		return s.failed(ctx, doing, err)
	}
	if err := do(ctx, tx{s, conn}); err != nil {
		rollback(ctx, conn)
		return s.failed(ctx, doing, err)
	}
	// A commit that has begun is not given up: its caller must know how it ended.
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err != nil {
		rollback(ctx, conn)
		return s.failed(ctx, doing, err)
	}
	return nil
}

// rollback leaves the connection without a transaction, or leaves the connection.
func rollback(ctx context.Context, conn *sql.Conn) {
	_, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	failure, ok := errors.AsType[*sqlite.Error](err)
	if err == nil || ok && failure.Code() == lib.SQLITE_ERROR {
		return // SQLite rolls back by itself after some errors, and says then that there is nothing to do
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// Load gives the wanted rows at the present revision.
func (t tx) Load(ctx context.Context, wanted store.Wanted) (*flag.Snapshot, error) {
	snapshot, err := t.empty(ctx, t.conn)
	if err != nil {
		return nil, err
	}
	pairs := make([][2]string, len(wanted.Overrides))
	for i, ref := range wanted.Overrides {
		pairs[i] = [2]string{string(ref.Key), ref.ID}
	}
	rows := reading{ctx: ctx, from: t.conn}
	for _, part := range []struct {
		count int
		query string
		named any
	}{
		{len(wanted.Flags), `SELECT 1, key, '', document FROM flags WHERE key IN (SELECT value FROM json_each(?))`, wanted.Flags},
		{len(wanted.Flags), `SELECT 3, flag_key, holder, document FROM holds WHERE flag_key IN (SELECT value FROM json_each(?))`, wanted.Flags},
		{len(pairs), `SELECT 2, flag_key, entity_id, document FROM json_each(?) AS pair
			JOIN overrides ON flag_key = pair.value ->> 0 AND entity_id = pair.value ->> 1`, pairs},
		{len(wanted.OverridesOf), `SELECT 2, flag_key, entity_id, document FROM overrides WHERE flag_key IN (SELECT value FROM json_each(?))`, wanted.OverridesOf},
	} {
		if part.count == 0 {
			continue
		}
		names, err := json.Marshal(part.named)
		if err != nil {
			return nil, fmt.Errorf("name the wanted rows: %w", err)
		}
		snapshot = snapshot.With(snapshot.Revision, rows.objects(part.query, string(names)))
	}
	if !wanted.Due.IsZero() {
		snapshot = snapshot.With(snapshot.Revision, rows.objects(dueHolds, wanted.Due.UnixMicro()))
	}
	if rows.err != nil {
		return nil, rows.err
	}
	return snapshot, nil
}

// dueHolds finds the holds whose expiry is to be committed.
const dueHolds = `SELECT 3, flag_key, holder, document FROM holds WHERE due_at <= ?`

// Removal finds who removed the object last.
func (t tx) Removal(ctx context.Context, ref flag.Ref) (*flag.Stamp, error) {
	var s flag.Stamp
	var at int64
	err := t.conn.QueryRowContext(ctx, `SELECT revision, actor, time, owner_id FROM audit
		WHERE flag_key = ? AND kind = ? AND object = ? AND after = '' ORDER BY revision DESC, ordinal DESC LIMIT 1`,
		ref.Key, ref.Kind, ref.String()).Scan(&s.Revision, &s.Actor, &at, &s.OwnerID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find who removed %q: %w", ref, err)
	}
	s.Time = time.UnixMicro(at).UTC()
	return &s, nil
}

// Request finds an answered request.
func (t tx) Request(ctx context.Context, actor, id string) (*store.Request, error) {
	r := store.Request{Actor: actor, ID: id}
	var at int64
	err := t.conn.QueryRowContext(ctx, `SELECT time, content, answer FROM requests WHERE actor = ? AND id = ?`, actor, id).Scan(&at, &r.Content, &r.Answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find the request %q: %w", id, err)
	}
	r.Time = time.UnixMicro(at).UTC()
	return &r, nil
}

// Tokens gives the tokens of the name.
func (t tx) Tokens(ctx context.Context, name string) ([]token.Token, error) {
	return readTokens(ctx, t.conn, `SELECT hash, document FROM tokens WHERE name = ? ORDER BY id`, name)
}

// Save writes the record.
func (t tx) Save(ctx context.Context, record store.Record) error {
	w := writes{ctx: ctx, conn: t.conn, prepared: map[string]*sql.Stmt{}}
	defer w.close()
	if record.Commit != nil {
		w.run(`UPDATE meta SET revision = ?`, record.Commit.Revision.Number)
		for _, e := range record.Commit.Edits {
			w.edit(e)
		}
	}
	for _, e := range record.Audit {
		w.run(`INSERT INTO audit (revision, ordinal, time, actor, owner_id, action, kind, flag_key, object, before, after, note)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.Revision, e.Ordinal, e.Time.UnixMicro(), e.Actor, e.OwnerID, e.Action, e.Kind, e.Key, e.Object, e.Before, e.After, e.Note)
	}
	if k := record.Token; k != nil {
		document, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("write the token %q as JSON: %w", k.Name, err)
		}
		w.run(`INSERT INTO tokens (id, name, hash, document) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET document = excluded.document`, k.ID, k.Name, k.Hash, string(document))
	}
	if record.Supersedes != nil {
		supersedes, err := json.Marshal(record.Supersedes)
		if err != nil {
			return fmt.Errorf("write the superseded stores as JSON: %w", err)
		}
		w.run(`UPDATE meta SET supersedes = ?`, string(supersedes))
	}
	if record.StoreID != "" {
		w.run(`UPDATE meta SET store_id = ?`, record.StoreID)
	}
	if !record.Forget.IsZero() {
		w.run(`DELETE FROM requests WHERE time <= ?`, record.Forget.UnixMicro())
	}
	if r := record.Request; r != nil {
		w.run(`INSERT INTO requests (actor, id, time, content, answer) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (actor, id) DO UPDATE SET time = excluded.time, content = excluded.content, answer = excluded.answer`,
			r.Actor, r.ID, r.Time.UnixMicro(), r.Content, r.Answer)
	}
	return w.err
}

// writes runs statements one after another, each prepared once, until one fails.
type writes struct {
	ctx      context.Context //nolint:containedctx // Lives within one Save.
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
	err      error
}

func (w *writes) run(query string, args ...any) {
	if w.err != nil {
		return
	}
	statement := w.prepared[query]
	if statement == nil {
		if statement, w.err = w.conn.PrepareContext(w.ctx, query); w.err != nil {
			return
		}
		w.prepared[query] = statement
	}
	_, w.err = statement.ExecContext(w.ctx, args...)
}

func (w *writes) close() {
	for _, statement := range w.prepared {
		_ = statement.Close() // nothing is left to fail
	}
}

// edit makes one row as the edit says.
func (w *writes) edit(e flag.Edit) {
	key, id := e.Ref.Key, e.Ref.ID
	document, err := store.Document(e.Object)
	if w.err = errors.Join(w.err, err); w.err != nil {
		return
	}
	switch e.Ref.Kind {
	case flag.KindFlag:
		if e.Object == nil {
			w.run(`DELETE FROM flags WHERE key = ?`, key)
			return
		}
		w.run(`INSERT INTO flags (key, document) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET document = excluded.document`, key, document)
	case flag.KindOverride:
		if e.Object == nil {
			w.run(`DELETE FROM overrides WHERE flag_key = ? AND entity_id = ?`, key, id)
			return
		}
		w.run(`INSERT INTO overrides (flag_key, entity_id, document) VALUES (?, ?, ?)
			ON CONFLICT (flag_key, entity_id) DO UPDATE SET document = excluded.document`, key, id, document)
	case flag.KindHold:
		hold, ok := e.Object.(*flag.Hold)
		if !ok {
			w.run(`DELETE FROM holds WHERE flag_key = ? AND holder = ?`, key, id)
			return
		}
		var due sql.NullInt64
		if !hold.ExpiresAt.IsZero() && !hold.Expired {
			due = sql.NullInt64{Int64: hold.ExpiresAt.UnixMicro(), Valid: true}
		}
		w.run(`INSERT INTO holds (flag_key, holder, due_at, document) VALUES (?, ?, ?, ?)
			ON CONFLICT (flag_key, holder) DO UPDATE SET due_at = excluded.due_at, document = excluded.document`, key, id, due, document)
	default:
		w.err = fmt.Errorf("write %q: kind %d is no kind of object", e.Ref, e.Ref.Kind)
	}
}
