package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// plainEvaluator is a server of somebody else, which knows the numbers below 100
// of FlagEvaluatorService. Whatever else it is asked it does not have, or says so.
func plainEvaluator(t *testing.T, unimplemented bool) (c *Client, questions func() int) {
	t.Helper()
	var mu sync.Mutex
	asked := 0
	s := &speaker{}
	s.health = func(*pbflagsv1.HealthRequest) (*pbflagsv1.HealthResponse, error) {
		return &pbflagsv1.HealthResponse{Status: pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_SERVING}, nil
	}
	answer := func(id, entity string) *pbflagsv1.EvaluateResponse {
		a := &pbflagsv1.EvaluateResponse{FlagId: id, Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT}
		if id != "unknown" {
			a.Value, a.Source = wire.FromValue(flag.IntValue(int64(len(entity)))), pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL
		}
		return a
	}
	s.answers = func(q *pbflagsv1.BulkEvaluateRequest) (*pbflagsv1.BulkEvaluateResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if len(q.GetFlagIds()) == 0 {
			q.FlagIds = []string{"known/a", "known/b", "other"}
		}
		m := &pbflagsv1.BulkEvaluateResponse{}
		for _, id := range q.GetFlagIds() {
			m.Evaluations = append(m.Evaluations, answer(id, q.GetEntityId()))
		}
		return m, nil
	}
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(s))
	if unimplemented {
		mux.Handle(buntingv1connect.NewFlagAdminServiceHandler(buntingv1connect.UnimplementedFlagAdminServiceHandler{}))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return newClient(t, server.URL, 0), func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
}

// A server that has only the evaluator service answers evaluations. What it lists
// proves no absence, so every flag is asked for by name.
func TestPlainEvaluator(t *testing.T) {
	for name, unimplemented := range map[string]bool{"404": false, "unimplemented": true} {
		t.Run(name, func(t *testing.T) {
			c, questions := plainEvaluator(t, unimplemented)
			if s, err := c.Server(t.Context()); err != nil || !s.EvaluatorOnly {
				t.Fatalf("got %+v, %v", s, err)
			}
			w := c.NewWalk()
			var wait sync.WaitGroup
			for i := range 1000 {
				wait.Go(func() {
					if e := evaluated(t, w, flag.Key(fmt.Sprintf("f/%d", i%10)), "me"); e.Value != flag.IntValue(2) || e.Type != flag.Int || e.Source != flag.SourceGlobal || e.Revision != (flag.Revision{}) {
						t.Errorf("got %+v", e)
					}
				})
			}
			wait.Wait()
			if n := questions(); n < 1 || n > 10 {
				t.Errorf("%d requests for 10 flags", n)
			}
			if e := evaluated(t, w, "unknown", "me"); e.ErrorCode != flag.ErrorFlagNotFound || !e.Value.IsZero() {
				t.Errorf("got %+v", e)
			}
			if list, err := w.EvaluateUnder(t.Context(), "known", "me"); err != nil || len(list) != 2 || list[1].Key != "known/b" {
				t.Errorf("got %+v, %v", list, err)
			}
			if e := evaluated(t, w, "not/listed", "me"); e.Value != flag.IntValue(2) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// Whoever has neither service is no flag server, and who refuses says why.
func TestNoPlainEvaluator(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(buntingv1connect.NewFlagAdminServiceHandler(buntingv1connect.UnimplementedFlagAdminServiceHandler{}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	if _, err := newClient(t, server.URL, 0).Server(t.Context()); !isKind(err, Incompatible) {
		t.Errorf("got %v", err)
	}
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	if _, err := newClient(t, empty.URL, 0).Server(t.Context()); !isKind(err, NotFlagServer) {
		t.Errorf("got %v", err)
	}
	s := &speaker{health: func(*pbflagsv1.HealthRequest) (*pbflagsv1.HealthResponse, error) {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("who are you?"))
	}}
	mux = http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(s))
	shy := httptest.NewServer(mux)
	t.Cleanup(shy.Close)
	if _, err := newClient(t, shy.URL, 0).Server(t.Context()); !isKind(err, Unauthenticated) {
		t.Errorf("got %v", err)
	}
}
