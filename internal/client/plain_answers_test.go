package client

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

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
	server := startServer(t)
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
	policy := DefaultOnDemandPolicy
	policy.FetchTimeout = 10 * time.Second // the machine may be busy
	compiled := map[flag.Key]*flag.Flag{"pay": &pay, "dead": {Key: "dead", Type: flag.Int, Default: compiledIn, Layer: "user"}}
	for name, source := range map[string]func(flag.Key) *flag.Flag{"compiled in": func(key flag.Key) *flag.Flag { return compiled[key] }, "passed on": nil} {
		d, err := NewOnDemand(c, policy, source)
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
