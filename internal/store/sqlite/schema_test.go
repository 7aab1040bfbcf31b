package sqlite

import (
	"errors"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
)

// TestAnOlderSchema opens what the first bunting wrote.
func TestAnOlderSchema(t *testing.T) {
	path := made(t)
	run(t, path, "ALTER TABLE meta DROP COLUMN supersedes", "DELETE FROM goose_db_version WHERE version_id > 1")
	s := open(t, path, "test")
	apply(t, s, flag.Put(numberedFlag("b", 1)))
	snapshot, err := s.Snapshot(t.Context())
	if err != nil || snapshot.Flag("a") == nil || snapshot.Revision.Number != 2 || len(snapshot.Supersedes) != 0 {
		t.Errorf("opened as %+v (%v)", snapshot, err)
	}
	storetest.WantComplete(t.Context(), t, s)
}

// TestInspect reads what a database says of itself, without a trace.
func TestInspect(t *testing.T) {
	path := newPath(t)
	if schema, err := Inspect(t.Context(), path); err != nil || schema.Version != 0 || schema.Newest != 2 {
		t.Errorf("no file: %+v, %v", schema, err)
	}
	path = made(t)
	before := contents(t, path)
	schema, err := Inspect(t.Context(), path)
	if want := (store.Schema{Version: 2, Newest: 2, MinimumVersion: "0.1.0", Environment: "test"}); err != nil || schema != want {
		t.Errorf("%+v, %v; want %+v", schema, err, want)
	}
	if after := contents(t, path); after != before {
		t.Errorf("changed:\n got: %s\nwant: %s", after, before)
	}
	s := open(t, path, "test") // while a server has it
	apply(t, s, flag.Put(numberedFlag("b", 1)))
	if _, err := Inspect(t.Context(), path); err != nil {
		t.Error(err)
	}
	other := newPath(t)
	run(t, other, "CREATE TABLE other (a)")
	if _, err := Inspect(t.Context(), other); !errors.Is(err, errForeign) {
		t.Errorf("another program's: %v", err)
	}
}
