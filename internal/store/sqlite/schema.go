package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

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
	if present > 0 {
		var environment, minimum string
		err := s.writer.QueryRowContext(ctx, `SELECT environment, minimum_version FROM meta`).Scan(&environment, &minimum)
		switch {
		case present > newest && err != nil:
			return fmt.Errorf("it was written by a newer version of bunting (schema %d, this program knows %d). Use a newer bunting", present, newest)
		case present > newest:
			return fmt.Errorf("it was written by a newer version of bunting (schema %d, this program knows %d). Use at least bunting %s", present, newest, minimum)
		case err != nil:
			return fmt.Errorf("read who it is: %w", err)
		case environment != "" && environment != s.env:
			return fmt.Errorf("it holds the environment %q, but %q was expected. Name the file of %q, or start with --environment %s", environment, s.env, s.env, environment)
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
