package client

import (
	"context"
	"fmt"
	"slices"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Flag reads a flag, archived ones too, and all its holds, expired ones too, by
// holder. A nil flag without an error is the server's word that there is none.
func (c *Client) Flag(ctx context.Context, key flag.Key) (*flag.Flag, []*flag.Hold, error) {
	s, err := c.get(ctx, readingFlag(key), flag.FlagRef(key))
	return flagIn(s, key, err)
}

// Holds reads all holds of a flag, expired ones too, by holder. None, and no
// error, is the server's word that there are none.
func (c *Client) Holds(ctx context.Context, key flag.Key) ([]*flag.Hold, error) {
	// Asking for a flag also gives its holds, and says something even where
	// there are none.
	s, err := c.get(ctx, readingHolds(key), flag.FlagRef(key))
	_, holds, err := flagIn(s, key, err)
	return holds, err
}

// Override reads an override. Nil without an error is the server's word that
// there is none.
func (c *Client) Override(ctx context.Context, key flag.Key, entity string) (*flag.Override, error) {
	s, err := c.get(ctx, readingOverride(key, entity), flag.OverrideRef(key, entity))
	if err != nil {
		return nil, err
	}
	return s.Override(key, entity), nil
}

// What is being read, to go on from "cannot".
func readingFlag(key flag.Key) string  { return "read the flag " + quoted(key) }
func readingHolds(key flag.Key) string { return "read the holds of " + quoted(key) }
func readingOverride(key flag.Key, entity string) string {
	return "read the override of " + quoted(key) + " for " + quoted(entity)
}

// flagIn finds a flag and its holds in a snapshot that covers it.
func flagIn(s *flag.Snapshot, key flag.Key, err error) (*flag.Flag, []*flag.Hold, error) {
	if err != nil {
		return nil, nil, err
	}
	return s.Flag(key), slices.Collect(s.HoldsOf(key)), nil
}

// RemovedBy says who removed an object that is not there, as the audit log has
// it; nil where it does not say, or where the object is there.
func (c *Client) RemovedBy(ctx context.Context, ref flag.Ref) (*flag.Stamp, error) {
	op := fmt.Sprintf("ask who removed the %s %s", ref.Kind, quoted(ref.String()))
	m, err := call(ctx, c, op, again, c.admin.Get, &buntingv1.GetRequest{
		Refs: []*buntingv1.Ref{wire.FromRef(ref)}, MinimumRevision: wire.FromRevision(c.lastWritten()), TellRemovals: true,
	})
	if err != nil {
		return nil, err
	}
	for _, object := range m.GetObjects() {
		absent, err := wire.ToRef(object.GetAbsent())
		if err != nil || absent != ref || object.GetRemoved() == nil {
			continue
		}
		by, err := wire.ToStamp(object.GetRemoved())
		if err != nil {
			return nil, c.broken(op, "sent a stamp that cannot be read (%v)", err)
		}
		return &by, nil
	}
	return nil, nil
}

// get reads the objects named, at a revision not older than our own last write,
// as a snapshot that has nothing else. Stale data is an error. The answer speaks of every ref asked for,
// or it is an error: what an answer leaves out is not absent.
func (c *Client) get(ctx context.Context, op string, refs ...flag.Ref) (*flag.Snapshot, error) {
	question := &buntingv1.GetRequest{MinimumRevision: wire.FromRevision(c.lastWritten())}
	for _, ref := range refs {
		question.Refs = append(question.Refs, wire.FromRef(ref))
	}
	m, err := call(ctx, c, op, again, c.admin.Get, question)
	if err != nil {
		return nil, err
	}
	if m.GetStale() {
		return nil, c.stale(op)
	}
	told := make(map[flag.Ref]bool, len(m.GetObjects()))
	edits := make([]flag.Edit, 0, len(m.GetObjects()))
	for _, object := range m.GetObjects() {
		edit, err := wire.ToObject(object)
		if err != nil {
			return nil, c.broken(op, "sent an object that cannot be read (%v)", err)
		}
		told[edit.Ref] = true
		edits = append(edits, edit)
	}
	for _, ref := range refs {
		if !told[ref] {
			return nil, c.broken(op, "said nothing about the %s %q that was asked for", ref.Kind, ref)
		}
	}
	revision := wire.ToRevision(m.GetRevision())
	return flag.NewSnapshot(c.environment(), revision).With(revision, slices.Values(edits)), nil
}

// stale is the error of definitions that may be old: the server answers, but has
// not heard its source of truth, which others may have written to meanwhile.
func (c *Client) stale(op string) error {
	return &Error{Kind: Unavailable, Op: op, Endpoint: c.endpoint, Message: c.endpoint +
		" does not hear its database or its upstream, so what it knows may be old. Bring that back, then try again."}
}

// KilledFlags lists the flags that a standing hold kills, in key order.
func (c *Client) KilledFlags(ctx context.Context) ([]flag.Key, error) {
	m, err := call(ctx, c, "read the killed flags", again, c.evaluator.GetKilledFlags, &pbflagsv1.GetKilledFlagsRequest{})
	if err != nil {
		return nil, err
	}
	keys := make([]flag.Key, len(m.GetFlagIds()))
	for i, id := range m.GetFlagIds() {
		keys[i] = flag.Key(id)
	}
	return keys, nil
}
