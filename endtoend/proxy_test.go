package endtoend

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// handshake is the call that every client makes first.
const handshake = "GetServer"

// proxy stands before a server, records what is asked, and lets a test step in.
type proxy struct {
	endpoint string
	listener *httptest.Server
	target   atomic.Pointer[url.URL]

	mu    sync.Mutex
	calls []string
}

// stepIn handles a call; pass hands it on to the server.
type stepIn func(w http.ResponseWriter, r *http.Request, call string, pass http.Handler)

// startProxy starts a proxy before the endpoint.
func startProxy(t *testing.T, endpoint string, step stepIn) *proxy {
	t.Helper()
	p := &proxy{}
	p.leads(t, endpoint)
	transport := &http.Transport{}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(p.target.Load()) },
		Transport: transport,
		// What the server did not answer, nobody answers.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.listener = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		p.mu.Lock()
		p.calls = append(p.calls, call)
		p.mu.Unlock()
		// Whole, or an answer that begins before the question has ended would be broken off.
		question, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // who asked is gone
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(question)), int64(len(question))
		step(w, r, call, pass)
	}))
	p.endpoint = p.listener.URL
	t.Cleanup(func() {
		p.listener.CloseClientConnections()
		p.listener.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// leads has it lead to this server from now on: one that starts again need not have the port that it had.
func (p *proxy) leads(t *testing.T, endpoint string) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p.target.Store(target)
}

// recorded gives the calls so far.
func (p *proxy) recorded() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}
