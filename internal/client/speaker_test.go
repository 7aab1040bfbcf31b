package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
)

// speaker is a server that speaks the protocol and says what a test wants.
type speaker struct {
	buntingv1connect.UnimplementedFlagAdminServiceHandler
	pbflagsv1connect.UnimplementedFlagEvaluatorServiceHandler

	greeting func(context.Context) (*buntingv1.GetServerResponse, error)
	get      func(*buntingv1.GetRequest) (*buntingv1.GetResponse, error)
	apply    func(*buntingv1.ApplyRequest) (*buntingv1.ApplyResponse, error)
	list     func(*connect.ServerStream[buntingv1.GetSnapshotResponse]) error
	answer   func(*pbflagsv1.EvaluateRequest) (*pbflagsv1.EvaluateResponse, error)
	answers  func(*pbflagsv1.BulkEvaluateRequest) (*pbflagsv1.BulkEvaluateResponse, error)
	health   func(*pbflagsv1.HealthRequest) (*pbflagsv1.HealthResponse, error)

	connections atomic.Int64
}

func wrap[Q, A any](ask func(*Q) (*A, error), r *connect.Request[Q]) (*connect.Response[A], error) {
	m, err := ask(r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func (s *speaker) GetServer(ctx context.Context, _ *connect.Request[buntingv1.GetServerRequest]) (*connect.Response[buntingv1.GetServerResponse], error) {
	m, err := s.greeting(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func (s *speaker) Get(_ context.Context, r *connect.Request[buntingv1.GetRequest]) (*connect.Response[buntingv1.GetResponse], error) {
	return wrap(s.get, r)
}

func (s *speaker) Apply(_ context.Context, r *connect.Request[buntingv1.ApplyRequest]) (*connect.Response[buntingv1.ApplyResponse], error) {
	return wrap(s.apply, r)
}

func (s *speaker) GetSnapshot(_ context.Context, _ *connect.Request[buntingv1.GetSnapshotRequest], stream *connect.ServerStream[buntingv1.GetSnapshotResponse]) error {
	return s.list(stream)
}

func (s *speaker) Evaluate(_ context.Context, r *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	return wrap(s.answer, r)
}

func (s *speaker) BulkEvaluate(_ context.Context, r *connect.Request[pbflagsv1.BulkEvaluateRequest]) (*connect.Response[pbflagsv1.BulkEvaluateResponse], error) {
	return wrap(s.answers, r)
}

func (s *speaker) Health(_ context.Context, r *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	return wrap(s.health, r)
}

// start starts the speaker under a path prefix, as behind a proxy, and gives a
// client of it.
func (s *speaker) start(t *testing.T) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(buntingv1connect.NewFlagAdminServiceHandler(s))
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(s))
	server := httptest.NewUnstartedServer(http.StripPrefix("/flags", mux))
	server.Config.ConnState = countNew(&s.connections)
	server.Start()
	t.Cleanup(server.Close)
	return newClient(t, server.URL+"/flags/", 0)
}
