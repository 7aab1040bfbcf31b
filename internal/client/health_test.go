package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// TestHealth: the thresholds of DESIGN §6.6.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := contact{recovered: make(chan struct{}, 1)}
		fail := func() { c.failed(c.begin()) }
		check := func(when string, want Health, slowed int64) {
			t.Helper()
			if got := c.health(); got != want || c.slowed(1) != time.Duration(slowed) {
				t.Errorf("%s: got %+v, slowed to %s", when, got, c.slowed(1))
			}
		}
		check("at first", Health{Status: Connecting, SecondsSinceContact: -1}, 1)
		fail()
		check("one failure before any contact", Health{Status: Connecting, SecondsSinceContact: -1, Failures: 1}, 2)
		fail()
		fail()
		check("three before any contact", Health{Status: Degraded, SecondsSinceContact: -1, Failures: 3}, 4)
		c.succeeded()
		check("contact", Health{Status: Serving}, 1)
		time.Sleep(2999 * time.Millisecond)
		for i, slowed := range []int64{2, 2, 4, 4, 4, 8, 8} {
			fail()
			status := Serving
			if i >= 2 {
				status = Degraded
			}
			check("in a row", Health{Status: status, SecondsSinceContact: 2, Failures: i + 1}, slowed)
		}
		<-c.recovered
		c.succeeded()
		<-c.recovered
		c.succeeded()
		if len(c.recovered) > 0 {
			t.Error("told of a recovery without failures before it")
		}
		// What was under way together fails together.
		before := []int{c.begin(), c.begin(), c.begin()}
		for _, b := range before {
			c.failed(b)
		}
		check("together", Health{Status: Serving, Failures: 1}, 2)
	})
}

// polls gives when the kill set was asked for, in seconds after the first time.
func (s *plainService) polls() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []float64
	for _, q := range s.questions {
		if q.text == "GetKilledFlags" {
			all = append(all, q.at.Sub(s.questions[0].at).Seconds())
		}
	}
	return all
}

// TestKillPoller: polls at once, each KillTTL, and more and more rarely while they
// fail; what is known stays.
func TestKillPoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.killed["pay"] = true
		d := s.onDemand(t, steady, pay)
		time.Sleep(61 * time.Second)
		s.set(func() { s.fails = func(context.Context, string) error { return away }; clear(s.killed) })
		time.Sleep(24 * time.Hour)
		if got, want := s.polls()[:10], []float64{0, 30, 60, 90, 150, 210, 330, 450, 570, 810}; !slices.Equal(got, want) {
			t.Errorf("polled at %v, want %v", got, want)
		}
		if keys, stale, err := d.KilledFlags(t.Context()); err != nil || !stale || !slices.Equal(keys, []flag.Key{"pay"}) {
			t.Errorf("got %v, %t, %v", keys, stale, err)
		}
		if got := evaluate(t, d, "pay", "anna"); got != "1 KILLED stale KILLED" || s.asked("GetFlagState pay")+s.asked("GetOverrides anna") != 0 {
			t.Errorf("got %s, asked for more than a kill needs: %v", got, s.all())
		}
		s.failing(nil)
		s.set(func() { s.flags["pay"] = as(pay, flag.Enabled, global) })
		time.Sleep(241 * time.Second)
		if got := evaluate(t, d, "pay", ""); got != "2 GLOBAL" || d.Health().Status != Serving {
			t.Errorf("got %s, %+v", got, d.Health())
		}
	})
}

// TestKillPollerWakes: any success wakes the poller that waits longer because of
// failures, and none hurries it otherwise.
func TestKillPollerWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		onlyKillsFail := func(_ context.Context, procedure string) error {
			if procedure == "GetKilledFlags" {
				return away
			}
			return nil
		}
		s.fails = onlyKillsFail
		policy := steady
		policy.FlagTTL = time.Millisecond
		d := s.onDemand(t, policy, pay)
		time.Sleep(20 * time.Second)
		s.failing(nil)
		evaluate(t, d, "pay", "")
		synctest.Wait()
		for range 100 { // all is well: no success hurries it
			time.Sleep(time.Millisecond)
			evaluate(t, d, "pay", "")
		}
		if got, want := s.polls(), []float64{0, 20}; !slices.Equal(got, want) {
			t.Errorf("polled at %v, want %v", got, want)
		}
		// Polls alone fail: each success wakes the poller, but not in a storm.
		s.set(func() { s.fails = onlyKillsFail })
		time.Sleep(30 * time.Second)
		before := len(s.polls())
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			evaluate(t, d, "pay", "")
		}
		if n := len(s.polls()) - before; n < 5 || n > 11 {
			t.Errorf("%d polls in ten seconds", n)
		}
	})
}

// TestKillLifted: a flag that was told as killed is asked for again as soon as a
// newer kill set does not have it, and a killed one is served until then.
func TestKillLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"] = as(pay, flag.Enabled, global)
		d := s.onDemand(t, steady, pay)
		synctest.Wait()
		time.Sleep(time.Second)
		s.set(func() { s.killed["pay"] = true })
		check := func(want string, asked int) {
			t.Helper()
			if got := evaluate(t, d, "pay", ""); got != want || s.asked("GetFlagState pay") != asked {
				t.Errorf("got %s, asked %d times", got, s.asked("GetFlagState pay"))
			}
			if state, _, err := d.FlagState(t.Context(), "pay"); err != nil || state.Killed != (want == "1 KILLED") {
				t.Errorf("got %+v, %v", state, err)
			}
		}
		check("1 KILLED", 1) // told by its state before any poll
		s.set(func() { clear(s.killed) })
		time.Sleep(20 * time.Second)
		check("1 KILLED", 1)
		time.Sleep(10 * time.Second)
		check("2 GLOBAL", 2)
		s.set(func() { s.killed["pay"] = true })
		time.Sleep(30 * time.Second)
		check("1 KILLED", 2) // told by the poll
		s.set(func() { clear(s.killed) })
		time.Sleep(30 * time.Second)
		check("2 GLOBAL", 2)
	})
	// Released, and what it serves since cannot be had: the default, and no value
	// that is left over.
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.flags["pay"], s.killed["pay"] = as(pay, flag.Enabled, global), true
		s.fails = func(_ context.Context, procedure string) error {
			if procedure == "GetKilledFlags" {
				return errors.New("not at first")
			}
			return nil
		}
		d := s.onDemand(t, steady, pay)
		if got := evaluate(t, d, "pay", ""); got != "1 KILLED stale KILLED" {
			t.Errorf("got %s", got)
		}
		s.set(func() {
			clear(s.killed)
			s.fails = func(_ context.Context, procedure string) error {
				if procedure == "GetFlagState" {
					return away
				}
				return nil
			}
		})
		time.Sleep(time.Hour)
		if got := evaluate(t, d, "pay", ""); got != "1 CACHED stale DEFAULT" {
			t.Errorf("got %s", got)
		}
		if state, stale, err := d.FlagState(t.Context(), "pay"); err != nil || !stale || state.Killed || state.State != flag.Default {
			t.Errorf("got %+v, %t, %v", state, stale, err)
		}
	})
}

// TestKillPollerAfterRecovery: a poll that itself ends a row of failures is not
// repeated for having done so.
func TestKillPollerAfterRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		s.failing(away)
		s.onDemand(t, steady)
		time.Sleep(time.Second)
		s.failing(nil)
		time.Sleep(2 * time.Minute)
		if got, want := s.polls(), []float64{0, 60, 90, 120}; !slices.Equal(got, want) {
			t.Errorf("polled at %v, want %v", got, want)
		}
	})
}
