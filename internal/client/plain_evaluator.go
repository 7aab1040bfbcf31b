package client

import (
	"context"
	"errors"
	"net/http"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
)

// greetEvaluator greets a server that does not know the admin service's handshake:
// with FlagEvaluatorService alone it can still be asked what flags are. Nothing
// else is known of it. Whoever has neither gets the error of the handshake.
func (c *Client) greetEvaluator(ctx context.Context, op string, refused error) (*Server, error) {
	if !unknownCall(refused) {
		return nil, refused
	}
	_, err := call(ctx, c, op, again, c.evaluator.Health, &pbflagsv1.HealthRequest{})
	switch {
	case unknownCall(err):
		return nil, refused
	case err != nil:
		return nil, err
	}
	return &Server{EvaluatorOnly: true}, nil
}

// unknownCall reports whether the answer is that of a server which does not have
// the call: Connect's word for it, or a 404 of whatever serves the others.
func unknownCall(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Kind == Incompatible || e.Kind == NotFlagServer && e.StatusCode == http.StatusNotFound)
}
