package main

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// BenchmarkWrite tells what one write costs at a root of 1,000 flags and at one of 100,000, until it is durable and served: the
// medians, and how much more the second is. The aim is a ratio of at most 2. The two are written to in turn, so that what a busy
// machine does meets both.
func BenchmarkWrite(b *testing.B) {
	for name, open := range map[string]func(ctx context.Context, dir string) (store.Store, error){
		"file": func(ctx context.Context, dir string) (store.Store, error) {
			return sqlite.Open(ctx, filepath.Join(dir, "bunting.db"), sqlite.Options{Environment: "bench"})
		},
		"memory": func(ctx context.Context, _ string) (store.Store, error) {
			return sqlite.OpenMemory(ctx, sqlite.Options{Environment: "bench"})
		},
	} {
		b.Run(name, func(b *testing.B) {
			sizes := []int{1_000, 100_000}
			roots, spent := make([]*evaluator.Root, len(sizes)), make([][]float64, len(sizes))
			for i, size := range sizes {
				definitions, err := open(b.Context(), b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { definitions.Close() })
				if roots[i], err = evaluator.NewRoot(b.Context(), definitions, evaluator.Options{}); err != nil {
					b.Fatal(err)
				}
				fillRoot(b, roots[i], size)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				for i, root := range roots {
					began := time.Now()
					write(b.Context(), b, root, declared(random.IntN(sizes[i]), strconv.FormatInt(began.UnixNano(), 10)))
					spent[i] = append(spent[i], time.Since(began).Seconds()*1e6)
				}
			}
			small, large := median(spent[0]), median(spent[1])
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(small, "µs/write-at-1000")
			b.ReportMetric(large, "µs/write-at-100000")
			b.ReportMetric(large/small, "ratio")
		})
	}
}

// fillRoot puts so many flags there.
func fillRoot(b *testing.B, root *evaluator.Root, count int) {
	b.Helper()
	for from := 0; from < count; from += fillBatch {
		var flags []*flag.Flag
		for i := from; i < min(count, from+fillBatch); i++ {
			flags = append(flags, declared(i, description))
		}
		write(b.Context(), b, root, flags...)
	}
}

// write makes one batch.
func write(ctx context.Context, b *testing.B, root *evaluator.Root, flags ...*flag.Flag) {
	b.Helper()
	batch := store.Batch{Atomic: true, Actor: token.Actor{Name: "bench", Scopes: []token.Scope{token.Admin}}, Now: time.Now()}
	for _, f := range flags {
		batch.Changes = append(batch.Changes, flag.Put(f))
	}
	outcome, err := root.Apply(ctx, batch)
	if err != nil {
		b.Fatal(err)
	}
	for _, result := range outcome.Results {
		if result.Status != flag.Applied {
			b.Fatalf("a write is not applied: %v", result.Problem)
		}
	}
}

// declared is a flag of a layer.
func declared(i int, description string) *flag.Flag {
	return &flag.Flag{
		Key: flag.Key(keyOf(i)), Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled,
		Layer: "user", Description: description,
	}
}
