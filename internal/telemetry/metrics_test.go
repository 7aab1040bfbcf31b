package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lists are all values that a label may have. What callers send is in none.
var lists = map[string][]string{
	"source": {"none", "default", "global", "override", "killed", "cached", "archived", "targeting"},
	"code": {
		"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied", "resource_exhausted",
		"failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss", "unauthenticated",
	},
	"procedure": {
		"Evaluate", "BulkEvaluate", "Health", "GetFlagState", "GetKilledFlags", "GetOverrides", "GetServer", "GetSnapshot", "Get", "Apply", "WatchChanges",
		"GetAuditLog", "CreateToken", "ListTokens", "RevokeToken", "Resync", "healthz", "readyz", "metrics", "pprof", "other",
	},
	"backend": {"store", "upstream"},
	"outcome": {"ok", "refused", "failed"},
	"tier":    {"flag", "override", "answer", "kill"},
	"version": {"1.2.3"},
}

// operationLists are the values of the label operation, metric by metric.
var operationLists = map[string][]string{
	"bunting_store_duration_seconds": {"head", "snapshot", "since", "apply", "expire_holds", "audit", "create_token", "revoke_token", "tokens", "supersede", "renew"},
	"bunting_fetch_duration_seconds": append([]string{"head", "snapshot", "since"}, lists["procedure"]...),
}

var statusLists = map[string][]string{
	"bunting_evaluations_total": {"ok", "stale", "not_found", "error"},
	"bunting_health_status":     {"connecting", "serving", "degraded"},
}

// series gives every metric of ours by its name, and fails for a label value that
// is in no list.
func series(t interface {
	Errorf(format string, args ...any)
}, m *Telemetry) (names map[string]int) {
	families, err := m.registry.Gather()
	if err != nil {
		t.Errorf("%v", err)
	}
	names = map[string]int{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "bunting_") {
			continue
		}
		for _, one := range f.GetMetric() {
			names[f.GetName()]++
			for _, l := range one.GetLabel() {
				if !slices.Contains(allowed(f, l), l.GetValue()) {
					t.Errorf("%s has the label %s=%q, which is in no list", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	return names
}

func allowed(f *dto.MetricFamily, l *dto.LabelPair) []string {
	switch l.GetName() {
	case "operation":
		return operationLists[f.GetName()]
	case "status":
		return statusLists[f.GetName()]
	}
	return lists[l.GetName()]
}

// busy is a server's telemetry after everything there is was observed once.
func busy(t *testing.T) *Telemetry {
	t.Helper()
	m := New(Options{Version: "1.2.3"})
	m.Observe(func() State {
		return State{Revision: 7, Flags: 3, Overrides: 2, Killed: 1, Age: time.Second, Failures: 2, Status: Serving, Cache: Cache{Kill: Tier{Hits: 5, Misses: 4}}}
	})
	for path := range operations {
		m.Request(path, "", http.StatusOK, time.Millisecond)
		m.fetches.observe(backendUpstream, operationOf(path), time.Millisecond)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/heap", "/nothing"} {
		m.Request(path, "", http.StatusOK, time.Millisecond)
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		m.Request("/", code.String(), http.StatusOK, time.Millisecond)
	}
	for source := range pbflagsv1.EvaluationSource_name {
		m.evaluations.answered(&pbflagsv1.EvaluateResponse{Source: pbflagsv1.EvaluationSource(source)})
	}
	m.evaluations.refused()
	_, _ = observe(t.Context(), observedStore{telemetry: m}, "head", true, func(context.Context) (int, error) { return 0, nil })
	return m
}

// TestMetricsAreWellNamed: as Prometheus' own linter says.
func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(busy(t).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "bunting_") { // Go's own are as they are
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestLabelsAreFromLists: everything there is, by name.
func TestLabelsAreFromLists(t *testing.T) {
	t.Parallel()
	names := series(t, busy(t))
	for name, least := range map[string]int{
		"bunting_evaluations_total": 10, "bunting_cache_hits_total": 4, "bunting_cache_misses_total": 4, "bunting_fetch_duration_seconds": len(operations) + 1,
		"bunting_kill_set_size": 1, "bunting_health_consecutive_failures": 1, "bunting_poller_last_success_timestamp_seconds": 1,
		"bunting_override_cache_size": 1, "bunting_snapshot_age_seconds": 1, "bunting_snapshot_revision": 1, "bunting_stream_readers": 1,
		"bunting_store_duration_seconds": 1, "bunting_request_duration_seconds": len(operations) + 5, "bunting_build_info": 1,
		"bunting_health_status": 3, "bunting_stale": 1, "bunting_flags": 1,
	} {
		if names[name] < least {
			t.Errorf("%d series of %s, expected %d", names[name], name, least)
		}
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("metrics that no test knows: %v", names)
	}
}

// TestNoCallerMakesASeries: whatever comes in, the lists hold.
func TestNoCallerMakesASeries(t *testing.T) {
	t.Parallel()
	m := busy(t)
	rapid.Check(t, func(t *rapid.T) {
		m.Request("/"+rapid.String().Draw(t, "path"), rapid.OneOf(rapid.String(), rapid.Just(""), rapid.Just("code_4711")).Draw(t, "code"), rapid.Int().Draw(t, "status"), time.Duration(rapid.Int64().Draw(t, "took")))
		m.evaluations.answered(&pbflagsv1.EvaluateResponse{
			FlagId: rapid.String().Draw(t, "key"), ErrorCode: rapid.OneOf(rapid.String(), rapid.Just("")).Draw(t, "error code"), Stale: rapid.Bool().Draw(t, "stale"),
			Source:      pbflagsv1.EvaluationSource(rapid.Int32().Draw(t, "source")),
			FreshSource: pbflagsv1.EvaluationSource(rapid.Int32Range(-1, 7).Draw(t, "fresh source")),
		})
		series(t, m)
	})
}

// TestEvaluationsAreCountedByWhatTheyCameTo: the source that applied, and the true
// status.
func TestEvaluationsAreCountedByWhatTheyCameTo(t *testing.T) {
	t.Parallel()
	const global, override, killed, cached, unset = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL, pbflagsv1.EvaluationSource_EVALUATION_SOURCE_OVERRIDE,
		pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED, pbflagsv1.EvaluationSource_EVALUATION_SOURCE_CACHED, pbflagsv1.EvaluationSource_EVALUATION_SOURCE_UNSPECIFIED
	for name, test := range map[string]struct {
		answer         *pbflagsv1.EvaluateResponse
		source, status string
	}{
		"fresh":                  {&pbflagsv1.EvaluateResponse{Source: global}, "global", "ok"},
		"stale":                  {&pbflagsv1.EvaluateResponse{Source: cached, FreshSource: override, Stale: true}, "override", "stale"},
		"stale and killed":       {&pbflagsv1.EvaluateResponse{Source: killed, FreshSource: killed, Stale: true}, "killed", "stale"},
		"stale, of whatever":     {&pbflagsv1.EvaluateResponse{Source: cached, Stale: true}, "cached", "stale"},
		"no such flag":           {&pbflagsv1.EvaluateResponse{Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT, ErrorCode: flag.ErrorFlagNotFound}, "none", "not_found"},
		"no such flag, stale":    {&pbflagsv1.EvaluateResponse{ErrorCode: flag.ErrorFlagNotFound, Stale: true}, "none", "not_found"},
		"another error":          {&pbflagsv1.EvaluateResponse{Source: global, ErrorCode: "TYPE_MISMATCH"}, "none", "error"},
		"a source of the future": {&pbflagsv1.EvaluateResponse{Source: 4711}, "none", "error"},
		"no source at all":       {&pbflagsv1.EvaluateResponse{Source: unset}, "none", "error"},
	} {
		e := newEvaluations(true)
		e.answered(test.answer)
		if got := testutil.ToFloat64(e.vec.WithLabelValues(test.source, test.status)); got != 1 {
			t.Errorf("%s: %s %s counts %v", name, test.source, test.status, got)
		}
		named := testutil.CollectAndCount(e.byFlag)
		if exists := test.status == "ok" || test.status == "stale"; exists != (named == 1) || exists && testutil.ToFloat64(e.byFlag.WithLabelValues("", test.source)) != 1 {
			t.Errorf("%s: %d series of flags", name, named)
		}
	}
}

// TestTheStateOfAScrape: all numbers come from one reading; before the first
// contact the age is the server's own.
func TestTheStateOfAScrape(t *testing.T) {
	t.Parallel()
	m := busy(t)
	text := scrape(m)
	for _, line := range []string{
		"bunting_snapshot_revision 7", "bunting_flags 3", "bunting_override_cache_size 2", "bunting_kill_set_size 1", "bunting_health_consecutive_failures 2",
		`bunting_health_status{status="serving"} 1`, `bunting_health_status{status="degraded"} 0`, "bunting_snapshot_age_seconds 1",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	m.Observe(func() State { return State{Age: -1, Status: Connecting} })
	m.state.started = time.Now().Add(-time.Hour)
	if text = scrape(m); !strings.Contains(text, "bunting_snapshot_age_seconds 3600.") || !strings.Contains(text, "bunting_poller_last_success_timestamp_seconds 0\n") {
		t.Error(text)
	}
}

// scrape gives what Prometheus is answered.
func scrape(m *Telemetry) string {
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	return answer.Body.String()
}

// TestOutcomesOfTheStore: what the rules refuse is no failure of the store.
func TestOutcomesOfTheStore(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"ok": nil, "failed": errors.New("the disk is full"), "refused": fmt.Errorf("apply: %w", &flag.Problem{Kind: flag.ProblemOwned}),
	} {
		if got := outcomeOf(err); got != want {
			t.Errorf("%v is %s, expected %s", err, got, want)
		}
	}
	if outcomeOf(store.ErrRequestReused) != "refused" {
		t.Error("a request id that is used again is the caller's fault")
	}
}

// TestCountingAllocatesNothing: what is counted with every evaluation costs it no
// memory.
func TestCountingAllocatesNothing(t *testing.T) {
	m := busy(t)
	call := counted(m)
	for name, do := range map[string]func(){
		"an answer": func() { call() },
		"a request": func() { m.Request("/pbflags.v1.FlagEvaluatorService/Evaluate", "", http.StatusOK, time.Millisecond) },
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// counted is a call that only passes what counts evaluations and makes spans.
func counted(m *Telemetry) func() {
	answer := connect.NewResponse(&pbflagsv1.EvaluateResponse{Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL})
	request := connect.NewRequest(&pbflagsv1.EvaluateRequest{})
	call := m.WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) { return answer, nil })
	return func() { _, _ = call(context.Background(), request) }
}

func BenchmarkCounting(b *testing.B) {
	m := New(Options{Version: "1.2.3"})
	call := counted(m)
	b.ReportAllocs()
	for b.Loop() {
		call()
		m.Request("/pbflags.v1.FlagEvaluatorService/Evaluate", "", http.StatusOK, time.Millisecond)
	}
}
