package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/pressly/goose/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// newest is the newest migration: they are numbered from 1 on.
func newest() int64 {
	files, _ := migrations.ReadDir("migrations") // embedded, so it is there
	return int64(len(files))
}

// Inspect tells what the database in the file says of itself, and changes
// nothing. Of a file that does not exist the version is 0.
func Inspect(ctx context.Context, path string) (schema store.Schema, err error) {
	schema.Newest = newest()
	file, err := resolve(path)
	if err != nil {
		return schema, fmt.Errorf("inspect the database %s: %w", path, err)
	}
	if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return schema, nil
	}
	s := &Store{name: file}
	defer func() {
		if err != nil {
			err = fmt.Errorf("inspect the database %s: %w", file, s.explain(err))
		}
	}()
	if err := inspect(file); err != nil {
		return schema, err
	}
	// Without a log nobody has it open, and then SQLite need not make the files by
	// which those who have it open agree.
	access := "&mode=ro"
	if _, err := os.Stat(file + "-wal"); errors.Is(err, fs.ErrNotExist) {
		access = "&immutable=1"
	}
	db, err := connect(dsn(file), 1, "query_only(1)"+access)
	if err != nil {
		return schema, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var id, tables, migrated int64
	err = db.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema),
		(SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version')`).Scan(&id, &tables, &migrated)
	switch {
	case err != nil:
		return schema, err
	case id != applicationID && tables > 0:
		return schema, errForeign
	case migrated == 0:
		return schema, nil
	}
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&schema.Version); err != nil || schema.Version == 0 {
		return schema, err
	}
	err = db.QueryRowContext(ctx, `SELECT environment, minimum_version FROM meta`).Scan(&schema.Environment, &schema.MinimumVersion)
	if err != nil && schema.Version <= schema.Newest {
		return schema, err
	}
	return schema, nil // a newer one may say it elsewhere
}

// migrate brings the schema up to date. A newer one, and the store of another
// environment, are refused before anything is written.
func (s *Store) migrate(ctx context.Context, options Options) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	present, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	schema := store.Schema{Version: present, Newest: newest}
	if present > 0 {
		err := s.writer.QueryRowContext(ctx, `SELECT environment, minimum_version FROM meta`).Scan(&schema.Environment, &schema.MinimumVersion)
		if err != nil && present <= newest {
			return fmt.Errorf("read who it is: %w", err)
		}
		if err := schema.Admit(s.env); err != nil {
			return err
		}
	}
	if present == newest {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring its schema from version %d to %d: %w", present, newest, err)
	}
	if options.Logger != nil {
		options.Logger.LogAttrs(ctx, slog.LevelInfo, "database schema is up to date",
			slog.String("database", s.name), slog.Int64("from_version", present), slog.Int64("version", newest))
	}
	return nil
}
