package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// auditPage is how many entries one request brings: the most that a server gives.
const auditPage = 1000

func newAuditCommand(a *app) *cobra.Command {
	var filter client.AuditFilter
	var since string
	var limit int
	var follow bool
	c := &cobra.Command{
		Use:   "audit [KEY]",
		Short: "Show who changed what, newest first",
		Example: `  bunting audit checkout/new-cart
  bunting audit --actor ci --since 24h
  bunting audit --follow --limit 10`,
		Args: atMostOne("KEY"),
	}
	r := addRemote(c)
	c.Flags().StringVar(&filter.Actor, "actor", "", "only what this token did")
	c.Flags().StringVar(&since, "since", "", "only what happened since: a time like 2026-03-01T06:00:00Z, or how long ago, like 2h or 7d")
	c.Flags().IntVar(&limit, "limit", 100, "at most this many entries")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "oldest first, and go on with what comes until interrupted; with --json an object in each line")
	c.ValidArgsFunction = completeKeys(a, r, knownKeys)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if limit < 1 {
			return usagef("--limit is %d, but it must be 1 or more", limit)
		}
		if len(args) == 1 {
			if filter.Key, err = keyArgument(args[0]); err != nil {
				return err
			}
		}
		if filter.Since, err = sinceArgument(since); err != nil {
			return err
		}
		return r.ask(a, func(server *client.Client) error {
			if follow {
				return (&auditFollower{app: a, server: server, filter: filter, json: r.json}).run(c.Context(), limit)
			}
			entries, err := readAudit(c.Context(), server, filter, limit)
			switch {
			case err != nil:
				return err
			case r.json:
				return printAuditJSON(a, entries)
			case len(entries) == 0:
				fmt.Fprintln(a.stderr, "bunting: the audit log has no such entry")
				return nil
			}
			return auditTable(entries).print(a.stdout)
		})
	}
	return c
}

func sinceArgument(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if !strings.Contains(text, "-") {
		d, err := span("since", text)
		return time.Now().UTC().Add(-d), err
	}
	return instant("since", text)
}

// readAudit reads as many pages as the limit takes.
func readAudit(ctx context.Context, server *client.Client, filter client.AuditFilter, limit int) ([]client.AuditEntry, error) {
	var all []client.AuditEntry
	for {
		filter.Limit = min(limit-len(all), auditPage)
		entries, next, err := server.Audit(ctx, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
		if len(all) >= limit || next == "" || next == filter.Page {
			return all[:min(len(all), limit)], nil
		}
		filter.Page = next
	}
}

// auditJSON is an entry for programs: what was and what is, as objects.
type auditJSON struct {
	client.AuditEntry

	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

func printAuditJSON(a *app, entries []client.AuditEntry) error {
	list := make([]auditJSON, len(entries))
	for i, e := range entries {
		list[i] = auditObject(e)
	}
	return printJSON(a.stdout, list)
}

func auditObject(e client.AuditEntry) auditJSON {
	object := auditJSON{AuditEntry: e}
	if json.Valid([]byte(e.Before)) {
		object.Before = json.RawMessage(e.Before)
	}
	if json.Valid([]byte(e.After)) {
		object.After = json.RawMessage(e.After)
	}
	return object
}

func auditTable(entries []client.AuditEntry) *table {
	t := newTable("TIME", "REVISION", "ACTOR", "ACTION", "OBJECT", "CHANGE", "NOTE")
	for _, e := range entries {
		actor := e.Actor
		if e.OwnerID != "" {
			actor += " for " + flag.OwnerName(e.OwnerID)
		}
		t.add(moment(e.Time), strconv.FormatInt(e.Revision, 10), actor, e.Action, e.Object, difference(e.Before, e.After), e.Note)
	}
	return t
}

// silent names the fields that say nothing about what a change did: they are in
// the other columns, or the server's own.
var silent = map[string]bool{
	"changed": true, "key": true, "flag_key": true, "entity_id": true, "holder": true, "actor": true, "since": true,
	"owner_id": true, "id": true, "name": true, "created_at": true, "created_by": true,
}

// difference says in one line what changed between two objects in JSON.
func difference(before, after string) string {
	var was, is map[string]json.RawMessage
	if after == "" || json.Unmarshal([]byte(after), &is) != nil {
		return ""
	}
	if before != "" && json.Unmarshal([]byte(before), &was) != nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(merged(was, is))) {
		old, fresh := string(was[name]), string(is[name])
		switch {
		case silent[name] && len(is) > 1, old == fresh:
		case was == nil:
			parts = append(parts, name+"="+fresh)
		default:
			parts = append(parts, name+": "+orNone(old)+" -> "+orNone(fresh))
		}
	}
	return strings.Join(parts, ", ")
}

func merged(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	both := maps.Clone(b)
	for name := range a {
		if _, there := both[name]; !there {
			both[name] = nil
		}
	}
	return both
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
