package provider

import (
	"bytes"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
)

// greeting is the procedure that every walk begins with.
const greeting = "GetServer"

// faultyProxy stands before a server, records what passes, and fails on demand.
type faultyProxy struct {
	*httptest.Server
	road *httputil.ReverseProxy
	done chan struct{} // ends hanging requests

	mu       sync.Mutex
	fault    http.HandlerFunc // nil: everything passes
	spare    string           // the procedure that passes in spite of a fault
	requests map[string]int   // by procedure, since fails was called last
	ids      []string         // request ids of the writes among them
	same     map[string]int   // by procedure and body
}

func newFaultyProxy(t *testing.T, server *buntingtest.Server) *faultyProxy {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &faultyProxy{road: httputil.NewSingleHostReverseProxy(target), requests: map[string]int{}, same: map[string]int{}, done: make(chan struct{})}
	transport := &http.Transport{}
	p.road.Transport = transport
	p.road.ErrorLog = log.New(io.Discard, "", 0) // callers leave
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		close(p.done)
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *faultyProxy) serve(w http.ResponseWriter, r *http.Request) {
	procedure := path.Base(r.URL.Path)
	body, err := io.ReadAll(r.Body) // or a hanging request would not see its caller leave
	if err != nil {
		return // the caller has left
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	fault, spare := p.fault, p.spare
	p.requests[procedure]++
	p.same[procedure+" "+string(body)]++
	var write buntingv1.ApplyRequest
	if procedure == "Apply" && proto.Unmarshal(body, &write) == nil {
		p.ids = append(p.ids, write.GetRequestId())
	}
	p.mu.Unlock()
	if fault == nil || procedure == spare {
		p.road.ServeHTTP(w, r)
		return
	}
	fault(w, r)
}

// answer lets the server answer, without compression.
func (p *faultyProxy) answer(r *http.Request) *httptest.ResponseRecorder {
	r.Header.Del("Accept-Encoding")
	r.Header.Del("Connect-Accept-Encoding")
	a := httptest.NewRecorder()
	p.road.ServeHTTP(a, r)
	return a
}

// fails makes everything but one procedure fail; nil makes everything pass. What
// was recorded is forgotten.
func (p *faultyProxy) fails(spare string, fault http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.spare, p.requests, p.ids, p.same = fault, spare, map[string]int{}, nil, map[string]int{}
}

func (p *faultyProxy) count(procedure string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[procedure]
}

// recorded gives the requests by procedure, and the request ids of the writes.
func (p *faultyProxy) recorded() (requests map[string]int, ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.requests), slices.Clone(p.ids)
}

// asked gives the requests by procedure.
func (p *faultyProxy) asked() map[string]int {
	requests, _ := p.recorded()
	return requests
}

// repeated tells how often the same was asked, at most.
func (p *faultyProxy) repeated() (most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.same {
		most = max(most, n)
	}
	return most
}

// named gives what can be wrong with a server, by the name that it has in faults.
func (p *faultyProxy) named(tb testing.TB, name string) http.HandlerFunc {
	tb.Helper()
	for _, f := range faults {
		if f.name == name && f.serve != nil {
			return func(w http.ResponseWriter, r *http.Request) { f.serve(p, w, r) }
		}
	}
	tb.Fatalf("no fault is named %q", name)
	return nil
}
