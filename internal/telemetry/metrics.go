package telemetry

import (
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the histograms' buckets, in seconds: an answer from memory takes well
// under a millisecond, a fetch has 500 ms, a call 15 s and an Apply two minutes.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}

// scrapesAtOnce is how many scrapes may be answered at the same time; more are
// refused with 503.
const scrapesAtOnce = 4

// Options say what is told.
type Options struct {
	Version string   // of the program
	Tracing *Tracing // nil: no spans are made
	ByFlag  bool     // evaluations are also counted flag by flag: as many series as flags
}

// New makes the numbers of one server, in a registry of their own.
func New(options Options) *Telemetry {
	t := &Telemetry{
		registry: prometheus.NewRegistry(), state: newState(), tracing: options.Tracing, evaluations: newEvaluations(options.ByFlag),
		requests: newHistograms("bunting_request_duration_seconds",
			"How long requests took, by procedure or page and by the code of the answer. A stream counts when it ends.", "procedure", "code"),
		stores: newHistograms("bunting_store_duration_seconds",
			"How long calls of the store took, by method. Refused is what the store's rules refused, failed what it could not do.", "operation", "outcome"),
		fetches: newHistograms("bunting_fetch_duration_seconds",
			"How long it took to fetch from the source of truth: a root's store, or a proxy's upstream. The change stream counts once it is open.", "backend", "operation"),
		readers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bunting_stream_readers", Help: "How many readers follow the change stream now."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "bunting_build_info", Help: "Always 1; its label is the program's version.", ConstLabels: prometheus.Labels{"version": options.Version},
	})
	build.Set(1)
	t.registry.MustRegister(t.state, t.evaluations, t.requests.vec, t.stores.vec, t.fetches.vec, t.readers, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t
}

// Handler answers scrapes in the formats of Prometheus. Who may ask is for the
// caller to say.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce})
}

// Request counts one request: its path, the code of the call ("" where there is
// none: the status tells), and how long it took.
func (t *Telemetry) Request(path, code string, status int, took time.Duration) {
	t.requests.observe(operationOf(path), codeOf(code, status), took)
}

// ok is the code of a call that was answered; the others are Connect's.
const ok = "ok"

// statusCodes are the codes of answers that are no calls.
var statusCodes = map[int]connect.Code{
	http.StatusUnauthorized: connect.CodeUnauthenticated, http.StatusForbidden: connect.CodePermissionDenied,
	http.StatusNotFound: connect.CodeNotFound, http.StatusMethodNotAllowed: connect.CodeUnimplemented,
	http.StatusServiceUnavailable: connect.CodeUnavailable,
}

func codeOf(code string, status int) string {
	if code != "" {
		var known connect.Code
		if known.UnmarshalText([]byte(code)) != nil || known > connect.CodeUnauthenticated {
			return connect.CodeUnknown.String()
		}
		return code
	}
	if status < http.StatusBadRequest {
		return ok
	}
	if known, found := statusCodes[status]; found {
		return known.String()
	}
	return connect.CodeUnknown.String()
}

// histograms are the durations of one thing by two labels. Each pair is looked up
// by hashing once: that is what it costs to count a request.
type histograms struct {
	vec *prometheus.HistogramVec

	mu   sync.RWMutex
	made map[[2]string]prometheus.Observer
}

func newHistograms(name, help, first, second string) *histograms {
	return &histograms{
		vec:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{first, second}),
		made: map[[2]string]prometheus.Observer{},
	}
}

func (h *histograms) observe(first, second string, took time.Duration) {
	pair := [2]string{first, second}
	h.mu.RLock()
	o := h.made[pair]
	h.mu.RUnlock()
	if o == nil {
		o = h.vec.WithLabelValues(first, second)
		h.mu.Lock()
		h.made[pair] = o
		h.mu.Unlock()
	}
	o.Observe(took.Seconds())
}
