package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newReleaseCommand(a *app) *cobra.Command {
	var holder string
	var all bool
	c := &cobra.Command{
		Use:   "release KEY",
		Short: "Release a hold on a flag; exit code 5 when others still kill it",
		Long: `Release your own hold on a flag: the one that is named like your token.

Where other holds stand the flag is still killed: they are listed, and the exit
code is 5. Whoever placed a hold may release it with --holder; for those of
others the token needs the scope admin.`,
		Example: `  bunting release checkout/new-cart
  bunting release checkout/new-cart --holder incident-42
  bunting release checkout/new-cart --all`,
		Args: one("KEY"),
	}
	r := addRemote(c)
	c.Flags().StringVar(&holder, "holder", "", "whose hold to release (default: the token's name)")
	c.Flags().BoolVar(&all, "all", false, "release every hold on the flag")
	c.ValidArgsFunction = completeKeys(a, r, killedKeys)
	c.RunE = func(c *cobra.Command, args []string) error {
		key, err := keyArgument(args[0])
		if err != nil {
			return err
		}
		if holder != "" && all {
			return usagef("--holder and --all are both given. Leave one of the two out")
		}
		if c.Flags().Changed("holder") {
			if err := checkHold(flag.Hold{FlagKey: key, Holder: holder, Reason: "released"}); err != nil || holder == "" {
				return usagef("--holder is %q, which no holder is called. Leave it out for your own hold", holder)
			}
		}
		return r.ask(a, func(server *client.Client) error {
			return release{a: a, r: r, c: server, key: key}.run(c, holder, all)
		})
	}
	return c
}

// release is one run of the command.
type release struct {
	a   *app
	r   *remote
	c   *client.Client
	key flag.Key
}

func (x release) run(command *cobra.Command, holder string, all bool) error {
	ctx := command.Context()
	if holder == "" && !all {
		server, err := x.c.Server(ctx)
		if err != nil {
			return err
		}
		holder = server.Actor.Name
	}
	f, holds, err := x.c.Flag(ctx, x.key)
	if err != nil {
		return err
	}
	if f == nil {
		return notStored(ctx, x.key, x.c)
	}
	var chosen []flag.Change
	for _, h := range holds {
		if all || h.Holder == holder {
			chosen = append(chosen, flag.Change{Op: flag.ReleaseHold, Ref: h.Ref()})
		}
	}
	if len(chosen) == 0 {
		return x.nothing(f, holds, holder, all)
	}
	done, err := x.c.Apply(ctx, client.Batch{Changes: chosen})
	if err != nil {
		return err
	}
	released, refused := sortOut(chosen, done.Results)
	left := slices.DeleteFunc(slices.Clone(holds), func(h *flag.Hold) bool { return slices.Contains(released, h.Holder) })
	// Others may have placed or released holds meanwhile: look again, and make do
	// with what is known where that fails.
	if now, fresh, err := x.c.Flag(ctx, x.key); err == nil && now != nil {
		f, left = now, fresh
	}
	err = x.report(f, released, left)
	if len(refused) > 0 {
		return errors.Join(refused...) // says more than that the flag is still killed
	}
	return err
}

// sortOut parts what was released, by holder, from what was refused. A hold that
// has gone meanwhile is as good as released.
func sortOut(chosen []flag.Change, results []flag.Result) (released []string, refused []error) {
	for i, result := range results {
		if p := result.Problem; p != nil && p.Kind != flag.ProblemNotFound {
			refused = append(refused, fmt.Errorf("cannot release the hold of %s on %q: %w", cell(chosen[i].Ref.ID), chosen[i].Ref.Key, p))
		} else {
			released = append(released, chosen[i].Ref.ID)
		}
	}
	return released, refused
}

// nothing tells that there is no such hold.
func (x release) nothing(f *flag.Flag, holds []*flag.Hold, holder string, all bool) error {
	if len(standing(holds, time.Now())) > 0 {
		if !x.r.json {
			fmt.Fprintf(x.a.stderr, "bunting: %s has no hold on %q\n", cell(holder), x.key)
		}
		return x.report(f, nil, holds)
	}
	if all {
		return &exit{exitNotFound, fmt.Errorf("%q is not killed: no hold stands on it", x.key)}
	}
	return &exit{exitNotFound, fmt.Errorf("%q is not killed: neither %s nor anybody else holds it", x.key, cell(holder))}
}

// report tells what was released and what the flag is now; the error is the exit
// code 5 when it is still killed.
func (x release) report(f *flag.Flag, released []string, left []*flag.Hold) error {
	stand := standing(left, time.Now())
	var still error
	if len(stand) > 0 {
		still = &exit{exitKilled, nil}
	}
	if x.r.json {
		if err := printJSON(x.a.stdout, releasedJSON{FlagKey: x.key, Killed: len(stand) > 0, Released: append([]string{}, released...), Holds: append([]*flag.Hold{}, stand...)}); err != nil {
			return err
		}
		return still
	}
	if len(released) > 0 {
		fmt.Fprintf(x.a.stdout, "Released %s: the hold of %s.\n", x.key, cell(strings.Join(released, ", ")))
	}
	if still == nil {
		others := ""
		if f.HasLayer() {
			others = " (but for entities with an override)"
		}
		fmt.Fprintf(x.a.stdout, "%s is not killed any more: everybody gets %s%s.\n", x.key, cell(f.Serves().JSON()), others)
		return nil
	}
	fmt.Fprintf(x.a.stdout, "%s IS STILL KILLED: everybody gets its default value, %s. These holds stand:\n", x.key, cell(f.Default.JSON()))
	if err := holdTable(stand).print(x.a.stdout); err != nil {
		return err
	}
	fmt.Fprintln(x.a.stdout, "Whoever placed one releases it with --holder; others need a token with the scope admin.")
	if slices.ContainsFunc(stand, func(h *flag.Hold) bool { return flag.IsTerraformHolder(h.Holder) }) {
		fmt.Fprintln(x.a.stdout, "Terraform places its own again with the next apply: set engaged = false in the kill switch instead.")
	}
	return still
}

// releasedJSON tells programs what was released and what still stands.
type releasedJSON struct {
	FlagKey  flag.Key     `json:"flag_key"`
	Killed   bool         `json:"killed"`
	Released []string     `json:"released"`
	Holds    []*flag.Hold `json:"holds"`
}
