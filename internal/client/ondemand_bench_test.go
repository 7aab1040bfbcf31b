package client

import (
	"context"
	"fmt"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// cached gives the ways in which an answer is read of what is cached.
func cached(tb testing.TB) map[string]func() (flag.Answer, error) {
	tb.Helper()
	s := newPlainService()
	s.flags["pay"], s.flags["plain"] = as(pay, flag.Enabled, global), as(pay, flag.Enabled, global)
	s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
	s.killed["dead"] = true
	dead := pay
	dead.Key = "dead"
	d := s.onDemand(tb, DefaultOnDemandPolicy, pay, dead)
	down := newPlainService()
	down.failing(away)
	policy := DefaultOnDemandPolicy
	policy.FailureTTL = longestTTL
	away := down.onDemand(tb, policy, pay)
	anna := flag.Context{TargetingKey: "anna"}
	read := func(d *OnDemand, key flag.Key, caller flag.Context) func() (flag.Answer, error) {
		return func() (flag.Answer, error) { return d.Evaluate(context.Background(), key, caller) }
	}
	return map[string]func() (flag.Answer, error){
		"a flag": read(d, "pay", flag.Context{}), "an override": read(d, "pay", anna), "no override": read(d, "pay", flag.Context{TargetingKey: "bert"}),
		"a kill": read(d, "dead", anna), "passed on": read(d, "plain", anna), "no such flag": read(d, "nope", anna), "away": read(away, "pay", anna),
	}
}

// TestCachedReadsAllocateNothing: what is cached costs no memory to read.
func TestCachedReadsAllocateNothing(t *testing.T) {
	for name, read := range cached(t) {
		if _, err := read(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(1000, func() { read() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkCachedRead reads what is cached, one after the other and side by side.
func BenchmarkCachedRead(b *testing.B) {
	for name, read := range cached(b) {
		if _, err := read(); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read()
			}
		})
		b.Run(name+", in parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					read()
				}
			})
		})
	}
}

// BenchmarkColdKey lets 10,000 callers want one flag that nobody has asked for
// yet, and counts the fetches.
func BenchmarkColdKey(b *testing.B) {
	const callers = 10_000
	s := newPlainService()
	d := s.onDemand(b, steady)
	if _, _, err := d.KilledFlags(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		key := flag.Key(fmt.Sprint("f", i))
		done := make(chan error, callers)
		for range callers {
			go func() {
				_, err := d.Evaluate(context.Background(), key, flag.Context{})
				done <- err
			}()
		}
		for range callers {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	fetches := 0
	for _, q := range s.all() {
		if q.text != "GetKilledFlags" {
			fetches++
		}
	}
	b.ReportMetric(float64(fetches)/float64(b.N), "fetches/op")
}
