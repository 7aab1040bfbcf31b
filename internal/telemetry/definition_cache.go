package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// definitionCache tells of a proxy's part in sharing definitions.
type definitionCache struct {
	killTTL time.Duration
	last    atomic.Pointer[observed] // nil: no step was taken yet

	leader, changes, age, limit, fetches, published, older, errors *prometheus.Desc
}

// observed is what a step left.
type observed struct {
	definitioncache.Counts

	at time.Time
}

// DefinitionCache adds the numbers of shared definitions, of which a copy may be as
// old as killTTL, and gives where each step's counts go. It is called once, where
// definitions are shared: elsewhere there are no such numbers.
func (t *Telemetry) DefinitionCache(killTTL time.Duration) (observe func(definitioncache.Counts)) {
	about := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("bunting_definition_cache_"+name, help, nil, nil)
	}
	d := &definitionCache{
		killTTL:   killTTL,
		leader:    about("leader", "1 while this server is the one that hears the upstream and publishes."),
		changes:   about("leadership_changes_total", "How often this server began or ceased to lead."),
		age:       about("age_seconds", "How long ago the upstream last confirmed, to this server or to the leader, what is served here; there is none before anything is."),
		limit:     about("kill_ttl_seconds", "How old that may become before the upstream is asked (definition_cache.kill_ttl)."),
		fetches:   about("fetches_total", "How often the upstream was asked for definitions, or its stream taken for the answer: as the leader, or without the cache."),
		published: about("published_total", "How often this server published changed definitions."),
		older:     about("refused_as_older_total", "Copies and answers that were not taken, because they were older than what was there."),
		errors:    about("errors_total", "How often the shared place was of no use."),
	}
	t.registry.MustRegister(d)
	return func(counts definitioncache.Counts) { d.last.Store(&observed{counts, time.Now()}) }
}

// Describe names the metrics (prometheus.Collector).
func (d *definitionCache) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{d.leader, d.changes, d.age, d.limit, d.fetches, d.published, d.older, d.errors} {
		to <- desc
	}
}

// Collect tells what the last step left (prometheus.Collector).
func (d *definitionCache) Collect(to chan<- prometheus.Metric) {
	last := d.last.Load()
	if last == nil {
		return
	}
	tell := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
		to <- prometheus.MustNewConstMetric(desc, kind, value)
	}
	tell(d.leader, prometheus.GaugeValue, oneIf(last.Leader))
	tell(d.changes, prometheus.CounterValue, float64(last.LeadershipChanges))
	if last.Age > 0 {
		tell(d.age, prometheus.GaugeValue, (last.Age + time.Since(last.at)).Seconds())
	}
	tell(d.limit, prometheus.GaugeValue, d.killTTL.Seconds())
	tell(d.fetches, prometheus.CounterValue, float64(last.Fetches))
	tell(d.published, prometheus.CounterValue, float64(last.Published))
	tell(d.older, prometheus.CounterValue, float64(last.RefusedAsOlder))
	tell(d.errors, prometheus.CounterValue, float64(last.CacheErrors))
}
