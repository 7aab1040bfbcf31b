package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

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

// verdict is what became of one of several changes that travelled together.
type verdict struct {
	written Written
	err     error
}

// Write makes one change and tells what is there afterwards. A refusal is a
// *flag.Problem. After any other error it is not known whether the change was
// made. Changes that wait at the same time travel together, and each keeps its
// own outcome. One that was sent is not withdrawn when the caller gives up:
// Write gives its outcome then, which is known within the request timeout.
func (c *Client) Write(ctx context.Context, change flag.Change) (Written, error) {
	op := doing(change)
	v, err := c.writes.ask(ctx, change)
	if err == nil {
		err = v.err
	}
	return v.written, c.retold(ctx, op, err)
}

// applyAll makes changes that travel together. What is wrong with one is no
// matter of the others: where the server refuses them all as one request, each
// is sent by itself.
func (c *Client) applyAll(ctx context.Context, changes []flag.Change) ([]verdict, error) {
	op := fmt.Sprintf("apply %d changes", len(changes))
	done, results, err := c.apply(ctx, op, throughout, Batch{Changes: changes})
	if err != nil {
		if e, ok := errors.AsType[*Error](err); len(changes) == 1 || ok && e.Kind != Invalid {
			return nil, err
		}
		verdicts := make([]verdict, len(changes))
		for i, change := range changes {
			alone, err := c.applyAll(ctx, []flag.Change{change})
			if verdicts[i].err = err; err == nil {
				verdicts[i] = alone[0]
			}
		}
		return verdicts, nil
	}
	verdicts := make([]verdict, len(changes))
	for i, change := range changes {
		r := results[i] // there is one for each
		switch {
		case r.err != nil:
			verdicts[i].err = c.broken(op, "%v", r.err)
		case r.Problem != nil:
			verdicts[i].err = r.Problem
		case r.Status == flag.Abandoned || change.Object != nil && r.Object == nil:
			verdicts[i].err = c.broken(op, "did not say what became of the %s", change.Ref.Kind)
		default:
			verdicts[i].written = Written{Object: r.Object, Holds: r.Holds, Revision: done}
		}
	}
	return verdicts, nil
}

// changeBytes gives the size of a change on the wire.
func changeBytes(change flag.Change) int { return proto.Size(wire.FromChange(change)) }

// Apply makes a batch of changes: one transaction, one revision. What is refused
// is in the results; after an error it is not known whether anything was done.
func (c *Client) Apply(ctx context.Context, batch Batch) (Applied, error) {
	op := fmt.Sprintf("apply %d changes", len(batch.Changes))
	if len(batch.Changes) == 1 {
		op = doing(batch.Changes[0])
	}
	revision, results, err := c.apply(ctx, op, again, batch)
	if err != nil {
		return Applied{}, err
	}
	done := Applied{Revision: revision, Results: make([]flag.Result, len(results))}
	for i, r := range results {
		if r.err != nil {
			return Applied{}, c.broken(op, "%v", r.err)
		}
		done.Results[i] = r.Result
	}
	return done, nil
}

// result is what the server says of one change, or why that cannot be read.
type result struct {
	flag.Result

	err error
}

// apply makes one call. It gives a result for each change.
func (c *Client) apply(ctx context.Context, op string, how manner, batch Batch) (flag.Revision, []result, error) {
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
	m, err := call(ctx, c, op, how, c.admin.Apply, question)
	if err != nil {
		c.doubt(batch)
		return flag.Revision{}, nil, err
	}
	if len(m.GetResults()) != len(batch.Changes) {
		return flag.Revision{}, nil, c.broken(op, "sent %d results for %d changes", len(m.GetResults()), len(batch.Changes))
	}
	revision, results := wire.ToRevision(m.GetRevision()), make([]result, len(batch.Changes))
	for i, told := range m.GetResults() {
		results[i].Result, results[i].err = c.result(batch.Changes[i], told)
	}
	if !batch.DryRun {
		c.remember(revision, batch.Changes)
	}
	return revision, results, nil
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

// remember keeps the newest revision that a write of ours made, in all and for
// each flag, so that our reads see it whichever server of several answers them.
func (c *Client) remember(r flag.Revision, changes []flag.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if newer(r, c.written) {
		c.written = r
	}
	for _, change := range changes {
		if key := change.Ref.Key; newer(r, c.wrote[key]) {
			c.wrote[key] = r
		}
	}
}

// doubt has what a batch was to change read anew: it is not known whether it did.
func (c *Client) doubt(batch Batch) {
	if batch.DryRun {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range batch.Changes {
		c.wrote[change.Ref.Key] = flag.Revision{} // of no store, so newer than all that was read
	}
}

// newer reports whether the revision says something that the other does not
// know: a later one of the same store, or any of another store.
func newer(r, than flag.Revision) bool { return r.StoreID != than.StoreID || r.Number > than.Number }

// wroteAfter reports whether a write of ours changed the flag, or what is on it,
// after the revision.
func (c *Client) wroteAfter(key flag.Key, r flag.Revision) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrote, ever := c.wrote[key]
	return ever && newer(wrote, r)
}

// wroteSince reports whether a write of ours changed anything after the revision.
func (c *Client) wroteSince(r flag.Revision) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, wrote := range c.wrote {
		if newer(wrote, r) {
			return true
		}
	}
	return false
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
