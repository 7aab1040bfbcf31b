package telemetry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

func TestSharedDefinitionsAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{Version: "1.2.3"})
		if strings.Contains(scrape(m), "definition_cache") {
			t.Error("who shares nothing tells of it")
		}
		observe := m.DefinitionCache(2 * time.Second)
		if strings.Contains(scrape(m), "definition_cache") {
			t.Error("there are numbers before the first step")
		}
		observe(definitioncache.Counts{CacheErrors: 1})
		if text := scrape(m); !strings.Contains(text, "\nbunting_definition_cache_leader 0\n") || strings.Contains(text, "definition_cache_age") {
			t.Errorf("before anything is known:\n%s", text)
		}
		observe(definitioncache.Counts{Leader: true, LeadershipChanges: 3, Age: time.Second, Fetches: 4, Published: 5, RefusedAsOlder: 6, CacheErrors: 7})
		time.Sleep(500 * time.Millisecond)
		text := scrape(m)
		for _, want := range []string{
			"leader 1", "leadership_changes_total 3", "age_seconds 1.5", "kill_ttl_seconds 2", "fetches_total 4", "published_total 5", "refused_as_older_total 6", "errors_total 7",
		} {
			if !strings.Contains(text, "\nbunting_definition_cache_"+want+"\n") {
				t.Errorf("%s is missing in\n%s", want, text)
			}
		}
		if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
}
