package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
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

// TestOnDemandTTL: knowledge is asked for again when its time is over, not before
// and not much later; the service's own word counts more.
func TestOnDemandTTL(t *testing.T) {
	for _, tc := range []struct {
		name, hint     string
		jitter         int
		least, longest time.Duration
	}{
		{"its own", "", 0, 5 * time.Minute, 5 * time.Minute},
		{"with jitter", "", 20, 4 * time.Minute, 5 * time.Minute},
		{"with all jitter", "", 100, 1, 5 * time.Minute},
		{"a hint", "public, Max-Age=\"7\"", 0, 7 * time.Second, 7 * time.Second},
		{"a longer hint", "max-age=3600", 0, time.Hour, time.Hour},
		{"a hint beyond all measure", "max-age=99999999999", 0, longestTTL, longestTTL},
		{"a hint with jitter", "max-age=100", 50, 50 * time.Second, 100 * time.Second},
		{"not to be kept", "max-age=0", 0, 0, 0},
		{"not to be kept at all", "max-age=60, no-store", 0, 0, 0},
		{"a hint that cannot be read", "max-age=soon, private", 0, 5 * time.Minute, 5 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPlainService()
				s.cacheControl = tc.hint
				policy := steady
				policy.JitterPercent = tc.jitter
				d := s.onDemand(t, policy, pay)
				evaluate(t, d, "pay", "anna")
				begin := time.Now()
				for _, question := range []struct {
					text  string
					until time.Time
				}{{"flag", d.flags.mustFresh(t, "pay", tc.longest > 0)}, {"overrides", d.overrides.mustFresh(t, "anna", tc.longest > 0)}} {
					if kept := question.until.Sub(begin); tc.longest > 0 && (kept < tc.least || kept > tc.longest) {
						t.Errorf("%s: kept for %s", question.text, kept)
					}
				}
				if tc.longest == 0 {
					evaluate(t, d, "pay", "anna")
					if n := s.asked("GetFlagState pay"); n != 2 {
						t.Errorf("asked %d times", n)
					}
					return
				}
				time.Sleep(tc.least - 1)
				evaluate(t, d, "pay", "anna")
				early := s.asked("GetFlagState pay") + s.asked("GetOverrides anna")
				time.Sleep(tc.longest - tc.least + 1)
				evaluate(t, d, "pay", "anna")
				if late := s.asked("GetFlagState pay") + s.asked("GetOverrides anna"); early != 2 || late != 4 {
					t.Errorf("asked %d times before the time was over, %d times after", early, late)
				}
			})
		})
	}
}

// mustFresh gives until when the key is fresh.
func (k *knowledge[K, V]) mustFresh(t *testing.T, key K, want bool) time.Time {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.fresh.get(key)
	if !ok {
		t.Fatalf("%v is not kept", key)
	}
	if fresh := time.Now().Before(f.until); fresh != want {
		t.Fatalf("%v is fresh until %v", key, f.until)
	}
	return f.until
}

// TestOnDemandSharing: concurrent fetches of the same are one, also the first
// ones; whoever gives up does so alone.
func TestOnDemandSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		s.overrides[flag.OverrideRef("pay", "anna")] = override("pay", "anna", overridden)
		s.fails = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
		d := s.onDemand(t, steady, pay)
		leader, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := d.Evaluate(leader, "pay", flag.Context{TargetingKey: "anna"}); !isKind(err, Canceled) || !errors.Is(err, context.Canceled) {
				t.Errorf("the leader got %v", err)
			}
		})
		time.Sleep(60 * time.Millisecond) // the kill set is there, the leader waits for the flag
		for range 10_000 {
			callers.Go(func() {
				a, err := d.Evaluate(t.Context(), "pay", flag.Context{TargetingKey: "anna"})
				if err != nil || short(a) != "3 OVERRIDE" {
					t.Errorf("got %s, %v", short(a), err)
				}
			})
		}
		synctest.Wait()
		leave()
		callers.Wait()
		if len(s.all()) != 3 {
			t.Errorf("asked %v", s.all())
		}
		if h := d.Health(); h.Failures != 0 || h.Status != Serving {
			t.Errorf("a caller that leaves is no failure: %+v", h)
		}
	})
}

// TestOnDemandFirstCallers: whoever comes first waits for the first poll of the
// kills, too, and gets no zero value.
func TestOnDemandFirstCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"], s.killed["pay"] = as(pay, flag.Enabled, global), true
		s.fails = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
		d := s.onDemand(t, steady, pay)
		hurried, done := context.WithTimeout(t.Context(), time.Millisecond)
		defer done()
		var callers sync.WaitGroup
		callers.Go(func() {
			for name, err := range map[string]error{
				"Evaluate": second(d.Evaluate(hurried, "pay", flag.Context{})), "FlagState": third(d.FlagState(hurried, "pay")),
				"KilledFlags": third(d.KilledFlags(hurried)), "Overrides": third(d.Overrides(hurried, "anna")),
			} {
				if !isKind(err, Timeout) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		for range 100 {
			callers.Go(func() {
				if got := evaluate(t, d, "pay", "anna"); got != "1 KILLED" {
					t.Errorf("got %s", got)
				}
			})
		}
		callers.Wait()
	})
}

func third[A, B any](_ A, _ B, err error) error { return err }

// TestOnDemandFailures: a failure is remembered for a moment, and a service that
// hangs costs callers one wait, whichever flag they want.
func TestOnDemandFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		d := s.onDemand(t, steady, pay)
		synctest.Wait()
		s.failing(away)
		for range 100 {
			evaluate(t, d, "pay", "")
		}
		if n := s.asked("GetFlagState pay"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(steady.FailureTTL)
		evaluate(t, d, "pay", "")
		if n := s.asked("GetFlagState pay"); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		d := s.onDemand(t, steady)
		synctest.Wait()
		s.set(func() { s.fails = hang })
		begin := time.Now()
		for i := range 1000 {
			if got := evaluate(t, d, flag.Key(fmt.Sprint("f", i)), ""); got != "error timeout" {
				t.Fatalf("got %s", got)
			}
		}
		if took := time.Since(begin); took != 3*steady.FetchTimeout {
			t.Errorf("1000 evaluations of a service that hangs took %s", took)
		}
		s.failing(nil)
		time.Sleep(steady.FailureTTL)
		if got := evaluate(t, d, "f0", ""); got != flag.ErrorFlagNotFound+" stale" && got != flag.ErrorFlagNotFound {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// TestOnDemandPanic: a defect reaches who met it, and nobody after.
func TestOnDemandPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady)
		synctest.Wait()
		ask := d.answers.ask
		d.answers.ask = func(context.Context, enquiry) (flag.Answer, time.Duration, error) { panic("of " + secret) }
		for range 5 {
			_, err := d.Evaluate(t.Context(), "pay", flag.Context{})
			if !isKind(err, Broken) || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "a defect of this program stopped the call: of (token). Report it.") {
				t.Errorf("got %v", err)
			}
		}
		d.answers.ask = ask
		if got := evaluate(t, d, "pay", ""); got != "2 GLOBAL" {
			t.Errorf("got %s", got)
		}
	})
}

// TestOnDemandNotFound: who says by an error that there is no such flag says so all
// the same, and it is no failure.
func TestOnDemandNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.notFound = true
		d := s.onDemand(t, steady, pay)
		for range 10 {
			if got := evaluate(t, d, "pay", ""); got != "1 DEFAULT" {
				t.Errorf("got %s", got)
			}
			if got := evaluate(t, d, "other", ""); got != flag.ErrorFlagNotFound {
				t.Errorf("got %s", got)
			}
		}
		if h := d.Health(); len(s.all()) != 3 || h != (Health{Status: Serving}) {
			t.Errorf("asked %v, health %+v", s.all(), h)
		}
		if s, _, err := d.FlagState(t.Context(), "pay"); err != nil || s.Exists {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// TestOnDemandOverrides: what is told of an override says what it serves, and
// nothing that is left over.
func TestOnDemandOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.overrides[flag.OverrideRef("b", "anna")] = override("b", "anna", overridden)
		s.overrides[flag.OverrideRef("a", "anna")] = flag.Override{State: 3, Value: overridden}
		s.overrides[flag.OverrideRef("c", "anna")] = flag.Override{State: flag.Default, Value: overridden}
		d := s.onDemand(t, steady)
		all, stale, err := d.Overrides(t.Context(), "anna")
		if err != nil || stale || len(all) != 3 || *all[0] != override("a", "anna", flag.Value{}) || *all[1] != override("b", "anna", overridden) || *all[2] != override("c", "anna", flag.Value{}) {
			t.Errorf("got %v, %t, %v", all, stale, err)
		}
		s.failing(away)
		d.FlushAll()
		if last, stale, err := d.Overrides(t.Context(), "anna"); err != nil || !stale || len(last) != 3 {
			t.Errorf("got %v, %t, %v", last, stale, err)
		}
	})
}

// TestOnDemandFlush: FlushAll empties what is fresh and keeps what was last known;
// a fetch that was under way does not fill it again.
func TestOnDemandFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady, pay)
		evaluate(t, d, "pay", "anna")
		d.FlushAll()
		evaluate(t, d, "pay", "anna")
		if s.asked("GetFlagState pay") != 2 || s.asked("GetOverrides anna") != 2 {
			t.Errorf("asked %v", s.all())
		}
		s.failing(away)
		d.FlushAll()
		if got := evaluate(t, d, "pay", "anna"); got != "2 CACHED stale GLOBAL" {
			t.Errorf("got %s", got)
		}
		s.failing(nil)
		d.FlushAll() // failures, too
		if got := evaluate(t, d, "pay", "anna"); got != "2 GLOBAL" {
			t.Errorf("got %s", got)
		}

		// An old answer that comes late is older than the new one.
		var slow atomic.Bool
		slow.Store(true)
		s.set(func() {
			s.fails = func(_ context.Context, procedure string) error {
				if procedure == "GetFlagState" && slow.Swap(false) {
					time.Sleep(100 * time.Millisecond)
				}
				return nil
			}
		})
		d.FlushAll()
		go d.Evaluate(t.Context(), "pay", flag.Context{})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		d.FlushAll()
		evaluate(t, d, "pay", "")
		newer := d.flags.mustFresh(t, "pay", true)
		begin := time.Now()
		d.WaitAll()
		if waited := time.Since(begin); waited != 99*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		if d.flags.mustFresh(t, "pay", true) != newer {
			t.Error("the older answer took the place of the newer one")
		}
		if last, _ := d.flags.last.get("pay"); !last.until.Equal(newer) {
			t.Error("the older answer is what was last known")
		}
	})
}

// TestOnDemandCapacity: what is stated is what is kept, in both places.
func TestOnDemandCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		policy := steady
		policy.FlagEntries, policy.OverrideEntries = 7, 5
		var compiled []flag.Flag
		for i := range 10 {
			f := as(pay, flag.Enabled, global)
			f.Key = flag.Key(fmt.Sprint("f", i))
			s.flags[f.Key] = f
			compiled = append(compiled, f)
		}
		for _, key := range []flag.Key{"f0", "f1", "f2"} {
			s.overrides[flag.OverrideRef(key, "three")] = override(key, "three", overridden)
		}
		d := s.onDemand(t, policy, compiled...)
		for _, f := range compiled {
			evaluate(t, d, f.Key, "")
		}
		if n, last := len(d.flags.fresh.at), len(d.flags.last.at); n != 7 || last != 7 || d.Health().CachedFlags != 7 {
			t.Errorf("%d flags fresh, %d last known, %d told", n, last, d.Health().CachedFlags)
		}
		for _, entity := range []string{"a", "three", "b"} {
			evaluate(t, d, "f0", entity)
		}
		if n, last := d.overrides.fresh.weight, d.overrides.last.weight; n != 5 || last != 5 {
			t.Errorf("weight %d fresh, %d last known", n, last)
		}
		evaluate(t, d, "f0", "c") // lets go of a
		evaluate(t, d, "f0", "three")
		evaluate(t, d, "f0", "a")
		if s.asked("GetOverrides three") != 1 || s.asked("GetOverrides a") != 2 {
			t.Errorf("asked %v", s.all())
		}
		// One whose overrides do not fit is answered and not kept; above all not as
		// it was before.
		for i := range 6 {
			key := flag.Key(fmt.Sprint("f", i))
			s.set(func() { s.overrides[flag.OverrideRef(key, "a")] = override(key, "a", overridden) })
		}
		d.FlushAll()
		if got := evaluate(t, d, "f0", "a"); got != "3 OVERRIDE" {
			t.Errorf("got %s", got)
		}
		if _, ok := d.overrides.last.get("a"); ok || d.overrides.fresh.weight > 5 {
			t.Error("kept what does not fit, or what was there before it")
		}
	})
}

// TestOnDemandBroken: an answer that is none is an error and no knowledge.
func TestOnDemandBroken(t *testing.T) {
	for name, say := range map[string]func(s *plainService){
		"an unknown state":                func(s *plainService) { s.flags["pay"] = as(pay, 4, global) },
		"no state":                        func(s *plainService) { s.flags["pay"] = as(pay, 0, global) },
		"an override of no state":         func(s *plainService) { s.overrides[flag.OverrideRef("pay", "anna")] = flag.Override{Value: global} },
		"an override of an unknown state": func(s *plainService) { s.overrides[flag.OverrideRef("pay", "anna")] = flag.Override{State: 9} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPlainService()
				d := s.onDemand(t, steady, pay)
				evaluate(t, d, "pay", "anna")
				say(s)
				d.FlushAll()
				if got := evaluate(t, d, "pay", "anna"); got != "1 CACHED stale DEFAULT" {
					t.Errorf("got %s", got)
				}
			})
		})
	}
}

// TestOnDemandClosed: after Close what is known is answered, and nothing is asked.
func TestOnDemandClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady, pay)
		evaluate(t, d, "pay", "")
		s.set(func() { s.fails = hang })
		d.FlushAll()
		var callers sync.WaitGroup
		callers.Go(func() {
			if got := evaluate(t, d, "pay", ""); got != "2 CACHED stale GLOBAL" {
				t.Errorf("under way: got %s", got)
			}
		})
		synctest.Wait()
		begin := time.Now()
		d.Close()
		callers.Wait()
		if got := evaluate(t, d, "pay", ""); got != "2 CACHED stale GLOBAL" || time.Since(begin) != 0 {
			t.Errorf("got %s after %s", got, time.Since(begin))
		}
		if got := evaluate(t, d, "other", ""); got != "error canceled" {
			t.Errorf("got %s", got)
		}
		if h := d.Health(); h.Failures != 0 {
			t.Errorf("our own end is no failure: %+v", h)
		}
		d.Close()
	})
}

func TestOnDemandPolicy(t *testing.T) {
	if _, err := NewOnDemand(newPlainService().client(t), OnDemandPolicy{}, nil); !isKind(err, Config) {
		t.Errorf("got %v", err)
	}
	for _, tc := range []struct {
		change  func(p *OnDemandPolicy)
		message string
	}{
		{func(*OnDemandPolicy) {}, ""},
		{func(p *OnDemandPolicy) { p.JitterPercent, p.FlagEntries, p.FlagTTL = 0, 1, time.Millisecond }, ""},
		{func(p *OnDemandPolicy) { p.JitterPercent, p.OverrideEntries, p.FlagTTL = 100, mostEntries, longestTTL }, ""},
		{func(p *OnDemandPolicy) { p.FlagTTL = 0 }, `flag_ttl is 0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.OverrideTTL = -time.Second }, `override_ttl is -1s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.KillTTL = 25 * time.Hour }, `kill_ttl is 25h0m0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.FetchTimeout = 0 }, `fetch_timeout is 0s, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.FailureTTL = 1 }, `failure_ttl is 1ns, but it must be from 1ms to 24h0m0s. Write a duration like "30s".`},
		{func(p *OnDemandPolicy) { p.JitterPercent = 101 }, `jitter_percent is 101, but it must be from 0 to 100: it is how much of a TTL may be taken off. Write a number like 20.`},
		{func(p *OnDemandPolicy) { p.JitterPercent = -1 }, `jitter_percent is -1, but it must be from 0 to 100: it is how much of a TTL may be taken off. Write a number like 20.`},
		{func(p *OnDemandPolicy) { p.FlagEntries = 0 }, `flag_max_entries is 0, but it must be from 1 to 10000000. Write a number like 10000.`},
		{func(p *OnDemandPolicy) { p.OverrideEntries = mostEntries + 1 }, `override_max_entries is 10000001, but it must be from 1 to 10000000. Write a number like 10000.`},
	} {
		policy := DefaultOnDemandPolicy
		tc.change(&policy)
		err := policy.Validate()
		if tc.message == "" && err != nil || tc.message != "" && (!isKind(err, Config) || err.Error() != "cannot use the settings of the cache: "+tc.message) {
			t.Errorf("got %v, want %s", err, tc.message)
		}
	}
}

// TestOnDemandRepeats: fetches are repeated by the client's own policy.
func TestOnDemandRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		var failed atomic.Int64
		s.fails = func(_ context.Context, procedure string) error {
			if procedure == "GetFlagState" && failed.Add(1) < 3 {
				return connect.NewError(connect.CodeUnavailable, errors.New("starting"))
			}
			return nil
		}
		policy := DefaultPolicy
		policy.Backoff = 10 * time.Millisecond
		c, err := New(Options{Endpoint: "http://plain.test", Transport: s, Policy: &policy})
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewOnDemand(c, steady, func(flag.Key) *flag.Flag { return &pay })
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if got := evaluate(t, d, "pay", ""); got != "2 GLOBAL" || s.asked("GetFlagState pay") != 3 {
			t.Errorf("got %s, asked %d times", got, s.asked("GetFlagState pay"))
		}
	})
}

// TestOnDemandAgainstTheServer asks a real server as if it were not ours.
func TestOnDemandAgainstTheServer(t *testing.T) {
	server := buntingtest.Start(t)
	c, err := New(Options{Endpoint: server.Endpoint, Token: server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	enabled := as(pay, flag.Enabled, global)
	own := override("pay", "anna", overridden)
	hold := &flag.Hold{FlagKey: "dead", Holder: "admin", Reason: "r"}
	dead := enabled
	dead.Key = "dead"
	for _, o := range []flag.Object{&enabled, &own, &dead, hold} {
		if _, err := c.Write(t.Context(), flag.Put(o)); err != nil {
			t.Fatal(err)
		}
	}
	compiled := map[flag.Key]*flag.Flag{"pay": &pay, "dead": {Key: "dead", Type: flag.Int, Default: compiledIn, Layer: "user"}}
	for name, source := range map[string]func(flag.Key) *flag.Flag{"compiled in": func(key flag.Key) *flag.Flag { return compiled[key] }, "passed on": nil} {
		d, err := NewOnDemand(c, DefaultOnDemandPolicy, source)
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			key          flag.Key
			entity, want string
		}{
			{"pay", "", "2 GLOBAL"}, {"pay", "anna", "3 OVERRIDE"}, {"pay", "bert", "2 GLOBAL"},
			{"dead", "", "1 KILLED"}, {"dead", "anna", "1 KILLED"}, {"nope", "anna", flag.ErrorFlagNotFound},
		} {
			if got := evaluate(t, d, tc.key, tc.entity); got != tc.want {
				t.Errorf("%s, %s for %q: got %s, want %s", name, tc.key, tc.entity, got, tc.want)
			}
		}
		keys, stale, err := d.KilledFlags(t.Context())
		if err != nil || stale || len(keys) != 1 || keys[0] != "dead" {
			t.Errorf("kills: %v, %t, %v", keys, stale, err)
		}
		all, stale, err := d.Overrides(t.Context(), "anna")
		if err != nil || stale || len(all) != 1 || !all[0].SameDefinition(&own) {
			t.Errorf("overrides: %v, %t, %v", all, stale, err)
		}
		state, stale, err := d.FlagState(t.Context(), "dead")
		if err != nil || stale || state != (FlagState{Exists: true, Killed: true, Value: global}) {
			t.Errorf("state: %+v, %t, %v", state, stale, err)
		}
		if h := d.Health(); h.Status != Serving || h.CachedFlags == 0 || h.SecondsSinceContact < 0 {
			t.Errorf("health %+v", h)
		}
		d.Close()
	}
}

// TestMaxAge reads what a service says of how long an answer may be kept.
func TestMaxAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": noHint, "max-age=5": 5 * time.Second, "MAX-AGE = 5": 5 * time.Second, "private, max-age=5, max-age=9": 5 * time.Second,
		"no-cache": 0, "max-age=-1": noHint, "max-age": noHint, "s-maxage=9": noHint, "max-age=5,no-store": 0,
	} {
		if got := maxAge(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
