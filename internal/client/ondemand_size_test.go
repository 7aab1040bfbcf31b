package client

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// TestOnDemandWeighsQuestions: what is kept is bounded in bytes, too, whatever is
// asked: anybody may ask, and with whatever attributes.
func TestOnDemandWeighsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		policy := steady
		policy.OverrideEntries = 10
		d := s.onDemand(t, policy)
		long := strings.Repeat("x", 100<<10)
		ask := func(entity, attribute string) {
			t.Helper()
			a, err := d.Evaluate(t.Context(), "pay", flag.Context{TargetingKey: entity, Attributes: map[string]any{"a": attribute}})
			if err != nil || a.Source != flag.SourceGlobal {
				t.Errorf("got %v, %v", a, err)
			}
		}
		ask("anna", "short")
		ask("anna", long) // no room for it
		ask(long, "short")
		if fresh, last := d.answers.fresh.weight, d.answers.last.weight; fresh != 1 || last != 1 {
			t.Errorf("weight %d fresh, %d last known", fresh, last)
		}
		ask("anna", long[:3<<10])
		if fresh, last := d.answers.fresh.weight, d.answers.last.weight; fresh != 5 || last != 5 {
			t.Errorf("weight %d fresh, %d last known", fresh, last)
		}
		s.failing(away)
		_, _ = d.Evaluate(t.Context(), "pay", flag.Context{TargetingKey: long})
		if n := len(d.answers.failed.at); n != 0 {
			t.Errorf("%d failures are kept", n)
		}
	})
}

// TestOnDemandLongEntity: there are no overrides of an entity that none may be of,
// and nobody is asked for them.
func TestOnDemandLongEntity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady, pay)
		long := strings.Repeat("x", flag.MaxEntityBytes+1)
		if got := evaluate(t, d, "pay", long); got != "2 GLOBAL" {
			t.Errorf("got %s", got)
		}
		if overrides, stale, err := d.Overrides(t.Context(), long); overrides != nil || stale || err != nil {
			t.Errorf("got %v %v %v", overrides, stale, err)
		}
		if n := s.asked("GetOverrides " + long); n != 0 || len(d.overrides.last.at) != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}
