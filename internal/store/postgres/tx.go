package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// tx is a transaction that has the revision row, so nobody else can be between
// its reading of the revision and its commit.
type tx struct {
	*Store
	tx pgx.Tx
}

var _ store.Tx = tx{}

// dueHolds finds the holds whose expiry is to be committed.
const dueHolds = `SELECT 3, flag_key, holder, document FROM bunting.holds WHERE due_at <= $1`

// Load gives the wanted rows at the present revision, in one round trip.
func (t tx) Load(ctx context.Context, wanted store.Wanted) (*flag.Snapshot, error) {
	snapshot, err := t.empty(ctx, t.tx)
	if err != nil {
		return nil, err
	}
	var batch pgx.Batch
	queue := func(count int, query string, args ...any) {
		if count > 0 {
			batch.Queue(query, args...)
		}
	}
	flags := texts(wanted.Flags)
	queue(len(flags), `SELECT 1, key, '', document FROM bunting.flags WHERE key = ANY ($1)`, flags)
	queue(len(flags), `SELECT 3, flag_key, holder, document FROM bunting.holds WHERE flag_key = ANY ($1)`, flags)
	keys, entities := make([]string, len(wanted.Overrides)), make([]string, len(wanted.Overrides))
	for i, ref := range wanted.Overrides {
		keys[i], entities[i] = string(ref.Key), ref.ID
	}
	queue(len(keys), `SELECT 2, flag_key, entity_id, document FROM bunting.overrides
		WHERE (flag_key, entity_id) IN (SELECT k, e FROM unnest($1::text[], $2::text[]) AS wanted (k, e))`, keys, entities)
	queue(len(wanted.OverridesOf), `SELECT 2, flag_key, entity_id, document FROM bunting.overrides WHERE flag_key = ANY ($1)`, texts(wanted.OverridesOf))
	if !wanted.Due.IsZero() {
		queue(1, dueHolds, wanted.Due.UnixMicro())
	}
	if batch.Len() == 0 {
		return snapshot, nil
	}
	results := t.tx.SendBatch(ctx, &batch)
	for range batch.Len() {
		rows, err := results.Query()
		if err == nil {
			snapshot, err = withRows(snapshot, rows)
		}
		if err != nil {
			return nil, errors.Join(err, results.Close())
		}
	}
	return snapshot, results.Close()
}

func texts(keys []flag.Key) []string {
	all := make([]string, len(keys))
	for i, key := range keys {
		all[i] = string(key)
	}
	return all
}

// Removal finds who removed the object last.
func (t tx) Removal(ctx context.Context, ref flag.Ref) (*flag.Stamp, error) {
	var s flag.Stamp
	var at int64
	err := t.tx.QueryRow(ctx, `SELECT revision, actor, time, owner_id FROM bunting.audit
		WHERE flag_key = $1 AND kind = $2 AND object = $3 AND after = '' ORDER BY revision DESC, ordinal DESC LIMIT 1`,
		string(ref.Key), int(ref.Kind), ref.String()).Scan(&s.Revision, &s.Actor, &at, &s.OwnerID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
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
	err := t.tx.QueryRow(ctx, `SELECT time, content, answer FROM bunting.requests WHERE actor = $1 AND id = $2`, actor, []byte(id)).Scan(&at, &r.Content, &r.Answer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find the request %q: %w", id, err)
	}
	r.Time = time.UnixMicro(at).UTC()
	return &r, nil
}

// Tokens gives the tokens of the name.
func (t tx) Tokens(ctx context.Context, name string) ([]token.Token, error) {
	if !storable(name) {
		return nil, nil // none can be kept under it
	}
	return readTokens(ctx, t.tx, `SELECT hash, document FROM bunting.tokens WHERE name = $1 ORDER BY id`, name)
}

// channel is where roots tell each other of commits. Notifications reach the
// listeners of one database, and that holds one store.
const channel = "bunting"

// Save writes the record in one round trip, however many edits it has.
func (t tx) Save(ctx context.Context, record store.Record) error {
	var batch pgx.Batch
	// What was acknowledged is to outlive a crash, whatever the database is set to.
	batch.Queue(`SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`)
	if record.Commit != nil {
		batch.Queue(`UPDATE bunting.meta SET revision = $1`, record.Commit.Revision.Number)
		if err := queueEdits(&batch, record.Commit.Edits); err != nil {
			return err
		}
		batch.Queue(`SELECT pg_notify($1, $2)`, channel, t.self)
	}
	queueAudit(&batch, record.Audit)
	if k := record.Token; k != nil {
		document, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("write the token %q as JSON: %w", k.Name, err)
		}
		batch.Queue(`INSERT INTO bunting.tokens (id, name, hash, document) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET document = excluded.document`, k.ID, k.Name, k.Hash, string(document))
	}
	if record.Supersedes != nil {
		batch.Queue(`UPDATE bunting.meta SET supersedes = $1`, record.Supersedes)
	}
	if record.StoreID != "" {
		batch.Queue(`UPDATE bunting.meta SET store_id = $1`, record.StoreID)
	}
	if !record.Forget.IsZero() {
		batch.Queue(`DELETE FROM bunting.requests WHERE time <= $1`, record.Forget.UnixMicro())
	}
	if r := record.Request; r != nil {
		batch.Queue(`INSERT INTO bunting.requests (actor, id, time, content, answer) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (actor, id) DO UPDATE SET time = excluded.time, content = excluded.content, answer = excluded.answer`,
			r.Actor, []byte(r.ID), r.Time.UnixMicro(), r.Content, r.Answer)
	}
	return t.tx.SendBatch(ctx, &batch).Close()
}
