package provider

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// faultyProxy stands before a server, counts what passes, and fails on demand.
type faultyProxy struct {
	*httptest.Server
	road *httputil.ReverseProxy

	mu       sync.Mutex
	fault    http.HandlerFunc // nil: everything passes
	spare    string           // end of the paths that pass in spite of a fault
	requests map[string]int   // by procedure
	done     chan struct{}    // ends hanging requests
}

func newFaultyProxy(t *testing.T, server *buntingtest.Server) *faultyProxy {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &faultyProxy{road: httputil.NewSingleHostReverseProxy(target), requests: map[string]int{}, done: make(chan struct{})}
	transport := &http.Transport{}
	p.road.Transport = transport
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		close(p.done)
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *faultyProxy) serve(w http.ResponseWriter, r *http.Request) {
	procedure := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	p.mu.Lock()
	fault, spare := p.fault, p.spare
	p.requests[procedure]++
	p.mu.Unlock()
	if fault == nil || procedure == spare {
		p.road.ServeHTTP(w, r)
		return
	}
	fault(w, r)
}

// fails makes everything but one procedure fail; nil makes everything pass.
func (p *faultyProxy) fails(spare string, fault http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.spare, p.requests = fault, spare, map[string]int{}
}

func (p *faultyProxy) count(procedure string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[procedure]
}

// faults is what can be wrong with a server.
func (p *faultyProxy) faults() map[string]http.HandlerFunc {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	return map[string]http.HandlerFunc{
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			connection, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			connection.(*net.TCPConn).SetLinger(0)
			connection.Close()
		},
		"hanging": func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // or the server does not see the caller leave
			select {
			case <-r.Context().Done():
			case <-p.done:
			}
		},
		"HTML": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>It works!</html>") },
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			p.road.ServeHTTP(answer, r)
			maps.Copy(w.Header(), answer.Header())
			body := answer.Body.Bytes()
			w.Header().Del("Content-Length")
			w.Write(body[:len(body)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"cut short": func(w http.ResponseWriter, r *http.Request) { // and ended properly
			answer := httptest.NewRecorder()
			p.road.ServeHTTP(answer, r)
			maps.Copy(w.Header(), answer.Header())
			body := answer.Body.Bytes()
			w.Header().Del("Content-Length")
			w.Write(body[:len(body)/2])
		},
		"401": status(http.StatusUnauthorized),
		"403": status(http.StatusForbidden),
		"404": status(http.StatusNotFound),
		"429": status(http.StatusTooManyRequests),
		"500": status(http.StatusInternalServerError),
		"503": status(http.StatusServiceUnavailable),
	}
}

const everything = providerBlock + `
resource "bunting_flag" "f" {
  key           = "pay"
  default_value = false
  value         = true
  layer         = "user"
  timeouts      = { read = "5s" }
}
resource "bunting_override" "o" {
  flag_key  = bunting_flag.f.key
  entity_id = "u"
  value     = false
  timeouts  = { read = "5s" }
}
resource "bunting_kill_switch" "k" {
  flag_key = bunting_flag.f.key
  reason   = "load"
  timeouts = { read = "5s" }
}
`

// Whatever is wrong with the server: an error, no crash, and the state as it was.
func TestFaultsLeaveTheStateAlone(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken)
	c.env = append(c.env, "BUNTING_REQUEST_TIMEOUT=1s", "BUNTING_RETRY_ATTEMPTS=1")
	c.config(everything)
	c.applies().must(t)
	before := c.state()

	check := func(name string) {
		t.Helper()
		o := c.applies("-refresh-only")
		errors := o.of("error")
		if o.code != 1 || len(errors) == 0 || strings.Contains(o.text, "panic") || strings.Contains(o.text, "crash") {
			t.Errorf("%s: exit code %d\n%s", name, o.code, o.text)
		}
		for _, e := range errors {
			if !strings.HasPrefix(e.Summary, "Cannot ") || !strings.Contains(e.Detail, proxy.URL) || strings.Contains(e.Detail, server.AdminToken) {
				t.Errorf("%s: got %s", name, e)
			}
		}
		if !bytes.Equal(c.state(), before) {
			t.Errorf("%s: the state changed", name)
		}
	}
	for name, fault := range proxy.faults() {
		proxy.fails("", fault)
		check(name)
		if n := len(c.plans().of("error")); n != 1 {
			t.Errorf("%s at the greeting is told %d times", name, n)
		}
		proxy.fails("GetServer", fault)
		check(name + " after the greeting")
		if proxy.count("GetServer") == 0 || proxy.count("GetSnapshot") == 0 {
			t.Errorf("%s: the fault was not met: %v", name, proxy.requests)
		}
	}
	proxy.fails("", nil)
	c.unchanged()
	proxy.Close()
	check("refused")
}
