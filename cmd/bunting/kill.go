package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newKillCommand(a *app) *cobra.Command {
	var reason, holder, expiresIn, expiresAt string
	c := &cobra.Command{
		Use:   "kill KEY --reason TEXT",
		Short: "Kill a flag: everybody gets its default value until the hold is released",
		Long: `Kill a flag: everybody gets its default value, at once.

This places a hold. The flag stays killed as long as any hold on it stands; no
"terraform apply" lifts a hold that was placed here. Killing again with the same
holder replaces the reason and the expiry.`,
		Example: `  bunting kill checkout/new-cart --reason "orders are lost, incident 42"
  bunting kill checkout/new-cart --reason "for the night" --expires-in 8h`,
		Args: one("KEY"),
	}
	r := addRemote(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for whoever is on call next (required)")
	c.Flags().StringVar(&holder, "holder", "", "whose hold it is (default: the token's name)")
	c.Flags().StringVar(&expiresIn, "expires-in", "", "let the hold end by itself after this time, like 2h or 7d")
	c.Flags().StringVar(&expiresAt, "expires-at", "", "let the hold end by itself at this time, like 2026-03-01T06:00:00Z")
	c.ValidArgsFunction = completeKeys(a, r, knownKeys)
	c.RunE = func(c *cobra.Command, args []string) error {
		key, err := keyArgument(args[0])
		if err != nil {
			return err
		}
		hold := &flag.Hold{FlagKey: key, Holder: holder, Reason: reason}
		if hold.ExpiresAt, err = expiry(expiresIn, expiresAt); err != nil {
			return err
		}
		if err := checkHold(*hold); err != nil {
			return err
		}
		return r.ask(a, func(server *client.Client) error { return kill(c, a, r, server, hold) })
	}
	return c
}

// checkHold checks what the command line says of a hold before anything is sent.
func checkHold(hold flag.Hold) error {
	if hold.Holder == "" {
		hold.Holder = "named-later" // after the token, which the server knows
	}
	err := hold.Validate()
	if p, ok := errors.AsType[*flag.Problem](err); ok {
		return usagef("--%s %s", p.Field, p.Message)
	}
	return err
}

// expiry reads the two flags that say when something ends; zero for never.
func expiry(in, at string) (time.Time, error) {
	switch {
	case in != "" && at != "":
		return time.Time{}, usagef("--expires-in and --expires-at are both given. Leave one of the two out")
	case in != "":
		d, err := span("expires-in", in)
		return time.Now().UTC().Add(d).Truncate(time.Second), err
	case at != "":
		t, err := instant("expires-at", at)
		if p, ok := errors.AsType[*flag.Problem](flag.ValidateExpiry(t, time.Now())); ok && err == nil {
			err = usagef("--expires-at %s", p.Message)
		}
		return t, err
	}
	return time.Time{}, nil
}

func kill(command *cobra.Command, a *app, r *remote, c *client.Client, hold *flag.Hold) error {
	ctx := command.Context()
	if hold.Holder == "" {
		server, err := c.Server(ctx)
		if err != nil {
			return err
		}
		hold.Holder = server.Actor.Name
	}
	placed, err := c.Write(ctx, flag.Put(hold))
	if err != nil {
		return notKilled(ctx, c, hold.FlagKey, err)
	}
	if h, ok := placed.Object.(*flag.Hold); ok {
		hold = h
	}
	// The flag is killed. What is served now is good to know, but not knowing it
	// is no failure.
	f, holds, err := c.Flag(ctx, hold.FlagKey)
	if err != nil {
		f, holds = nil, []*flag.Hold{hold}
	}
	if r.json {
		return printJSON(a.stdout, killedJSON{FlagKey: hold.FlagKey, Killed: true, Hold: hold, Holds: standing(holds, time.Now())})
	}
	if f == nil {
		fmt.Fprintf(a.stdout, "Killed %s: everybody gets its default value.\n", hold.FlagKey)
	} else {
		fmt.Fprintf(a.stdout, "Killed %s: everybody gets its default value, %s.\n", hold.FlagKey, cell(f.Default.JSON()))
	}
	if err := holdTable(standing(holds, time.Now())).print(a.stdout); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Release it with: bunting release %s --holder %s\n", hold.FlagKey, cell(hold.Holder))
	return nil
}

// notKilled says why a flag was not killed, or that nobody knows.
func notKilled(ctx context.Context, c *client.Client, key flag.Key, err error) error {
	p, refused := errors.AsType[*flag.Problem](err)
	e, failed := errors.AsType[*client.Error](err)
	switch {
	case refused && p.Kind == flag.ProblemNotFound:
		return notStored(ctx, key, c)
	case refused:
		return fmt.Errorf("cannot kill %q: %w", key, err)
	case failed && e.Kind != client.Denied && e.Kind != client.Unauthenticated && e.Kind != client.Config:
		return fmt.Errorf("THE FLAG MAY NOT BE KILLED. Run the command again, which is safe: %w", err)
	}
	return err
}

// killedJSON tells programs whether a flag is killed and by whom.
type killedJSON struct {
	FlagKey flag.Key     `json:"flag_key"`
	Killed  bool         `json:"killed"`
	Hold    *flag.Hold   `json:"hold,omitempty"` // the one just placed
	Holds   []*flag.Hold `json:"holds"`          // all that stand
}
