package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// ServiceName is the name of the service in traces where OTEL_SERVICE_NAME gives
// no other.
const ServiceName = "bunting"

// FlushLimit is how long the last spans may take to leave when the server stops.
const FlushLimit = 3 * time.Second

// exportLogEvery is how often the log tells that spans cannot be sent.
const exportLogEvery = time.Minute

// Tracing makes spans and sends them to a collector, beside the calls that they
// are about: a collector that is away or hangs slows nothing, and what does not
// fit in the queue is dropped.
//
// It reads the variables of OpenTelemetry (OTEL_EXPORTER_OTLP_…,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_…).
type Tracing struct {
	provider *sdk.TracerProvider
	exporter sdk.SpanExporter
	tracer   trace.Tracer
	context  propagation.TraceContext // W3C's; no baggage, which may hold anything
}

// The variables that name a collector.
const (
	endpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesVariable   = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)

// NewTracing makes the tracing that the environment asks for: nil where it names
// no collector or switches tracing off. The error is about a variable; none shows
// what is in it but for a protocol. Close ends it.
func NewTracing(ctx context.Context, version string, log *slog.Logger, env func(string) string) (*Tracing, error) {
	if env(endpointVariable) == "" && env(tracesVariable) == "" || strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || env("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	for _, name := range []string{endpointVariable, tracesVariable} {
		if u, err := url.Parse(env(name)); env(name) != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return nil, fmt.Errorf("send traces: %s is no URL with http or https and a host. Write one like http://127.0.0.1:4318, or unset it to send none", name)
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if p := env(name); p != "" && p != "http/protobuf" {
			return nil, fmt.Errorf("send traces: %s is %q, but only http/protobuf is spoken. Unset it, and name the collector's port for HTTP (4318 as a rule)", name, p)
		}
	}
	exporter, err := otlptracehttp.New(ctx) // sends nothing yet
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", ServiceName), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("send traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// The SDK has one place for the errors of a process.
	otel.SetErrorHandler(seldom(log))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracing{provider: provider, exporter: exporter, tracer: provider.Tracer("github.com/bunting-flags/terraform-provider-bunting", trace.WithInstrumentationVersion(version))}, nil
}

// seldom logs what the exporter meets, not more often than exportLogEvery.
func seldom(log *slog.Logger) otel.ErrorHandlerFunc {
	var mu sync.Mutex
	var told time.Time // guarded by mu
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); told.IsZero() || now.Sub(told) >= exportLogEvery {
			told = now
			log.Warn("traces cannot be sent", "error", err.Error())
		}
	}
}

// Close sends the spans that wait, for FlushLimit at most. Nil is closed already.
func (t *Tracing) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FlushLimit)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	if err == nil {
		return
	}
	// Its time is up, but an attempt may still be under way: that ends here.
	err = errors.Join(err, t.exporter.Shutdown(context.WithoutCancel(ctx)))
	otel.Handle(fmt.Errorf("send the last spans within %s: %w", FlushLimit, err))
}

// extract takes the caller's trace from a request's header.
func (t *Tracing) extract(ctx context.Context, from http.Header) context.Context {
	return t.context.Extract(ctx, propagation.HeaderCarrier(from))
}

// inject tells a request's receiver of the trace.
func (t *Tracing) inject(ctx context.Context, into http.Header) {
	t.context.Inject(ctx, propagation.HeaderCarrier(into))
}

// begin begins a span. Its attributes are from lists of ours: no key, no entity,
// no value, no token, and no words of an error, which may name them.
func (t *Tracing) begin(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) (context.Context, span) {
	ctx, begun := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...)) //nolint:spancheck // span.end ends it.
	return ctx, span{begun}                                                                                //nolint:spancheck // The same.
}

// rpcAttributes name a call, with the names of OpenTelemetry's conventions.
func rpcAttributes(procedure string) []attribute.KeyValue {
	if _, known := operations[procedure]; !known {
		return nil
	}
	service, method, _ := strings.Cut(procedure[1:], "/")
	return []attribute.KeyValue{
		attribute.String("rpc.system", "connect_rpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", method),
	}
}

// span is one that has begun; the zero span is none.
type span struct{ trace.Span }

// faults are the codes of a call that are not its caller's doing.
var faults = map[string]bool{
	failed:                                true,
	connect.CodeUnknown.String():          true,
	connect.CodeDeadlineExceeded.String(): true,
	connect.CodeUnimplemented.String():    true,
	connect.CodeInternal.String():         true,
	connect.CodeUnavailable.String():      true,
	connect.CodeDataLoss.String():         true,
}

// end ends the span with the code or the outcome of what it is about.
func (s span) end(code string) {
	if s.Span == nil {
		return
	}
	s.SetAttributes(attribute.String("bunting.code", code))
	if faults[code] {
		s.SetStatus(codes.Error, code)
	}
	s.End()
}
