package postgres

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// newest is the newest migration: they are numbered from 1 on.
var newest = func() int64 {
	files, _ := migrations.ReadDir("migrations") // embedded, so it is there
	return int64(len(files))
}()

// versions is the table in which goose keeps which migrations were made.
const versions = "bunting.goose_db_version"

// oldestServer is PostgreSQL 13, as its server_version_num.
const oldestServer = 130_000

// migrationLock is the number of the advisory lock that lets one process
// migrate: "bunting" in ASCII.
const migrationLock = 0x62756e74696e67

// Inspect tells what the database says of itself, and changes nothing.
func Inspect(ctx context.Context, address string, options Options) (store.Schema, error) {
	s, err := Open(ctx, address, options)
	if err != nil {
		return store.Schema{}, err
	}
	ctx, leave, err := s.begin(ctx, s.limit)
	if err != nil {
		return store.Schema{}, errors.Join(err, s.Close())
	}
	schema, err := s.inspect(ctx)
	err = s.failed(ctx, "inspect", err)
	leave()
	return schema, errors.Join(err, s.Close())
}

// prepare brings the schema up to date and names a new store. Of a database that
// is ready it only reads, so it may be read-only, and the user may have no right
// to make tables.
func (s *Store) prepare(ctx context.Context) error {
	reading, done := context.WithTimeout(ctx, s.limit)
	defer done()
	schema, err := s.inspect(reading)
	if err != nil {
		return err
	}
	if err := schema.Admit(s.env); err != nil {
		return err
	}
	if schema.Version < schema.Newest {
		made, err := s.migrate(ctx)
		if err != nil {
			return err
		}
		if made == 0 {
			return s.prepare(ctx) // another process made them meanwhile: what did it leave?
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, "database schema is up to date",
			slog.String("database", s.name), slog.Int64("from_version", schema.Version), slog.Int64("version", schema.Newest))
	}
	if s.env == "" || schema.Environment != "" {
		return nil
	}
	naming, done := context.WithTimeout(ctx, s.limit)
	defer done()
	return s.identify(naming)
}

// inspect asks whether the database is one that bunting can use, and for its
// schema.
func (s *Store) inspect(ctx context.Context) (store.Schema, error) {
	schema := store.Schema{Newest: newest}
	var server, encoding string
	var number, tables int
	var standby, migrated bool
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_setting('server_encoding'),
		pg_is_in_recovery(), (SELECT count(*)::int FROM pg_class WHERE relnamespace = to_regnamespace('bunting')), to_regclass('`+versions+`') IS NOT NULL`).
		Scan(&server, &number, &encoding, &standby, &tables, &migrated)
	switch {
	case err != nil:
		return schema, err
	case number < oldestServer:
		return schema, fmt.Errorf("it is of PostgreSQL %s, but bunting needs 13 or newer. Name a database of a newer server", server)
	case standby:
		return schema, fmt.Errorf("%w: %s", store.ErrUnreachable, meanings[standbyState].says)
	case encoding != "UTF8":
		return schema, fmt.Errorf("its encoding is %s, but bunting needs UTF8. Name a database that was made with ENCODING 'UTF8' TEMPLATE template0", encoding)
	case !migrated && tables > 0:
		return schema, errors.New(`its schema "bunting" is of another program. Name another database`)
	case !migrated:
		return schema, nil
	}
	if err := s.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versions+` WHERE is_applied`).Scan(&schema.Version); err != nil {
		return schema, err
	}
	if schema.Version == 0 {
		return schema, nil // a first migration that was cut off
	}
	err = s.pool.QueryRow(ctx, `SELECT environment, minimum_version FROM bunting.meta`).Scan(&schema.Environment, &schema.MinimumVersion)
	if err != nil && schema.Version <= schema.Newest {
		return schema, err
	}
	return schema, nil // a newer one may say it elsewhere
}

// migrate brings the schema up to date, one process at a time, and tells how many
// migrations this one made.
func (s *Store) migrate(ctx context.Context) (made int, err error) {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	config := s.pool.Config().ConnConfig
	limit := strconv.FormatInt(migrateTimeout.Milliseconds(), 10)
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		config.RuntimeParams[name] = limit
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	lock, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = lock.Close() }() // the lock ends with the connection, and that with db
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return 0, fmt.Errorf("wait for another process that may be migrating: %w", err)
	}
	if _, err := lock.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS bunting`); err != nil {
		return 0, fmt.Errorf("make the schema bunting: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, fmt.Errorf("read the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()), goose.WithTableName(versions))
	if err != nil {
		return 0, fmt.Errorf("read the migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return 0, fmt.Errorf("bring its schema to version %d: %w", newest, err)
	}
	return len(results), nil
}

// identify names a new store: an id, random at its creation, and an environment.
// Of several processes that try, one does.
func (s *Store) identify(ctx context.Context) error {
	clock := s.options.Clock
	if clock == nil {
		clock = time.Now
	}
	_, err := s.pool.Exec(ctx, `UPDATE bunting.meta SET store_id = $1, environment = $2, created_at = $3 WHERE store_id = ''`,
		rand.Text(), s.env, clock().UnixMicro())
	if err != nil {
		return fmt.Errorf("name the new store: %w", err)
	}
	_, err = s.head(ctx, s.pool)
	return err
}
