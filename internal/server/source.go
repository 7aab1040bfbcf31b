package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// stand puts the server on its source of truth, and gives what answers both
// services.
func (s *Server) stand(ctx context.Context, knownTokens []token.Token) (pbflagsv1connect.FlagEvaluatorServiceHandler, buntingv1connect.FlagAdminServiceHandler, error) {
	switch {
	case s.root != nil && s.store != nil && s.follower == nil && s.onDemand == nil:
		s.evaluator = s.root.Evaluator
		stored := newStoredTokens(s.store, s.evaluator, s.log)
		if err := stored.begin(ctx, knownTokens); err != nil {
			return nil, nil, fmt.Errorf("read the tokens: %w", err)
		}
		s.tokens, s.authority, s.claim = stored.credentials, stored, stored.claim
		return evaluation{s}, admin{s}, nil
	case s.follower != nil && s.upstream != nil && s.root == nil && s.onDemand == nil:
		s.evaluator = s.follower.Evaluator
		verdicts := newVerdicts(s.upstream, s.id, s.evaluator, s.log)
		for _, t := range knownTokens {
			verdicts.recall(t)
		}
		s.tokens, s.authority, s.claim = verdicts.credentials, verdicts, verdicts.claim
		return evaluation{s}, passing{admin{s}}, nil
	case s.onDemand != nil && s.root == nil && s.follower == nil:
		if !s.anonymous {
			return nil, nil, errors.New("the upstream has only FlagEvaluatorService, which judges no token, so that no caller could be let in. " +
				"If everybody who reaches this server may evaluate, set anonymous to evaluate; otherwise name a Bunting flag server as the upstream")
		}
		s.authority = nobody{}
		return enquiry{s}, buntingv1connect.UnimplementedFlagAdminServiceHandler{}, nil
	}
	return nil, nil, errors.New("a server needs one source of truth: a store, or an upstream")
}

// runSource keeps up with the source of truth until the context ends.
func (s *Server) runSource(ctx context.Context) {
	switch {
	case s.root != nil:
		s.root.Run(ctx)
	case s.follower != nil:
		s.follower.Run(ctx)
	default:
		<-ctx.Done()
		s.onDemand.Close()
		return
	}
	s.tokens.close()
}

// readyz answers 200 only while questions are answered. A silent source of truth
// does not end that: what was last known is served, and a load balancer that took
// every server out because what they all stand on is down would end it for nothing.
// The text says so.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.isDraining() {
		answerText(w, r, http.StatusServiceUnavailable, "draining")
		return
	}
	status, text := s.readiness()
	answerText(w, r, status, text)
}

func (s *Server) readiness() (status int, text string) {
	source := "store"
	if s.root == nil {
		source = "upstream"
	}
	known, compiled := true, s.compiled != nil && len(s.compiled.Keys()) > 0
	var health evaluator.Health
	if s.onDemand != nil {
		health = healthOf(s.onDemand.Contact()) // and not what is cached: that takes long, and anybody may ask
	} else {
		health = s.evaluator.Health()
		view := s.evaluator.View()
		known = view.Known()
		for range view.Keys("") {
			compiled = true
			break
		}
		if s.evaluator.Refused() != nil { // what it lacks is not for everybody
			return http.StatusOK, fmt.Sprintf("ready, but stale: the %s became another one, which is refused: what was last known is served. \"bunting resync\" tells an admin why", source)
		}
	}
	switch {
	case !known && !compiled:
		return http.StatusServiceUnavailable, fmt.Sprintf("connecting: the %s has not answered yet, and nothing is known", source)
	case !health.Stale:
		return http.StatusOK, "ready"
	case health.Silence < 0:
		return http.StatusOK, fmt.Sprintf("ready, but stale: the %s has not answered since this server was started", source)
	}
	return http.StatusOK, fmt.Sprintf("ready, but stale: the %s has not answered for %d s", source, int(health.Silence.Seconds()))
}
