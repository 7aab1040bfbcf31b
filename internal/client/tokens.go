package client

import (
	"context"
	"errors"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// CreateToken makes a token with the name, scopes, prefix and expiry of t and
// gives it with its secret, which no other call ever gives again. A refusal is a
// *flag.Problem.
func (c *Client) CreateToken(ctx context.Context, t token.Token) (made token.Token, secret string, err error) {
	op := "create the token " + quoted(t.Name)
	question := &buntingv1.CreateTokenRequest{Name: t.Name, Prefix: string(t.Prefix), ExpiresAt: wire.FromTime(t.ExpiresAt)}
	for _, s := range t.Scopes {
		question.Scopes = append(question.Scopes, buntingv1.Scope(s))
	}
	m, err := call(ctx, c, op, onceOnly, c.admin.CreateToken, question)
	if err != nil {
		return token.Token{}, "", err
	}
	made, err = toToken(m.GetToken())
	switch {
	case err != nil:
		return token.Token{}, "", c.broken(op, "sent a token that cannot be read (%v)", err)
	case made.Name != t.Name || m.GetSecret() == "" || checkToken(m.GetSecret()) != nil:
		return token.Token{}, "", c.broken(op, "sent a token without its secret or with another name")
	}
	return made, m.GetSecret(), nil
}

// Tokens lists all tokens, the ended ones too, by name.
func (c *Client) Tokens(ctx context.Context) ([]token.Token, error) {
	const op = "list the tokens"
	m, err := call(ctx, c, op, again, c.admin.ListTokens, &buntingv1.ListTokensRequest{})
	if err != nil {
		return nil, err
	}
	tokens := make([]token.Token, len(m.GetTokens()))
	for i, t := range m.GetTokens() {
		if tokens[i], err = toToken(t); err != nil {
			return nil, c.broken(op, "sent a token that cannot be read (%v)", err)
		}
	}
	return tokens, nil
}

// RevokeToken ends a token at once. That there is no such token is a
// *flag.Problem.
func (c *Client) RevokeToken(ctx context.Context, name string) (token.Token, error) {
	op := "revoke the token " + quoted(name)
	m, err := call(ctx, c, op, onceOnly, c.admin.RevokeToken, &buntingv1.RevokeTokenRequest{Name: name})
	if err != nil {
		return token.Token{}, err
	}
	t, err := toToken(m.GetToken())
	switch {
	case err != nil:
		return token.Token{}, c.broken(op, "sent a token that cannot be read (%v)", err)
	case t.Name != name:
		return token.Token{}, c.broken(op, "answered about the token %q", t.Name)
	}
	return t, nil
}

func toToken(m *buntingv1.Token) (token.Token, error) {
	t := token.Token{ID: m.GetId(), Name: m.GetName(), Prefix: flag.Key(m.GetPrefix()), CreatedBy: m.GetCreatedBy()}
	for _, s := range m.GetScopes() {
		t.Scopes = append(t.Scopes, token.Scope(s))
	}
	var errs [3]error
	t.CreatedAt, errs[0] = wire.ToTime(m.GetCreatedAt())
	t.ExpiresAt, errs[1] = wire.ToTime(m.GetExpiresAt())
	t.RevokedAt, errs[2] = wire.ToTime(m.GetRevokedAt())
	return t, errors.Join(errs[:]...)
}
