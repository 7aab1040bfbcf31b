package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newSyncCommand(a *app) *cobra.Command {
	s := &syncing{a: a}
	c := &cobra.Command{
		Use:   "sync --descriptors FILE",
		Short: "Write the flags that programs have compiled in to the server",
		Long: `Write the flags that protobuf messages declare (pbflags/options.proto) to the
server, all of them in one change or none.

FILE is a FileDescriptorSet, as "buf build -o FILE" writes it. A sync makes the
flags that are new, brings those of earlier syncs up to date, and archives what
earlier syncs made and FILE lacks; an archived flag that FILE has is restored as
it was.

A sync owns the definitions: type, default value, supported values, layer,
description and owner. What is served is the operators': value, state, tags,
overrides and holds stay as they are, so a sync neither undoes nor lifts what
somebody did at night. A new flag serves its default value until somebody gives
it another. A flag's type never changes: give the field a new number.

Flags of Terraform and of other sets are refused, by name, and then nothing is
written (exit code 4). One that nobody manages is taken over if it does the same
as FILE says, and with --adopt however it is defined. Where more than one FILE is
synced to a server, give each a --set of its own, or one archives the other's.`,
		Example: `  buf build -o flags.binpb && bunting sync --descriptors flags.binpb --dry-run
  bunting sync --descriptors flags.binpb --set shop --note "release 42"`,
		Args: cobra.NoArgs,
	}
	s.r = addRemote(c)
	c.Flags().StringVar(&s.descriptors, "descriptors", "", "file with the FileDescriptorSet (required)")
	c.Flags().StringVar(&s.set, "set", "default", "name of the set of flags that FILE is")
	c.Flags().StringVar(&s.note, "note", "", "note for the audit log")
	c.Flags().BoolVar(&s.dryRun, "dry-run", false, "only tell what would be done")
	c.Flags().BoolVar(&s.adopt, "adopt", false, "also take over flags that nobody manages and that differ")
	c.Flags().BoolVar(&s.archiveMost, "archive-most", false, "go on although FILE has no flags, or more than half of those of earlier syncs would be archived")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if s.descriptors == "" {
			return usagef("--descriptors is not given. Name the file with the FileDescriptorSet")
		}
		if err := flag.ValidateOwnerID(flag.SyncOwner(s.set)); err != nil || s.set == "" {
			return usagef("--set is %q, which cannot name a set. Write a short name, like \"shop\"", flag.Shorten(s.set))
		}
		set, err := descriptor.Load(s.descriptors)
		if err != nil {
			return err
		}
		return s.r.ask(a, func(server *client.Client) error { return s.run(c.Context(), server, set) })
	}
	return c
}

// syncing is one run of the command.
type syncing struct {
	a           *app
	r           *remote
	descriptors string
	set         string
	note        string
	dryRun      bool
	adopt       bool
	archiveMost bool
}

func (s *syncing) run(ctx context.Context, c *client.Client, set *descriptor.Set) error {
	server, err := c.Server(ctx)
	if err != nil {
		return err
	}
	// A token for some keys sees no others; what the set has beyond, the server refuses.
	store, err := c.Snapshot(ctx, server.Actor.Prefix)
	if err != nil {
		return err
	}
	plan := descriptor.PlanSync(set, store, flag.SyncOwner(s.set), s.adopt)
	if err := s.admit(plan, set); err != nil {
		return err
	}
	batch := client.Batch{Atomic: true, DryRun: s.dryRun, Note: s.note}
	for _, step := range plan.Steps {
		batch.Changes = append(batch.Changes, step.Change)
	}
	revision := store.Revision
	if len(batch.Changes) > 0 {
		applied, err := c.Apply(ctx, batch)
		if err != nil {
			return err
		}
		if err := refusedSync(applied.Results, plan.Steps); err != nil {
			return err
		}
		revision = applied.Revision
	}
	return s.print(plan, revision)
}

// admit refuses what is not to be asked of the server.
func (s *syncing) admit(plan descriptor.Plan, set *descriptor.Set) error {
	var reasons []string
	for _, step := range plan.Steps {
		if step.Action == descriptor.Refuse {
			reasons = append(reasons, fmt.Sprintf("flag %q (%s) %s", step.FlagKey, step.Name, step.Reason))
		}
	}
	archived := plan.Count(descriptor.Archive)
	switch {
	case len(reasons) > 0:
		return refusedAll(reasons)
	case s.archiveMost:
		return nil
	case set.Len() == 0:
		return &exit{exitRefused, fmt.Errorf("%s declares no flag: no field has the option (pbflags.flag). Build the files that declare flags, with their options; if there are to be none any more, give --archive-most", s.descriptors)}
	case 2*archived > plan.Managed:
		return &exit{exitRefused, fmt.Errorf("%s lacks %d of the %d flags that earlier syncs of the set %q made, and they would be archived. If it is whole, give --archive-most; if it is that of other programs, give it a --set of its own", s.descriptors, archived, plan.Managed, s.set)}
	}
	return nil
}

// maxRefused is how many refusals are told in words; the others are counted.
const maxRefused = 20

// refusedAll is the error of a sync that was not done.
func refusedAll(reasons []string) error {
	if more := len(reasons) - maxRefused; more > 0 {
		reasons = append(slices.Clip(reasons[:maxRefused]), fmt.Sprintf("and %d more", more))
	}
	return &exit{exitRefused, fmt.Errorf("nothing is synced, for these reasons:\n- %s", strings.Join(reasons, "\n- "))}
}

// refusedSync tells what the server refused; nil when it did it all.
func refusedSync(results []flag.Result, steps []descriptor.Step) error {
	var reasons []string
	for i, r := range results {
		if r.Problem == nil {
			continue
		}
		switch r.Problem.Kind {
		case flag.ProblemConflict, flag.ProblemAlreadyExists, flag.ProblemOwned, flag.ProblemNotFound:
			// Decided upon what is no more so; the server's advice is for plans.
			by := ""
			if r.Problem.By != nil {
				by = " by " + r.Problem.By.Author()
			}
			reasons = append(reasons, fmt.Sprintf("flag %q was changed meanwhile%s. Run the sync again", steps[i].FlagKey, by))
		default:
			reasons = append(reasons, fmt.Sprintf("flag %q: %v", steps[i].FlagKey, r.Problem))
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return refusedAll(reasons)
}

// syncJSON tells programs what was done.
type syncJSON struct {
	Set       string            `json:"set"`
	DryRun    bool              `json:"dry_run"`
	Revision  flag.Revision     `json:"revision"` // after it; of a dry run, what it was decided upon
	Unchanged int               `json:"unchanged"`
	Steps     []descriptor.Step `json:"steps"`
}

func (s *syncing) print(plan descriptor.Plan, revision flag.Revision) error {
	if s.r.json {
		steps := plan.Steps
		if steps == nil {
			steps = []descriptor.Step{}
		}
		return printJSON(s.a.stdout, syncJSON{Set: s.set, DryRun: s.dryRun, Revision: revision, Unchanged: plan.Unchanged, Steps: steps})
	}
	if len(plan.Steps) == 0 {
		fmt.Fprintf(s.a.stdout, "Nothing to do: all %d flags of the set %q are as they are declared.\n", plan.Unchanged, s.set)
		return nil
	}
	t := newTable("ACTION", "KEY", "NAME", "CHANGE")
	for _, step := range plan.Steps {
		t.add(string(step.Action), string(step.FlagKey), step.Name, stepSaid(step))
	}
	if err := t.print(s.a.stdout); err != nil {
		return err
	}
	var counts []string
	for _, action := range []descriptor.Action{descriptor.Create, descriptor.Update, descriptor.Restore, descriptor.Adopt, descriptor.Archive} {
		if n := plan.Count(action); n > 0 {
			counts = append(counts, strconv.Itoa(n)+" to "+string(action))
		}
	}
	done := fmt.Sprintf("Done at revision %d", revision.Number)
	if s.dryRun {
		done = "Nothing is written (--dry-run)"
	}
	fmt.Fprintf(s.a.stdout, "%s, %d unchanged. %s.\n", strings.Join(counts, ", "), plan.Unchanged, done)
	return nil
}

// stepSaid says what becomes of a flag.
func stepSaid(step descriptor.Step) string {
	if f, ok := step.Change.Object.(*flag.Flag); ok && step.Action == descriptor.Create {
		said := fmt.Sprintf("type=%s, default=%s", f.Type, f.Default)
		if f.HasLayer() {
			said += ", layer=" + f.Layer
		}
		return said
	}
	changes := make([]string, len(step.Changed))
	for i, c := range step.Changed {
		changes[i] = c.Aspect + ": " + orNone(c.Before) + " -> " + orNone(c.After)
	}
	return strings.Join(changes, ", ")
}
