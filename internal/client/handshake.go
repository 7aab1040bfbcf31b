package client

import (
	"context"
	"fmt"
	"time"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Server is what a server tells of itself and of the caller.
type Server struct {
	Environment  string
	Version      string // the program's
	Capabilities []string
	Revision     flag.Revision // at the time of the handshake
	At           time.Time     // no later than when the server told all this
	// How many living and archived flags, overrides and holds there are, and
	// about how many bytes a whole snapshot takes.
	Flags, Overrides, Holds, SnapshotBytes int64
	// Fresh says that the server had heard its source of truth when it told the
	// revision; false too where it does not tell.
	Fresh bool
	// CompiledFlags is how many flags the server evaluates that no snapshot has.
	CompiledFlags int64
	// Actor is the caller as the server knows it: the token's name, scopes and
	// key prefix.
	Actor token.Actor
	// TokenID is the id of the caller's token, and TokenEnds when it ends; zero: it
	// does not.
	TokenID   string
	TokenEnds time.Time
	// Chain is the ids of the servers from this one to the root.
	Chain []string
	// EvaluatorOnly says that the server has only FlagEvaluatorService: nothing of
	// the above is known, and only evaluations can be asked for.
	EvaluatorOnly bool
}

// Server gives the handshake: asked once, remembered when it succeeded, shared
// by everybody who asks meanwhile. The error of a server of another protocol is
// an *Error of the kind Incompatible that names both versions.
func (c *Client) Server(ctx context.Context) (Server, error) {
	server, err := c.handshake.get(ctx)
	if err != nil {
		return Server{}, c.retold(ctx, greeting, err)
	}
	return *server, nil
}

// Greet makes the handshake anew, for who stays for so long that the server may
// have become another one.
func (c *Client) Greet(ctx context.Context) (Server, error) {
	server, err := c.greet(ctx)
	if err != nil {
		return Server{}, err
	}
	return *server, nil
}

// greeting is what the handshake does, to go on from "cannot".
const greeting = "greet the server"

func (c *Client) greet(ctx context.Context) (*Server, error) {
	const op = greeting
	began := time.Now()
	m, err := call(ctx, c, op, again, c.admin.GetServer, &buntingv1.GetServerRequest{})
	if err != nil {
		return c.greetEvaluator(ctx, op, err)
	}
	if m.GetProtocol() == 0 {
		return nil, c.broken(op, "did not say which version of the protocol it speaks")
	}
	if m.GetProtocol() < wire.OldestProtocol || m.GetOldestProtocol() > wire.Protocol {
		advice := "Upgrade this program."
		if m.GetProtocol() < wire.OldestProtocol {
			advice = "Upgrade the server."
		}
		return nil, &Error{Kind: Incompatible, Op: op, Endpoint: c.endpoint, Message: fmt.Sprintf(
			"%s (version %s) speaks the versions %d to %d of the protocol, but this program speaks %d to %d. %s",
			c.endpoint, quoted(m.GetVersion()), m.GetOldestProtocol(), m.GetProtocol(), wire.OldestProtocol, wire.Protocol, advice)}
	}
	s := &Server{
		Environment: m.GetEnvironment(), Version: m.GetVersion(), Capabilities: m.GetCapabilities(), Revision: wire.ToRevision(m.GetRevision()), At: began,
		Flags: m.GetFlags(), Overrides: m.GetOverrides(), Holds: m.GetHolds(), SnapshotBytes: m.GetSnapshotBytes(),
		Fresh: m.Stale != nil && !m.GetStale(), CompiledFlags: m.GetCompiledFlags(),
		Actor: token.Actor{Name: m.GetActor(), Prefix: flag.Key(m.GetPrefix())}, TokenID: m.GetTokenId(), Chain: m.GetChain(),
	}
	for _, scope := range m.GetScopes() {
		s.Actor.Scopes = append(s.Actor.Scopes, token.Scope(scope))
	}
	if s.TokenEnds, err = wire.ToTime(m.GetTokenExpiresAt()); err != nil {
		return nil, c.broken(op, "sent the end of a token that cannot be read (%v)", err)
	}
	return s, nil
}

// environment gives the server's environment where a handshake has told it.
func (c *Client) environment() string {
	if server, known := c.handshake.known(); known {
		return server.Environment
	}
	return ""
}
