package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newResyncCommand(a *app) *cobra.Command {
	var accept bool
	var found, supersedes string
	c := &cobra.Command{
		Use:   "resync",
		Short: "Tell whether the server refuses its database, or have it accept that",
		Long: `Tell whether the server refuses its database, or have it accept that.

A server that finds another database than the one it served from, and in it not
the holds that it knows, or no flags at all, refuses it and goes on serving what
it knew: an old backup or a wrong disk must not switch things on. This command
tells what is served, what the database holds, and which holds would be lost.

With --accept the database takes the former one's place, whatever it lacks: that
is written into it and its audit log, and every server that follows it does so.
--found names the one that was looked at: if it has become another one since,
nothing is accepted.
It needs the scope admin: in the database that is refused, or in the former one.

Exit codes: 0 nothing is refused (any more), 1 the database does not answer,
4 it is refused.`,
		Example: `  bunting resync
  bunting resync --accept --found RQ6C2XN5WJ3T4OVB7ZD2KHYM5A`,
		Args: cobra.NoArgs,
	}
	r := addRemote(c)
	c.Flags().BoolVar(&accept, "accept", false, "serve what the database holds from now on, whatever it lacks")
	c.Flags().StringVar(&found, "found", "", "id of the database to accept, as it was told (with --accept; else whichever is there)")
	c.Flags().StringVar(&supersedes, "supersedes", "", "the former database, ID or ID@REVISION (with --accept; else what is served)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (found != "" || supersedes != "") && !accept {
			return usagef("--found or --supersedes is given without --accept. Add --accept to have the database take the place of the former one, or leave them out to be told what is refused")
		}
		return r.ask(a, func(server *client.Client) error {
			if accept {
				return acceptStore(c, a, r, server, found, supersedes)
			}
			told, err := server.Resync(c.Context())
			if err != nil {
				return err
			}
			if err := tellResync(a, r, told); err != nil || told.Reason == "" {
				return err
			}
			if told.Found.StoreID == "" {
				return &exit{code: exitError}
			}
			return &exit{code: exitRefused}
		})
	}
	return c
}

func acceptStore(c *cobra.Command, a *app, r *remote, server *client.Client, id, former string) error {
	if id == "" {
		present, err := server.Resync(c.Context())
		if err != nil {
			return err
		}
		if id = present.Found.StoreID; id == "" {
			return fmt.Errorf("cannot tell what would be accepted: %s", present.Reason)
		}
	}
	found, err := server.AcceptStore(c.Context(), id, former)
	if p, refused := errors.AsType[*flag.Problem](err); refused {
		return fmt.Errorf("cannot accept the database: %w", p)
	}
	if err != nil {
		return err
	}
	switch {
	case r.json:
		return tellResync(a, r, found)
	case found.Reason == "" && former == "":
		fmt.Fprintln(a.stderr, "bunting: nothing is refused, so there was nothing to accept")
		return nil
	case found.Served.StoreID == found.Found.StoreID:
		fmt.Fprintf(a.stdout, "Accepted: the database %s is served, from revision %d on.\n", cell(found.Served.StoreID), found.Served.Number)
	default:
		fmt.Fprintln(a.stdout, "Accepted: the server follows in a moment.")
	}
	return tellLost(a, "These holds were lost with it:", found.LostHolds)
}

// resyncJSON is what is told for programs.
type resyncJSON struct {
	Refused     bool       `json:"refused"`
	Reason      string     `json:"reason,omitempty"`
	Served      revisionOf `json:"served"`
	Found       revisionOf `json:"found,omitzero"` // absent: the database does not answer
	ServedFlags int64      `json:"served_flags"`
	FoundFlags  int64      `json:"found_flags"`
	LostHolds   []lostHold `json:"lost_holds"`
}

type revisionOf struct {
	StoreID string `json:"store_id"`
	Number  int64  `json:"number"`
}

type lostHold struct {
	FlagKey flag.Key `json:"flag_key"`
	Holder  string   `json:"holder"`
}

func tellResync(a *app, r *remote, found client.Resync) error {
	if r.json {
		told := resyncJSON{
			Refused: found.Reason != "" && found.Found.StoreID != "" && found.Served.StoreID != found.Found.StoreID, Reason: found.Reason, Served: revisionOf(found.Served), Found: revisionOf(found.Found),
			ServedFlags: found.ServedFlags, FoundFlags: found.FoundFlags, LostHolds: []lostHold{},
		}
		for _, ref := range found.LostHolds {
			told.LostHolds = append(told.LostHolds, lostHold{ref.Key, ref.ID})
		}
		return printJSON(a.stdout, told)
	}
	t := newTable("", "DATABASE", "REVISION", "FLAGS")
	t.add("served", found.Served.StoreID, strconv.FormatInt(found.Served.Number, 10), strconv.FormatInt(found.ServedFlags, 10))
	if found.Found.StoreID != "" {
		t.add("found", found.Found.StoreID, strconv.FormatInt(found.Found.Number, 10), strconv.FormatInt(found.FoundFlags, 10))
	} else {
		t.add("found", "does not answer", "", "")
	}
	if err := t.print(a.stdout); err != nil {
		return err
	}
	switch {
	case found.Reason == "":
		fmt.Fprintln(a.stdout, "\nNothing is refused.")
	case found.Found.StoreID == "":
		fmt.Fprintf(a.stdout, "\nWhether anything is refused cannot be told: %s.\n", found.Reason)
	default:
		fmt.Fprintf(a.stdout, "\nRefused: %s.\n", found.Reason)
	}
	return tellLost(a, "These holds are served, and would be lost:", found.LostHolds)
}

func tellLost(a *app, title string, holds []flag.Ref) error {
	if len(holds) == 0 {
		return nil
	}
	fmt.Fprintf(a.stdout, "\n%s\n", title)
	t := newTable("KEY", "HOLDER")
	for _, ref := range holds {
		t.add(string(ref.Key), ref.ID)
	}
	return t.print(a.stdout)
}
