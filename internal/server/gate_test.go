package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// gate stands before an upstream. It counts what is asked, and answers itself when
// a test says so.
type gate struct {
	*httptest.Server

	mu      sync.Mutex
	behind  http.Handler
	instead http.HandlerFunc // nil: what is behind answers
	asked   map[string]int   // by the call's name
	others  map[string]int   // the same, of what a proxy passed on or asked about a caller: the rest it did for itself
	ids     map[string]bool  // request ids that came
}

func newGate(tb testing.TB, behind http.Handler) *gate {
	tb.Helper()
	g := &gate{behind: behind, asked: map[string]int{}, others: map[string]int{}, ids: map[string]bool{}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.asked[path.Base(r.URL.Path)]++
		if r.Header.Get(wire.ViaHeader) != "" {
			g.others[path.Base(r.URL.Path)]++
		}
		g.ids[r.Header.Get(requestIDHeader)] = true
		answer := g.behind.ServeHTTP
		if g.instead != nil {
			answer = g.instead
		}
		g.mu.Unlock()
		answer(w, r)
	}))
	tb.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
	})
	return g
}

// set has the gate answer by itself, for what is asked from now on and for the
// streams that there are; nil: no longer.
func (g *gate) set(instead http.HandlerFunc) {
	g.mu.Lock()
	g.instead = instead
	g.mu.Unlock()
	if instead != nil {
		g.CloseClientConnections()
	}
}

// down is an upstream that is away.
func down(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusBadGateway)
	w.Write([]byte("<html>bad gateway</html>"))
}

// hung is an upstream that takes what it is asked and says nothing.
func hung(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // or the caller's leaving would not be noticed
	<-r.Context().Done()
}

func (g *gate) count(call string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[call]
}

// passed counts the calls that a proxy made for a caller.
func (g *gate) passed(call string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.others[call]
}

func (g *gate) counts() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.asked)
}

func (g *gate) saw(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ids[id]
}

// upstreamClient is a proxy's client of its upstream.
func upstreamClient(tb testing.TB, endpoint, secret string) *client.Client {
	tb.Helper()
	c, err := client.New(client.Options{Endpoint: endpoint, Token: secret, RequestTimeout: client.UpstreamTimeout, Policy: &client.UpstreamPolicy})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// behind starts a proxy of the upstream at the endpoint, with the token.
func behind(tb testing.TB, endpoint, secret string, with ...func(*evaluator.FollowerOptions, *Options)) *harness {
	tb.Helper()
	h := &harness{log: &syncBuffer{}, ended: make(chan struct{}), admin: secret}
	log := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	upstream := upstreamClient(tb, endpoint, secret)
	following := evaluator.FollowerOptions{Options: evaluator.Options{Log: log}, ID: "proxy-" + tb.Name()}
	options := Options{Upstream: upstream, Version: "1.2.3", Log: log}
	for _, change := range with {
		change(&following, &options)
	}
	var err error
	if options.Follower, err = evaluator.NewFollower(tb.Context(), upstream, following); err != nil {
		upstream.Close()
		tb.Fatal(err)
	}
	h.run(tb, options, upstream.Close)
	return h
}

// named gives a proxy its id.
func named(id string) func(*evaluator.FollowerOptions, *Options) {
	return func(o *evaluator.FollowerOptions, _ *Options) { o.ID = id }
}

// has waits until a server has the revision.
func (h *harness) has(tb testing.TB, at flag.Revision) {
	tb.Helper()
	ctx, done := context.WithTimeout(tb.Context(), 10*time.Second)
	defer done()
	for {
		_, err := h.server.evaluator.WaitFor(ctx, flag.Revision{Number: at.Number})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			tb.Fatalf("it does not come to revision %d: %v\n%s", at.Number, err, h.log)
		}
	}
}

// eventually waits until something is so.
func eventually(tb testing.TB, what string, limit time.Duration, so func() bool) {
	tb.Helper()
	end := time.After(limit)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-end:
			tb.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// quickly does something that takes less than the limit where all goes well. A busy
// machine may hold it up, so the quickest of some times counts.
func quickly(tb testing.TB, limit time.Duration, what string, do func()) {
	tb.Helper()
	var best time.Duration
	for i := range 5 {
		began := time.Now()
		do()
		took := time.Since(began)
		if took < limit {
			return
		}
		if i == 0 || took < best {
			best = took
		}
	}
	tb.Errorf("%s took at least %s", what, best)
}

// held keeps back the answers to one call that a proxy makes for its callers until
// it is told to let them go. The proxy's own, which come when a stream breaks, go on.
type held struct {
	behind http.Handler
	call   string
	come   chan struct{} // gets a word when an answer is there
	let    chan struct{}
}

func (k *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path.Base(r.URL.Path) != k.call || r.Header.Get(wire.ViaHeader) == "" {
		k.behind.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	k.behind.ServeHTTP(answer, r)
	select {
	case k.come <- struct{}{}:
	case <-r.Context().Done(): // nobody waits for it any longer
		return
	}
	select {
	case <-k.let:
	case <-r.Context().Done():
		return
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(bytes.Clone(answer.Body.Bytes()))
}
