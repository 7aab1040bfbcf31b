package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// status is what an evaluation came to. Its source is told apart from it: the one
// that applied, in an outage too, where the answer itself says no more than
// that it is from memory.
type status int

const (
	statusOK       status = iota // what the definitions say now
	statusStale                  // what they last said: the source of truth is silent
	statusNotFound               // there is no such flag
	statusError                  // no answer: refused, or out of time
	statuses
)

func (s status) String() string { return [statuses]string{"ok", "stale", "not_found", "error"}[s] }

// none is the source of an evaluation in which no rule applied.
const none = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_UNSPECIFIED

// evaluations counts by source and status, each pair made once. That costs an
// evaluation two look-ups and an atomic increment.
type evaluations struct {
	vec     *prometheus.CounterVec
	counted map[pbflagsv1.EvaluationSource]*[statuses]prometheus.Counter
	byFlag  *prometheus.CounterVec // nil unless it is asked for
}

func newEvaluations(byFlag bool) evaluations {
	e := evaluations{
		vec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bunting_evaluations_total",
			Help: "Evaluations by the source that applied (none: there was no answer to give) and by status: ok, stale, not_found, error.",
		}, []string{"source", "status"}),
		counted: map[pbflagsv1.EvaluationSource]*[statuses]prometheus.Counter{},
	}
	for number := range pbflagsv1.EvaluationSource_name {
		source := pbflagsv1.EvaluationSource(number)
		e.counted[source] = &[statuses]prometheus.Counter{}
		only := [...]status{statusOK, statusStale}
		if source == none {
			only = [...]status{statusNotFound, statusError}
		}
		for _, s := range only {
			e.counted[source][s] = e.vec.WithLabelValues(sourceName(source), s.String())
		}
	}
	if byFlag {
		e.byFlag = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bunting_flag_evaluations_total", Help: "Evaluations of flags that exist, by flag and by the source that applied.",
		}, []string{"flag", "source"})
	}
	return e
}

func sourceName(source pbflagsv1.EvaluationSource) string {
	if source == none {
		return "none"
	}
	return strings.ToLower(strings.TrimPrefix(source.String(), "EVALUATION_SOURCE_"))
}

// Describe names what is counted (prometheus.Collector).
func (e evaluations) Describe(to chan<- *prometheus.Desc) {
	e.vec.Describe(to)
	if e.byFlag != nil {
		e.byFlag.Describe(to)
	}
}

// Collect gives the counts (prometheus.Collector).
func (e evaluations) Collect(to chan<- prometheus.Metric) {
	e.vec.Collect(to)
	if e.byFlag != nil {
		e.byFlag.Collect(to)
	}
}

// answered counts an answer.
func (e evaluations) answered(a *pbflagsv1.EvaluateResponse) {
	source, came := a.GetSource(), statusOK
	switch {
	case a.GetErrorCode() == flag.ErrorFlagNotFound:
		source, came = none, statusNotFound
	case a.GetErrorCode() != "":
		source, came = none, statusError
	case a.GetStale():
		came = statusStale
		if fresh := a.GetFreshSource(); fresh != none {
			source = fresh
		}
	}
	counted := e.counted[source]
	if counted == nil || counted[came] == nil {
		counted, came = e.counted[none], statusError // a number that the wire does not know
	}
	counted[came].Inc()
	if e.byFlag != nil && came < statusNotFound { // whoever asks for what does not exist makes no series
		e.byFlag.WithLabelValues(a.GetFlagId(), sourceName(source)).Inc()
	}
}

// refused counts an evaluation that got no answer; a call for many counts once.
func (e evaluations) refused() { e.counted[none][statusError].Inc() }
