package telemetry

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/trace"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
)

var _ connect.Interceptor = (*Telemetry)(nil)

// WrapUnary makes the call's span and counts evaluations. The answers tell by
// themselves what they came to, whatever made them.
func (t *Telemetry) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, span := t.called(ctx, request.Spec().Procedure, request.Header())
		code := panicked
		defer func() { span.end(code) }()
		response, err := next(ctx, request)
		code = codeOfError(err)
		if err != nil {
			if p := request.Spec().Procedure; p == pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure || p == pbflagsv1connect.FlagEvaluatorServiceBulkEvaluateProcedure {
				t.evaluations.refused()
			}
			return response, err
		}
		switch m := response.Any().(type) {
		case *pbflagsv1.EvaluateResponse:
			t.evaluations.answered(m)
		case *pbflagsv1.BulkEvaluateResponse:
			for _, a := range m.GetEvaluations() {
				t.evaluations.answered(a)
			}
		}
		return response, nil
	}
}

// WrapStreamingClient is not asked on a server.
func (*Telemetry) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler makes the call's span and counts who follows the changes.
func (t *Telemetry) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, stream connect.StreamingHandlerConn) error {
		procedure := stream.Spec().Procedure
		if procedure == buntingv1connect.FlagAdminServiceWatchChangesProcedure {
			t.readers.Inc()
			defer t.readers.Dec()
		}
		ctx, span := t.called(ctx, procedure, stream.RequestHeader())
		code := panicked
		defer func() { span.end(code) }()
		err := next(ctx, stream)
		code = codeOfError(err)
		return err
	}
}

// called begins the span of a call, below the one that the caller tells of.
func (t *Telemetry) called(ctx context.Context, procedure string, header http.Header) (context.Context, span) {
	if t.tracing == nil {
		return ctx, span{}
	}
	return t.tracing.begin(t.tracing.extract(ctx, header), strings.TrimPrefix(procedure, "/"), trace.SpanKindServer, rpcAttributes(procedure)...)
}

// panicked is the code of a call whose handler did not return.
var panicked = connect.CodeInternal.String()

func codeOfError(err error) string {
	if err == nil {
		return ok
	}
	return connect.CodeOf(err).String()
}
