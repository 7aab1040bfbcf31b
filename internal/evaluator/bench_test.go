package evaluator

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// filled is an evaluator with so many flags, each with an override of one user;
// each hundredth one is held.
func filled(b *testing.B, flags int) *Root {
	b.Helper()
	d := newDouble("s")
	var edits []flag.Edit
	for i := range flags {
		key := flag.Key(fmt.Sprintf("team-%d/feature-%d", i%50, i))
		edits = append(edits, flag.Edit{Ref: flag.FlagRef(key), Object: boolean(key)}, flag.Edit{Ref: flag.OverrideRef(key, "user-1"), Object: override(key, "user-1", true)})
		if i%100 == 0 {
			edits = append(edits, flag.Edit{Ref: flag.HoldRef(key, "ops"), Object: hold(key, "ops", time.Time{})})
		}
	}
	d.snapshot = d.snapshot.With(flag.Revision{StoreID: "s", Number: 1}, func(yield func(flag.Edit) bool) {
		for _, e := range edits {
			if !yield(e) {
				return
			}
		}
	})
	return start(b, d)
}

func BenchmarkEvaluate(b *testing.B) {
	for _, flags := range []int{1_000, 100_000} {
		e := filled(b, flags)
		for name, caller := range map[string]flag.Context{
			"global":   {},
			"override": {TargetingKey: "user-1", Attributes: map[string]any{"plan": "gold"}},
			"other":    {TargetingKey: "user-2"},
		} {
			for key, name := range map[flag.Key]string{"team-1/feature-1": name, "team-0/feature-0": name + "-killed"} {
				b.Run(strconv.Itoa(flags)+"/"+name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if e.View().Evaluate(key, caller).Value.IsZero() {
							b.Fatal("no value")
						}
					}
				})
			}
		}
		b.Run(strconv.Itoa(flags)+"/unknown", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.View().Evaluate("team-1/nothing", flag.Context{})
			}
		})
	}
}

func BenchmarkEvaluateParallel(b *testing.B) {
	e := filled(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.View().Evaluate("team-1/feature-1", flag.Context{TargetingKey: "user-1"})
		}
	})
}

// What the evaluator itself adds to a write: swap, journal, size.
func BenchmarkAdvance(b *testing.B) {
	for _, flags := range []int{1_000, 100_000} {
		e := filled(b, flags)
		b.Run(strconv.Itoa(flags), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := commit(e.View().Revision.Number+1, 100)
				e.advance(append(e.present.Load().journal.commits[:0:0], c))
			}
		})
	}
}
