package sqlite

import (
	"fmt"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// BenchmarkApply measures one Apply, durable when it returns, on a store of
// 10,000 flags.
func BenchmarkApply(b *testing.B) {
	for _, changes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("changes=%d", changes), func(b *testing.B) {
			s := open(b, newPath(b), "test")
			fill(b, s, 10_000)
			n := int64(0)
			for b.Loop() {
				n++
				batch := make([]flag.Change, changes)
				for i := range batch {
					batch[i] = flag.Put(numberedFlag(keyOf(i), n))
				}
				apply(b, s, batch...)
			}
		})
	}
}

// BenchmarkSnapshot measures reading everything, as a server does when it starts.
func BenchmarkSnapshot(b *testing.B) {
	s := open(b, newPath(b), "test")
	fill(b, s, 10_000)
	for b.Loop() {
		if _, err := s.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen measures opening a store that is there.
func BenchmarkOpen(b *testing.B) {
	path := newPath(b)
	if err := open(b, path, "test").Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(b.Context(), path, Options{Environment: "test"})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func keyOf(i int) flag.Key { return flag.Key(fmt.Sprintf("bench/%05d", i)) }

func fill(b *testing.B, s *Store, flags int) {
	b.Helper()
	changes := make([]flag.Change, flags)
	for i := range changes {
		changes[i] = flag.Put(numberedFlag(keyOf(i), 0))
	}
	apply(b, s, changes...)
}
