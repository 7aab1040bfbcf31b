//go:build unix

package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

const (
	// killTTL is the fleets' definition_cache.kill_ttl: an eighth of it is what a proxy gives its Redis for an answer, on a
	// machine that is busy.
	killTTL = 4 * time.Second
	// staleAfter leaves time for the question that a proxy without a Redis asks just before killTTL.
	staleAfter = 7 * time.Second
)

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
		append([]string{"--upstream", f.way.endpoint, "--environment", "prod",
			"--definition-cache-kill-ttl", killTTL.String(), "--stale-after", staleAfter.String()}, settings...)...)
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

// fetching is what a proxy that asks the root by itself may take beyond kill_ttl, or all of them on a busy machine.
const fetching = 1500 * time.Millisecond

// arrives kills and releases, and checks that every proxy knows in time.
func (f *fleet) arrives(t *testing.T, what string, proxies ...*server) {
	t.Helper()
	for _, kill := range []bool{true, false} {
		took := f.kill(t, kill, proxies...)
		t.Logf("%s: %v", what, took)
		if late := slices.Max(took); late > killTTL+fetching {
			t.Errorf("%s: a proxy knew after %s, and kill_ttl is %s", what, late, killTTL)
		}
	}
}

// living gives the proxies that run.
func (f *fleet) living() []*server {
	return slices.DeleteFunc(slices.Clone(f.proxies), ended)
}

func ended(s *server) bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
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

// leads counts how often the lead was taken or lost.
func (f *fleet) leads(t *testing.T) (times int) {
	t.Helper()
	for _, s := range f.living() {
		_, after, ok := strings.Cut(s.metrics(t, s.token), "\nbunting_definition_cache_leadership_changes_total ")
		line, _, _ := strings.Cut(after, "\n")
		n, err := strconv.Atoi(line)
		if !ok || err != nil {
			t.Fatalf("a proxy does not tell how often the lead changed, but %q: %v", line, err)
		}
		times += n
	}
	return times
}

// leads tells whether a server says last that it leads.
func leads(t *testing.T, s *server) bool {
	t.Helper()
	log := s.log(t)
	return !ended(s) && strings.LastIndex(log, `"leader":true`) > strings.LastIndex(log, `"leader":false`)
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
	if greeted := len(slices.DeleteFunc(f.way.recorded(), func(call string) bool { return call != handshake })); greeted != len(f.proxies) {
		t.Errorf("%d proxies greeted the root %d times at their start", len(f.proxies), greeted)
	}
	lead := f.leads(t)
	counts := f.asked(func() {
		f.arrives(t, "as usual", f.proxies...)
		during(t, 5*time.Second)
	})
	t.Logf("asked: %v", counts)
	lead = f.leads(t) - lead // where a machine is so busy that the leader is late, another leads
	if counts["WatchChanges"] > 1+lead || counts["GetSnapshot"] > 3+2*lead {
		t.Errorf("the root was asked for %v, and the lead was taken %d times", counts, lead)
	}

	// Who writes through one that follows reads it there.
	for _, s := range f.proxies {
		f.readsItsWrites(t, s)
	}

	leader.stop(t, syscall.SIGKILL)
	f.arrives(t, "with the leader dead", f.living()...)
	next := f.leader(t)

	// A token that was revoked ends everywhere, and nobody asks about all others because of it.
	_, secret, err := f.admin.CreateToken(t.Context(), token.Token{Name: "app", Scopes: []token.Scope{token.Evaluate}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.living() {
		if status, answer := s.call(t, secret, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "pay"}); status != http.StatusOK {
			t.Errorf("a proxy does not take the new token: %d %v", status, answer)
		}
	}
	counts = f.asked(func() {
		if _, err := f.admin.RevokeToken(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		for _, s := range f.living() {
			waitFor(t, "the revoked token is refused", func() bool {
				status, _ := s.call(t, secret, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "pay"})
				return status == http.StatusUnauthorized
			})
			s.evaluate(t, "pay", "") // by another token, which is known
		}
	})
	if counts["GetServer"] > 0 {
		t.Errorf("for one revoked token the root was asked for %v", counts)
	}

	// Who is told to end gives the lead away at once.
	began := time.Now()
	next.stop(t, syscall.SIGTERM)
	f.leader(t)
	t.Logf("another leads %s after the leader was told to end", time.Since(began))
	f.arrives(t, "with one left", f.living()...)
}

// readsItsWrites writes through a proxy, and asks it for just that.
func (f *fleet) readsItsWrites(t *testing.T, s *server) {
	t.Helper()
	c := f.client(t, s)
	for i := range 5 {
		key := flag.Key(fmt.Sprintf("written/%d", i))
		applied, err := c.Apply(t.Context(), client.Batch{Changes: []flag.Change{flag.Put(boolean(key))}})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := c.Evaluate(t.Context(), client.Question{Key: key, Minimum: applied.Revision}); err != nil || e.Source != flag.SourceGlobal {
			t.Errorf("after the write %d: %+v, %v", i, e, err)
		}
	}
}

// TestProxiesShareAFolder: without a Redis, on one machine, by looking four times in kill_ttl.
func TestProxiesShareAFolder(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 0)
	folder := filepath.Join(t.TempDir(), "shared")
	for range 2 {
		f.add(t, "--definition-cache-directory", folder)
	}
	leader := f.leader(t)
	counts := f.asked(func() {
		f.arrives(t, "by a folder", f.proxies...)
		for _, s := range f.proxies {
			f.readsItsWrites(t, s)
		}
	})
	if counts["GetSnapshot"] > 3 {
		t.Errorf("the root was asked for %v", counts)
	}
	leader.stop(t, syscall.SIGKILL)
	f.arrives(t, "with the leader dead", f.living()...)
}

// TestProxiesLoseTheirRedis: without it everything goes on, and each asks the root no more often than kill_ttl says.
func TestProxiesLoseTheirRedis(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	f.leader(t)
	f.redis.Kill()
	f.arrives(t, "while the Redis goes", f.proxies...)
	const while = 3 * killTTL
	counts := f.asked(func() {
		began := time.Now()
		f.arrives(t, "without the Redis", f.proxies...)
		for time.Since(began) < while {
			for _, s := range f.proxies {
				if got := readiness(t, s); got != "200 ready" {
					t.Errorf("a proxy says %q", got)
				}
			}
			during(t, 100*time.Millisecond)
		}
	})
	t.Logf("asked: %v", counts)
	if most := len(f.proxies) * int(while/killTTL+2); counts["GetSnapshot"] > most || counts["GetServer"] > most || counts["WatchChanges"] > 0 {
		t.Errorf("within %s without the Redis the root was asked for %v, more than %d times", while, counts, most)
	}
	f.redis.Run()
	f.leader(t)
	f.arrives(t, "with the Redis back", f.proxies...)
	for _, s := range f.proxies {
		if told := strings.Count(s.log(t), `"msg":"shared definitions: not all is well"`); told > 3 {
			t.Errorf("a proxy told of its trouble %d times", told)
		}
	}
}

// TestAProxyStartsFromTheSharedDefinitions: with the root away it serves what the others knew, and says that it is old.
func TestAProxyStartsFromTheSharedDefinitions(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	f.kill(t, true, f.proxies...) // who follows has it from the Redis
	secret := f.root.newToken(t, "late", "SCOPE_READ")
	f.root.stop(t, syscall.SIGKILL)
	late := newServer(t, []string{"BUNTING_TOKEN=" + secret}, "--upstream", f.way.endpoint, "--environment", "prod", "--anonymous", "evaluate", "--definition-cache-redis", f.redis.URL(), "--definition-cache-kill-ttl", killTTL.String(), "--stale-after", staleAfter.String())
	late.start(t)
	if got := late.evaluate(t, "pay", ""); got != "false KILLED" {
		t.Errorf("it serves %s", got)
	}
	if got := readiness(t, late); got != "200 ready, but stale" {
		waitFor(t, "it says that it is stale", func() bool { return readiness(t, late) == "200 ready, but stale" })
	}

	unnamed := finish(t, command(t, t.TempDir(), map[string]string{"BUNTING_TOKEN": secret}, program(t, "bunting"),
		"serve", "--listen", "127.0.0.1:0", "--upstream", f.way.endpoint, "--definition-cache-redis", f.redis.URL()))
	if unnamed.code != 1 {
		t.Errorf("without the name of its environment it ended with %d", unnamed.code)
	}
	unnamed.says(t, "Set environment, so that this server starts from the shared definitions")
}

// TestAProxyHasTheWrongPasswordOfItsRedis: it serves from the root, and says once what is wrong.
func TestAProxyHasTheWrongPasswordOfItsRedis(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 0)
	locked := redistest.Start(t, "--requirepass", "right-one")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong-one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := f.add(t, "--definition-cache-redis", locked.URL(), "--definition-cache-redis-password-file", password)
	f.arrives(t, "with a wrong password", s)
	log := s.log(t)
	if strings.Count(log, "it refuses user or password") != 1 || strings.Contains(log, "wrong-one") {
		t.Errorf("the log says\n%s", log)
	}

	if err := os.WriteFile(password, []byte("right-one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = f.add(t, "--definition-cache-redis", locked.URL(), "--definition-cache-redis-password-file", password)
	f.leader(t)
	f.arrives(t, "with the right password", s)
}

// TestThePagesUserOfRedisSuffices: a proxy shares, and hears of changes, as the user that deploy/README.md makes.
func TestThePagesUserOfRedisSuffices(t *testing.T) {
	t.Parallel()
	_, made, _ := strings.Cut(readFile(t, "../deploy/README.md"), "\nACL SETUSER bunting ")
	made, _, _ = strings.Cut(made, "\n```")
	words := strings.Fields("ACL SETUSER bunting " + strings.Replace(made, ">PASSWORD", ">hunter2", 1))
	f := startFleet(t, 0)
	options, err := redis.ParseURL(f.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(options)
	defer admin.Close()
	arguments := make([]any, len(words))
	for i, w := range words {
		arguments[i] = w
	}
	if err := admin.Do(t.Context(), arguments...).Err(); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.add(t, "--definition-cache-redis", strings.Replace(f.redis.URL(), "unix://", "unix://bunting@", 1), "--definition-cache-redis-password-file", password)
	}
	f.leader(t)
	f.arrives(t, "as the user of the page", f.proxies...)
	if log := f.proxies[0].log(t) + f.proxies[1].log(t); strings.Contains(log, "WARN") {
		t.Errorf("they say\n%s", log)
	}
	if stats := admin.Info(t.Context(), "errorstats").Val(); strings.Contains(stats, "NOPERM") {
		t.Errorf("the user may not do what it does:\n%s", stats)
	}
}
