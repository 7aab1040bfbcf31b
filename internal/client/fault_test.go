package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// everyCall is every call that there is, with what "cannot" goes on with.
var everyCall = []struct {
	name, op string
	call     func(context.Context, *Client) error
}{
	{"Server", "greet the server", func(ctx context.Context, c *Client) error { _, err := c.Server(ctx); return err }},
	{"Flag", `read the flag "pay/fast"`, func(ctx context.Context, c *Client) error { _, _, err := c.Flag(ctx, "pay/fast"); return err }},
	{"Override", `read the override of "pay" for "u1"`, func(ctx context.Context, c *Client) error { _, err := c.Override(ctx, "pay", "u1"); return err }},
	{"Holds", `read the holds of "pay"`, func(ctx context.Context, c *Client) error { _, err := c.Holds(ctx, "pay"); return err }},
	{"Write", `place the hold of "ops" on "pay"`, func(ctx context.Context, c *Client) error {
		_, err := c.Write(ctx, flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "r"}))
		return err
	}},
	{"Apply", "apply 2 changes", func(ctx context.Context, c *Client) error {
		_, err := c.Apply(ctx, Batch{Changes: []flag.Change{{Op: flag.ArchiveFlag, Ref: flag.FlagRef("a")}, {Op: flag.DeleteFlag, Ref: flag.FlagRef("b")}}})
		return err
	}},
	{"Snapshot", `read the flags under "pay"`, func(ctx context.Context, c *Client) error { _, err := c.Snapshot(ctx, "pay"); return err }},
	{"Evaluate", `evaluate "pay"`, func(ctx context.Context, c *Client) error {
		_, err := c.Evaluate(ctx, Question{Key: "pay"})
		return err
	}},
	{"BulkEvaluate", "evaluate flags", func(ctx context.Context, c *Client) error {
		_, err := c.BulkEvaluate(ctx, []flag.Key{"pay"}, flag.Context{}, flag.Revision{})
		return err
	}},
	{"KilledFlags", "read the killed flags", func(ctx context.Context, c *Client) error { _, err := c.KilledFlags(ctx); return err }},
	{"Audit", "read the audit log", func(ctx context.Context, c *Client) error { _, _, err := c.Audit(ctx, AuditFilter{}); return err }},
	{"CreateToken", `create the token "ci"`, func(ctx context.Context, c *Client) error {
		_, _, err := c.CreateToken(ctx, token.Token{Name: "ci", Scopes: []token.Scope{token.Read}})
		return err
	}},
	{"Tokens", "list the tokens", func(ctx context.Context, c *Client) error { _, err := c.Tokens(ctx); return err }},
	{"RevokeToken", `revoke the token "ci"`, func(ctx context.Context, c *Client) error { _, err := c.RevokeToken(ctx, "ci"); return err }},
}

const html = "<!DOCTYPE html><html><body>Sign in with " + secret + "</body></html>"

// told is an error of the Connect protocol.
func told(code, message string) string {
	text, err := json.Marshal(map[string]string{"code": code, "message": message})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// faults is what can stand where a server should, and what is said of it: each
// message as it is, with E for the endpoint.
//
//nolint:misspell // "Unauthorized" is HTTP's own word.
var faults = []struct {
	name       string
	then       behaviour
	timeout    time.Duration // 0: long
	kind       Kind
	status     int
	retryAfter time.Duration
	message    string
}{
	{
		name: "reset", then: resets, kind: Unavailable,
		message: `E closed the connection without an answer. Is it restarting, or does it want TLS (https://)?`,
	},
	{
		name: "closed without a word", then: func(net.Conn) {}, kind: Unavailable,
		message: `E closed the connection without an answer. Is it restarting, or does it want TLS (https://)?`,
	},
	{
		name: "hangs", then: hangs(""), timeout: 500 * time.Millisecond, kind: Timeout,
		message: `E did not answer within 500ms (the request timeout). Is it overloaded, or is a firewall dropping packets on the way?`,
	},
	{
		name: "slow headers", then: hangs("HTTP/1.1 200 OK\r\nContent-"), timeout: 500 * time.Millisecond, kind: Timeout,
		message: `E did not answer within 500ms (the request timeout). Is it overloaded, or is a firewall dropping packets on the way?`,
	},
	{
		name: "no HTTP", then: func(conn net.Conn) { fmt.Fprint(conn, "SSH-2.0-OpenSSH_9.2\r\n") }, kind: NotFlagServer,
		message: `E answered with something that is not HTTP. Check host and port; if it speaks TLS, write https:// before the host.`,
	},
	{
		name: "HTML with 200", then: says("200 OK", "Content-Type: text/html; charset=utf-8", html), kind: NotFlagServer, status: 200,
		message: `E answered with an HTML page, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "HTML of another type", then: says("200 OK", "Content-Type: text/plain", html), kind: NotFlagServer, status: 200,
		message: `E answered with an HTML page, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "empty 200", then: says("200 OK", "", ""), kind: NotFlagServer, status: 200,
		message: `E answered with an empty body, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "204", then: says("204 No Content", "", ""), kind: NotFlagServer, status: 204,
		message: `E answered 204 (No Content) with an empty body, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "JSON with 200", then: says("200 OK", "Content-Type: application/json", `{"ok":true}`), kind: NotFlagServer, status: 200,
		message: `E answered with JSON, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "wrong content type", then: says("200 OK", "Content-Type: image/png", "\x89PNG"), kind: NotFlagServer, status: 200,
		message: `E answered with content of the type image/png, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "HTML cut short", then: cuts("Content-Type: text/html", html), kind: NotFlagServer, status: 200,
		message: `E answered with an HTML page and broke off. A flag server was expected. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "redirect to another host", then: says("302 Found", "Location: https://login.example.com/?next="+secret, ""), kind: NotFlagServer, status: 302,
		message: `E redirects to https://login.example.com. Redirects are not followed, so that the token reaches no other host. If that is the flag server, write its address as the endpoint; if it is a login page, the endpoint stands behind one.`,
	},
	{
		name: "redirect to nowhere", then: says("301 Moved Permanently", "", ""), kind: NotFlagServer, status: 301,
		message: `E answered 301 (Moved Permanently), not as a flag server does. Check the endpoint.`,
	},
	{
		name: "400", then: says("400 Bad Request", "Content-Type: text/plain", "bad request"), kind: NotFlagServer, status: 400,
		message: `E answered 400 (Bad Request) with plain text, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "400 of a TLS port", then: says("400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.\n"), kind: NotFlagServer, status: 400,
		message: `E speaks TLS, but the endpoint says http. Write https:// instead.`,
	},
	{
		name: "400 of the server", then: says("400 Bad Request", "Content-Type: application/json", told("invalid_argument", "too many changes\x1b[31m\nat once")), kind: Invalid, status: 400,
		message: `E says: too many changes [31m at once.`,
	},
	{
		name: "401 of the server", then: says("401 Unauthorized", "Content-Type: application/json", told("unauthenticated", "the token is not known")), kind: Unauthenticated, status: 401,
		message: `E says: the token is not known. Check that the token is one of this server.`,
	},
	{
		name: "401 of a proxy", then: says("401 Unauthorized", "Content-Type: text/html", html), kind: Unauthenticated, status: 401,
		message: `E answered 401 (Unauthorized) with an HTML page, which is not how a flag server refuses a token. A proxy before it may want credentials of its own. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "403 of the server", then: says("403 Forbidden", "Content-Type: application/json", told("permission_denied", "the token "+secret+" has the scope read, but this needs kill")), kind: Denied, status: 403,
		message: `E says: the token (token) has the scope read, but this needs kill.`,
	},
	{
		name: "403 of a proxy", then: says("403 Forbidden", "Content-Type: text/html", html), kind: Denied, status: 403,
		message: `E answered 403 (Forbidden) with an HTML page, which is not how a flag server refuses a call. A proxy or firewall before it may have. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "404 of a proxy", then: says("404 Not Found", "Content-Type: text/plain", "404 page not found\n"), kind: NotFlagServer, status: 404,
		message: `E answered 404 (Not Found) with plain text, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "404 of a gateway", then: says("404 Not Found", "Content-Type: application/json", told("not_found", "no route")), kind: NotFlagServer, status: 404,
		message: `E says: no route. That is not how a flag server answers. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "407", then: says("407 Proxy Authentication Required", "", ""), kind: Denied, status: 407,
		message: `E answered 407 (Proxy Authentication Required): the proxy on the way wants credentials. Set them in HTTPS_PROXY, or exempt the host with NO_PROXY.`,
	},
	{
		name: "413", then: says("413 Payload Too Large", "Content-Type: text/html", html), kind: Invalid, status: 413,
		message: `E answered 413 (Request Entity Too Large): the request is larger than the server, or a proxy before it, allows. Write less at once, or raise the limit.`,
	},
	{
		name: "413 of the server", then: says("413 Payload Too Large", "Content-Type: application/json", told("resource_exhausted", "message size 99 is larger than configured max 64")), kind: Invalid, status: 413,
		message: `E says: message size 99 is larger than configured max 64. The request is larger than the server, or a proxy before it, allows. Write less at once, or raise the limit.`,
	},
	{
		name: "429", then: says("429 Too Many Requests", "", ""), kind: RateLimited, status: 429,
		message: `E answered 429: too many requests. Try again later.`,
	},
	{
		name: "429 with Retry-After", then: says("429 Too Many Requests", "Retry-After: 7", ""), kind: RateLimited, status: 429, retryAfter: 7 * time.Second,
		message: `E answered 429: too many requests. Try again in 7s, as it asks.`,
	},
	{
		name: "429 of the server", then: says("429 Too Many Requests", "Retry-After: 90\r\nContent-Type: application/json", told("resource_exhausted", "20 requests a second are allowed")), kind: RateLimited, status: 429, retryAfter: 90 * time.Second,
		message: `E says: 20 requests a second are allowed. Try again in 1m30s, as it asks.`,
	},
	{
		name: "500", then: says("500 Internal Server Error", "Content-Type: text/html", html), kind: ServerFault, status: 500,
		message: `E answered 500 (Internal Server Error) with an HTML page. The server's log says why.`,
	},
	{
		name: "500 of the server", then: says("500 Internal Server Error", "Content-Type: application/json", told("internal", "the database is read-only")), kind: ServerFault, status: 500,
		message: `E says: the database is read-only. The server's log says more.`,
	},
	{
		name: "500 with cut JSON", then: says("500 Internal Server Error", "Content-Type: application/json", `{"code":"inter`), kind: ServerFault, status: 500,
		message: `E answered 500 (Internal Server Error) with JSON. The server's log says why.`,
	},
	{
		name: "502", then: says("502 Bad Gateway", "Content-Type: text/html", html), kind: Unavailable, status: 502,
		message: `E answered 502 (Bad Gateway) with an HTML page. The flag server behind it is away or not ready yet. Try again later.`,
	},
	{
		name: "503", then: says("503 Service Unavailable", "Retry-After: 1\r\nContent-Type: text/plain", "no healthy upstream"), kind: Unavailable, status: 503, retryAfter: time.Second,
		message: `E answered 503 (Service Unavailable) with plain text. The flag server behind it is away or not ready yet. Try again in 1s, as it asks.`,
	},
	{
		name: "503 of the server", then: says("503 Service Unavailable", "Content-Type: application/json", told("unavailable", "the server is shutting down")), kind: Unavailable, status: 503,
		message: `E says: the server is shutting down. Try again later.`,
	},
	{
		name: "501 with a page", then: says("501 Not Implemented", "Content-Type: text/html", html), kind: NotFlagServer, status: 501,
		message: `E answered 501 (Not Implemented) with an HTML page, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "505", then: says("505 HTTP Version Not Supported", "Content-Type: text/plain", "HTTP/1.1?"), kind: NotFlagServer, status: 505,
		message: `E answered 505 (HTTP Version Not Supported) with plain text, not as a flag server does. Check the endpoint, and what stands before the flag server.`,
	},
	{
		name: "530 of a gateway", then: says("530 Frozen", "Content-Type: text/html", html), kind: ServerFault, status: 530,
		message: `E answered 530 (no status that HTTP knows) with an HTML page. The server's log says why.`,
	},
	{
		name: "501 of another program", then: says("501 Not Implemented", "Content-Type: application/json", told("unimplemented", "")), kind: Incompatible, status: 501,
		message: `E does not know this call. It is an older flag server, or another program that speaks the same protocol. Check the endpoint, and the server's version.`,
	},
}

// checkError checks everything that every error promises.
func checkError(t *testing.T, err error, endpoint, op, message string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %T (%v), want an *Error", err, err)
	}
	if got := strings.ReplaceAll(e.Message, endpoint, "E"); got != message {
		t.Errorf("message\n got: %s\nwant: %s", got, message)
	}
	if e.Op != op || e.Endpoint != endpoint || e.Error() != "cannot "+op+": "+e.Message {
		t.Errorf("op %q at %q says %q; want op %q at %q", e.Op, e.Endpoint, e.Error(), op, endpoint)
	}
	if strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\n\x1b<") {
		t.Errorf("the message holds the token, a page or a control character: %q", err.Error())
	}
	return e
}

// impatient repeats nothing: what is repeated, and when, is proven in retry_test.go.
var impatient = func() Policy {
	p := DefaultPolicy
	p.Attempts, p.BreakAfter = 1, math.MaxInt
	return p
}()

func newClient(t *testing.T, endpoint string, timeout time.Duration) *Client {
	t.Helper()
	c, err := New(Options{Endpoint: endpoint, Token: secret, UserAgent: "bunting/1.2.3", RequestTimeout: timeout, Policy: &impatient})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestFaults is the matrix: every fault × every call gives the one kind and the
// one message, after one request, with nothing left behind (TestMain).
func TestFaults(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			for _, call := range everyCall {
				t.Run(call.name, func(t *testing.T) {
					t.Parallel()
					d := newDouble(t, fault.then)
					c := newClient(t, d.endpoint, fault.timeout)
					e := checkError(t, call.call(t.Context(), c), c.Endpoint(), call.op, fault.message)
					if e.Kind != fault.kind || e.StatusCode != fault.status || e.RetryAfter != fault.retryAfter {
						t.Errorf("got %v, status %d, retry after %v; want %v, %d, %v", e.Kind, e.StatusCode, e.RetryAfter, fault.kind, fault.status, fault.retryAfter)
					}
					select { // who gives up may be quicker than a busy double
					case <-d.reached:
					case <-time.After(10 * time.Second):
					}
					requests, want := d.all(), 1
					if call.name == "Server" && unknownCall(e) {
						want = 2 // it is asked, too, whether it has the evaluator service
					}
					if len(requests) != want {
						t.Fatalf("%d requests were made, want %d", len(requests), want)
					}
					h := requests[0].header
					if h.Get("Authorization") != "Bearer "+secret || h.Get("User-Agent") != "bunting/1.2.3" || h.Get("Bunting-Protocol") != "1" || h.Get("Idempotency-Key") != "" {
						t.Errorf("headers: %v", h)
					}
				})
			}
		})
	}
}

// TestBrokenAnswers is the matrix of answers of the right type that are no
// answers: cut off, unreadable, about nothing.
func TestBrokenAnswers(t *testing.T) {
	const off = `E broke off its answer. Nothing can be told from a part of it. Try again; if it stays, look for a proxy or load balancer that cuts answers short.`
	const cut = `E sent an answer that is cut off or cannot be read. Nothing can be told from it. Try again; if it stays, look for a proxy that alters answers, and compare the versions of both sides.`
	for _, tc := range []struct {
		name    string
		promise int // bytes that are promised and never come
		body    func(stream bool) string
		message string
	}{
		{"cut body", 100, func(bool) string { return "\x0a\x64\x0a" }, off},
		{"body that never begins", 100, func(bool) string { return "" }, off},
		{"cut protobuf", 0, func(stream bool) string {
			if stream {
				return "\x00\x00\x00\x00\x03\x0a\x64\x0a"
			}
			return "\x0a\x64\x0a"
		}, cut},
		{"cut envelope", 0, func(stream bool) string {
			if stream {
				return "\x00\x00\x00"
			}
			return "\x0a"
		}, cut},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, call := range everyCall {
				t.Run(call.name, func(t *testing.T) {
					t.Parallel()
					var d *double
					d = newDouble(t, func(conn net.Conn) { d.matching(tc.body, tc.promise)(conn) })
					c := newClient(t, d.endpoint, 0)
					e := checkError(t, call.call(t.Context(), c), c.Endpoint(), call.op, tc.message)
					if e.Kind != Broken || len(d.all()) != 1 {
						t.Errorf("kind %v after %d requests, want %v after 1", e.Kind, len(d.all()), Broken)
					}
				})
			}
		})
	}
}

// TestSlowBody shows that the time limit covers the body too, and that on a
// stream it limits silence.
func TestSlowBody(t *testing.T) {
	for _, call := range everyCall {
		t.Run(call.name, func(t *testing.T) {
			t.Parallel()
			kind := typeUnary
			if call.name == "Snapshot" {
				kind = typeStream
			}
			d := newDouble(t, hangs("HTTP/1.1 200 OK\r\nContent-Type: "+kind+"\r\nContent-Length: 1000\r\n\r\n\x00"))
			c := newClient(t, d.endpoint, 500*time.Millisecond)
			e := checkError(t, call.call(t.Context(), c), c.Endpoint(), call.op, `E did not answer within 500ms (the request timeout). Is it overloaded, or is a firewall dropping packets on the way?`)
			if e.Kind != Timeout || !errors.Is(e, context.DeadlineExceeded) {
				t.Errorf("kind %v of %v", e.Kind, e.Err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + listener.Addr().String()
	listener.Close()
	for _, call := range everyCall {
		t.Run(call.name, func(t *testing.T) {
			c := newClient(t, endpoint, 0)
			e := checkError(t, call.call(t.Context(), c), endpoint, call.op, `E refused the connection. Is the flag server running there? Start it with "bunting serve", or correct the endpoint.`)
			if e.Kind != Unavailable {
				t.Errorf("kind %v", e.Kind)
			}
		})
	}
}

// TestCallersEnd shows that a caller's own end is told as such, and at once. A
// single change is another matter: TestAWriteIsNotWithdrawn.
func TestCallersEnd(t *testing.T) {
	for _, call := range everyCall {
		if call.name == "Write" {
			continue
		}
		t.Run(call.name, func(t *testing.T) {
			t.Parallel()
			reached := make(chan struct{}, 1)
			d := newDouble(t, func(conn net.Conn) { reached <- struct{}{}; hangs("")(conn) })
			c := newClient(t, d.endpoint, 0)

			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-reached; cancel() }()
			e := checkError(t, call.call(ctx, c), c.Endpoint(), call.op, `it was cancelled before E had answered.`)
			if e.Kind != Canceled || !errors.Is(e, context.Canceled) {
				t.Errorf("kind %v of %v", e.Kind, e.Err)
			}

			ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			e = checkError(t, call.call(ctx, c), c.Endpoint(), call.op, `the time for the whole operation ended before E had answered. Is the server overloaded, or is a firewall dropping packets on the way?`)
			if e.Kind != Timeout || !errors.Is(e, context.DeadlineExceeded) {
				t.Errorf("kind %v of %v", e.Kind, e.Err)
			}
		})
	}
}
