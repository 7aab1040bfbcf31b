package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// away is how a service fails that is there and cannot answer.
var away = connect.NewError(connect.CodeInternal, errors.New("away"))

// TestOnDemandRules goes through what a service may say of a flag: fresh, and
// stale once it is away.
func TestOnDemandRules(t *testing.T) {
	text, _ := flag.StringValue("x")
	archived := func(state flag.State) flag.Flag {
		f := as(pay, flag.Enabled, global)
		f.ArchivedState = state
		return f
	}
	for _, tc := range []struct {
		name         string
		say          func(s *plainService)
		fresh, stale string
	}{
		{"no such flag", func(*plainService) {}, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"enabled", func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, global) }, "2 GLOBAL", "2 CACHED stale GLOBAL"},
		{"enabled without a value", func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, flag.Value{}) }, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"default with a leftover value", func(s *plainService) { s.flags["pay"] = as(pay, flag.Default, global) }, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"killed with a leftover value", func(s *plainService) {
			s.flags["pay"], s.killed["pay"] = as(pay, flag.Enabled, global), true
		}, "1 KILLED", "1 KILLED stale KILLED"},
		{"killed by its state alone", func(s *plainService) {
			s.flags["pay"] = as(pay, 3, global)
		}, "1 KILLED", "1 CACHED stale DEFAULT"}, // the kill set said meanwhile that it is not
		{"a value of another type", func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, text) }, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"archived with its value", func(s *plainService) { s.flags["pay"] = archived(flag.Enabled) }, "2 ARCHIVED", "2 CACHED stale ARCHIVED"},
		{"archived with its default", func(s *plainService) { s.flags["pay"] = archived(flag.Default) }, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"an override", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
			s.overrides[flag.OverrideRef("other", "anna")] = override("other", "anna", compiledIn)
		}, "3 OVERRIDE", "3 CACHED stale OVERRIDE"},
		{"another's override", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "bert")] = override("pay", "bert", overridden)
		}, "2 GLOBAL", "2 CACHED stale GLOBAL"},
		{"an override with the default", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", flag.Value{})
		}, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"a killed override", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "anna")] = flag.Override{State: 3, Value: overridden}
		}, "1 DEFAULT", "1 CACHED stale DEFAULT"},
		{"killed for the entity", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
			s.killedFor[flag.OverrideRef("pay", "anna")] = true
		}, "1 KILLED", "1 KILLED stale KILLED"},
		{"killed for another entity", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.killedFor[flag.OverrideRef("pay", "bert")] = true
		}, "2 GLOBAL", "2 CACHED stale GLOBAL"},
		{"an override of another type", func(s *plainService) {
			s.flags["pay"] = as(pay, flag.Enabled, global)
			s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", text)
		}, "2 GLOBAL", "2 CACHED stale GLOBAL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPlainService()
				tc.say(s)
				d := s.onDemand(t, steady, pay)
				if got := evaluate(t, d, "pay", "anna"); got != tc.fresh {
					t.Errorf("fresh: got %s, want %s", got, tc.fresh)
				}
				if n := len(s.all()); evaluate(t, d, "pay", "anna") != tc.fresh || len(s.all()) != n {
					t.Errorf("asked again while all was fresh: %v", s.all()[n:])
				}
				time.Sleep(4*time.Minute + time.Second)
				s.failing(away)
				time.Sleep(time.Minute)
				if got := evaluate(t, d, "pay", "anna"); got != tc.stale {
					t.Errorf("stale: got %s, want %s", got, tc.stale)
				}
			})
		})
	}
}

// TestOnDemandOutage: what was last known goes through the rule, so nothing comes
// back that was gone, and of nothing known the compiled default is told.
func TestOnDemandOutage(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, after func(s *plainService)
		first, stale  string
	}{
		{
			"an override was removed",
			func(s *plainService) {
				s.flags["pay"] = as(pay, flag.Enabled, global)
				s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
			},
			func(s *plainService) { clear(s.overrides) },
			"3 OVERRIDE", "2 CACHED stale GLOBAL",
		},
		{
			"the flag was disabled",
			func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, global) },
			func(s *plainService) { s.flags["pay"] = as(pay, flag.Default, global) },
			"2 GLOBAL", "1 CACHED stale DEFAULT",
		},
		{
			"the flag was deleted",
			func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, global) },
			func(s *plainService) { clear(s.flags) },
			"2 GLOBAL", "1 CACHED stale DEFAULT",
		},
		{
			"the flag was killed",
			func(s *plainService) { s.flags["pay"] = as(pay, flag.Enabled, global) },
			func(s *plainService) { s.killed["pay"] = true },
			"2 GLOBAL", "1 KILLED stale KILLED",
		},
		{
			"the flag was released",
			func(s *plainService) { s.flags["pay"], s.killed["pay"] = as(pay, flag.Enabled, global), true },
			func(s *plainService) { clear(s.killed) },
			"1 KILLED", "2 CACHED stale GLOBAL",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPlainService()
				tc.before(s)
				d := s.onDemand(t, steady, pay)
				if got := evaluate(t, d, "pay", "anna"); got != tc.first {
					t.Errorf("first: got %s, want %s", got, tc.first)
				}
				s.set(func() { tc.after(s) })
				time.Sleep(6 * time.Minute)
				evaluate(t, d, "pay", "anna") // learns it
				s.set(func() { s.refuses = true })
				for _, later := range []time.Duration{6 * time.Minute, 7 * 24 * time.Hour} {
					time.Sleep(later)
					if got := evaluate(t, d, "pay", "anna"); got != tc.stale {
						t.Errorf("after %s: got %s, want %s", later, got, tc.stale)
					}
				}
			})
		})
	}
}

func TestOnDemandNothingKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.failing(away)
		d := s.onDemand(t, steady, pay)
		if got := evaluate(t, d, "pay", "anna"); got != "1 DEFAULT stale DEFAULT" {
			t.Errorf("compiled in: got %s", got)
		}
		if got := evaluate(t, d, "other", "anna"); got != "error server_fault" {
			t.Errorf("not compiled in: got %s", got)
		}
		if _, _, err := d.KilledFlags(t.Context()); !isKind(err, ServerFault) {
			t.Errorf("kills: %v", err)
		}
		if _, _, err := d.FlagState(t.Context(), "pay"); !isKind(err, ServerFault) {
			t.Errorf("state: %v", err)
		}
		if _, _, err := d.Overrides(t.Context(), "anna"); !isKind(err, ServerFault) {
			t.Errorf("overrides: %v", err)
		}
		s.failing(nil)
		s.set(func() { s.flags["pay"] = as(pay, flag.Enabled, global) })
		time.Sleep(2 * time.Second)
		evaluate(t, d, "pay", "anna")
		time.Sleep(2 * time.Second) // the poll that this wakes
		if got := evaluate(t, d, "pay", "anna"); got != "2 GLOBAL" {
			t.Errorf("afterwards: got %s", got)
		}
	})
}

// TestOnDemandPassedOn: without a compiled definition the service evaluates, and
// its answer is kept with the same care.
func TestOnDemandPassedOn(t *testing.T) {
	say := func(s *plainService) {
		s.flags["pay"] = as(pay, flag.Enabled, global)
		s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
		s.overrides[flag.OverrideRef("pay", "dora")] = override("pay", "dora", flag.Value{})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		say(s)
		d := s.onDemand(t, steady)
		check := func(when string, want map[string]string) {
			t.Helper()
			for entity, want := range want {
				if got := evaluate(t, d, "pay", entity); got != want {
					t.Errorf("%s, %q: got %s, want %s", when, entity, got, want)
				}
			}
		}
		fresh := map[string]string{"": "2 GLOBAL", "anna": "3 OVERRIDE", "dora": "1 DEFAULT"}
		check("fresh", fresh)
		check("again", fresh)
		if got := evaluate(t, d, "nope", ""); got != flag.ErrorFlagNotFound {
			t.Errorf("unknown: %s", got)
		}
		evaluate(t, d, "nope", "")
		for _, q := range []string{"Evaluate pay ", "Evaluate pay anna", "Evaluate pay dora", "Evaluate nope "} {
			if n := s.asked(q); n != 1 {
				t.Errorf("%q was asked %d times", q, n)
			}
		}
		// A kill that becomes known goes before what is cached.
		s.set(func() { s.killed["pay"] = true })
		time.Sleep(31 * time.Second)
		check("killed", map[string]string{"anna": "1 KILLED", "dora": "1 KILLED"})
		// An outage: a kill stays one. The default of the flag was told to two of
		// the three, and nothing is made up for the other.
		s.failing(away)
		time.Sleep(time.Hour)
		check("killed, away", map[string]string{"": "error server_fault", "anna": "1 KILLED stale KILLED", "dora": "1 KILLED stale KILLED"})
		if got := evaluate(t, d, "nope", ""); got != flag.ErrorFlagNotFound+" stale" {
			t.Errorf("unknown, away: %s", got)
		}
		// It is released.
		s.failing(nil)
		s.set(func() { clear(s.killed) })
		time.Sleep(2 * time.Second)
		evaluate(t, d, "pay", "anna")
		synctest.Wait() // that the service answers wakes the poller
		check("released", fresh)
		check("released", fresh)
		s.set(func() { s.refuses = true })
		time.Sleep(time.Hour)
		check("away", map[string]string{"": "2 CACHED stale GLOBAL", "anna": "3 CACHED stale OVERRIDE", "dora": "1 CACHED stale DEFAULT"})
	})
}

// TestOnDemandPassedOnKilled: a known kill is never undone by an answer that
// disagrees with it, and costs one question, not one for every caller.
func TestOnDemandPassedOnKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"], s.killed["pay"] = as(pay, flag.Enabled, global), true
		d := s.onDemand(t, steady)
		synctest.Wait()
		s.set(func() { clear(s.killed) })
		time.Sleep(time.Second)
		for range 5 {
			if got := evaluate(t, d, "pay", ""); got != "error unavailable" {
				t.Errorf("got %s", got)
			}
		}
		if n := s.asked("Evaluate pay "); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(30 * time.Second)
		if got := evaluate(t, d, "pay", ""); got != "2 GLOBAL" || s.asked("Evaluate pay ") != 1 {
			t.Errorf("got %s, asked %d times", got, s.asked("Evaluate pay "))
		}
	})
}

// TestOnDemandStaleUpstream: an answer that is stale where it comes from is told
// so, and not kept for long.
func TestOnDemandStaleUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"], s.staleAnswers = as(pay, flag.Enabled, global), true
		d := s.onDemand(t, steady)
		if got := evaluate(t, d, "pay", ""); got != "2 CACHED stale" {
			t.Errorf("got %s", got)
		}
		s.set(func() { s.staleAnswers = false })
		time.Sleep(steady.FailureTTL)
		if got := evaluate(t, d, "pay", ""); got != "2 GLOBAL" {
			t.Errorf("got %s", got)
		}
	})
}

// TestOnDemandAttributes: callers are told apart by everything that was said of
// them.
func TestOnDemandAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady)
		for range 2 {
			for _, plan := range []any{"free", "paid", 1, true} {
				if _, err := d.Evaluate(t.Context(), "pay", flag.Context{TargetingKey: "anna", Attributes: map[string]any{"plan": plan, "x": nil}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := s.asked("Evaluate pay anna"); n != 4 {
			t.Errorf("asked %d times", n)
		}
		if _, err := d.Evaluate(t.Context(), "pay", flag.Context{Attributes: map[string]any{"c": make(chan int)}}); !isKind(err, Invalid) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOnDemandLayer: overrides are asked for where there can be some, of the entity
// that the layer names, together with the flag.
func TestOnDemandLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		everybody := flag.Flag{Key: "all", Type: flag.Int, Default: compiledIn, Layer: "global"}
		s.overrides[flag.OverrideRef("pay", "acme")] = override("pay", "acme", overridden)
		s.fails = func(context.Context, string) error { time.Sleep(100 * time.Millisecond); return nil }
		d := s.onDemand(t, steady, pay, everybody)
		synctest.Wait()
		time.Sleep(time.Second)
		begin := time.Now()
		a, err := d.Evaluate(t.Context(), "pay", flag.Context{TargetingKey: "anna", Attributes: map[string]any{"user": "acme"}})
		if err != nil || short(a) != "3 OVERRIDE" || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("got %s, %v after %s", short(a), err, time.Since(begin))
		}
		if got := evaluate(t, d, "all", "anna"); got != "1 DEFAULT" {
			t.Errorf("got %s", got)
		}
		evaluate(t, d, "pay", "")
		if s.asked("GetOverrides acme") != 1 || s.asked("GetOverrides anna") != 0 || s.asked("GetOverrides ") != 0 {
			t.Errorf("asked %v", s.all())
		}
	})
}
