package client

import (
	"context"
	"fmt"
	"sync"

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
	// How many living and archived flags, overrides and holds there are, and
	// about how many bytes a whole snapshot takes.
	Flags, Overrides, Holds, SnapshotBytes int64
	// Actor is the caller as the server knows it: the token's name, scopes and
	// key prefix.
	Actor token.Actor
}

// handshake asks once for all callers: those who come while the question is
// under way wait for its answer, and a failure is not remembered.
type handshake struct {
	mu       sync.Mutex
	known    *Server
	underway *question
}

// question is a handshake under way. It ends early when all who wait have left.
type question struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	server  *Server
	err     error
}

// Server gives the handshake: asked once, remembered when it succeeded, shared
// by everybody who asks meanwhile. The error of a server of another protocol is
// an *Error of the kind Incompatible that names both versions.
func (c *Client) Server(ctx context.Context) (Server, error) {
	const op = "greet the server"
	if err := ctx.Err(); err != nil {
		return Server{}, c.translate(ctx, ctx, op, err)
	}
	h := &c.handshake
	h.mu.Lock()
	if h.known != nil {
		defer h.mu.Unlock()
		return *h.known, nil
	}
	q := h.underway
	if q == nil {
		// The question belongs to nobody in particular, so nobody's leaving ends
		// it for the others.
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		q = &question{done: make(chan struct{}), cancel: cancel}
		h.underway = q
		go func() {
			defer cancel()
			server, err := c.greet(shared, op)
			h.mu.Lock()
			defer h.mu.Unlock()
			q.server, q.err = server, err
			if err == nil {
				h.known = server
			}
			if h.underway == q {
				h.underway = nil
			}
			close(q.done)
		}()
	}
	q.waiting++
	h.mu.Unlock()

	select {
	case <-q.done:
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		q.waiting--
		if q.waiting == 0 {
			if h.underway == q {
				h.underway = nil
			}
			q.cancel()
		}
		return Server{}, c.translate(ctx, ctx, op, ctx.Err())
	}
	if q.err != nil {
		return Server{}, q.err
	}
	return *q.server, nil
}

func (c *Client) greet(ctx context.Context, op string) (*Server, error) {
	m, err := call(ctx, c, op, again, c.admin.GetServer, &buntingv1.GetServerRequest{})
	if err != nil {
		return nil, err
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
		Environment: m.GetEnvironment(), Version: m.GetVersion(), Capabilities: m.GetCapabilities(), Revision: wire.ToRevision(m.GetRevision()),
		Flags: m.GetFlags(), Overrides: m.GetOverrides(), Holds: m.GetHolds(), SnapshotBytes: m.GetSnapshotBytes(),
		Actor: token.Actor{Name: m.GetActor(), Prefix: flag.Key(m.GetPrefix())},
	}
	for _, scope := range m.GetScopes() {
		s.Actor.Scopes = append(s.Actor.Scopes, token.Scope(scope))
	}
	return s, nil
}

// environment gives the server's environment where a handshake has told it.
func (c *Client) environment() string {
	c.handshake.mu.Lock()
	defer c.handshake.mu.Unlock()
	if c.handshake.known == nil {
		return ""
	}
	return c.handshake.known.Environment
}
