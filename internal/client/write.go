package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Batch is a list of changes that travel and are committed together.
type Batch struct {
	Changes []flag.Change
	Atomic  bool // all or nothing; otherwise each change stands alone
	DryRun  bool // only say what would become of them
	// RequestID makes repeating the batch safe for 24 hours; "" makes one.
	RequestID string
	// Note goes into the audit log; "" is Options.ChangeNote.
	Note string
}

// Applied is what became of a batch.
type Applied struct {
	Revision flag.Revision // after it
	Results  []flag.Result // one for each change, in order
}

// Written is what is there after a change.
type Written struct {
	Object   flag.Object   // nil when it was removed
	Holds    []*flag.Hold  // all holds of the change's flag, by holder
	Revision flag.Revision // the one that has all this
}

// Write makes one change and tells what is there afterwards. A refusal is a
// *flag.Problem. After any other error it is not known whether the change was
// made.
func (c *Client) Write(ctx context.Context, change flag.Change) (Written, error) {
	op := doing(change)
	done, err := c.apply(ctx, op, Batch{Changes: []flag.Change{change}})
	if err != nil {
		return Written{}, err
	}
	r := done.Results[0]
	switch {
	case r.Problem != nil:
		return Written{}, r.Problem
	case r.Status == flag.Abandoned || change.Object != nil && r.Object == nil:
		return Written{}, c.broken(op, "did not say what became of the %s", change.Ref.Kind)
	}
	return Written{Object: r.Object, Holds: r.Holds, Revision: done.Revision}, nil
}

// Apply makes a batch of changes: one transaction, one revision. What is refused
// is in the results; after an error it is not known whether anything was done.
func (c *Client) Apply(ctx context.Context, batch Batch) (Applied, error) {
	op := fmt.Sprintf("apply %d changes", len(batch.Changes))
	if len(batch.Changes) == 1 {
		op = doing(batch.Changes[0])
	}
	return c.apply(ctx, op, batch)
}

func (c *Client) apply(ctx context.Context, op string, batch Batch) (Applied, error) {
	question := &buntingv1.ApplyRequest{Atomic: batch.Atomic, DryRun: batch.DryRun, RequestId: batch.RequestID, Note: batch.Note}
	if question.GetRequestId() == "" {
		question.RequestId = rand.Text()
	}
	if question.GetNote() == "" {
		question.Note = c.note
	}
	for _, change := range batch.Changes {
		question.Changes = append(question.Changes, wire.FromChange(change))
	}
	m, err := call(ctx, c, op, c.admin.Apply, question)
	if err != nil {
		return Applied{}, err
	}
	if len(m.GetResults()) != len(batch.Changes) {
		return Applied{}, c.broken(op, "sent %d results for %d changes", len(m.GetResults()), len(batch.Changes))
	}
	done := Applied{Revision: wire.ToRevision(m.GetRevision()), Results: make([]flag.Result, len(batch.Changes))}
	for i, result := range m.GetResults() {
		if done.Results[i], err = c.result(batch.Changes[i], result); err != nil {
			return Applied{}, c.broken(op, "%v", err)
		}
	}
	if !batch.DryRun {
		c.remember(done.Revision)
	}
	return done, nil
}

// result reads the result of a change, and checks that it is one of it.
func (c *Client) result(change flag.Change, m *buntingv1.Result) (flag.Result, error) {
	r, err := wire.ToResult(m)
	switch {
	case err != nil:
		return r, fmt.Errorf("sent a result that cannot be read (%w)", err)
	case r.Status < flag.Applied || r.Status > flag.Abandoned:
		return r, errors.New("did not say what became of a change")
	case (r.Status == flag.Refused) != (r.Problem != nil):
		return r, errors.New("did not say clearly whether it refused a change")
	case r.Object != nil && r.Object.Ref() != change.Ref:
		return r, fmt.Errorf("answered about %q instead of %q", r.Object.Ref(), change.Ref)
	}
	if r.Problem != nil {
		r.Problem = c.problem(r.Problem)
	}
	for _, h := range r.Holds {
		if h.FlagKey != change.Ref.Key {
			return r, fmt.Errorf("told of a hold on %q instead of %q", h.FlagKey, change.Ref.Key)
		}
	}
	return r, nil
}

// remember keeps the newest revision that a write of ours made, so that our
// reads see it whichever server of several answers them.
func (c *Client) remember(r flag.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.StoreID != c.written.StoreID || r.Number > c.written.Number {
		c.written = r
	}
}

func (c *Client) lastWritten() flag.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

// doing says what a change does, to read on from "cannot".
func doing(change flag.Change) string {
	key, id := quoted(change.Ref.Key), quoted(change.Ref.ID)
	switch change.Op {
	case flag.PutFlag:
		return "write the flag " + key
	case flag.ArchiveFlag:
		return "archive the flag " + key
	case flag.RestoreFlag:
		return "restore the flag " + key
	case flag.DeleteFlag:
		return "delete the flag " + key
	case flag.SetOverride:
		return "set the override of " + key + " for " + id
	case flag.RemoveOverride:
		return "remove the override of " + key + " for " + id
	case flag.PlaceHold:
		return "place the hold of " + id + " on " + key
	case flag.ReleaseHold:
		return "release the hold of " + id + " on " + key
	}
	return "make the change"
}
