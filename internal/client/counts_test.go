package client

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// TestOnDemandCounts: each question is a hit or a miss of its tier, and what fails
// is a miss though it is answered.
func TestOnDemandCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"], s.flags["plain"] = as(pay, flag.Enabled, global), as(pay, flag.Enabled, global)
		s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
		s.killed["dead"] = true
		d := s.onDemand(t, steady, pay)
		synctest.Wait()
		began := time.Now()
		for range 3 {
			evaluate(t, d, "pay", "anna") // the flag and the overrides
		}
		evaluate(t, d, "pay", "bert") // has none
		evaluate(t, d, "plain", "")   // passed on
		evaluate(t, d, "plain", "")
		want := CacheCounts{
			Flag: TierCounts{3, 1}, Override: TierCounts{2, 2}, Answer: TierCounts{1, 1}, Kill: TierCounts{6, 0},
			Overrides: 2, Killed: 1, Polled: began,
		}
		if got := d.Counts(); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}

		s.failing(away)
		time.Sleep(steady.FlagTTL + time.Second)
		evaluate(t, d, "pay", "anna")
		got := d.Counts()
		if got.Flag != (TierCounts{3, 2}) || got.Override != (TierCounts{2, 3}) || got.Killed != 1 || time.Since(got.Polled) < steady.KillTTL {
			t.Errorf("in an outage: %+v", got)
		}
	})
}

// TestFetchesCarryWhatTheirCallerCarries: whoever observes the requests of a fetch
// knows whose question began it; the caller's end does not end it.
func TestFetchesCarryWhatTheirCallerCarries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type traceKey struct{}
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady, pay)
		synctest.Wait()
		var mu sync.Mutex
		var seen []any
		s.set(func() {
			s.fails = func(ctx context.Context, procedure string) error {
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, procedure, ctx.Value(traceKey{}), ctx.Err())
				return nil
			}
		})
		ctx, leave := context.WithTimeout(context.WithValue(t.Context(), traceKey{}, "anna's"), 10*time.Millisecond)
		defer leave()
		if _, err := d.Evaluate(ctx, "pay", flag.Context{}); !isKind(err, Timeout) && !isKind(err, Canceled) {
			t.Errorf("got %v", err)
		}
		d.WaitAll()
		mu.Lock()
		defer mu.Unlock()
		if want := []any{"GetFlagState", "anna's", nil}; !slices.Equal(seen, want) {
			t.Errorf("the request carried %v, expected %v", seen, want)
		}
	})
}
