package client

import (
	"context"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Question asks what a flag is for a caller.
type Question struct {
	Key    flag.Key
	Caller flag.Context
	// Minimum is the oldest revision that may answer; zero: our own last write,
	// or any where there was none.
	Minimum flag.Revision
}

// Evaluation is an answer and the revision of the definitions that gave it.
type Evaluation struct {
	flag.Answer

	Revision flag.Revision
}

// Evaluate asks what a flag is for a caller. An unknown flag is an answer
// (ErrorCode), not an error.
func (c *Client) Evaluate(ctx context.Context, q Question) (Evaluation, error) {
	op := evaluating(q.Key)
	entity, attributes, err := wire.FromContext(q.Caller)
	if err != nil {
		return Evaluation{}, c.unwritable(op, err)
	}
	minimum := c.atLeast(q.Minimum)
	m, err := call(ctx, c, op, again, c.evaluator.Evaluate, &pbflagsv1.EvaluateRequest{
		FlagId: string(q.Key), EntityId: entity, Context: attributes, MinimumRevision: minimum.Number, StoreId: minimum.StoreID,
	})
	if err != nil {
		return Evaluation{}, err
	}
	return c.evaluation(op, q.Key, m)
}

// BulkEvaluate asks about many flags at one revision; the answers come in the
// order asked. No keys ask for all known flags, archived ones too, in key order.
func (c *Client) BulkEvaluate(ctx context.Context, keys []flag.Key, caller flag.Context, minimum flag.Revision) ([]Evaluation, error) {
	const op = "evaluate flags"
	entity, attributes, err := wire.FromContext(caller)
	if err != nil {
		return nil, c.unwritable(op, err)
	}
	minimum = c.atLeast(minimum)
	question := &pbflagsv1.BulkEvaluateRequest{EntityId: entity, Context: attributes, MinimumRevision: minimum.Number, StoreId: minimum.StoreID}
	for _, key := range keys {
		question.FlagIds = append(question.FlagIds, string(key))
	}
	m, err := call(ctx, c, op, again, c.evaluator.BulkEvaluate, question)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 && len(m.GetEvaluations()) != len(keys) {
		return nil, c.broken(op, "sent %d answers to %d questions", len(m.GetEvaluations()), len(keys))
	}
	answers := make([]Evaluation, len(m.GetEvaluations()))
	for i, e := range m.GetEvaluations() {
		asked := flag.Key(e.GetFlagId())
		if len(keys) > 0 {
			asked = keys[i]
		}
		if answers[i], err = c.evaluation(op, asked, e); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (c *Client) evaluation(op string, asked flag.Key, m *pbflagsv1.EvaluateResponse) (Evaluation, error) {
	answer, revision, err := wire.ToAnswer(m)
	switch {
	case err != nil:
		return Evaluation{}, c.broken(op, "sent an answer that cannot be read (%v)", err)
	case answer.Key != asked:
		return Evaluation{}, c.broken(op, "answered about %q instead of %q", answer.Key, asked)
	}
	return Evaluation{Answer: answer, Revision: revision}, nil
}

// evaluating says what is asked, to read on from "cannot".
func evaluating(key flag.Key) string { return "evaluate " + quoted(key) }

func (c *Client) atLeast(minimum flag.Revision) flag.Revision {
	if minimum == (flag.Revision{}) {
		return c.lastWritten()
	}
	return minimum
}

func (c *Client) unwritable(op string, err error) error {
	return &Error{
		Kind: Invalid, Op: op, Endpoint: c.endpoint, Err: err,
		Message: "the caller's context has an attribute that JSON cannot hold. Use strings, numbers, bools, lists and maps.",
	}
}
