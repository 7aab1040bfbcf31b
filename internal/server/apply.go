package server

import (
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Apply makes a batch of changes, or tells what would become of it.
func (s admin) Apply(ctx context.Context, request *connect.Request[buntingv1.ApplyRequest]) (*connect.Response[buntingv1.ApplyResponse], error) {
	m := request.Msg
	c := callerOf(ctx)
	if !m.GetDryRun() && !c.Has(token.Kill) {
		// Who may write nothing at all hears it as the answer to the call; who may
		// write some of it, in the results.
		need := token.Write
		if onlyHolds(m.GetChanges()) {
			need = token.Kill
		}
		if err := allowed(c.Require(need)); err != nil && !c.Has(token.Write) {
			return nil, err
		}
	}
	if len(m.GetChanges()) > store.MaxChanges {
		return nil, invalid("changes has %d changes, more than the %d that one call may make. Send them in several calls", len(m.GetChanges()), store.MaxChanges)
	}
	read := readChanges(m.GetChanges())
	outcome := store.Outcome{Revision: s.evaluator.View().Revision}
	if read.unreadable == 0 || !m.GetAtomic() {
		batch := store.Batch{
			Changes: read.changes, Atomic: m.GetAtomic(), RequestID: m.GetRequestId(), Note: m.GetNote(), Actor: c.Actor, Now: s.now(),
		}
		var err error
		if m.GetDryRun() {
			err = batch.Validate()
			if err == nil {
				outcome = store.DryRun(s.evaluator.View().Snapshot, batch)
			}
		} else {
			outcome, err = s.root.Apply(ctx, batch)
		}
		if err != nil {
			return nil, s.answerError(ctx, "apply changes", err)
		}
	}
	results := read.results(outcome, s.evaluator.View().Snapshot, c.Actor)
	if m.GetDryRun() { // what was committed is told, however large
		var size answerSize
		for _, r := range results {
			if err := size.add(r); err != nil {
				return nil, err
			}
		}
	}
	return connect.NewResponse(&buntingv1.ApplyResponse{Revision: wire.FromRevision(outcome.Revision), Results: results}), nil
}

// onlyHolds reports whether a batch is about nothing but holds.
func onlyHolds(changes []*buntingv1.Change) bool {
	for _, c := range changes {
		if c.GetPlaceHold() == nil && c.GetReleaseHold() == nil {
			return false
		}
	}
	return len(changes) > 0
}

// readBatch is a batch as it came over the wire. A change that cannot be read is
// refused like any other, so it does not fail its neighbours.
type readBatch struct {
	asked      []flag.Change   // as far as they could be read
	problems   []*flag.Problem // why one could not be read; nil for the others
	changes    []flag.Change   // those that could
	unreadable int
}

func readChanges(messages []*buntingv1.Change) readBatch {
	b := readBatch{
		asked: make([]flag.Change, len(messages)), problems: make([]*flag.Problem, len(messages)),
		changes: make([]flag.Change, 0, len(messages)),
	}
	for i, m := range messages {
		var err error
		b.asked[i], err = wire.ToChange(m)
		if err == nil {
			b.changes = append(b.changes, b.asked[i])
			continue
		}
		b.unreadable++
		var is bool
		if b.problems[i], is = errors.AsType[*flag.Problem](err); !is {
			b.problems[i] = flag.Invalid("", err.Error())
		}
	}
	return b
}

// results gives a result for each change that was asked, in order. An outcome
// without results is that of an atomic batch with a change that cannot be read.
// With each result go the holds of its flag, from the snapshot after the batch,
// unless the caller may not know of the flag.
func (b readBatch) results(outcome store.Outcome, after *flag.Snapshot, asks token.Actor) []*buntingv1.Result {
	results := make([]*buntingv1.Result, len(b.asked))
	next := 0
	for i, c := range b.asked {
		result, judged := flag.Result{Status: flag.Refused, Problem: b.problems[i]}, false
		if result.Problem == nil {
			result = flag.Result{Status: flag.Abandoned}
			if judged = next < len(outcome.Results); judged {
				result = outcome.Results[next]
				next++
			}
		}
		if asks.Covers(c.Ref.Key) == nil { // whatever else is wrong with the change
			result.Holds = slices.Collect(after.HoldsOf(c.Ref.Key))
		}
		if results[i] = wire.FromResult(c, result); !judged {
			results[i].Object = nil // nobody looked whether there is one
		}
	}
	return results
}
