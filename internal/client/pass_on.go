package client

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Sender is on whose behalf a call is passed on.
type Sender struct {
	Token     string   // the secret that came with the call
	RequestID string   // by which both servers' logs know it; "": none
	Via       []string // ids of the servers that it came through, the last one's last
}

// ToldError is what a server said instead of the answer to a call that was passed on,
// as it said it: code, message, details, and the headers that go with them.
type ToldError struct {
	Said       *connect.Error
	StatusCode int // the HTTP status, which tells apart what has one code
}

// Error gives what was said.
func (t *ToldError) Error() string { return t.Said.Message() }

// Unwrap gives the error itself.
func (t *ToldError) Unwrap() error { return t.Said }

// PassOn makes somebody else's call of the admin service, once: whoever made it
// repeats it. The question and the answer go through unchanged, and so does an
// error that the server tells (*ToldError). Any other error is an *Error: the server
// did not answer. A server that has not answered others is not asked for a while.
//
// It is limited by the context alone, because only the caller knows for how long
// the call may take.
func PassOn[Q, A any](ctx context.Context, c *Client, from Sender, procedure func(buntingv1connect.FlagAdminServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[A], error), question *Q) (*A, error) {
	return passedOn(ctx, c, &c.passing, from, procedure, question)
}

// WhoIs asks who the sender is and what its token may do. It is as PassOn, but that
// a server which does not answer it is asked the other calls all the same.
func (c *Client) WhoIs(ctx context.Context, from Sender) (*buntingv1.GetServerResponse, error) {
	return passedOn(ctx, c, &c.judging, from, buntingv1connect.FlagAdminServiceClient.GetServer, &buntingv1.GetServerRequest{})
}

// hasty is a call that had less time: that no answer came to it tells nothing of the
// host, and its caller, who may be anybody, has no others refused by it.
const hasty = time.Second

func passedOn[Q, A any](ctx context.Context, c *Client, b *breaker, from Sender, procedure func(buntingv1connect.FlagAdminServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[A], error), question *Q) (*A, error) {
	const op = "pass the call on"
	e := c.host.breaker.resting()
	if e == nil {
		e = b.admit()
	}
	if e != nil {
		e.Op = op
		return nil, e
	}
	request := connect.NewRequest(question)
	request.Header().Set("Authorization", "Bearer "+from.Token)
	request.Header().Set(wire.ViaHeader, strings.Join(from.Via, ", "))
	if from.RequestID != "" {
		request.Header().Set(wire.RequestIDHeader, from.RequestID)
	}
	began := time.Now()
	answer, err := procedure(c.admin, ctx, request)
	if err == nil {
		b.answered()
		return answer.Msg, nil
	}
	if told := toldBy(err); told != nil {
		b.answered()
		return nil, told
	}
	err = c.translate(ctx, ctx, op, err)
	switch e, _ := errors.AsType[*Error](err); {
	case e != nil && (e.Kind == Canceled || e.Kind == Timeout && ctx.Err() != nil && time.Since(began) < hasty):
		b.left()
	case e != nil && (e.Kind == Unavailable || e.Kind == Timeout):
		b.fell(e)
	default:
		b.answered()
	}
	return nil, err
}

// toldBy gives what the server itself said; nil where it was somebody else, or
// nobody.
func toldBy(err error) *ToldError {
	var f *fault
	var said *connect.Error
	found := errors.As(err, &f)
	if found && f.kind != 0 || !errors.As(err, &said) || !connect.IsWireError(said) {
		return nil
	}
	// Not the error itself: one that came over the wire loses what goes beside it
	// when a handler gives it.
	told := &ToldError{Said: connect.NewError(said.Code(), errors.New(said.Message()))}
	for _, d := range said.Details() {
		told.Said.AddDetail(d)
	}
	copyBeside(told.Said.Meta(), said.Meta())
	if found {
		told.StatusCode = f.status
	}
	return told
}

// besideErrors are the headers that belong to an error and mean something to
// whoever gets it.
var besideErrors = []string{"Www-Authenticate", "Retry-After"}

func copyBeside(to, from http.Header) {
	for _, name := range besideErrors {
		if values := from.Values(name); len(values) > 0 {
			to[name] = values
		}
	}
}
