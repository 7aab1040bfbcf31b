package server

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// profilesPath is where runtime/pprof's profiles are.
const profilesPath = "/debug/pprof/"

// profileLimit is how long one profile may take; `go tool pprof` asks for 30 s.
const profileLimit = 2 * time.Minute

// profiles answers `go tool pprof`: on a listener that only this machine reaches,
// for an admin. A connection from this machine is not enough, because a proxy in
// front of an open listener makes everybody's one. The command line is not told:
// it may hold a database's password.
func (s *Server) profiles(w http.ResponseWriter, r *http.Request) {
	_, err := s.reader(r, token.Admin)
	if err == nil && !listensOnLoopback(r.Context()) {
		err = refusal(connect.CodePermissionDenied, reasonNotLoopback,
			"profiles are told on a loopback address only, and this listener has another. Have the server listen on 127.0.0.1 for them (listen or admin_listen)", "")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	within(http.NewResponseController(w), profileLimit)
	ctx, cancel := context.WithTimeout(r.Context(), profileLimit)
	defer cancel()
	r = r.WithContext(ctx)
	switch strings.TrimPrefix(r.URL.Path, profilesPath) {
	case "cmdline":
		answerText(w, r, http.StatusNotFound, "The command line is not told.")
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r) // the profile of that name too
	}
}

// listensOnLoopback reports whether the request came by a listener that only this
// machine reaches.
func listensOnLoopback(ctx context.Context) bool {
	l := listenerOf(ctx)
	if l == nil {
		return false
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
