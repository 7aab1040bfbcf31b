package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newFlagsCommand(a *app) *cobra.Command {
	var archived, killed bool
	c := &cobra.Command{
		Use:   "flags [PREFIX]",
		Short: "List the flags, or those under a prefix",
		Example: `  bunting flags checkout
  bunting flags --killed`,
		Args: atMostOne("PREFIX"),
	}
	r := addRemote(c)
	c.Flags().BoolVar(&archived, "archived", false, "list archived flags too")
	c.Flags().BoolVar(&killed, "killed", false, "list killed flags only, with who holds them and why")
	c.RunE = func(c *cobra.Command, args []string) error {
		var prefix flag.Key
		if len(args) == 1 && args[0] != "" {
			var err error
			if prefix, err = prefixArgument(args[0]); err != nil {
				return err
			}
		}
		return r.ask(a, func(server *client.Client) error {
			snapshot, stale, err := server.SnapshotEvenStale(c.Context(), prefix)
			if err != nil {
				return err
			}
			if stale {
				fmt.Fprintln(a.stderr, "bunting: the list is STALE: the server cannot reach its own source of truth, and tells what it last knew")
			}
			list := listFlags(snapshot, stale, prefix, time.Now(), func(l listed) bool {
				return killed && l.Killed || !killed && (archived || !l.Flag.Archived())
			})
			switch {
			case r.json:
				return printJSON(a.stdout, list)
			case len(list) == 0:
				fmt.Fprintf(a.stderr, "bunting: %s\n", noneSaid(prefix, killed, archived))
				return nil
			case killed:
				return killedTable(list).print(a.stdout)
			}
			return flagTable(list).print(a.stdout)
		})
	}
	return c
}

// listed is a flag as it is listed, for programs too.
type listed struct {
	Flag      *flag.Flag   `json:"flag"`
	Killed    bool         `json:"killed"`
	Serves    flag.Value   `json:"serves"`    // to everybody without an override
	Overrides int          `json:"overrides"` // how many entities have one
	Holds     []*flag.Hold `json:"holds"`     // that stand
	Stale     bool         `json:"stale"`     // the server tells what it last knew
}

func listFlags(s *flag.Snapshot, stale bool, prefix flag.Key, now time.Time, wanted func(listed) bool) []listed {
	list := []listed{}
	for f := range s.Flags(prefix) {
		l := listed{Flag: f, Stale: stale, Serves: f.Serves(), Holds: standing(slices.Collect(s.HoldsOf(f.Key)), now)}
		if l.Killed = len(l.Holds) > 0; l.Killed {
			l.Serves = f.Default
		}
		if !wanted(l) {
			continue
		}
		if l.Holds == nil {
			l.Holds = []*flag.Hold{}
		}
		for range s.OverridesOf(f.Key) {
			l.Overrides++
		}
		list = append(list, l)
	}
	return list
}

func flagTable(list []listed) *table {
	t := newTable("KEY", "SERVES", "STATE", "TYPE", "OVERRIDES", "DESCRIPTION")
	for _, l := range list {
		state := l.Flag.State.String()
		if l.Flag.Archived() {
			state = "ARCHIVED"
		}
		if l.Killed {
			holders := make([]string, len(l.Holds))
			for i, h := range l.Holds {
				holders[i] = h.Holder
			}
			state = "KILLED by " + strings.Join(holders, ", ")
		}
		overrides := ""
		if l.Overrides > 0 {
			overrides = strconv.Itoa(l.Overrides)
		}
		description, _, _ := strings.Cut(l.Flag.Description, "\n")
		t.add(string(l.Flag.Key), l.Serves.JSON(), state, l.Flag.Type.String(), overrides, description)
	}
	return t
}

func killedTable(list []listed) *table {
	t := newTable("KEY", "SERVES", "HOLDER", "PLACED BY", "SINCE", "UNTIL", "REASON")
	for _, l := range list {
		for _, h := range l.Holds {
			t.add(string(l.Flag.Key), l.Serves.JSON(), h.Holder, h.Actor, moment(h.Since), until(h.ExpiresAt, "released"), h.Reason)
		}
	}
	return t
}

func noneSaid(prefix flag.Key, killed, archived bool) string {
	said := "there is no flag"
	if killed {
		said = "no flag is killed"
	}
	if prefix != "" {
		said += fmt.Sprintf(" under %q", prefix)
	}
	if !killed && !archived {
		said += " (archived ones are listed with --archived)"
	}
	return said
}
