package server

import (
	"net/http"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/telemetry"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// metrics answers a scrape of Prometheus, which can send a bearer token. It tells
// of all flags together, so a token for some of them will not do. Before a service
// that judges no token, whoever may ask for every flag may read them, too.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	need := token.Read
	if s.onDemand != nil {
		need = token.Evaluate
	}
	caller, err := s.reader(r, need)
	if err == nil && caller.Prefix != "" {
		err = refusal(connect.CodePermissionDenied, reasonPrefixDenied,
			"the metrics are of all flags, but the token covers only some. Use a token with the scope read and no prefix", "")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	s.telemetry.Handler().ServeHTTP(w, r)
}

// reader authenticates who reads a page, for which the scope is needed.
func (s *Server) reader(r *http.Request, need token.Scope) (token.Actor, error) {
	t, err := s.authenticate(r.Context(), r.Header, need, &caller{})
	if err != nil {
		return token.Actor{}, err
	}
	if err := s.answered(r.Context(), adminSide); err != nil {
		return token.Actor{}, err
	}
	recordOf(r.Context()).actor = t.Name
	return t.Actor(), allowed(t.Actor().Require(need))
}

// state is what a scrape tells of the definitions.
func (s *Server) state() telemetry.State {
	health := s.health()
	now := telemetry.State{Age: health.Silence, Failures: health.Failures, Stale: health.Stale, Status: statusNames[health.Status], Flags: health.Flags}
	if s.onDemand != nil { // before a service that tells no revisions
		counts := s.onDemand.Counts()
		now.Overrides, now.Killed = counts.Overrides, counts.Killed
		now.Cache = telemetry.Cache{
			Flag: telemetry.Tier(counts.Flag), Override: telemetry.Tier(counts.Override), Answer: telemetry.Tier(counts.Answer), Kill: telemetry.Tier(counts.Kill),
		}
		return now
	}
	view := s.evaluator.View()
	now.Revision = view.Revision.Number
	now.Flags, now.Overrides, _ = view.Counts()
	for range view.Killed("") {
		now.Killed++
	}
	return now
}

var statusNames = map[client.Status]string{
	client.Connecting: telemetry.Connecting, client.Serving: telemetry.Serving, client.Degraded: telemetry.Degraded,
}
