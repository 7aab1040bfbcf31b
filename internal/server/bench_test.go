package server

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// filled is a server with so many flags.
func filled(b *testing.B, flags int) *harness {
	b.Helper()
	h := start(b)
	var changes []flag.Change
	for i := range flags {
		f := boolean(flag.Key(fmt.Sprintf("team-%d/feature-%d", i%50, i)))
		f.Description = "What the feature does, in a sentence or two."
		changes = append(changes, flag.Put(f))
	}
	h.apply(b, changes...)
	return h
}

func BenchmarkEvaluateOverHTTP(b *testing.B) {
	h := filled(b, 1000)
	for name, c := range map[string]clients{"http1": h.as(b, h.admin), "h2c": h.over(b, h.admin, h2c(b))} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.log.reset()
				if _, err := c.Evaluate(b.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "team-1/feature-1"})); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSnapshotOverHTTP(b *testing.B) {
	h := filled(b, 10_000)
	c := h.as(b, h.admin)
	b.ResetTimer()
	for b.Loop() {
		if r := readSnapshot(b, c, &buntingv1.GetSnapshotRequest{}); len(r.edits) != 10_000 {
			b.Fatal(len(r.edits))
		}
	}
}
