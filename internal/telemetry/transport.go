package telemetry

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
)

// Transport gives the road to an upstream with every request on it measured, and
// the caller's trace passed on.
func (t *Telemetry) Transport(road http.RoundTripper) http.RoundTripper {
	return observedRoad{road, t}
}

type observedRoad struct {
	road      http.RoundTripper
	telemetry *Telemetry
}

// RoundTrip sends a request. It counts until the end of the answer, the change
// stream, which has none, until its beginning.
func (o observedRoad) RoundTrip(r *http.Request) (*http.Response, error) {
	began, path := time.Now(), r.URL.Path
	stream := path == buntingv1connect.FlagAdminServiceWatchChangesProcedure
	var under span
	if t := o.telemetry.tracing; t != nil && (!stream || trace.SpanContextFromContext(r.Context()).IsValid()) {
		ctx, begun := t.begin(r.Context(), "fetch "+operationOf(path), trace.SpanKindClient, rpcAttributes(path)...)
		under = begun
		r = r.Clone(ctx) // who sends a request may not change it (http.RoundTripper)
		t.inject(ctx, r.Header)
	}
	done := sync.OnceFunc(func() {
		o.telemetry.fetches.observe(backendUpstream, operationOf(path), time.Since(began))
	})
	answer, err := o.road.RoundTrip(r)
	if err != nil {
		done()
		under.end(connect.CodeUnavailable.String())
		return nil, err
	}
	end := sync.OnceFunc(func() {
		done()
		under.end(codeOf("", answer.StatusCode))
	})
	if stream {
		done()
	}
	answer.Body = &observedBody{answer.Body, end}
	return answer, nil
}

// observedBody tells when an answer has been read, or was given up.
type observedBody struct {
	io.ReadCloser

	end func()
}

func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.end()
	}
	return n, err
}

func (b *observedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
