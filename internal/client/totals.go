package client

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptrace"
	"path"
	"sync"
	"time"
)

// Totals is what clients have asked so far (DESIGN §7).
type Totals struct {
	Requests        int64                 `json:"requests"`
	Bytes           int64                 `json:"bytes"`            // of the answers' bodies, as they came
	Coalesced       int64                 `json:"coalesced"`        // reads and writes that travelled with another
	Hits            int64                 `json:"hits"`             // reads that needed no request
	Retries         int64                 `json:"retries"`          // attempts after the first
	Pauses          int64                 `json:"pauses"`           // that servers asked for
	BreakerOpenings int64                 `json:"breaker_openings"` // how often a host was found not to answer
	Connections     int64                 `json:"connections"`      // opened
	Operations      map[string]Operations `json:"operations"`       // by call, like GetSnapshot
}

// Operations are the requests of one call, and the bytes of their answers.
type Operations struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// reportEvery is how often totals are told at most.
const reportEvery = time.Second

// counters count for one client, or for all that are shared.
type counters struct {
	mu       sync.Mutex
	totals   Totals
	underway int
	told     time.Time // when the totals were last told
}

func newCounters() *counters { return &counters{totals: Totals{Operations: map[string]Operations{}}} }

// add counts something; by says where.
func (c *counters) add(by func(*Totals)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by(&c.totals)
}

// hit counts a read that needed no request.
func (c *counters) hit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals.Hits++
}

func (c *counters) sum() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.totals
	t.Operations = maps.Clone(t.Operations)
	return t
}

// begin and end enclose a call. end tells the totals when none is under way any
// more, unless they were told a moment ago.
func (c *counters) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underway++
}

func (c *counters) end(ctx context.Context, report func(context.Context, Totals)) {
	c.mu.Lock()
	c.underway--
	now := time.Now()
	due := c.underway == 0 && report != nil && now.Sub(c.told) >= reportEvery
	if due {
		c.told = now
	}
	c.mu.Unlock()
	if due {
		report(ctx, c.sum())
	}
}

// request counts a request, and the connection if it takes a new one.
func (c *counters) request(r *http.Request) *http.Request {
	call := path.Base(r.URL.Path)
	c.add(func(t *Totals) {
		o := t.Operations[call]
		o.Requests++
		t.Requests++
		t.Operations[call] = o
	})
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if !got.Reused {
			c.add(func(t *Totals) { t.Connections++ })
		}
	}}))
}

// received counts bytes of an answer to a request.
func (c *counters) received(r *http.Request, bytes int) {
	call := path.Base(r.URL.Path)
	c.add(func(t *Totals) {
		o := t.Operations[call]
		o.Bytes += int64(bytes)
		t.Bytes += int64(bytes)
		t.Operations[call] = o
	})
}
