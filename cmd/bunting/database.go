package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgres"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
)

// openDatabase opens the store that the settings name.
func openDatabase(ctx context.Context, settings *configuration.Settings, log *slog.Logger) (store.Store, error) {
	options := sqlite.Options{Environment: settings.Environment, Logger: log}
	switch settings.Database.Kind() {
	case configuration.Memory:
		return sqlite.OpenMemory(ctx, options)
	case configuration.SQLite:
		return sqlite.Open(ctx, settings.Database.Source(), options)
	default:
		return openPostgres(ctx, settings, postgresOptions(settings, log))
	}
}

func postgresOptions(settings *configuration.Settings, log *slog.Logger) postgres.Options {
	pool := settings.DatabasePool
	return postgres.Options{
		Environment: settings.Environment, Logger: log,
		MaxConnections: int32(pool.MaxConnections), MinConnections: int32(pool.MinConnections), //nolint:gosec // The table bounds them.
		ConnectTimeout: pool.ConnectTimeout, StatementTimeout: pool.StatementTimeout,
	}
}

// openPostgres makes the database ready first, which a root's questions are too
// short for. What waiting does not mend stops the start; what it may mend is the
// store's to tell until it has passed.
func openPostgres(ctx context.Context, settings *configuration.Settings, options postgres.Options) (*postgres.Store, error) {
	opened, err := postgres.Open(ctx, settings.Database.Source(), options)
	if err != nil {
		return nil, err
	}
	if err := opened.Prepare(ctx); err != nil && !errors.Is(err, store.ErrUnreachable) {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}
