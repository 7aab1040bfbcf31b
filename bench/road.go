package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"sync"
	"sync/atomic"
	"time"
)

// road is the way to a flag server: a proxy on this machine that delays each request as a distance would, and counts
// what passes. The delay stands for the whole way there and back.
type road struct {
	endpoint string // what a client is told

	delay    time.Duration
	pass     http.Handler
	toServer *http.Transport
	web      *http.Server
	serving  sync.WaitGroup

	connections, bytes atomic.Int64

	mu    sync.Mutex
	calls map[string]call // guarded by mu
}

// traffic is what has passed a road.
type traffic struct {
	calls       map[string]call // by operation, like GetSnapshot
	connections int64           // that were opened
	bytes       int64           // in both directions, headers included
}

// call is what one operation was asked for.
type call struct {
	requests int
	spent    time.Duration // from the first byte asked to the last one answered, all requests together
}

// requests gives how many there were of all operations.
func (t traffic) requests() (n int) {
	for _, c := range t.calls {
		n += c.requests
	}
	return n
}

// openRoad opens a road to the server at the endpoint. It must be closed.
func openRoad(ctx context.Context, endpoint string, delay time.Duration) (*road, error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("open a road to %q: %w", endpoint, err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a road to %s: %w", endpoint, err)
	}
	r := &road{
		endpoint: "http://" + listener.Addr().String(), delay: delay, calls: map[string]call{},
		toServer: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, // or it would pass on less than it was asked for
	}
	r.pass = &httputil.ReverseProxy{
		Rewrite:   func(to *httputil.ProxyRequest) { to.SetURL(target) },
		Transport: r.toServer,
		// What the server did not answer, nobody answers.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	r.web = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.serving.Go(func() { _ = r.web.Serve(&countingListener{listener, r}) }) // it ends with close
	return r, nil
}

// ServeHTTP passes a request on.
func (r *road) ServeHTTP(w http.ResponseWriter, asked *http.Request) {
	begin := time.Now()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		name := path.Base(asked.URL.Path)
		c := r.calls[name]
		r.calls[name] = call{c.requests + 1, c.spent + time.Since(begin)}
	}()
	// Whole, or an answer that begins before the question has ended would be broken off.
	question, err := io.ReadAll(asked.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // who asked is gone
	}
	asked.Body, asked.ContentLength = io.NopCloser(bytes.NewReader(question)), int64(len(question))
	timer := time.NewTimer(r.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		r.pass.ServeHTTP(w, asked)
	case <-asked.Context().Done():
	}
}

// close waits for what is under way, closes the road, and tells what has passed.
func (r *road) close(ctx context.Context) (traffic, error) {
	err := r.web.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close the road %s: %w", r.endpoint, err), r.web.Close())
	}
	r.serving.Wait()
	r.toServer.CloseIdleConnections()
	r.mu.Lock()
	defer r.mu.Unlock()
	return traffic{calls: maps.Clone(r.calls), connections: r.connections.Load(), bytes: r.bytes.Load()}, err
}

// countingListener counts the connections of a road.
type countingListener struct {
	net.Listener

	road *road
}

// Accept waits for the next connection.
func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.road.connections.Add(1)
	return &countingConn{conn, l.road}, nil
}

// countingConn counts the bytes of a connection.
type countingConn struct {
	net.Conn

	road *road
}

// Read reads what was asked.
func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.road.bytes.Add(int64(n))
	return n, err
}

// Write writes what is answered.
func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.road.bytes.Add(int64(n))
	return n, err
}
