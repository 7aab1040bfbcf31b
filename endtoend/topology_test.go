package endtoend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// topology is what deploy/README.md describes, as processes: PostgreSQL, two roots, a balancer before them, two proxies
// behind it, and one proxy behind a proxy.
type topology struct {
	database *postgrestest.Server
	roots    [2]*server
	proxies  [3]*server // the last one is behind the second
	balancer *balancer
	token    string // of an admin
}

func startTopology(tb testing.TB) *topology {
	tb.Helper()
	n := &topology{database: postgrestest.Start(tb), balancer: balance(tb)}
	url := n.database.Database("")
	for i := range n.roots {
		n.roots[i] = newServer(tb, nil, "--database", url, "--environment", "prod", "--data", "data")
		n.start(tb, n.roots[i])
		if i == 0 { // the first start of the first root made it
			n.token = strings.TrimSpace(readFile(tb, filepath.Join(n.roots[0].dir, "bunting.token")))
		}
	}
	n.roots[0].token = n.token
	_, made := n.roots[0].call(tb, n.token, "bunting.v1.FlagAdminService/CreateToken", map[string]any{"name": "proxies", "scopes": []string{"SCOPE_READ"}})
	secret, _ := made["secret"].(string)
	upstream := n.balancer.endpoint
	for i := range n.proxies {
		if i == 2 {
			upstream = n.proxies[1].endpoint
		}
		n.proxies[i] = newServer(tb, []string{"BUNTING_TOKEN=" + secret}, "--upstream", upstream, "--data", "data")
		n.proxies[i].start(tb)
	}
	for _, s := range n.all() {
		s.token = n.token
	}
	return n
}

// start starts a server, and tells the balancer where a root is now.
func (n *topology) start(tb testing.TB, s *server) {
	tb.Helper()
	s.start(tb)
	if i := slices.Index(n.roots[:], s); i >= 0 {
		n.balancer.set(i, s.endpoint)
	}
}

// newServer makes a server that is to be started.
func newServer(tb testing.TB, env []string, args ...string) *server {
	tb.Helper()
	s := &server{dir: tb.TempDir(), args: args, env: env}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the log of bunting serve %s:\n%s", strings.Join(args, " "), s.log(tb))
		}
	})
	return s
}

// all gives the servers, from the roots outwards.
func (n *topology) all() []*server { return slices.Concat(n.roots[:], n.proxies[:]) }

// client asks a server as an admin.
func (n *topology) client(tb testing.TB, s *server) *client.Client {
	tb.Helper()
	c, err := client.New(client.Options{Endpoint: s.endpoint, Token: n.token, UserAgent: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// write makes a change at a server.
func (n *topology) write(tb testing.TB, c *client.Client, change flag.Change) flag.Revision {
	tb.Helper()
	applied, err := c.Apply(tb.Context(), client.Batch{Changes: []flag.Change{change}})
	if err == nil && applied.Results[0].Problem != nil {
		err = applied.Results[0].Problem
	}
	if err != nil {
		tb.Fatal(err)
	}
	return applied.Revision
}

// everywhere asks each server for a flag, at the revision or a later one, and waits no longer than a server does.
func (n *topology) everywhere(tb testing.TB, key flag.Key, at flag.Revision, want string) {
	tb.Helper()
	for i, s := range n.all() {
		e, err := n.client(tb, s).Evaluate(tb.Context(), client.Question{Key: key, Minimum: at})
		if err != nil {
			tb.Errorf("server %d: %v", i, err)
			continue
		}
		if got := fmt.Sprintf("%s %s %t", e.Value.JSON(), e.Source, e.Stale); got != want {
			tb.Errorf("server %d answers %s, want %s", i, got, want)
		}
	}
}

// becomes waits until every server answers so.
func (n *topology) becomes(tb testing.TB, key, want string) {
	tb.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(readyDeadline)
	for _, s := range n.all() {
		for got := s.evaluate(tb, key, ""); got != want; got = s.evaluate(tb, key, "") {
			select {
			case <-look.C:
			case <-deadline:
				tb.Fatalf("%v answers %s, want %s", s.args, got, want)
			}
		}
	}
}

// balancer passes connections on to one of the endpoints that takes them, each in turn.
type balancer struct {
	endpoint string

	mu sync.Mutex
	to [2]string // guarded by mu
}

func (b *balancer) set(i int, endpoint string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to[i] = endpoint
}

func (b *balancer) endpoints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.to[:])
}

func balance(tb testing.TB) *balancer {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &balancer{endpoint: "http://" + listener.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var passing sync.WaitGroup
	tb.Cleanup(func() { cancel(); listener.Close(); passing.Wait() })
	passing.Go(func() {
		for turn := 0; ; turn++ {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { pass(ctx, from, b.endpoints(), turn) })
		}
	})
	return b
}

// pass joins a connection to the first endpoint, from the turn's on, that takes one.
func pass(ctx context.Context, from net.Conn, endpoints []string, turn int) {
	defer from.Close()
	for i := range endpoints {
		to, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(endpoints[(turn+i)%len(endpoints)], "http://"))
		if err == nil {
			join(ctx, from, to)
			return
		}
	}
}

// join carries what either side says to the other, until one of them or the context ends.
func join(ctx context.Context, from, to net.Conn) {
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { from.Close(); to.Close() })
	defer stop()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, to)
		from.Close()
	}()
	_, _ = io.Copy(to, from)
	to.Close()
	<-back
}

func boolean(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled}
}

var opsHold = flag.HoldRef("pay", "ops")

func TestTopology(t *testing.T) {
	t.Parallel()
	n := startTopology(t)
	first, second, far := n.client(t, n.roots[0]), n.client(t, n.roots[1]), n.client(t, n.proxies[2])
	n.everywhere(t, "pay", n.write(t, first, flag.Put(boolean("pay"))), "true GLOBAL false")
	n.everywhere(t, "pay", n.write(t, second, flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"})), "false KILLED false")
	// Writes go on to a root from any proxy, with the caller's own name.
	released := n.write(t, far, flag.Change{Op: flag.ReleaseHold, Ref: opsHold})
	n.everywhere(t, "pay", released, "true GLOBAL false")
	entries, _, err := first.Audit(t.Context(), client.AuditFilter{Key: "pay"})
	if err != nil || len(entries) != 3 || entries[0].Action != "release_hold" || entries[0].Actor != "admin" || entries[0].Revision != released.Number {
		t.Errorf("%+v, %v", entries, err)
	}

	// A token made at one root is soon known everywhere, and one that ended is not.
	_, secret, err := first.CreateToken(t.Context(), token.Token{Name: "app", Scopes: []token.Scope{token.Evaluate}})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range n.all() {
		waitFor(t, fmt.Sprintf("server %d takes the new token", i), func() bool { // a proxy that asked too early remembers that for 10 s
			status, _ := s.call(t, secret, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "pay"})
			return status == http.StatusOK
		})
	}
	if _, err := second.RevokeToken(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	for i, s := range n.all() {
		n.refuses(t, i, s, secret)
	}

	// A root that dies takes nothing with it.
	n.roots[0].stop(t, syscall.SIGKILL)
	at := n.write(t, second, flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "again"}))
	n.start(t, n.roots[0])
	n.becomes(t, "pay", "false KILLED")
	n.everywhere(t, "pay", at, "false KILLED false")

	// Without the database everybody goes on with what was last known, says so, and a kill stays one.
	n.database.Stop()
	for i, s := range n.all() {
		waitFor(t, fmt.Sprintf("server %d is stale", i), func() bool { return readiness(t, s) == "200 ready, but stale" })
	}
	n.everywhere(t, "pay", flag.Revision{}, "false KILLED true")
	if _, err := n.client(t, n.proxies[0]).Apply(t.Context(), client.Batch{Changes: []flag.Change{flag.Put(boolean("new"))}}); err == nil {
		t.Error("a write was taken without the database")
	}

	// All of them start from their disks while it is away.
	for _, s := range n.all() {
		if code := s.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("%v ended with %d", s.args, code)
		}
	}
	for _, s := range n.all() {
		if s == n.proxies[2] { // its upstream has another port now
			s.args[1] = n.proxies[1].endpoint
		}
		n.start(t, s)
	}
	n.everywhere(t, "pay", flag.Revision{}, "false KILLED true")

	n.database.Run()
	for i, s := range n.all() {
		waitFor(t, fmt.Sprintf("server %d is fresh", i), func() bool { return readiness(t, s) == "200 ready" })
	}
	n.everywhere(t, "pay", n.write(t, n.client(t, n.proxies[2]), flag.Change{Op: flag.ReleaseHold, Ref: opsHold}), "true GLOBAL false")
}

// refuses waits until the server refuses a token that was revoked.
func (n *topology) refuses(t *testing.T, i int, s *server, secret string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("server %d refuses the revoked token", i), func() bool {
		status, _ := s.call(t, secret, "pbflags.v1.FlagEvaluatorService/Evaluate", map[string]any{"flagId": "pay"})
		return status == http.StatusUnauthorized
	})
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(readyDeadline); !is(); {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("after %s it is not so that %s", readyDeadline, what)
		}
	}
}

// readiness gives the status of /readyz and the beginning of its text.
func readiness(t *testing.T, s *server) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.endpoint+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	asking := http.Client{Timeout: commandDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := asking.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	return fmt.Sprintf("%d %s", answer.StatusCode, said)
}

// BenchmarkKillReachesEverybody measures, in the topology, the time from the answer to a kill at one root until every
// server has answered with it. The aim is p99 < 100 ms.
func BenchmarkKillReachesEverybody(b *testing.B) {
	n := startTopology(b)
	root := n.client(b, n.roots[0])
	n.write(b, root, flag.Put(boolean("pay")))
	var clients []*client.Client
	for _, s := range n.all() {
		clients = append(clients, n.client(b, s))
	}
	const kills = 200
	var took []time.Duration
	for b.Loop() {
		for i := range kills {
			change := flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"})
			want := flag.SourceKilled
			if i%2 == 1 {
				change, want = flag.Change{Op: flag.ReleaseHold, Ref: opsHold}, flag.SourceGlobal
			}
			at := n.write(b, root, change)
			began := time.Now()
			errs := make([]error, len(clients))
			var asking sync.WaitGroup
			for j, c := range clients {
				asking.Go(func() {
					e, err := c.Evaluate(b.Context(), client.Question{Key: "pay", Minimum: at})
					if err == nil && (e.Source != want || e.Stale) {
						err = fmt.Errorf("server %d answers %s", j, e.Source)
					}
					errs[j] = err
				})
			}
			asking.Wait()
			took = append(took, time.Since(began))
			if err := errors.Join(errs...); err != nil {
				b.Fatal(err)
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(0, "ns/op") // hundreds of kills are one
}
