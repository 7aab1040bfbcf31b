package sqlite

import (
	"context"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// TestCancelledAtTheBeginning ends calls about when their transaction begins. The
// driver may then say that BEGIN failed although it took effect; the connection,
// in memory the only one, must come back without it.
func TestCancelledAtTheBeginning(t *testing.T) {
	s, err := OpenMemory(t.Context(), Options{Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range 10_000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%100)*time.Microsecond)
		if _, err := s.Apply(ctx, batchOf()); err != nil && ctx.Err() == nil {
			t.Fatalf("call %d: %v", i, err)
		}
		cancel()
	}
	apply(t, s, flag.Put(numberedFlag("a", 1)))
}
