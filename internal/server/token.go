package server

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// CreateToken makes a token and shows its secret, once.
func (s admin) CreateToken(ctx context.Context, request *connect.Request[buntingv1.CreateTokenRequest]) (*connect.Response[buntingv1.CreateTokenResponse], error) {
	m := request.Msg
	expires, err := wire.ToTime(m.GetExpiresAt())
	if err != nil {
		return nil, invalid("expires_at: %w", err)
	}
	secret, id := token.NewSecret()
	t := token.Token{
		ID: id, Name: m.GetName(), Prefix: flag.Key(m.GetPrefix()), Hash: token.Hash(secret),
		CreatedAt: s.now().UTC(), CreatedBy: callerOf(ctx).Name, ExpiresAt: expires,
	}
	for _, scope := range m.GetScopes() {
		t.Scopes = append(t.Scopes, token.Scope(scope))
	}
	if err := s.AddToken(ctx, t); err != nil {
		return nil, s.answerError(ctx, "make a token", err)
	}
	return connect.NewResponse(&buntingv1.CreateTokenResponse{Token: tokenMessage(t), Secret: secret}), nil
}

// AddToken keeps a token, made by its CreatedBy, and takes it from then on. A
// store that is refused takes none, and a proxy has none. Other errors are the store's.
func (s *Server) AddToken(ctx context.Context, t token.Token) error {
	if s.store == nil {
		return errors.New("keep a token: this server is a proxy, which has no store. Make the token at its upstream")
	}
	if refusal := s.evaluator.Refused(); refusal != nil {
		return refusal
	}
	if err := s.store.CreateToken(ctx, t, t.CreatedBy); err != nil {
		return err
	}
	s.tokens.put(t)
	s.tokenCommitted(ctx)
	return nil
}

// ListTokens lists all tokens, the ended ones too.
func (s admin) ListTokens(ctx context.Context, _ *connect.Request[buntingv1.ListTokensRequest]) (*connect.Response[buntingv1.ListTokensResponse], error) {
	all, err := s.store.Tokens(ctx)
	if err != nil {
		return nil, s.answerError(ctx, "list the tokens", err)
	}
	response := &buntingv1.ListTokensResponse{}
	for _, t := range all {
		response.Tokens = append(response.Tokens, tokenMessage(t))
	}
	return connect.NewResponse(response), nil
}

// RevokeToken ends a token at once.
func (s admin) RevokeToken(ctx context.Context, request *connect.Request[buntingv1.RevokeTokenRequest]) (*connect.Response[buntingv1.RevokeTokenResponse], error) {
	if refusal := s.evaluator.Refused(); refusal != nil {
		return nil, s.answerError(ctx, "revoke a token", refusal)
	}
	t, err := s.store.RevokeToken(ctx, request.Msg.GetName(), callerOf(ctx).Name, s.now().UTC())
	if err != nil {
		return nil, s.answerError(ctx, "revoke a token", err)
	}
	s.tokens.put(t)
	s.tokenCommitted(ctx)
	return connect.NewResponse(&buntingv1.RevokeTokenResponse{Token: tokenMessage(t)}), nil
}

// tokenCommitted brings the snapshot up to the revision that a token's commit
// made, so that the next write does not find a gap. Where that fails, the next
// heartbeat does it.
func (s *Server) tokenCommitted(ctx context.Context) {
	if err := s.root.CatchUp(context.WithoutCancel(ctx)); err != nil {
		s.log.WarnContext(ctx, "the commit of a token could not be followed", "error", err.Error())
	}
}

func tokenMessage(t token.Token) *buntingv1.Token {
	m := &buntingv1.Token{
		Id: t.ID, Name: t.Name, Prefix: string(t.Prefix), CreatedAt: wire.FromTime(t.CreatedAt), CreatedBy: t.CreatedBy,
		ExpiresAt: wire.FromTime(t.ExpiresAt), RevokedAt: wire.FromTime(t.RevokedAt),
	}
	for _, scope := range t.Scopes {
		m.Scopes = append(m.Scopes, buntingv1.Scope(scope))
	}
	return m
}
