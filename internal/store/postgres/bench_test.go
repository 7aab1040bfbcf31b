//go:build unix

package postgres

import (
	"fmt"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
)

// BenchmarkApply measures one Apply, over a socket and without a disk: what is
// PostgreSQL's and ours.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ flags, changes int }{{1000, 1}, {100_000, 1}, {10_000, 1000}} {
		b.Run(fmt.Sprintf("flags=%d/changes=%d", c.flags, c.changes), func(b *testing.B) {
			s := filled(b, c.flags)
			n := int64(0)
			for b.Loop() {
				n++
				batch := make([]flag.Change, c.changes)
				for i := range batch {
					batch[i] = flag.Put(numberedFlag(keyOf(i), n))
				}
				apply(b, s, batch...)
			}
		})
	}
}

// BenchmarkHead measures a heartbeat.
func BenchmarkHead(b *testing.B) {
	s := filled(b, 1)
	for b.Loop() {
		if _, err := s.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot measures reading everything, as a server does when it starts.
func BenchmarkSnapshot(b *testing.B) {
	for _, flags := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			s := filled(b, flags)
			for b.Loop() {
				if _, err := s.Snapshot(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func keyOf(i int) flag.Key { return flag.Key(fmt.Sprintf("bench/%06d", i)) }

func filled(b *testing.B, flags int) *Store {
	b.Helper()
	s := open(b, postgrestest.Database(b), Options{})
	changes := make([]flag.Change, flags)
	for i := range changes {
		changes[i] = flag.Put(numberedFlag(keyOf(i), 0))
	}
	apply(b, s, changes...)
	return s
}
