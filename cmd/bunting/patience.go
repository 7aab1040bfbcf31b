package main

import (
	"net/http"
	"sync"
	"time"
)

// patienceTime is how long a command waits in silence. A server whose database
// hangs keeps it for half a minute, and whoever kills a flag at night must not
// take that for a broken terminal.
const patienceTime = 5 * time.Second

// patience carries requests, and says once that a command still waits: when for
// patienceTime there was no answer, or none but that the server is in trouble.
type patience struct {
	road http.RoundTripper
	tell func()

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil: nothing is waited for
	told  bool        // guarded by mu
}

// RoundTrip carries a request.
func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	p.begin()
	answer, err := p.road.RoundTrip(r)
	if err == nil && answer.StatusCode < http.StatusInternalServerError {
		p.end()
	}
	return answer, err
}

// begin starts to wait, unless it is waited already.
func (p *patience) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil && !p.told {
		p.timer = time.AfterFunc(patienceTime, p.lose)
	}
}

// end ends the waiting. Nothing is said after it.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

func (p *patience) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil && !p.told {
		p.told = true
		p.tell()
	}
}
