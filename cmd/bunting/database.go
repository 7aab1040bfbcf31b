package main

import (
	"context"
	"log/slog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
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
		return nil, usagef("database is %s, but there is no such store in this version yet. Use sqlite:PATH or memory:", settings.Database)
	}
}
