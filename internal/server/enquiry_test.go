package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// plainService is somebody else's evaluator service: the state calls, and Evaluate,
// which says true for everything.
type plainService struct {
	pbflagsv1connect.UnimplementedFlagEvaluatorServiceHandler

	tellsKills bool

	mu     sync.Mutex
	killed []string
}

func (s *plainService) kill(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = keys
}

func (s *plainService) kills() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed
}

func (s *plainService) Health(context.Context, *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	return connect.NewResponse(&pbflagsv1.HealthResponse{Status: pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_SERVING}), nil
}

func (s *plainService) Evaluate(_ context.Context, r *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	m := &pbflagsv1.EvaluateResponse{FlagId: r.Msg.GetFlagId(), Value: wire.FromValue(flag.BoolValue(true)), Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL}
	if r.Msg.GetFlagId() == "none" {
		m.Value, m.Source = nil, pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT
	}
	return connect.NewResponse(m), nil
}

func (s *plainService) GetFlagState(_ context.Context, r *connect.Request[pbflagsv1.GetFlagStateRequest]) (*connect.Response[pbflagsv1.GetFlagStateResponse], error) {
	id := r.Msg.GetFlagId()
	state := pbflagsv1.State_STATE_ENABLED
	if slices.Contains(s.kills(), id) {
		state = pbflagsv1.State_STATE_KILLED
	}
	return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{Flag: &pbflagsv1.FlagState{FlagId: id, State: state, Value: wire.FromValue(flag.BoolValue(true))}}), nil
}

func (s *plainService) GetKilledFlags(context.Context, *connect.Request[pbflagsv1.GetKilledFlagsRequest]) (*connect.Response[pbflagsv1.GetKilledFlagsResponse], error) {
	if !s.tellsKills {
		return nil, connect.NewError(connect.CodeUnimplemented, nil)
	}
	return connect.NewResponse(&pbflagsv1.GetKilledFlagsResponse{FlagIds: s.kills()}), nil
}

func (s *plainService) GetOverrides(_ context.Context, r *connect.Request[pbflagsv1.GetOverridesRequest]) (*connect.Response[pbflagsv1.GetOverridesResponse], error) {
	m := &pbflagsv1.GetOverridesResponse{}
	if r.Msg.GetEntityId() == "u1" {
		for _, id := range []string{"a/1", "a/2"} {
			m.Overrides = append(m.Overrides, &pbflagsv1.OverrideState{FlagId: id, EntityId: "u1", State: pbflagsv1.State_STATE_DEFAULT})
		}
	}
	return connect.NewResponse(m), nil
}

// onDemandProxy is a proxy before somebody else's service.
type onDemandProxy struct {
	*harness

	service *plainService
	before  *gate
}

func beforePlain(t *testing.T, service *plainService, compiled compiledFlags, change func(*client.OnDemandPolicy)) onDemandProxy {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(service))
	p := onDemandProxy{service: service, before: newGate(t, mux), harness: &harness{log: &syncBuffer{}, ended: make(chan struct{})}}
	upstream := upstreamClient(t, p.before.URL, "")
	if server, err := upstream.Greet(t.Context()); err != nil || !server.EvaluatorOnly {
		t.Fatal(server, err)
	}
	policy := client.DefaultOnDemandPolicy
	policy.FetchTimeout = 10 * time.Second // a busy machine may be slow to answer, which is no outage
	if change != nil {
		change(&policy)
	}
	definition := compiled.Flag
	options := Options{Anonymous: true, Log: slog.New(slog.NewJSONHandler(p.log, nil))}
	if compiled != nil {
		options.Compiled = compiled
	}
	var err error
	if options.OnDemand, err = client.NewOnDemand(upstream, policy, definition); err != nil {
		t.Fatal(err)
	}
	p.run(t, options, upstream.Close)
	return p
}

func compiledBooleans(keys ...flag.Key) (all compiledFlags) {
	for _, key := range keys {
		all = append(all, &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Layer: "user"})
	}
	return all
}

func TestBeforeAPlainServiceFlagsAreAskedForOnDemand(t *testing.T) {
	t.Parallel()
	p := beforePlain(t, &plainService{tellsKills: true}, compiledBooleans("a/1", "a/2", "a/3"), nil)
	c := p.as(t, "")
	p.service.kill() // none
	eventually(t, "the kill set is asked for at once", 5*time.Second, func() bool { return p.before.count("GetKilledFlags") == 1 })
	for range 20 {
		if answer := evaluated(t, c, "a/1", ""); !answer.GetValue().GetBoolValue() || answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL || answer.GetStale() || answer.GetRevision() != 0 {
			t.Fatal(answer)
		}
		if answer := evaluated(t, c, "a/1", "u1"); answer.GetValue().GetBoolValue() || answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT {
			t.Fatal(answer)
		}
		if answer := evaluated(t, c, "passed/on", ""); !answer.GetValue().GetBoolValue() {
			t.Fatal(answer)
		}
		if answer := evaluated(t, c, "none", ""); answer.GetErrorCode() != flag.ErrorFlagNotFound {
			t.Fatal(answer)
		}
	}
	for call, want := range map[string]int{"GetFlagState": 1, "GetOverrides": 1, "Evaluate": 2, "BulkEvaluate": 0, "GetKilledFlags": 1} {
		if n := p.before.count(call); n != want {
			t.Errorf("%s was asked %d times", call, n)
		}
	}
	bulk, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{}))
	if err != nil || len(bulk.Msg.GetEvaluations()) != 3 || bulk.Msg.GetEvaluations()[2].GetFlagId() != "a/3" || !bulk.Msg.GetEvaluations()[2].GetValue().GetBoolValue() {
		t.Error(bulk, err)
	}
	state, err := c.GetFlagState(t.Context(), connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: "a/1"}))
	if err != nil || state.Msg.GetFlag().GetState() != pbflagsv1.State_STATE_ENABLED || !state.Msg.GetFlag().GetValue().GetBoolValue() {
		t.Error(state, err)
	}
	overrides, err := c.GetOverrides(t.Context(), connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: "u1", FlagIds: []string{"a/2", "a/9"}}))
	if err != nil || len(overrides.Msg.GetOverrides()) != 1 || overrides.Msg.GetOverrides()[0].GetFlagId() != "a/2" {
		t.Error(overrides, err)
	}
	health, err := c.Health(t.Context(), connect.NewRequest(&pbflagsv1.HealthRequest{}))
	if err != nil || health.Msg.GetStatus() != pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_SERVING || health.Msg.GetCachedFlagCount() == 0 {
		t.Error(health, err)
	}
	if response, body := raw(t, http.MethodGet, p.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || body != "ready\n" {
		t.Error(response.Status, body)
	}
	// Nobody can judge a token here, so what everybody may ask for is told to everybody.
	if response, body := raw(t, http.MethodGet, p.endpoint+"/metrics", ""); response.StatusCode != http.StatusOK || !strings.Contains(body, `bunting_cache_hits_total{tier="flag"} 41`) {
		t.Error(response.Status, body)
	}
	if response, body := raw(t, http.MethodGet, p.endpoint+"/debug/pprof/heap", ""); response.StatusCode != http.StatusUnauthorized {
		t.Error(response.Status, body)
	}
}

func TestBeforeAPlainServiceAKillIsPolled(t *testing.T) {
	t.Parallel()
	p := beforePlain(t, &plainService{tellsKills: true}, compiledBooleans("a/1"), func(policy *client.OnDemandPolicy) {
		policy.KillTTL, policy.FailureTTL = 50*time.Millisecond, 20*time.Millisecond
	})
	c := p.as(t, "")
	if answer := evaluated(t, c, "a/1", ""); !answer.GetValue().GetBoolValue() {
		t.Fatal(answer)
	}
	killed := func() bool {
		return evaluated(t, c, "a/1", "").GetSource() == pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED
	}
	p.service.kill("a/1")
	eventually(t, "it is killed", 5*time.Second, killed)
	list, err := c.GetKilledFlags(t.Context(), connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
	if err != nil || !slices.Equal(list.Msg.GetFlagIds(), []string{"a/1"}) {
		t.Error(list, err)
	}
	// In an outage the last set stays, and polls grow rare: × 2, 4 and 8.
	polls := p.before.count("GetKilledFlags")
	p.before.set(down)
	eventually(t, "the outage is known", 5*time.Second, func() bool {
		health, err := c.Health(t.Context(), connect.NewRequest(&pbflagsv1.HealthRequest{}))
		return err == nil && health.Msg.GetStatus() == pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_DEGRADED
	})
	if answer := evaluated(t, c, "a/1", ""); answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED || !answer.GetStale() || answer.GetValue().GetBoolValue() {
		t.Error(answer)
	}
	if n := p.before.count("GetKilledFlags") - polls; n > 20 {
		t.Errorf("%d polls of a service that is away", n)
	}
	if response, body := raw(t, http.MethodGet, p.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || !strings.HasPrefix(body, "ready, but stale: the upstream has not answered for ") {
		t.Error(response.Status, body)
	}
	p.service.kill()
	p.before.set(nil)
	eventually(t, "it is released", 10*time.Second, func() bool { return !killed() })
}

// A service without the call tells kills by each flag's state. That is no outage.
func TestBeforeAServiceThatListsNoKills(t *testing.T) {
	t.Parallel()
	p := beforePlain(t, &plainService{}, compiledBooleans("a/1", "a/2"), nil)
	p.service.kill("a/2")
	c := p.as(t, "")
	if answer := evaluated(t, c, "a/1", ""); answer.GetStale() || !answer.GetValue().GetBoolValue() {
		t.Error(answer)
	}
	if answer := evaluated(t, c, "a/2", ""); answer.GetStale() || answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED {
		t.Error(answer)
	}
	if _, err := c.GetKilledFlags(t.Context(), connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{})); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Error(err)
	}
	health, err := c.Health(t.Context(), connect.NewRequest(&pbflagsv1.HealthRequest{}))
	if err != nil || health.Msg.GetStatus() != pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_SERVING || health.Msg.GetConsecutiveFailures() != 0 {
		t.Error(health, err)
	}
}

func TestBeforeAPlainServiceWithoutDescriptors(t *testing.T) {
	t.Parallel()
	p := beforePlain(t, &plainService{tellsKills: true}, nil, func(policy *client.OnDemandPolicy) { policy.FailureTTL = 20 * time.Millisecond })
	c := p.as(t, "")
	if answer := evaluated(t, c, "x", "u1"); !answer.GetValue().GetBoolValue() {
		t.Error(answer)
	}
	if _, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{})); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "Name the flags") {
		t.Error(err)
	}
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprint("f/", i))
	}
	bulk, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: many}))
	if err != nil || len(bulk.Msg.GetEvaluations()) != len(many) || bulk.Msg.GetEvaluations()[499].GetFlagId() != "f/499" {
		t.Error(err)
	}
	if _, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "x", MinimumRevision: 3})); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "tells no revisions") {
		t.Error(err)
	}
	// There is no admin service, whoever asks, and no token that anybody could judge.
	for name, call := range calls {
		if strings.HasPrefix(name, "/"+buntingv1connect.FlagAdminServiceName+"/") {
			for _, secret := range []string{"", "bunting_x"} {
				if err := call(t.Context(), p.as(t, secret)); connect.CodeOf(err) != connect.CodeUnimplemented {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if code, reason := told(admitted(t.Context(), p.as(t, "bunting_x"))); code != connect.CodeUnauthenticated || reason != "TOKEN_UNKNOWN" {
		t.Error(code, reason)
	}
	// Away: what was answered before is, stale; what never was cannot be.
	p.before.set(down)
	eventually(t, "what is known is served", 5*time.Second, func() bool { return p.server.health().Failures > 0 || evaluatedNew(t, c) != nil })
	_, err = c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "never/asked"}))
	if code, reason := told(err); code != connect.CodeUnavailable || reason != "UPSTREAM_UNREACHABLE" {
		t.Error(err)
	}
	// Another Bunting program takes it for what it is.
	next := upstreamClient(t, p.endpoint, "")
	defer next.Close()
	if server, err := next.Greet(t.Context()); err != nil || !server.EvaluatorOnly {
		t.Error(server, err)
	}
}

// A key that no flag can have is asked nobody about, and kept nowhere.
func TestBeforeAPlainServiceNobodyIsAskedAboutNoKey(t *testing.T) {
	t.Parallel()
	p := beforePlain(t, &plainService{tellsKills: true}, nil, nil)
	c := p.as(t, "")
	for _, key := range []string{"no key", "/", strings.Repeat("x", flag.MaxKeyBytes+1)} {
		if answer := evaluated(t, c, flag.Key(key), ""); answer.GetErrorCode() != flag.ErrorFlagNotFound || answer.GetFlagId() != key {
			t.Error(answer)
		}
		bulk, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{key, "x"}}))
		if err != nil || bulk.Msg.GetEvaluations()[0].GetErrorCode() != flag.ErrorFlagNotFound || !bulk.Msg.GetEvaluations()[1].GetValue().GetBoolValue() {
			t.Error(bulk, err)
		}
		state, err := c.GetFlagState(t.Context(), connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: key}))
		if err != nil || state.Msg.GetFlag() != nil {
			t.Error(state, err)
		}
	}
	if n, m := p.before.count("Evaluate"), p.before.count("GetFlagState"); n != 1 || m != 0 {
		t.Errorf("asked %d and %d times", n, m)
	}
}

func evaluatedNew(t *testing.T, c clients) error {
	t.Helper()
	_, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "new"}))
	return err
}

func TestAServerNeedsOneSource(t *testing.T) {
	t.Parallel()
	upstream := upstreamClient(t, "http://127.0.0.1:1", "")
	defer upstream.Close()
	onDemand, err := client.NewOnDemand(upstream, client.DefaultOnDemandPolicy, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer onDemand.Close()
	h := start(t)
	for name, row := range map[string]struct {
		options Options
		words   string
	}{
		"none":          {Options{}, "needs one source of truth"},
		"two":           {Options{Store: h.store, Root: h.server.root, OnDemand: onDemand, Anonymous: true}, "needs one source of truth"},
		"not anonymous": {Options{OnDemand: onDemand}, "set anonymous to evaluate"},
	} {
		if _, err := New(t.Context(), row.options); err == nil || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
