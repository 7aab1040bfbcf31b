package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// table is one of the tables of objects, with what is written to and removed
// from it: a column each, so that a statement serves any number of rows.
type table struct {
	upsert, remove string

	keys, ids, documents    []string
	due                     []*int64 // of holds alone
	removedKeys, removedIDs []string
}

// queueEdits queues what leaves the rows as the edits, made in order, would: each
// object's last edit counts. Flags are removed after, and written before, what
// refers to them.
func queueEdits(batch *pgx.Batch, edits []flag.Edit) error {
	flags := &table{
		remove: `DELETE FROM bunting.flags WHERE key = ANY ($1)`,
		upsert: `INSERT INTO bunting.flags (key, document) SELECT * FROM unnest($1::text[], $2::text[])
			ON CONFLICT (key) DO UPDATE SET document = excluded.document`,
	}
	overrides := &table{
		remove: `DELETE FROM bunting.overrides WHERE (flag_key, entity_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
		upsert: `INSERT INTO bunting.overrides (flag_key, entity_id, document) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
			ON CONFLICT (flag_key, entity_id) DO UPDATE SET document = excluded.document`,
	}
	holds := &table{
		remove: `DELETE FROM bunting.holds WHERE (flag_key, holder) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
		upsert: `INSERT INTO bunting.holds (flag_key, holder, document, due_at) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
			ON CONFLICT (flag_key, holder) DO UPDATE SET due_at = excluded.due_at, document = excluded.document`,
	}
	tables := map[flag.Kind]*table{flag.KindFlag: flags, flag.KindOverride: overrides, flag.KindHold: holds}
	last := make(map[flag.Ref]int, len(edits))
	for i, e := range edits {
		last[e.Ref] = i
	}
	for i, e := range edits {
		if last[e.Ref] != i {
			continue
		}
		t := tables[e.Ref.Kind]
		if t == nil {
			return fmt.Errorf("write %q: kind %d is no kind of object", e.Ref, e.Ref.Kind)
		}
		if err := t.add(e); err != nil {
			return err
		}
	}
	for _, t := range []*table{overrides, holds, flags} {
		switch {
		case len(t.removedKeys) == 0:
		case t == flags:
			batch.Queue(t.remove, t.removedKeys)
		default:
			batch.Queue(t.remove, t.removedKeys, t.removedIDs)
		}
	}
	for _, t := range []*table{flags, overrides, holds} {
		switch {
		case len(t.keys) == 0:
		case t == flags:
			batch.Queue(t.upsert, t.keys, t.documents)
		case t == holds:
			batch.Queue(t.upsert, t.keys, t.ids, t.documents, t.due)
		default:
			batch.Queue(t.upsert, t.keys, t.ids, t.documents)
		}
	}
	return nil
}

func (t *table) add(e flag.Edit) error {
	if e.Object == nil {
		t.removedKeys, t.removedIDs = append(t.removedKeys, string(e.Ref.Key)), append(t.removedIDs, e.Ref.ID)
		return nil
	}
	document, err := store.Document(e.Object)
	if err != nil {
		return err
	}
	var due *int64
	if hold, ok := e.Object.(*flag.Hold); ok && !hold.ExpiresAt.IsZero() && !hold.Expired {
		at := hold.ExpiresAt.UnixMicro()
		due = &at
	}
	t.keys, t.ids, t.documents, t.due = append(t.keys, string(e.Ref.Key)), append(t.ids, e.Ref.ID), append(t.documents, document), append(t.due, due)
	return nil
}

// queueAudit queues the audit rows, a column each.
func queueAudit(batch *pgx.Batch, entries []store.AuditEntry) {
	if len(entries) == 0 {
		return
	}
	numbers := [4][]int64{}
	words := [8][]string{}
	for _, e := range entries {
		for i, number := range [...]int64{e.Revision, int64(e.Ordinal), e.Time.UnixMicro(), int64(e.Kind)} {
			numbers[i] = append(numbers[i], number)
		}
		for i, word := range [...]string{e.Actor, e.OwnerID, e.Action, string(e.Key), e.Object, e.Before, e.After, e.Note} {
			words[i] = append(words[i], word)
		}
	}
	batch.Queue(insertAudit,
		numbers[0], numbers[1], numbers[2], numbers[3], words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
}

const insertAudit = `INSERT INTO bunting.audit (revision, ordinal, time, kind, actor, owner_id, action, flag_key, object, before, after, note)
	SELECT r, o, t, k, a, w, c, f, b, x, y, n FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[],
		$8::text[], $9::text[], $10::text[], $11::text[], $12::text[]) AS row (r, o, t, k, a, w, c, f, b, x, y, n)`
