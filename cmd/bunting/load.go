package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/document"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// seeds are the flags that a store begins with, as the file of the setting load
// says. The zero value has none.
type seeds struct {
	file     string
	document *document.Document
}

// openSeeds reads the file, if one is named. One that cannot be read, or breaks a
// rule, stops the start before anything is made.
func openSeeds(settings *configuration.Settings) (s seeds, err error) {
	if settings.Load == "" {
		return s, nil
	}
	s.file = settings.Load
	if s.document, err = document.Read(s.file); err == nil && len(s.document.Flags) > store.MaxChanges {
		err = fmt.Errorf("%s has %d flags, more than the %d that one change may make. Leave some out", s.file, len(s.document.Flags), store.MaxChanges)
	}
	return s, err
}

// sowings is how often flags are made that another server, which starts on the same
// database, was faster to make some of.
const sowings = 5

// sow makes the flags that the store does not have, all in one change or none. One
// that is there, an archived one too, is left as it is: it may have been changed
// since it was made. A store that is away, or refused, gets none.
func (s seeds) sow(ctx context.Context, to *evaluator.Root, log *slog.Logger) error {
	if s.document == nil {
		return nil
	}
	if to.Refused() != nil || to.Health().Status == client.Connecting {
		log.WarnContext(ctx, "the flags are not loaded: the database is away, or refused. Start again once it answers", "file", s.file)
		return nil //nolint:nilerr // The start goes on: what was last known is served.
	}
	for sowing := 1; ; sowing++ {
		var missing []flag.Change
		for _, f := range s.document.Flags {
			if to.View().Flag(f.Key) == nil {
				change := flag.Put(f)
				change.Expected = new(int64) // it must not be there
				missing = append(missing, change)
			}
		}
		refused, err := s.plant(ctx, to, missing)
		switch {
		case store.IsUnreachable(err) && ctx.Err() == nil:
			log.WarnContext(ctx, "the flags are not loaded: the database is away. Start again once it answers", "file", s.file, "error", err.Error())
			return nil
		case err != nil:
			return fmt.Errorf("load the flags of %s: %w", s.file, err)
		case refused == nil:
			log.InfoContext(ctx, "the flags are loaded", "file", s.file, "made", len(missing), "left", len(s.document.Flags)-len(missing))
			return nil
		case sowing == sowings:
			return fmt.Errorf("load the flags of %s: %w", s.file, refused)
		}
		if err := to.CatchUp(ctx); err != nil {
			return fmt.Errorf("load the flags of %s: %w", s.file, err)
		}
	}
}

// plant makes the changes. A refusal that another writer's flag explains, which was
// not there a moment ago, is given apart: looking again helps.
func (s seeds) plant(ctx context.Context, to *evaluator.Root, changes []flag.Change) (another, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	outcome, err := to.Apply(ctx, store.Batch{
		Changes: changes, Atomic: true, Now: time.Now(), Note: "bunting serve --load",
		Actor: token.Actor{Name: bootstrapActor, Scopes: []token.Scope{token.Admin}},
	})
	if err != nil {
		return nil, err
	}
	var refused []error
	for i, r := range outcome.Results {
		if r.Problem == nil || r.Status != flag.Refused {
			continue
		}
		why := fmt.Errorf("%s: %s: %w", s.document.Place(changes[i].Ref.Key), changes[i].Ref.Name(), r.Problem)
		if r.Problem.Kind == flag.ProblemAlreadyExists || r.Problem.Kind == flag.ProblemConflict {
			another = why
		} else {
			refused = append(refused, why)
		}
	}
	return another, errors.Join(refused...)
}
