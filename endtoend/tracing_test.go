package endtoend

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// flushBound is what a collector may add to the end of a server, beside what a busy machine does.
const flushBound = 10 * time.Second

// spans is a collector that keeps what it gets.
type spans struct {
	mu   sync.Mutex
	all  map[string]*traces.Span // by name
	of   string                  // the service's name
	text string                  // everything, to look for what must not be in it
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var m collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &m) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += m.String()
	for _, from := range m.GetResourceSpans() {
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				s.of = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.all[span.GetName()] = span
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// TestTraces: a caller's trace goes on through the call to the store, and the last spans leave when the server is told
// to end.
func TestTraces(t *testing.T) {
	t.Parallel()
	kept := &spans{all: map[string]*traces.Span{}}
	receiver := httptest.NewServer(kept)
	t.Cleanup(receiver.Close)
	// Nothing leaves by itself while the test lasts: what comes is what the end flushes.
	s := startServerWith(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.URL, "OTEL_SERVICE_NAME=flags-eu", "OTEL_BSP_SCHEDULE_DELAY=600000"})
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.endpoint+"/bunting.v1.FlagAdminService/Apply",
		strings.NewReader(`{"changes":[{"putFlag":{"key":"secret-key","type":"FLAG_TYPE_BOOL","defaultValue":{"boolValue":false}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("Traceparent", "00-"+trace+"-"+span+"-01")
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: commandDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", answer.StatusCode, body)
	}
	s.evaluate(t, "secret-key", "secret-entity")
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the server ended with %d", code)
	}

	kept.mu.Lock()
	defer kept.mu.Unlock()
	apply, under := kept.all["bunting.v1.FlagAdminService/Apply"], kept.all["store apply"]
	if kept.of != "flags-eu" || hex.EncodeToString(apply.GetTraceId()) != trace || hex.EncodeToString(apply.GetParentSpanId()) != span {
		t.Errorf("of %q: the call's span is %v", kept.of, apply)
	}
	if under == nil || !bytes.Equal(under.GetParentSpanId(), apply.GetSpanId()) || !bytes.Equal(under.GetTraceId(), apply.GetTraceId()) {
		t.Errorf("the store's span is %v", under)
	}
	if kept.all["pbflags.v1.FlagEvaluatorService/Evaluate"] == nil {
		t.Errorf("no span of the evaluation: %s", kept.text)
	}
	for _, secret := range []string{"secret-", s.token} {
		if strings.Contains(kept.text, secret) {
			t.Errorf("the spans tell %q: %s", secret, kept.text)
		}
	}
}

// TestTracesToNobody: a collector that takes connections and never answers is felt neither by calls nor by the end.
func TestTracesToNobody(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hung.Close() })
	s := startServerWith(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + hung.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_MAX_QUEUE_SIZE=8"})
	for range 50 {
		s.revision(t)
	}
	began := time.Now()
	if code := s.stop(t, syscall.SIGTERM); code != 0 || time.Since(began) > flushBound {
		t.Errorf("the server ended with %d after %s", code, time.Since(began))
	}
	if log := s.log(t); !strings.Contains(log, "traces cannot be sent") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
}

// TestServeRefusesTracesToNowhere: what names no collector is told before anything is begun.
func TestServeRefusesTracesToNowhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := finish(t, command(t, dir, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, program(t, "bunting"), "serve", "--listen", "127.0.0.1:0"))
	if out.code != 2 {
		t.Errorf("serve ended with %d, expected 2", out.code)
	}
	out.says(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
}
