package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// A caller's trace, as W3C's Trace Context writes it.
const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
	traceparent  = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// remembered is telemetry whose spans are kept.
func remembered(t *testing.T) (*Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
	return New(Options{Tracing: &Tracing{provider: provider, tracer: provider.Tracer("test")}}), kept
}

// backing is a store whose Head and Apply can be called.
type backing struct {
	store.Store

	err error
}

func (b backing) Head(context.Context) (flag.Revision, error) { return flag.Revision{}, b.err }

// TestSpansHangTogether: caller, call, store and fetch are one trace, each below
// the one before, and the upstream is told of it.
func TestSpansHangTogether(t *testing.T) {
	t.Parallel()
	m, kept := remembered(t)
	var told http.Header
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = r.Header.Clone() }))
	t.Cleanup(upstream.Close)
	road := &http.Transport{}
	t.Cleanup(road.CloseIdleConnections)

	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure, connect.NewUnaryHandler(pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure,
		func(ctx context.Context, _ *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
			if _, err := m.Store(backing{}).Head(ctx); err != nil {
				return nil, err
			}
			ask, err := http.NewRequestWithContext(ctx, http.MethodPost, upstream.URL+pbflagsv1connect.FlagEvaluatorServiceGetFlagStateProcedure, http.NoBody)
			if err != nil {
				return nil, err
			}
			answer, err := m.Transport(road).RoundTrip(ask)
			if err != nil {
				return nil, err
			}
			if ask.Header.Get("Traceparent") != "" {
				t.Error("the request itself was changed")
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			return nil, connect.NewError(connect.CodeInternal, errors.New("the override of entity secret-entity is lost"))
		}, connect.WithInterceptors(m)))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure,
		strings.NewReader(`{"flagId":"secret-key","entityId":"secret-entity"}`))
	if err != nil {
		t.Fatal(err)
	}
	ask.Header.Set("Content-Type", "application/json")
	ask.Header.Set("Traceparent", traceparent)
	ask.Header.Set("Baggage", "who=secret-entity")
	ask.Header.Set("Authorization", "Bearer secret-token")
	answer, err := server.Client().Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()

	spans := map[string]tracetest.SpanStub{}
	for _, s := range kept.GetSpans() {
		spans[s.Name] = s
		for _, word := range append([]string{s.Name, s.Status.Description}, words(s)...) {
			if strings.Contains(word, "secret") {
				t.Errorf("the span %s tells %q", s.Name, word)
			}
		}
	}
	call, head, fetch := spans["pbflags.v1.FlagEvaluatorService/Evaluate"], spans["store head"], spans["fetch GetFlagState"]
	if call.Parent.SpanID().String() != callersSpan || call.SpanContext.TraceID().String() != callersTrace || call.SpanKind != trace.SpanKindServer || call.Status.Description != "internal" {
		t.Errorf("the call's span is %+v", call)
	}
	for _, below := range []tracetest.SpanStub{head, fetch} {
		if below.Parent.SpanID() != call.SpanContext.SpanID() || below.SpanContext.TraceID() != call.SpanContext.TraceID() {
			t.Errorf("the span %q is not below the call's", below.Name)
		}
	}
	if want := "00-" + callersTrace + "-" + fetch.SpanContext.SpanID().String() + "-01"; told.Get("Traceparent") != want || told.Get("Baggage") != "" {
		t.Errorf("the upstream was told %q and %q, expected %q and nothing", told.Get("Traceparent"), told.Get("Baggage"), want)
	}
}

// TestFetchesAreMeasured: until the end of the answer; an upstream that is away
// counts, too, and the change stream counts once it is open.
func TestFetchesAreMeasured(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	open := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == buntingv1connect.FlagAdminServiceWatchChangesProcedure {
			<-open
		}
	}))
	transport := &http.Transport{}
	road := m.Transport(transport)
	ask := func(url, path string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := road.RoundTrip(r)
		if err != nil {
			return nil
		}
		return answer
	}
	ask(upstream.URL, buntingv1connect.FlagAdminServiceGetServerProcedure).Body.Close()
	stream := ask(upstream.URL, buntingv1connect.FlagAdminServiceWatchChangesProcedure)
	ask(upstream.URL, "/made-up").Body.Close()
	if ask("http://127.0.0.1:0", buntingv1connect.FlagAdminServiceApplyProcedure) != nil {
		t.Fatal("somebody answers at port 0")
	}
	text := scrape(m)
	for _, operation := range []string{"GetServer", "WatchChanges", "Apply", "other"} {
		if line := `bunting_fetch_duration_seconds_count{backend="upstream",operation="` + operation + `"} 1`; !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	close(open)
	stream.Body.Close()
	transport.CloseIdleConnections()
	upstream.Close()
}

// words are everything that a span says in attributes and events.
func words(s tracetest.SpanStub) (all []string) {
	for _, a := range s.Attributes {
		all = append(all, string(a.Key), a.Value.String())
	}
	for _, e := range s.Events {
		all = append(all, e.Name)
		for _, a := range e.Attributes {
			all = append(all, string(a.Key), a.Value.String())
		}
	}
	return all
}

// TestHeartbeatsMakeNoSpans: nobody asked for them, and there is one each second.
func TestHeartbeatsMakeNoSpans(t *testing.T) {
	t.Parallel()
	m, kept := remembered(t)
	if _, err := m.Store(backing{err: errors.New("away")}).Head(t.Context()); err == nil {
		t.Fatal("the store's error was lost")
	}
	if n := len(kept.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

// TestAPanicEndsItsSpan: the span tells of it, and the panic goes on.
func TestAPanicEndsItsSpan(t *testing.T) {
	t.Parallel()
	m, kept := remembered(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was caught")
			}
		}()
		_, _ = m.WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) { panic("a bug") })(t.Context(), request{connect.NewRequest(&pbflagsv1.EvaluateRequest{})})
	}()
	if spans := kept.GetSpans(); len(spans) != 1 || spans[0].Status.Description != "internal" {
		t.Errorf("%+v", spans)
	}
}

// request has the procedure that a real one has.
type request struct{ connect.AnyRequest }

func (request) Spec() connect.Spec {
	return connect.Spec{Procedure: pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure}
}

// env gives an environment and sets it, because the exporter reads the real one.
func env(t *testing.T, variables ...string) func(string) string {
	t.Helper()
	all := map[string]string{}
	for i := 0; i < len(variables); i += 2 {
		all[variables[i]] = variables[i+1]
		t.Setenv(variables[i], variables[i+1])
	}
	return func(name string) string { return all[name] }
}

// TestTracingIsOffUnlessACollectorIsNamed, and what names none is refused.
func TestTracingIsOffUnlessACollectorIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		variables []string
		says      string // the error; "": off
	}{
		"nothing":        {nil, ""},
		"switched off":   {[]string{endpointVariable, "http://127.0.0.1:4318", "OTEL_SDK_DISABLED", "true"}, ""},
		"no exporter":    {[]string{endpointVariable, "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER", "none"}, ""},
		"no URL":         {[]string{endpointVariable, "secret collector:4318"}, endpointVariable},
		"no host":        {[]string{tracesVariable, "http://"}, tracesVariable},
		"another scheme": {[]string{tracesVariable, "ftp://secret@127.0.0.1"}, tracesVariable},
		"gRPC":           {[]string{endpointVariable, "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, `"grpc"`},
	} {
		t.Run(name, func(t *testing.T) {
			tracing, err := NewTracing(t.Context(), "1.2.3", slog.New(slog.DiscardHandler), env(t, test.variables...))
			if tracing != nil || (err == nil) != (test.says == "") || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%v, %v", tracing, err)
			}
			tracing.Close(t.Context()) // of nil
		})
	}
}

// TestACollectorInTroubleIsNotFelt: whether it is away or hangs, more spans than
// the queue takes are made at once, and the end waits no longer than FlushLimit.
func TestACollectorInTroubleIsNotFelt(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"away":  func(c net.Conn) { c.Close() },
		"hangs": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					serving.Go(func() {
						defer c.Close()
						serve(c)
					})
				}
			})
			var log bytes.Buffer
			var mu sync.Mutex
			tracing, err := NewTracing(t.Context(), "1.2.3", slog.New(slog.NewTextHandler(locked{&mu, &log}, nil)),
				env(t, endpointVariable, "http://"+listener.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY", "10", "OTEL_EXPORTER_OTLP_TIMEOUT", "8000"))
			if err != nil {
				t.Fatal(err)
			}
			call := counted(New(Options{Tracing: tracing}))
			began := time.Now()
			for range 20_000 {
				call()
			}
			if took := time.Since(began); took > FlushLimit {
				t.Errorf("20,000 calls took %s", took)
			}
			began = time.Now()
			tracing.Close(t.Context())
			if took := time.Since(began); took > FlushLimit+2*time.Second {
				t.Errorf("the end took %s", took)
			}
			mu.Lock()
			if n := strings.Count(log.String(), "traces cannot be sent"); n != 1 {
				t.Errorf("the log tells of it %d times:\n%s", n, &log)
			}
			mu.Unlock()
			listener.Close()
		})
	}
}

// locked lets many write to one buffer.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
