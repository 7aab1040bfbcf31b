package server

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

var _ buntingv1connect.FlagAdminServiceHandler = passing{}

// passing is bunting.v1.FlagAdminService on a proxy: what reads definitions is
// answered from what the proxy knows, and the rest is passed on to the upstream
// with the caller's own token.
type passing struct{ admin }

// Get reads the named objects. Who removed what is absent stands in the audit log,
// which only the upstream reaches; without it the answer is given without.
func (s passing) Get(ctx context.Context, request *connect.Request[buntingv1.GetRequest]) (*connect.Response[buntingv1.GetResponse], error) {
	if !request.Msg.GetTellRemovals() {
		return s.admin.Get(ctx, request)
	}
	response, err := passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.Get, request.Msg)
	if err == nil || connect.CodeOf(err) != connect.CodeUnavailable {
		return response, err
	}
	locally := connect.NewRequest(&buntingv1.GetRequest{Refs: request.Msg.GetRefs(), MinimumRevision: request.Msg.GetMinimumRevision()})
	return s.admin.Get(ctx, locally)
}

// Apply makes a batch of changes, or tells what would become of it. It answers once
// the proxy itself has the changes, or WaitLimit later, so that who wrote reads them.
func (s passing) Apply(ctx context.Context, request *connect.Request[buntingv1.ApplyRequest]) (*connect.Response[buntingv1.ApplyResponse], error) {
	if request.Msg.GetRequestId() == "" {
		request.Msg.RequestId = rand.Text() // a connection that breaks must not make it twice
	}
	response, err := passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.Apply, request.Msg)
	if err == nil && !request.Msg.GetDryRun() {
		_, _ = s.evaluator.WaitFor(ctx, wire.ToRevision(response.Msg.GetRevision())) // it is done, whether it is seen here or not
	}
	return response, err
}

// GetAuditLog lists audit entries, newest first.
func (s passing) GetAuditLog(ctx context.Context, request *connect.Request[buntingv1.GetAuditLogRequest]) (*connect.Response[buntingv1.GetAuditLogResponse], error) {
	return passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.GetAuditLog, request.Msg)
}

// CreateToken makes a token and shows its secret, once.
func (s passing) CreateToken(ctx context.Context, request *connect.Request[buntingv1.CreateTokenRequest]) (*connect.Response[buntingv1.CreateTokenResponse], error) {
	return passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.CreateToken, request.Msg)
}

// ListTokens lists all tokens, the ended ones too.
func (s passing) ListTokens(ctx context.Context, request *connect.Request[buntingv1.ListTokensRequest]) (*connect.Response[buntingv1.ListTokensResponse], error) {
	return passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.ListTokens, request.Msg)
}

// RevokeToken ends a token, here at once.
func (s passing) RevokeToken(ctx context.Context, request *connect.Request[buntingv1.RevokeTokenRequest]) (*connect.Response[buntingv1.RevokeTokenResponse], error) {
	response, err := passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.RevokeToken, request.Msg)
	if err == nil {
		at, err := wire.ToTime(response.Msg.GetToken().GetRevokedAt())
		if err != nil || at.IsZero() {
			at = s.now() // it is revoked, whatever the time
		}
		s.tokens.revoke(response.Msg.GetToken().GetId(), at)
	}
	return response, err
}

// passOn makes the caller's call at the upstream. What the upstream says is the
// answer.
func passOn[Q, A any](ctx context.Context, s *Server, procedure func(buntingv1connect.FlagAdminServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[A], error), question *Q) (*connect.Response[A], error) {
	record := recordOf(ctx)
	from := client.Sender{Token: callerOf(ctx).secret, RequestID: record.id, Via: append(slices.Clip(record.via), s.id)}
	answer, err := client.PassOn(ctx, s.upstream, from, procedure, question)
	if err == nil {
		return connect.NewResponse(answer), nil
	}
	if told, is := errors.AsType[*client.ToldError](err); is {
		record.tooMany = told.StatusCode == http.StatusTooManyRequests
		return nil, told.Said
	}
	switch e, _ := errors.AsType[*client.Error](err); {
	case e != nil && e.Kind == client.Canceled:
		return nil, connect.NewError(connect.CodeCanceled, err)
	case e != nil && e.Kind == client.Broken: // an answer came, but none that can be read
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return nil, refusal(connect.CodeUnavailable, reasonUpstream, "this server is a proxy, and its upstream has to answer this call. "+err.Error(), "")
}

// viaOf reads through which servers a call came.
func viaOf(header http.Header) (ids []string) {
	for id := range strings.SplitSeq(header.Get(wire.ViaHeader), ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// misled refuses a call that cannot be answered here, whoever makes it: one of a
// service that this server does not have, or one that it passed on itself.
func (s *Server) misled(r *http.Request) error {
	if err := s.lacks(r); err != nil {
		return err
	}
	if !slices.Contains(recordOf(r.Context()).via, s.id) {
		return nil
	}
	return connect.NewError(connect.CodeFailedPrecondition, errors.New("the call came back to a server that had passed it on: its upstream leads back to it. Name an upstream that is nearer to the root"))
}
