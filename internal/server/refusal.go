package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// The reasons of bunting.v1.ErrorDetail.
const (
	reasonStoreChanged    = "STORE_CHANGED"
	reasonNotReached      = "REVISION_NOT_REACHED"
	reasonTokenMissing    = "TOKEN_MISSING"
	reasonTokenUnknown    = "TOKEN_UNKNOWN"
	reasonTokenExpired    = "TOKEN_EXPIRED"
	reasonTokenRevoked    = "TOKEN_REVOKED"
	reasonScopeTooSmall   = "SCOPE_TOO_SMALL"
	reasonPrefixDenied    = "PREFIX_DENIED"
	reasonRequestIDReused = "REQUEST_ID_REUSED"
	reasonNotReady        = "NOT_READY"
	reasonAdminElsewhere  = "ADMIN_ELSEWHERE"
	reasonAdminOff        = "ADMIN_OFF"
	reasonNotLoopback     = "NOT_LOOPBACK"
	reasonUpstream        = "UPSTREAM_UNREACHABLE"
)

// refusal makes an error of a call, for people and, by its reason, for programs.
func refusal(code connect.Code, reason, message, challenge string) *connect.Error {
	err := withDetail(connect.NewError(code, errors.New(message)), &buntingv1.ErrorDetail{Reason: reason})
	if challenge != "" {
		err.Meta().Set("WWW-Authenticate", challenge)
	}
	return err
}

func withDetail(err *connect.Error, detail *buntingv1.ErrorDetail) *connect.Error {
	if d, e := connect.NewErrorDetail(detail); e == nil { // fails only for a message that cannot be written
		err.AddDetail(d)
	}
	return err
}

// allowed turns the problem of token.Actor.Require into the answer 403.
func allowed(problem error) error {
	if problem == nil {
		return nil
	}
	return refusal(connect.CodePermissionDenied, reasonScopeTooSmall, problem.Error(), `Bearer realm="bunting", error="insufficient_scope"`)
}

// covered turns the problem of token.Actor.Covers into the answer 403.
func covered(problem error) error {
	if problem == nil {
		return nil
	}
	return refusal(connect.CodePermissionDenied, reasonPrefixDenied, problem.Error(), "")
}

// errNothingKnown says that nothing can be said of what is there and what is not.
var errNothingKnown = errors.New("nothing is known of the definitions yet: since this server was started, their source has not answered. Try again later")

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// untold logs why a caller gets no answer. The caller, who may be anybody, gets
// what, and by which id to find it: what went wrong tells where our sources are.
func untold(ctx context.Context, log *slog.Logger, code connect.Code, reason, what string, err error) *connect.Error {
	id := recordOf(ctx).id
	log.WarnContext(ctx, "a caller is not answered", "told", what, "error", err.Error(), "request_id", id)
	return refusal(code, reason, fmt.Sprintf("%s. The server's log says why, under the request id %s", what, id), "")
}

// answerError gives the error of a call for whatever went wrong inside. What the
// store says of itself goes to the log and to callers who may write, for whom it
// is about their own data; others learn no more than the request id to find it by.
func (s *Server) answerError(ctx context.Context, doing string, err error) error {
	revision := wire.FromRevision(s.evaluator.View().Revision)
	switch {
	case errors.Is(err, evaluator.ErrStoreChanged):
		return withDetail(connect.NewError(connect.CodeFailedPrecondition, err), &buntingv1.ErrorDetail{Reason: reasonStoreChanged, Revision: revision})
	case errors.Is(err, evaluator.ErrNotReached):
		return withDetail(connect.NewError(connect.CodeFailedPrecondition, err), &buntingv1.ErrorDetail{Reason: reasonNotReached, Revision: revision})
	case errors.Is(err, errNothingKnown):
		return refusal(connect.CodeUnavailable, reasonNotReady, err.Error(), "")
	case errors.Is(err, store.ErrRequestReused):
		return withDetail(connect.NewError(connect.CodeInvalidArgument, err), &buntingv1.ErrorDetail{Reason: reasonRequestIDReused})
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		recordOf(ctx).cause = doing + ": " + err.Error()
		return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("%s: the time for the call is up", doing))
	case ctx.Err() != nil:
		return connect.NewError(connect.CodeCanceled, fmt.Errorf("%s: the caller has gone", doing))
	}
	if p, ok := errors.AsType[*flag.Problem](err); ok {
		return problemError(p)
	}
	if refused, ok := errors.AsType[*evaluator.RefusalError](err); ok { // what it lacks is for admins to see
		return problemError(&flag.Problem{Kind: flag.ProblemConflict, Message: fmt.Sprintf("The store became another one (%s), which is refused until an admin has confirmed it: nothing is written to it. \"bunting resync\" tells why.", refused.Found.StoreID)})
	}
	record := recordOf(ctx)
	record.cause = doing + ": " + err.Error()
	code, what := connect.CodeInternal, "the server's store failed"
	if store.IsUnreachable(err) { // which may pass: the call is worth to be repeated
		code, what = connect.CodeUnavailable, "the server's store does not answer"
	}
	if c := callerOf(ctx); c.Has(token.Write) || c.Has(token.Kill) {
		return connect.NewError(code, fmt.Errorf("%s: %w", what, err))
	}
	return connect.NewError(code, fmt.Errorf("%s: %s. Its log says why, under the request id %s", doing, what, record.id))
}

// problemError gives the error of a call that is refused for a problem.
func problemError(p *flag.Problem) error {
	codes := map[flag.ProblemKind]connect.Code{
		flag.ProblemInvalid: connect.CodeInvalidArgument, flag.ProblemNotFound: connect.CodeNotFound,
		flag.ProblemAlreadyExists: connect.CodeAlreadyExists, flag.ProblemConflict: connect.CodeFailedPrecondition,
		flag.ProblemOwned: connect.CodeFailedPrecondition, flag.ProblemHeld: connect.CodeFailedPrecondition,
		flag.ProblemDenied: connect.CodePermissionDenied,
	}
	code, ok := codes[p.Kind]
	if !ok {
		code = connect.CodeInternal
	}
	err := connect.NewError(code, p)
	if d, e := connect.NewErrorDetail(wire.FromProblem(p)); e == nil { // fails only for a message that cannot be written
		err.AddDetail(d)
	}
	return err
}

// refuse answers a request that does not come as far as its procedure, in the
// caller's protocol.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	note(r.Context(), err)
	_ = s.errors.Write(w, r, err) // the caller may have gone
}
