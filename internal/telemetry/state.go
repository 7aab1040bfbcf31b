package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what a server knows at the moment of a scrape.
type State struct {
	Revision                 int64 // number of the present revision
	Flags, Overrides, Killed int   // known now; Overrides are those in memory
	// Age is how long ago the source of truth last confirmed what is served;
	// negative: it never has since the start.
	Age      time.Duration
	Failures int    // heartbeats, polls or fetches that failed, in a row
	Stale    bool   // answers are marked stale
	Status   string // Connecting, Serving or Degraded
	Cache    Cache  // of the on-demand cache; zero where there is none
}

// Cache counts what the on-demand cache was asked since the start, tier by tier.
type Cache struct{ Flag, Override, Answer, Kill Tier }

// Tier is one of the cache's kinds of knowledge. A miss is a question for which
// nothing fresh was there.
type Tier struct{ Hits, Misses int64 }

// The names of pbflags.v1.EvaluatorStatus.
const (
	Connecting = "connecting"
	Serving    = "serving"
	Degraded   = "degraded"
)

// state gives the state of each scrape, all of it from one moment.
type state struct {
	started time.Time
	read    atomic.Pointer[func() State]

	revision, age, failures, lastSuccess, health, stale *prometheus.Desc
	flags, overrides, kills                             *prometheus.Desc
	hits, misses                                        *prometheus.Desc
}

func newState() *state {
	about := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("bunting_"+name, help, labels, nil)
	}
	return &state{
		started:     time.Now(),
		revision:    about("snapshot_revision", "Number of the revision that is served."),
		age:         about("snapshot_age_seconds", "How long ago the source of truth last confirmed what is served; where it never has, how long ago the server started."),
		failures:    about("health_consecutive_failures", "Heartbeats, polls or fetches that failed, in a row."),
		lastSuccess: about("poller_last_success_timestamp_seconds", "When the source of truth was last reached, as a Unix time; 0 before the first time."),
		health:      about("health_status", "1 for the status that holds now, 0 for the others.", "status"),
		stale:       about("stale", "1 while answers are marked stale."),
		flags:       about("flags", "How many flags are known."),
		overrides:   about("override_cache_size", "How many overrides are held in memory."),
		kills:       about("kill_set_size", "How many flags are known to be killed."),
		hits:        about("cache_hits_total", "Questions that the on-demand cache answered from what is fresh.", "tier"),
		misses:      about("cache_misses_total", "Questions for which the on-demand cache had nothing fresh.", "tier"),
	}
}

// Observe says where the state is read from at each scrape. Before it there is
// none.
func (t *Telemetry) Observe(read func() State) { t.state.read.Store(&read) }

// Describe names the metrics (prometheus.Collector).
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.revision, s.age, s.failures, s.lastSuccess, s.health, s.stale, s.flags, s.overrides, s.kills, s.hits, s.misses,
	} {
		to <- d
	}
}

// Collect reads the state (prometheus.Collector).
func (s *state) Collect(to chan<- prometheus.Metric) {
	read := s.read.Load()
	if read == nil {
		return
	}
	now := (*read)()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	age, lastSuccess := time.Since(s.started), 0.0
	if now.Age >= 0 {
		age, lastSuccess = now.Age, float64(time.Now().Add(-now.Age).UnixMilli())/1000
	}
	gauge(s.revision, float64(now.Revision))
	gauge(s.age, age.Seconds())
	gauge(s.failures, float64(now.Failures))
	gauge(s.lastSuccess, lastSuccess)
	for _, status := range []string{Connecting, Serving, Degraded} {
		gauge(s.health, oneIf(status == now.Status), status)
	}
	gauge(s.stale, oneIf(now.Stale))
	gauge(s.flags, float64(now.Flags))
	gauge(s.overrides, float64(now.Overrides))
	gauge(s.kills, float64(now.Killed))
	for _, tier := range []struct {
		name string
		Tier
	}{{"flag", now.Cache.Flag}, {"override", now.Cache.Override}, {"answer", now.Cache.Answer}, {"kill", now.Cache.Kill}} {
		to <- prometheus.MustNewConstMetric(s.hits, prometheus.CounterValue, float64(tier.Hits), tier.name)
		to <- prometheus.MustNewConstMetric(s.misses, prometheus.CounterValue, float64(tier.Misses), tier.name)
	}
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
