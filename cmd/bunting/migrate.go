package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgres"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
)

func newMigrateCommand(a *app) *cobra.Command {
	var file string
	var dryRun, asJSON bool
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring a database's schema up to date",
		Long: `Bring a database's schema up to date, or with --dry-run tell what that would do.
The database is the one that bunting serve would use: --database, its variable
BUNTING_SERVE_DATABASE, or the file of --config say which.

A server does this by itself when it starts. The command is for where the user
that servers connect as may not: run it as one that may, before the first server
of a newer version starts. Servers of the older version read on, and write again
once they are replaced.`,
		Example: `  bunting migrate --database postgres://admin@db.internal/bunting --dry-run
  bunting migrate --database sqlite:bunting.db`,
		Args: cobra.NoArgs,
	}
	for _, s := range configuration.Table() {
		if s.Key == "database" {
			c.Flags().Var(&settingFlag{s, s.Default}, s.Flag(), "sqlite:PATH or postgres://USER@HOST/DATABASE")
		}
	}
	c.Flags().StringVar(&file, configuration.FileFlag, "", "YAML file with settings")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		settings, err := a.settings(c, file)
		if err != nil {
			return err
		}
		if settings.Database.Kind() == configuration.Memory {
			return usagef("the database is memory:, which is made anew with each server. Name one that is kept")
		}
		before, err := migrate(c.Context(), settings, dryRun)
		if err != nil {
			return err
		}
		m := migrationJSON{Database: settings.Database.String(), Version: before.Version, Newest: before.Newest, Migrated: !dryRun && before.Version < before.Newest}
		if asJSON {
			return printJSON(a.stdout, m)
		}
		fmt.Fprintln(a.stdout, m.words(dryRun))
		return nil
	}
	return c
}

// migrationJSON tells what became of a database's schema.
type migrationJSON struct {
	Database string `json:"database"`
	Version  int64  `json:"version"` // before; 0: there was none
	Newest   int64  `json:"newest"`  // that this program knows
	Migrated bool   `json:"migrated"`
}

func (m migrationJSON) words(dryRun bool) string {
	switch {
	case m.Version == m.Newest:
		return fmt.Sprintf("The schema of %s is up to date (version %d).", m.Database, m.Version)
	case dryRun && m.Version == 0:
		return fmt.Sprintf("%s has no schema yet. bunting migrate would make it (version %d).", m.Database, m.Newest)
	case dryRun:
		return fmt.Sprintf("The schema of %s is at version %d. bunting migrate would bring it to version %d.", m.Database, m.Version, m.Newest)
	case m.Version == 0:
		return fmt.Sprintf("Made the schema of %s (version %d).", m.Database, m.Newest)
	}
	return fmt.Sprintf("Brought the schema of %s from version %d to version %d.", m.Database, m.Version, m.Newest)
}

// migrate brings the schema up to date and gives what it was before. A newer one
// is refused.
func migrate(ctx context.Context, settings *configuration.Settings, dryRun bool) (before store.Schema, err error) {
	source := settings.Database.Source()
	options := postgresOptions(settings, nil)
	options.Environment = "" // nothing is named and nothing served
	isPostgres := settings.Database.Kind() == configuration.PostgreSQL
	if isPostgres {
		before, err = postgres.Inspect(ctx, source, options)
	} else {
		before, err = sqlite.Inspect(ctx, source)
	}
	if err != nil {
		return before, err
	}
	if err := before.Admit(""); err != nil {
		return before, fmt.Errorf("migrate the database %s: %w", settings.Database, err)
	}
	switch {
	case dryRun || before.Version == before.Newest:
		return before, nil
	case isPostgres:
		opened, err := openPostgres(ctx, settings, options)
		if err != nil {
			return before, err
		}
		return before, errors.Join(opened.Prepare(ctx), opened.Close()) // it may have been away a moment ago
	}
	opened, err := sqlite.Open(ctx, source, sqlite.Options{})
	if err != nil {
		return before, err
	}
	return before, opened.Close()
}
