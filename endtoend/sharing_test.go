//go:build unix

package endtoend

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// killTTL is the fleets' definition_cache.kill_ttl.
const killTTL = 2 * time.Second

// fleet is a root, and proxies that share its definitions in a Redis. What they ask of the root is counted.
type fleet struct {
	root    *server
	admin   *client.Client // of the root
	way     *proxy         // to the root
	redis   *redistest.Server
	proxies []*server
}

// startFleet starts so many proxies with the further settings.
func startFleet(t *testing.T, proxies int, settings ...string) *fleet {
	t.Helper()
	f := &fleet{root: startServer(t, "--environment", "prod"), redis: redistest.Start(t)}
	f.way = startProxy(t, f.root.endpoint, func(w http.ResponseWriter, r *http.Request, _ string, pass http.Handler) { pass.ServeHTTP(w, r) })
	f.admin = f.client(t, f.root)
	f.write(t, flag.Put(boolean("pay")))
	for range proxies {
		f.add(t, append([]string{"--definition-cache-redis", f.redis.URL()}, settings...)...)
	}
	return f
}

// add starts one more proxy.
func (f *fleet) add(t *testing.T, settings ...string) *server {
	t.Helper()
	s := newServer(t, []string{"BUNTING_TOKEN=" + f.root.newToken(t, fmt.Sprintf("proxy-%d", len(f.proxies)), "SCOPE_READ")},
		append([]string{"--upstream", f.way.endpoint, "--environment", "prod"}, settings...)...)
	s.token = f.root.token
	s.start(t)
	f.proxies = append(f.proxies, s)
	return s
}

func (f *fleet) client(t *testing.T, s *server) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Endpoint: s.endpoint, Token: f.root.token, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (f *fleet) write(t *testing.T, changes ...flag.Change) flag.Revision {
	t.Helper()
	applied, err := f.admin.Apply(t.Context(), client.Batch{Changes: changes, Atomic: true})
	if err == nil && applied.Results[0].Problem != nil {
		err = applied.Results[0].Problem
	}
	if err != nil {
		t.Fatal(err)
	}
	return applied.Revision
}

// kill kills the flag, or releases it, at the root, and gives how long it took until each proxy answered so.
func (f *fleet) kill(t *testing.T, kill bool, proxies ...*server) (took []time.Duration) {
	t.Helper()
	change, want := flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}), "false KILLED"
	if !kill {
		change, want = flag.Change{Op: flag.ReleaseHold, Ref: opsHold}, "true GLOBAL"
	}
	f.write(t, change)
	began := time.Now()
	took = make([]time.Duration, len(proxies))
	var waiting sync.WaitGroup
	for i, s := range proxies {
		c := f.client(t, s)
		waiting.Go(func() {
			look := time.NewTicker(5 * time.Millisecond)
			defer look.Stop()
			for ; time.Since(began) < readyDeadline; <-look.C {
				e, err := c.Evaluate(t.Context(), client.Question{Key: "pay"})
				if err == nil && strings.HasPrefix(fmt.Sprintf("%s %s", e.Value.JSON(), e.Source), want) {
					break
				}
			}
			took[i] = time.Since(began)
		})
	}
	waiting.Wait()
	return took
}

// arrives kills and releases, and checks that every proxy knows in time.
func (f *fleet) arrives(t *testing.T, what string, proxies ...*server) {
	t.Helper()
	for _, kill := range []bool{true, false} {
		took := f.kill(t, kill, proxies...)
		t.Logf("%s: %v", what, took)
		if late := slices.Max(took); late > killTTL {
			t.Errorf("%s: a proxy knew after %s, more than %s", what, late, killTTL)
		}
	}
}

// asked counts what was asked of the root while something was done.
func (f *fleet) asked(while func()) map[string]int {
	before := len(f.way.recorded())
	while()
	counts := map[string]int{}
	for _, call := range f.way.recorded()[before:] {
		counts[call]++
	}
	return counts
}

// leader gives the proxy that hears the root, as the logs tell, once there is one.
func (f *fleet) leader(t *testing.T) *server {
	t.Helper()
	var leader *server
	waitFor(t, "one proxy leads", func() bool {
		leader = nil
		for _, s := range f.proxies {
			if leads(t, s) {
				if leader != nil {
					return false
				}
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// leads tells whether a server says last that it leads.
func leads(t *testing.T, s *server) bool {
	t.Helper()
	select {
	case <-s.exited:
		return false
	default:
	}
	log := s.log(t)
	return strings.LastIndex(log, `"leader":true`) > strings.LastIndex(log, `"leader":false`)
}

func during(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestProxiesShareDefinitions: one of the proxies hears the root, and every change reaches the others through the Redis.
func TestProxiesShareDefinitions(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	leader := f.leader(t)
	counts := f.asked(func() {
		f.arrives(t, "as usual", f.proxies...)
		during(t, 5*time.Second)
	})
	t.Logf("asked: %v", counts)
	if counts["WatchChanges"] > 1 || counts["GetSnapshot"] > 3 {
		t.Errorf("the root was asked for %v", counts)
	}

	leader.stop(t, syscall.SIGKILL)
	living := slices.DeleteFunc(slices.Clone(f.proxies), func(s *server) bool { return s == leader })
	f.arrives(t, "with the leader dead", living...)
	if f.leader(t) == leader {
		t.Error("a dead proxy leads")
	}
}
