package server

import (
	"context"
	"net"

	"connectrpc.com/connect"
)

// side is where a call is answered. The public side is what applications, proxies
// and readers ask; the admin side are writes, the audit log, tokens and what the
// server tells of itself, which an address of its own can keep away from them.
type side bool

const (
	publicSide side = false
	adminSide  side = true
)

type listenerKey struct{}

// onListener notes in the context of a listener's requests where they came to
// (http.Server.BaseContext).
func onListener(ctx context.Context, l net.Listener) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// listenerOf gives the listener that the request came to; nil when it came to none.
func listenerOf(ctx context.Context) net.Listener {
	l, _ := ctx.Value(listenerKey{}).(net.Listener)
	return l
}

// administers reports whether the admin side is answered where the request came
// to. An address of its own answers the public side too, so that Terraform and
// the operator's commands, which need both, have one endpoint.
func (s *Server) administers(ctx context.Context) bool {
	return !s.adminOff && (s.adminListener == nil || listenerOf(ctx) == s.adminListener)
}

// answered gives nil when calls of the side are answered where the request came
// to, else an error that says so, but not the address where they are.
func (s *Server) answered(ctx context.Context, where side) error {
	switch {
	case where == publicSide || s.administers(ctx):
		return nil
	case s.adminOff:
		return refusal(connect.CodeUnimplemented, reasonAdminOff, "writes, the audit log, tokens and metrics are switched off here (the setting admin of this server, or of the upstream that it passes them on to). Ask another server of this environment", "")
	}
	return refusal(connect.CodeUnimplemented, reasonAdminElsewhere, "writes, the audit log, tokens and metrics have an address of their own (the setting admin_listen of this server, or of the upstream that it passes them on to). Ask its operator for it, and use it as the endpoint", "")
}
