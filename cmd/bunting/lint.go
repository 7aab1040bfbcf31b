package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor"
)

func newLintCommand(a *app) *cobra.Command {
	var newer, older string
	var asJSON bool
	c := &cobra.Command{
		Use:   "lint --descriptors FILE --against FILE",
		Short: "Tell whether programs can live with changed flags; exit code 6 when not",
		Long: `Compare the flags that protobuf messages declare with what they declared before,
both as FileDescriptorSets.

A flag that changes its type or its layer breaks programs that were built with
the former: the exit code is 6. Everything else is only told.`,
		Example: `  buf build -o flags.binpb && buf build '.git#branch=main' -o main.binpb
  bunting lint --descriptors flags.binpb --against main.binpb`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&newer, "descriptors", "", "file with the FileDescriptorSet (required)")
	c.Flags().StringVar(&older, "against", "", "file with the one before it (required)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(*cobra.Command, []string) error {
		if newer == "" || older == "" {
			return usagef("--descriptors and --against must both be given. Name a file with a FileDescriptorSet by each")
		}
		before, err := descriptor.Load(older)
		if err != nil {
			return err
		}
		after, err := descriptor.Load(newer)
		if err != nil {
			return err
		}
		return lint(a, descriptor.Compare(before, after), asJSON)
	}
	return c
}

// lintJSON tells programs what differs.
type lintJSON struct {
	Breaking bool `json:"breaking"`
	descriptor.Difference
}

func lint(a *app, d descriptor.Difference, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = printJSON(a.stdout, lintJSON{d.Breaking(), d})
	case d.Empty():
		fmt.Fprintln(a.stdout, "Both declare the same flags.")
	default:
		err = lintTable(d).print(a.stdout)
	}
	if err == nil && d.Breaking() {
		err = &exit{exitDifferent, errors.New("programs that were built with the former cannot live with this: give each field that changes its type or layer a new number instead")}
	}
	return err
}

func lintTable(d descriptor.Difference) *table {
	t := newTable("VERDICT", "KEY", "NAME", "WHAT", "BEFORE", "AFTER")
	for _, c := range d.Changed {
		if c.Breaking {
			t.add("breaking", string(c.FlagKey), c.Name, c.Aspect, c.Before, c.After)
		}
	}
	for _, c := range d.Changed {
		if !c.Breaking {
			t.add("fine", string(c.FlagKey), c.Name, c.Aspect, c.Before, c.After)
		}
	}
	for _, r := range d.Removed {
		t.add("fine", string(r.Flag.Key), r.Title(), "removed", r.Flag.Type.String(), "")
	}
	for _, r := range d.Added {
		t.add("fine", string(r.Flag.Key), r.Title(), "added", "", r.Flag.Type.String())
	}
	return t
}
