package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// scrape gives the metrics of ours, one line a series.
func (h *harness) scrape(t *testing.T) map[string]string {
	t.Helper()
	response, text := raw(t, http.MethodGet, h.endpoint+"/metrics", "", "Authorization", "Bearer "+h.admin)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", response.StatusCode, text)
	}
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(series, "bunting_") {
			all[series] = value
		}
	}
	return all
}

// TestMetricsTellWhatHappened follows one number of each kind.
func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")), flag.Put(boolean("dead")))
	revision := h.apply(t, flag.Put(override("pay", "anna", false)), flag.Put(hold("dead", "ops")))
	c := h.as(t, h.admin)
	for _, q := range []*pbflagsv1.EvaluateRequest{{FlagId: "pay"}, {FlagId: "pay", EntityId: "anna"}, {FlagId: "dead"}, {FlagId: "nope"}} {
		if _, err := c.Evaluate(t.Context(), connect.NewRequest(q)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Fatal(err)
	}
	stream := watch(t, c, flag.Revision{})
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	got := h.scrape(t)
	for series, want := range map[string]string{
		`bunting_evaluations_total{source="global",status="ok"}`:                     "2",
		`bunting_evaluations_total{source="override",status="ok"}`:                   "1",
		`bunting_evaluations_total{source="killed",status="ok"}`:                     "2",
		`bunting_evaluations_total{source="none",status="not_found"}`:                "1",
		`bunting_evaluations_total{source="none",status="error"}`:                    "1",
		`bunting_request_duration_seconds_count{code="ok",procedure="Evaluate"}`:     "4",
		`bunting_request_duration_seconds_count{code="ok",procedure="BulkEvaluate"}`: "1",
		`bunting_stream_readers`:                    "1",
		`bunting_flags`:                             "2",
		`bunting_override_cache_size`:               "1",
		`bunting_kill_set_size`:                     "1",
		`bunting_stale`:                             "0",
		`bunting_health_status{status="serving"}`:   "1",
		`bunting_snapshot_revision`:                 strconv.FormatInt(revision.Number, 10),
		`bunting_build_info{version="1.2.3"}`:       "1",
		`bunting_health_consecutive_failures`:       "0",
		`bunting_cache_hits_total{tier="override"}`: "0",
	} {
		if got[series] != want {
			t.Errorf("%s is %q, expected %s", series, got[series], want)
		}
	}
}

// TestMetricsWantAToken: for reading, and of all flags.
func TestMetricsWantAToken(t *testing.T) {
	t.Parallel()
	h := start(t)
	for name, test := range map[string]struct {
		secret string
		status int
	}{
		"none":     {"", http.StatusUnauthorized},
		"wrong":    {"bunting_nonsense", http.StatusUnauthorized},
		"evaluate": {h.scoped(t, token.Evaluate), http.StatusForbidden},
		"prefix":   {h.token(t, token.Token{Name: "team", Scopes: []token.Scope{token.Read}, Prefix: "team"}), http.StatusForbidden},
		"read":     {h.scoped(t, token.Read), http.StatusOK},
		"kill":     {h.scoped(t, token.Kill), http.StatusOK},
	} {
		var header []string
		if test.secret != "" {
			header = []string{"Authorization", "Bearer " + test.secret}
		}
		response, text := raw(t, http.MethodGet, h.endpoint+"/metrics", "", header...)
		if response.StatusCode != test.status || strings.Contains(text, "bunting_flags") != (test.status == http.StatusOK) {
			t.Errorf("%s: %d: %.200s", name, response.StatusCode, text)
		}
	}
}

// TestMetricsAreOnTheAdminSide: where that has an address of its own, or is off,
// whoever can reach the rest learns nothing of them.
func TestMetricsAreOnTheAdminSide(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	apart, off := start(t, func(o *Options) { o.AdminListener = own }), start(t, func(o *Options) { o.AdminOff = true })
	for _, page := range []string{"/metrics", profilesPath} {
		for name, at := range map[string]struct {
			endpoint, secret string
			status           int
		}{
			"its own":   {"http://" + own.Addr().String(), apart.admin, http.StatusOK},
			"elsewhere": {apart.endpoint, apart.admin, http.StatusNotImplemented},
			"off":       {off.endpoint, off.admin, http.StatusNotImplemented},
			"no token":  {apart.endpoint, "none", http.StatusUnauthorized},
		} {
			if response, text := raw(t, http.MethodGet, at.endpoint+page, "", "Authorization", "Bearer "+at.secret); response.StatusCode != at.status {
				t.Errorf("%s of %s: %d: %.200s", page, name, response.StatusCode, text)
			}
		}
	}
}

// TestNoRequestMakesASeries: keys, entities, paths, methods and request ids that
// callers make up are in no label.
func TestNoRequestMakesASeries(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.as(t, h.admin)
	round := func(i int) {
		made := fmt.Sprintf("made-up-%d", i)
		c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: made, EntityId: made}))
		c.GetOverrides(t.Context(), connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: made}))
		raw(t, "GET", h.endpoint+"/"+made, "", "X-Request-ID", made)
		raw(t, "MADE"+strconv.Itoa(i), h.endpoint+"/debug/pprof/"+made+"?"+url.QueryEscape(made), "", "Authorization", "Bearer "+made)
		raw(t, "POST", h.endpoint+"/pbflags.v1.FlagEvaluatorService/"+made, "{}", "Authorization", "Bearer "+h.admin, "Content-Type", "application/"+made)
		raw(t, "POST", h.endpoint+"/pbflags.v1.FlagEvaluatorService/Evaluate", "{}", "Authorization", "Bearer "+h.admin, "Content-Type", "application/"+made)
	}
	round(0)
	h.scrape(t) // is a series itself
	before := h.scrape(t)
	for i := range 50 {
		round(i + 1)
	}
	after := h.scrape(t)
	for series := range after {
		if _, known := before[series]; !known || strings.Contains(series, "made-up") {
			t.Errorf("a new series: %s", series)
		}
	}
}

// TestProfilesAreForAdminsOnLoopback: the other scopes are refused, and so are
// other listeners, whoever asks.
func TestProfilesAreForAdminsOnLoopback(t *testing.T) {
	t.Parallel()
	h := start(t)
	get := func(secret, name string) (int, string) {
		response, text := raw(t, http.MethodGet, h.endpoint+profilesPath+name, "", "Authorization", "Bearer "+secret)
		return response.StatusCode, text
	}
	for name, test := range map[string]struct {
		secret, profile string
		status          int
		says            string
	}{
		"no token":           {"", "heap", http.StatusUnauthorized, ""},
		"write":              {h.scoped(t, token.Write), "heap", http.StatusForbidden, "admin"},
		"the list":           {h.admin, "", http.StatusOK, "goroutine"},
		"a profile":          {h.admin, "heap?debug=1", http.StatusOK, "heap profile"},
		"no such profile":    {h.admin, "made-up", http.StatusNotFound, ""},
		"the command line":   {h.admin, "cmdline", http.StatusNotFound, "not told"},
		"symbols":            {h.admin, "symbol", http.StatusOK, "num_symbols"},
		"an execution trace": {h.admin, "trace?seconds=0.01", http.StatusOK, "go 1."},
	} {
		if status, text := get(test.secret, test.profile); status != test.status || !strings.Contains(text, test.says) {
			t.Errorf("%s: %d: %.200s", name, status, text)
		}
	}

	// A listener that is open to others, though this connection is local, and a
	// handler of which nobody knows where it listens.
	open := httptest.NewUnstartedServer(h.server)
	open.Listener = elsewhere{open.Listener}
	open.Config.BaseContext = func(l net.Listener) context.Context { return onListener(t.Context(), l) }
	open.Start()
	t.Cleanup(open.Close)
	unknown := httptest.NewServer(h.server)
	t.Cleanup(unknown.Close)
	local := "http://127.0.0.1" + strings.TrimPrefix(open.URL, "http://192.0.2.1")
	for _, endpoint := range []string{local, unknown.URL} {
		if response, text := raw(t, http.MethodGet, endpoint+profilesPath+"heap", "", "Authorization", "Bearer "+h.admin); response.StatusCode != http.StatusForbidden || !strings.Contains(text, "loopback") {
			t.Errorf("%s: %d: %.200s", endpoint, response.StatusCode, text)
		}
	}
}

// elsewhere is a listener that says that it listens beyond this machine.
type elsewhere struct{ net.Listener }

func (e elsewhere) Addr() net.Addr {
	address := *e.Listener.Addr().(*net.TCPAddr)
	address.IP = net.IPv4(192, 0, 2, 1)
	return &address
}

// TestHowLoudARequestIs: what goes well ten thousand times a second is told only
// to who debugs.
func TestHowLoudARequestIs(t *testing.T) {
	t.Parallel()
	const apply, stream = "/bunting.v1.FlagAdminService/Apply", "/bunting.v1.FlagAdminService/WatchChanges"
	for name, test := range map[string]struct {
		path   string
		record record
		status int
		took   time.Duration
		want   slog.Level
	}{
		"an evaluation":           {evaluatePath, record{}, 200, time.Millisecond, slog.LevelDebug},
		"a slow evaluation":       {evaluatePath, record{}, 200, 2 * time.Second, slog.LevelInfo},
		"a refused evaluation":    {evaluatePath, record{code: "permission_denied"}, 403, time.Millisecond, slog.LevelWarn},
		"refused by gRPC":         {evaluatePath, record{code: "permission_denied"}, 200, time.Millisecond, slog.LevelWarn},
		"a failed evaluation":     {evaluatePath, record{code: "internal"}, 200, time.Millisecond, slog.LevelError},
		"a write":                 {apply, record{}, 200, time.Millisecond, slog.LevelInfo},
		"a refused write":         {apply, record{code: "failed_precondition"}, 400, time.Millisecond, slog.LevelWarn},
		"a stream":                {stream, record{}, 200, time.Hour, slog.LevelDebug},
		"a stream that was left":  {stream, record{code: "canceled"}, 200, time.Hour, slog.LevelDebug},
		"another kind of content": {evaluatePath, record{}, 415, time.Millisecond, slog.LevelWarn},
		"no such page":            {"/favicon.ico", record{}, 404, time.Millisecond, slog.LevelDebug},
		"alive":                   {"/healthz", record{}, 200, time.Millisecond, slog.LevelDebug},
		"draining":                {"/readyz", record{}, 503, time.Millisecond, slog.LevelDebug},
		"a scrape":                {"/metrics", record{}, 200, time.Millisecond, slog.LevelDebug},
	} {
		if got := levelOf(test.path, &test.record, test.status, test.took); got != test.want {
			t.Errorf("%s: %s, expected %s", name, got, test.want)
		}
	}
}

// BenchmarkEvaluate is one evaluation through the whole handler, without a network.
func BenchmarkEvaluate(b *testing.B) {
	h := filled(b, 1000)
	h.server.log = slog.New(slog.DiscardHandler)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure, strings.NewReader(`{"flagId":"team-1/feature-1"}`))
		r.Header.Set("Authorization", "Bearer "+h.admin)
		r.Header.Set("Content-Type", "application/json")
		h.server.ServeHTTP(httptest.NewRecorder(), r)
	}
}
