package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

const (
	// A server says something on its stream each second.
	followSilence = 5 * time.Second
	// followPause is how long a server that is away is left alone.
	followPause = time.Second
)

// auditFollower prints the entries of the audit log as they are made: the change
// stream says when there are some.
type auditFollower struct {
	app    *app
	server *client.Client
	filter client.AuditFilter
	json   bool // an object in each line

	at      flag.Revision // up to which everything was printed
	headed  bool          // the head of the table was printed
	trouble bool          // it was told that the server is away
}

// run prints the newest entries, at most so many, and then those that come, until
// the context ends.
func (f *auditFollower) run(ctx context.Context, limit int) error {
	server, err := f.server.Server(ctx)
	if err != nil {
		return err
	}
	f.at = server.Revision
	entries, err := readAudit(ctx, f.server, f.filter, limit)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e client.AuditEntry) bool { return e.Revision > f.at.Number })
	if err := f.print(entries); err != nil {
		return err
	}
	for {
		err := f.server.Watch(ctx, f.at, followSilence, func(e client.Event) error {
			f.trouble = false
			return f.reach(ctx, e.Revision)
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Being told to stop is no failure.
		}
		if err := f.overcome(ctx, err); err != nil {
			return err
		}
	}
}

// overcome makes what ended the stream good, or gives it up.
func (f *auditFollower) overcome(ctx context.Context, err error) error {
	e, failed := errors.AsType[*client.Error](err)
	switch {
	case failed && (e.Kind == client.Unauthenticated || e.Kind == client.Denied):
		return err
	case failed && !f.trouble:
		f.trouble = true
		fmt.Fprintf(f.app.stderr, "bunting: %v Trying again.\n", err)
	case !failed && !errors.Is(err, client.ErrResync):
		return err // it could not be printed
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(followPause):
	}
	if server, err := f.server.Greet(ctx); err == nil {
		if server.Revision.StoreID == f.at.StoreID {
			return f.reach(ctx, server.Revision)
		}
		fmt.Fprintln(f.app.stderr, "bunting: the server has another database now; its audit log is followed from here on.")
		f.at = server.Revision
	}
	return nil
}

// reach prints everything up to the revision that was not printed yet.
func (f *auditFollower) reach(ctx context.Context, at flag.Revision) error {
	if at.Number <= f.at.Number {
		return nil
	}
	var news []client.AuditEntry
	for filter := f.filter; ; {
		entries, next, err := f.server.Audit(ctx, filter)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(entries, func(e client.AuditEntry) bool { return e.Revision <= f.at.Number })
		if i < 0 {
			i = len(entries)
		}
		if news = append(news, entries[:i]...); i < len(entries) || next == "" || next == filter.Page {
			break
		}
		filter.Page = next
	}
	// What is newer than the stream has told comes with it.
	news = slices.DeleteFunc(news, func(e client.AuditEntry) bool { return e.Revision > at.Number })
	f.at = at
	return f.print(news)
}

// print writes entries, which come newest first, in the order in which they were
// made.
func (f *auditFollower) print(entries []client.AuditEntry) error {
	slices.Reverse(entries)
	if f.json {
		out := json.NewEncoder(f.app.stdout)
		out.SetEscapeHTML(false)
		for _, e := range entries {
			if err := out.Encode(auditObject(e)); err != nil {
				return err
			}
		}
		return nil
	}
	t := auditTable(entries)
	if f.headed {
		t.rows = t.rows[1:]
	}
	f.headed = true
	return t.print(f.app.stdout)
}
