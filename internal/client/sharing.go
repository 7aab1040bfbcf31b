package client

import (
	"net/http"
	"sync"
	"time"
)

// keptFor is how long a client that nobody uses keeps its connections: so that a
// provider that is configured anew does not connect anew.
const keptFor = 200 * time.Millisecond

// share is what makes two clients one: the host, the credentials, and how it is
// asked.
type share struct {
	endpoint, token, userAgent, note string
	timeout                          time.Duration
	policy                           Policy
	tls                              TLS
	place                            SharedPlace
	maxAge                           time.Duration
	transport                        http.RoundTripper
}

// sharedClient is a client and how many use it.
type sharedClient struct {
	client *Client
	users  int
	idle   *time.Timer // ends it; nil while it is used
}

// shared are the clients of this process.
var shared = struct {
	mu      sync.Mutex
	clients map[share]*sharedClient
	totals  *counters
}{clients: map[share]*sharedClient{}, totals: newCounters()}

// Share gives the process's one client of a host with these options, so that all
// who ask it share its requests, its pauses and its connections. Who has it must
// call release once. Where nobody used it any more it greets the server anew. Errors
// are those of New.
func Share(o Options) (c *Client, release func(), err error) {
	endpoint, err := ParseEndpoint(o.Endpoint)
	if err != nil {
		return nil, nil, err
	}
	key := share{endpoint: endpoint, token: o.Token, userAgent: o.UserAgent, note: o.ChangeNote, timeout: o.RequestTimeout, policy: DefaultPolicy, place: o.Shared, maxAge: o.MaxAge, transport: o.Transport}
	if o.Policy != nil {
		key.policy = *o.Policy
	}
	if o.TLS != nil {
		key.tls = *o.TLS
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	s := shared.clients[key]
	if s == nil {
		if c, err = New(o); err != nil {
			return nil, nil, err
		}
		c.totals = shared.totals
		s = &sharedClient{client: c}
		shared.clients[key] = s
	}
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
		s.client.handshake.forget()
	}
	s.users++
	return s.client, sync.OnceFunc(func() { s.leave(key) }), nil
}

func (s *sharedClient) leave(key share) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	s.users--
	if s.users > 0 {
		return
	}
	var idle *time.Timer
	idle = time.AfterFunc(keptFor, func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if s.idle == idle { // nobody has come meanwhile
			delete(shared.clients, key)
			s.client.Close()
		}
	})
	s.idle = idle
}

// SharedTotals is what all shared clients of this process have asked so far.
func SharedTotals() Totals { return shared.totals.sum() }
