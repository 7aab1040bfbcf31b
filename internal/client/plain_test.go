package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// plainService is an evaluator service that is not ours: it knows no field from
// 100 on. It writes down what it was asked, and can be made to fail.
type plainService struct {
	pbflagsv1connect.UnimplementedFlagEvaluatorServiceHandler

	handler http.Handler

	mu           sync.Mutex
	flags        map[flag.Key]flag.Flag
	overrides    map[flag.Ref]flag.Override
	killed       map[flag.Key]bool
	killedFor    map[flag.Ref]bool
	cacheControl string
	refuses      bool                                              // connections
	fails        func(ctx context.Context, procedure string) error // before it answers
	questions    []heard
	told         func(procedure, about string, asked time.Time, failed bool) // how each question went; may be nil
	notFound     bool                                                        // unknown flags are told by an error
	staleAnswers bool
}

// heard is a question that reached the service.
type heard struct {
	text string // like "GetFlagState pay"
	at   time.Time
}

func newPlainService() *plainService {
	s := &plainService{flags: map[flag.Key]flag.Flag{}, overrides: map[flag.Ref]flag.Override{}, killed: map[flag.Key]bool{}, killedFor: map[flag.Ref]bool{}}
	_, s.handler = pbflagsv1connect.NewFlagEvaluatorServiceHandler(s)
	return s
}

// RoundTrip is the road to the service: none, so that it works in a bubble of
// synctest.
func (s *plainService) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	refuses := s.refuses
	if refuses && s.told != nil {
		s.told(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], "", time.Now(), true)
	}
	s.mu.Unlock()
	if refuses {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return answer.Result(), nil
}

// set changes the service under its lock.
func (s *plainService) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// failing makes every answer fail with the error; nil: no longer.
func (s *plainService) failing(err error) {
	s.set(func() { s.fails = func(context.Context, string) error { return err } })
}

// asked tells how often the question was asked.
func (s *plainService) asked(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.questions {
		if q.text == text {
			n++
		}
	}
	return n
}

// all gives every question, in order.
func (s *plainService) all() []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.questions)
}

// answer notes the question, fails where it is to, and answers.
func answer[A any](ctx context.Context, s *plainService, procedure, about string, say func() (*A, error)) (*connect.Response[A], error) {
	asked := time.Now()
	s.mu.Lock()
	s.questions = append(s.questions, heard{text: procedure + about, at: asked})
	fails := s.fails
	s.mu.Unlock()
	var err error
	if fails != nil {
		err = fails(ctx, procedure)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != nil {
		s.told(procedure, strings.TrimPrefix(about, " "), asked, err != nil)
	}
	if err != nil {
		return nil, err
	}
	m, err := say()
	if err != nil {
		return nil, err
	}
	response := connect.NewResponse(m)
	if s.cacheControl != "" {
		response.Header().Set("Cache-Control", s.cacheControl)
	}
	return response, nil
}

func (s *plainService) Evaluate(ctx context.Context, r *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	key, entity := flag.Key(r.Msg.GetFlagId()), r.Msg.GetEntityId()
	return answer(ctx, s, "Evaluate", fmt.Sprintf(" %s %s", key, entity), func() (*pbflagsv1.EvaluateResponse, error) {
		f, ok := s.flags[key]
		if !ok && s.notFound {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no flag %s", key))
		} else if !ok {
			return &pbflagsv1.EvaluateResponse{FlagId: string(key), Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT}, nil
		}
		a := flag.Resolve(&f, s.killed[key] || s.killedFor[flag.OverrideRef(key, entity)], func(entity string) *flag.Override {
			if o, ok := s.overrides[flag.OverrideRef(key, entity)]; ok {
				return &o
			}
			return nil
		}, flag.Context{TargetingKey: entity})
		m := &pbflagsv1.EvaluateResponse{FlagId: string(key), Value: wire.FromValue(a.Value), Source: pbflagsv1.EvaluationSource(a.Source)}
		if s.staleAnswers {
			m.Source = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_CACHED
		}
		return m, nil
	})
}

func (s *plainService) GetFlagState(ctx context.Context, r *connect.Request[pbflagsv1.GetFlagStateRequest]) (*connect.Response[pbflagsv1.GetFlagStateResponse], error) {
	key := flag.Key(r.Msg.GetFlagId())
	return answer(ctx, s, "GetFlagState", " "+string(key), func() (*pbflagsv1.GetFlagStateResponse, error) {
		f, ok := s.flags[key]
		if !ok && s.notFound {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no flag %s", key))
		} else if !ok {
			return &pbflagsv1.GetFlagStateResponse{}, nil
		}
		state := f.State
		if f.Archived() {
			state = f.ArchivedState
		}
		told := pbflagsv1.State(state)
		if s.killed[key] {
			told = pbflagsv1.State_STATE_KILLED
		}
		return &pbflagsv1.GetFlagStateResponse{Flag: &pbflagsv1.FlagState{FlagId: string(key), State: told, Value: wire.FromValue(f.Value)}, Archived: f.Archived()}, nil
	})
}

func (s *plainService) GetKilledFlags(ctx context.Context, _ *connect.Request[pbflagsv1.GetKilledFlagsRequest]) (*connect.Response[pbflagsv1.GetKilledFlagsResponse], error) {
	return answer(ctx, s, "GetKilledFlags", "", func() (*pbflagsv1.GetKilledFlagsResponse, error) {
		m := &pbflagsv1.GetKilledFlagsResponse{}
		for _, key := range slices.Sorted(maps.Keys(s.killed)) {
			m.FlagIds = append(m.FlagIds, string(key))
		}
		for ref := range s.killedFor {
			m.KilledOverrides = append(m.KilledOverrides, &pbflagsv1.KilledOverride{FlagId: string(ref.Key), EntityId: ref.ID})
		}
		return m, nil
	})
}

func (s *plainService) GetOverrides(ctx context.Context, r *connect.Request[pbflagsv1.GetOverridesRequest]) (*connect.Response[pbflagsv1.GetOverridesResponse], error) {
	entity := r.Msg.GetEntityId()
	return answer(ctx, s, "GetOverrides", " "+entity, func() (*pbflagsv1.GetOverridesResponse, error) {
		m := &pbflagsv1.GetOverridesResponse{}
		for ref, o := range s.overrides {
			if ref.ID == entity {
				m.Overrides = append(m.Overrides, &pbflagsv1.OverrideState{FlagId: string(ref.Key), EntityId: ref.ID, State: pbflagsv1.State(o.State), Value: wire.FromValue(o.Value)})
			}
		}
		return m, nil
	})
}

// hang is a failure that takes as long as it is let.
func hang(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// onePolicy asks once, so that questions can be counted, and leaves it to the
// cache to spare the service.
var onePolicy = Policy{Attempts: 1, BreakAfter: 1 << 30, Rest: time.Second, LongestRest: time.Second, RetryBudget: 1}

// steady is the default policy without its randomness.
var steady = func() OnDemandPolicy {
	p := DefaultOnDemandPolicy
	p.JitterPercent = 0
	return p
}()

// client makes a client of the service.
func (s *plainService) client(tb testing.TB) *Client {
	tb.Helper()
	c, err := New(Options{Endpoint: "http://plain.test", Token: secret, Transport: s, Policy: &onePolicy})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// onDemand makes a cache of the service, closed with the test, that has the
// definitions compiled in.
func (s *plainService) onDemand(tb testing.TB, policy OnDemandPolicy, compiled ...flag.Flag) *OnDemand {
	tb.Helper()
	definitions := map[flag.Key]*flag.Flag{}
	for _, f := range compiled {
		definitions[f.Key] = &f
	}
	d, err := NewOnDemand(s.client(tb), policy, func(key flag.Key) *flag.Flag { return definitions[key] })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return d
}

// Values that tell where they come from.
var (
	compiledIn = flag.IntValue(1) // the default
	global     = flag.IntValue(2) // the flag's value
	overridden = flag.IntValue(3)
)

// pay is a flag as it is compiled in: with a default, a type and a layer.
var pay = flag.Flag{Key: "pay", Type: flag.Int, Default: compiledIn, Layer: "user"}

// as gives the flag as a service has it.
func as(f flag.Flag, state flag.State, value flag.Value) flag.Flag {
	f.State, f.Value = state, value
	return f
}

// override gives an override of the flag for the entity; no value: of state Default.
func override(key flag.Key, entity string, value flag.Value) flag.Override {
	o := flag.Override{FlagKey: key, EntityID: entity, State: flag.Enabled, Value: value}
	if value.IsZero() {
		o.State = flag.Default
	}
	return o
}

// evaluate evaluates and shortens the answer: its value, source, what it was
// when it was fresh, and "stale".
func evaluate(tb testing.TB, d *OnDemand, key flag.Key, entity string) string {
	tb.Helper()
	a, err := d.Evaluate(tb.Context(), key, flag.Context{TargetingKey: entity})
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			tb.Fatalf("%T: %v", err, err)
		}
		return "error " + e.Kind.String()
	}
	return short(a)
}

func short(a flag.Answer) string {
	text := a.Value.JSON() + " " + a.Source.String()
	if a.ErrorCode != "" {
		text = a.ErrorCode
	}
	if a.Stale {
		text += " stale"
		if a.FreshSource != 0 {
			text += " " + a.FreshSource.String()
		}
	}
	return text
}
