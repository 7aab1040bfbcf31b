package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

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
