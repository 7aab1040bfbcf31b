// Package client is the road to a flag server: it asks and writes, and turns
// whatever can go wrong on the way into one kind of error in one voice. It knows
// nothing of Terraform and nothing of how a server is built.
//
// What it promises its callers: absence is proven, never guessed from a failure;
// every attempt ends in time; the token goes to the one host that it was given
// for and into no message.
package client

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// DefaultRequestTimeout limits one attempt when Options do not.
const DefaultRequestTimeout = 10 * time.Second

// maxAnswerBytes bounds one message from the server: an Apply may bring 64 MB,
// and its answer repeats every object with what the server adds.
const maxAnswerBytes = 128 << 20

// maxTripBytes bounds the changes that travel together: small enough that one
// call is no burden, large enough for a thousand flags.
const maxTripBytes = 16 << 20

// Options say which server to ask, as whom and how.
type Options struct {
	// Endpoint is the server's base URL, as ParseEndpoint reads it.
	Endpoint string
	// Token is the secret of a token; "" sends none.
	Token string
	// UserAgent is product and version, like "terraform-provider-bunting/1.2.3".
	UserAgent string
	// RequestTimeout limits each attempt; on a stream it limits silence. 0 is
	// DefaultRequestTimeout.
	RequestTimeout time.Duration
	// ChangeNote goes into the audit log with every write that brings no note of
	// its own.
	ChangeNote string
	// Policy says how calls are repeated; nil: DefaultPolicy.
	Policy *Policy
	// TLS says whom to trust and who we are; nil: the system's authorities, and no
	// client certificate. It is not for a Transport of the caller's.
	TLS *TLS
	// Report is told the totals when the last call under way ends, at most once a
	// second; nil: nobody is.
	Report func(context.Context, Totals)
	// Shared is where definitions are shared with other processes; the zero
	// SharedPlace: nowhere. What a walk reads whole goes through it.
	Shared SharedPlace
	// MaxAge is how long ago the server may have confirmed the shared copy that a walk
	// evaluates from instead of asking; 0: it always asks.
	MaxAge time.Duration
	// Warn is told in one line what keeps a walk from the shared copy, which it goes on
	// without; nil: nobody is.
	Warn func(ctx context.Context, text string)
	// Transport carries the requests; nil: one of the client's own, with a pool
	// of connections that Close empties.
	Transport http.RoundTripper
	// Around is given what carries the requests and gives what is used instead, so
	// that each one can be observed; nil: nothing is put around it.
	Around func(http.RoundTripper) http.RoundTripper
}

// Client asks one server as one caller. It may be used by many goroutines at
// once.
type Client struct {
	endpoint string
	timeout  time.Duration
	note     string
	token    string // only to keep it out of messages; requests get it from transport
	own      *http.Transport
	totals   *counters
	report   func(context.Context, Totals)
	place    SharedPlace
	maxAge   time.Duration
	warn     func(context.Context, string)

	admin     buntingv1connect.FlagAdminServiceClient
	evaluator pbflagsv1connect.FlagEvaluatorServiceClient

	host      *host
	passing   breaker // of calls that are passed on: how long one takes is its caller's matter
	judging   breaker // of WhoIs, which whoever has no good token has asked: it must not end what others pass on
	handshake fetched[*Server]

	writes coalescer[flag.Change, verdict]

	mu      sync.Mutex
	written flag.Revision              // the newest revision that a write of ours made
	wrote   map[flag.Key]flag.Revision // the newest one for each flag, with what is on it
}

// New makes a client. It sends nothing yet. The error is an *Error of the kind
// Config.
func New(o Options) (*Client, error) {
	endpoint, err := ParseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := checkToken(o.Token); err != nil {
		return nil, err
	}
	if err := checkHeader("user agent", o.UserAgent); err != nil {
		return nil, err
	}
	if o.RequestTimeout < 0 {
		return nil, configError("use the request timeout", "the request timeout is "+o.RequestTimeout.String()+", but it must be more than 0. Write a duration like \"10s\".")
	}
	c := &Client{endpoint: endpoint, timeout: o.RequestTimeout, note: o.ChangeNote, token: o.Token, wrote: map[flag.Key]flag.Revision{}, totals: newCounters(), report: o.Report, place: o.Shared, maxAge: o.MaxAge, warn: o.Warn}
	c.writes = coalescer[flag.Change, verdict]{send: c.applyAll, weigh: changeBytes, most: maxTripBytes, keep: true, together: c.travelled}
	c.handshake.fetch = c.greet
	policy := DefaultPolicy
	if o.Policy != nil {
		policy = *o.Policy
	}
	c.host, c.passing.policy, c.judging.policy = newHost(policy), policy, policy
	if c.timeout == 0 {
		c.timeout = DefaultRequestTimeout
	}
	road := o.Transport
	if road == nil {
		c.own = newTransport()
		if o.TLS != nil {
			if c.own.TLSClientConfig, err = o.TLS.config(endpoint); err != nil {
				return nil, err
			}
		}
		road = c.own
	}
	if o.Around != nil {
		road = o.Around(road)
	}
	t := &transport{road: road, userAgent: o.UserAgent, token: o.Token, count: func() *counters { return c.totals }}
	options := connect.WithClientOptions(connect.WithReadMaxBytes(maxAnswerBytes))
	c.admin = buntingv1connect.NewFlagAdminServiceClient(t, endpoint, options)
	c.evaluator = pbflagsv1connect.NewFlagEvaluatorServiceClient(t, endpoint, options)
	return c, nil
}

// travelled counts questions that went as one request.
func (c *Client) travelled(questions int) {
	c.totals.add(func(t *Totals) { t.Coalesced += int64(questions - 1) })
}

// Totals is what the client has asked so far; for a shared one, what all have.
func (c *Client) Totals() Totals { return c.totals.sum() }

// Endpoint gives the server's base URL as it is used: with its scheme, without a
// trailing slash.
func (c *Client) Endpoint() string { return c.endpoint }

// Close ends idle connections. Calls under way are not ended.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// checkToken refuses what cannot be a token without showing it.
func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return configError("use the token", "the token has a space, a line break or another character that no token has. Give the secret alone, as \"bunting token create\" printed it.")
	}
	return nil
}

func checkHeader(name, text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return configError("use the "+name, "the "+name+" has a control character or one outside ASCII. Remove it.")
	}
	return nil
}
