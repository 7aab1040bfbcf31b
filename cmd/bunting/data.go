package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/diskcopy"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// dataFolder is where the last snapshot is kept (--data), and what was found
// there. The zero value keeps none.
type dataFolder struct {
	file   *diskcopy.File
	loaded *diskcopy.Copy
}

// snapshotName names the file in the folder: after the database, as SQLite names
// the files beside it, so that two databases in one folder have two.
const snapshotName = "-snapshot"

// openData takes and reads the folder. A snapshot that was set aside is told of, and
// starting goes on without it.
func openData(ctx context.Context, settings *configuration.Settings, log *slog.Logger) (dataFolder, error) {
	if settings.Data == "" {
		if settings.Mode() == configuration.Proxy && !settings.DefinitionCache.IsSet() || settings.Mode() != configuration.Proxy && settings.Database.Kind() != configuration.Memory {
			log.InfoContext(ctx, "no snapshot is kept on disk: while its source of truth is away this server cannot start. Name a folder for it with --data")
		}
		return dataFolder{}, nil
	}
	name := "bunting"
	if settings.Mode() != configuration.Proxy && settings.Database.Kind() == configuration.SQLite {
		name = filepath.Base(settings.Database.Source())
	}
	file, err := diskcopy.Open(filepath.Join(settings.Data, name+snapshotName))
	if err != nil {
		return dataFolder{}, err
	}
	loaded, err := file.Load(settings.Environment)
	if err != nil && !errors.Is(err, diskcopy.ErrSetAside) {
		return dataFolder{}, errors.Join(err, file.Close())
	}
	if err != nil {
		log.ErrorContext(ctx, "starting without the last snapshot", "error", err.Error())
	}
	return dataFolder{file: file, loaded: loaded}, nil
}

// snapshot gives what was last known; nil: nothing.
func (d dataFolder) snapshot() *flag.Snapshot {
	if d.loaded == nil {
		return nil
	}
	return d.loaded.Snapshot
}

// tokens gives the tokens that were last known.
func (d dataFolder) tokens() []token.Token {
	if d.loaded == nil {
		return nil
	}
	return d.loaded.Tokens
}

// keep keeps the snapshot in step with what the server knows, until the function
// that it gives is called, which writes it once more.
func (o opened) keep(ctx context.Context, log *slog.Logger) (end func()) {
	if o.data.file == nil || o.evaluator == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		diskcopy.NewKeeper(o.data.file, o.data.loaded, o.evaluator.Trusted, o.web.KnownTokens, log).Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (d dataFolder) close() error {
	if d.file == nil {
		return nil
	}
	return d.file.Close()
}
