package client

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// poolSize is how many connections to one host may wait for their next request:
// as many as requests may be under way, or each wave of calls would connect anew.
const poolSize = 64

// maxErrorBytes bounds what is read of an answer that is no answer of ours; more
// is not needed to tell what it is.
const maxErrorBytes = 64 << 10

// The content types of the Connect protocol in binary form.
const (
	typeUnary  = "application/proto"
	typeStream = "application/connect+proto"
)

// onlyOnce names the calls that must not be repeated by themselves (onceOnly): all
// others only read, or carry a request id.
var onlyOnce = map[string]bool{"CreateToken": true, "RevokeToken": true}

// newTransport makes the pool of connections. Time limits come with each
// request's context, so it has none of its own but for idle connections, which
// it gives up before the usual 60 s and more of servers and load balancers.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        2 * poolSize,
		MaxIdleConnsPerHost: poolSize,
		IdleConnTimeout:     50 * time.Second,
		// The Connect protocol compresses by itself.
		DisableCompression: true,
	}
}

// fault is what the transport found instead of an answer. kind is 0 where the
// cause (err) has to say it.
type fault struct {
	kind       Kind
	found      string // what was found and what to do, in whole sentences that go on from the endpoint
	status     int
	retryAfter time.Duration
	err        error
}

func (f *fault) Error() string { return f.found }

func (f *fault) Unwrap() error { return f.err }

// errClosed stands for io.EOF where an answer should begin: generated clients
// take io.EOF itself for the end of a stream.
var errClosed = errors.New("the connection was closed before an answer began")

// transport is the one place where requests leave: it says who we are, follows
// no redirect, and lets nothing pass as an answer that is none. It works
// underneath the generated clients (connect.HTTPClient).
type transport struct {
	road      http.RoundTripper
	userAgent string
	token     string
	count     func() *counters
}

// Do sends a request and judges the answer. What it gives is either an answer of
// the Connect protocol with status 200, or a *fault.
func (t *transport) Do(r *http.Request) (*http.Response, error) {
	if t.token != "" && r.Header.Get("Authorization") == "" { // what is passed on brings its own
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	if t.userAgent != "" {
		r.Header.Set("User-Agent", t.userAgent)
	}
	r.Header.Set(wire.ProtocolHeader, strconv.Itoa(wire.Protocol))
	if !onlyOnce[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]] {
		// Lets net/http ask once more, on a new connection, when an idle one turns
		// out to be dead (documented at http.Transport). An empty list is not sent.
		r.Header["Idempotency-Key"] = []string{}
	}

	count := t.count()
	answer, err := t.road.RoundTrip(count.request(r))
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errClosed
		}
		return nil, &fault{err: err}
	}
	answer.Body = &countedBody{ReadCloser: answer.Body, asked: r, count: count}
	want := typeUnary
	if strings.HasPrefix(r.Header.Get("Content-Type"), typeStream) {
		want = typeStream
	}
	if got := mediaType(answer.Header); answer.StatusCode != http.StatusOK || got != want {
		defer func() { _ = answer.Body.Close() }() // as much as is wanted has been read
		return nil, judge(r.URL, answer)
	}
	if want == typeStream {
		answer.Body = &streamBody{ReadCloser: answer.Body, asked: r, answer: answer}
		return answer, nil
	}
	// A whole answer is taken in one go, so that a cut is told here and the
	// connection is free for the next request.
	defer func() { _ = answer.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, interrupted(r, answer, err)
	case len(body) > maxAnswerBytes:
		return nil, &fault{kind: Broken, status: answer.StatusCode, found: fmt.Sprintf("sent an answer of more than %d MB, the most that is read. Ask for fewer flags at once.", maxAnswerBytes>>20)}
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// countedBody counts what is read of an answer.
type countedBody struct {
	io.ReadCloser

	asked *http.Request
	count *counters
}

// Read counts.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.count.received(b.asked, n)
	return n, err
}

// interrupted says what became of an answer that had begun.
func interrupted(asked *http.Request, answer *http.Response, err error) *fault {
	if asked.Context().Err() != nil || !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
		return &fault{err: err} // our own end
	}
	return &fault{
		kind: Broken, status: answer.StatusCode, err: errClosed,
		found: "broke off its answer. Nothing can be told from a part of it. Try again; if it stays, look for a proxy or load balancer that cuts answers short.",
	}
}

// streamBody is the body of a stream.
type streamBody struct {
	io.ReadCloser

	asked  *http.Request
	answer *http.Response
}

// Read puts an interruption into words.
func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = interrupted(b.asked, b.answer, err)
	}
	return n, err
}

// Close reads the little that stands after the end of a finished stream, so that
// the connection can be used again. A stream that is given up has been cancelled
// before, so this waits for nothing.
func (b *streamBody) Close() error {
	_, _ = io.CopyN(io.Discard, b.ReadCloser, maxErrorBytes)
	return b.ReadCloser.Close()
}

// judge says what an answer is that is not the one expected.
func judge(asked *url.URL, answer *http.Response) *fault {
	status := fmt.Sprintf("answered %d (%s)", answer.StatusCode, statusName(answer.StatusCode))
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		return redirected(asked, answer)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorBytes))
	if answer.Header.Get("Content-Encoding") == "gzip" {
		body = gunzip(body)
	}
	f := &fault{status: answer.StatusCode, retryAfter: retryAfter(answer.Header.Get("Retry-After"), time.Now())}
	what := describe(answer.Header, body)
	if told := connectError(answer.Header, body); told != nil && answer.StatusCode != http.StatusOK {
		copyBeside(told.Meta(), answer.Header)
		f.err = told
		return f
	}
	const check = "Check the endpoint, and what stands before the flag server."
	switch code := answer.StatusCode; {
	case code == http.StatusOK && err != nil:
		f.kind, f.found = NotFlagServer, "answered with "+what+" and broke off. A flag server was expected. "+check
	case code == http.StatusOK:
		f.kind, f.found = NotFlagServer, "answered with "+what+", not as a flag server does. "+check
	case code == http.StatusUnauthorized:
		f.kind, f.found = Unauthenticated, status+" with "+what+", which is not how a flag server refuses a token. A proxy before it may want credentials of its own. "+check
	case code == http.StatusForbidden:
		f.kind, f.found = Denied, status+" with "+what+", which is not how a flag server refuses a call. A proxy or firewall before it may have. "+check
	case code == http.StatusProxyAuthRequired:
		f.kind, f.found = Denied, status+": the proxy on the way wants credentials. Set them in HTTPS_PROXY, or exempt the host with NO_PROXY."
	case code == http.StatusBadRequest && bytes.Contains(body, []byte("HTTP request to an HTTPS server")):
		f.kind, f.found = NotFlagServer, "speaks TLS, but the endpoint says http. Write https:// instead."
	case code == http.StatusTooManyRequests:
		f.kind, f.found = RateLimited, "answered 429: too many requests. "+waitAdvice(f.retryAfter)
	case code == http.StatusRequestTimeout, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		f.kind, f.found = Unavailable, status+" with "+what+". The flag server behind it is away or not ready yet. "+waitAdvice(f.retryAfter)
	case code > http.StatusInternalServerError && code <= http.StatusNetworkAuthenticationRequired:
		// Neither we nor gateways for us use the others of HTTP: no log of ours
		// says why.
		f.kind, f.found = NotFlagServer, status+" with "+what+", not as a flag server does. "+check
	case code >= http.StatusInternalServerError:
		f.kind, f.found = ServerFault, status+" with "+what+". The server's log says why."
	case code == http.StatusRequestEntityTooLarge:
		f.kind, f.found = Invalid, status+": the request is larger than the server, or a proxy before it, allows. Write less at once, or raise the limit."
	default:
		f.kind, f.found = NotFlagServer, status+" with "+what+", not as a flag server does. "+check
	}
	return f
}

// redirected refuses a redirect: following one would carry the token to
// wherever the answer says.
func redirected(asked *url.URL, answer *http.Response) *fault {
	f := &fault{kind: NotFlagServer, status: answer.StatusCode}
	to, err := asked.Parse(answer.Header.Get("Location"))
	switch {
	case err != nil || to.Host == "" || answer.Header.Get("Location") == "":
		f.found = fmt.Sprintf("answered %d (%s), not as a flag server does. Check the endpoint.", answer.StatusCode, statusName(answer.StatusCode))
	case to.Host == asked.Host && to.Scheme == "https" && asked.Scheme == "http":
		f.found = "redirects to https on the same host. Redirects are not followed. Write https:// in the endpoint."
	default:
		f.found = fmt.Sprintf("redirects to %s. Redirects are not followed, so that the token reaches no other host. If that is the flag server, write its address as the endpoint; if it is a login page, the endpoint stands behind one.", shownEndpoint(to.Scheme+"://"+to.Host))
	}
	return f
}

// describe says in words what a body is, never what it holds.
func describe(h http.Header, body []byte) string {
	text := bytes.ToLower(bytes.TrimSpace(body))
	kind := mediaType(h)
	switch {
	case len(body) == 0:
		return "an empty body"
	case kind == "text/html", bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")):
		return "an HTML page"
	case strings.HasSuffix(kind, "json"):
		return "JSON"
	case kind == "text/plain":
		return "plain text"
	case kind == typeUnary, kind == typeStream:
		return "another kind of call"
	case kind == "":
		return "a body of no stated type"
	}
	return "content of the type " + plain(kind, 80)
}

// connectError reads an error of the Connect protocol; nil when the body is
// none. It is read here, not by the generated client, because that takes every
// body for one, and reads none at all before a stream.
func connectError(h http.Header, body []byte) *connect.Error {
	if mediaType(h) != "application/json" {
		return nil
	}
	var told struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"details"`
	}
	var code connect.Code
	if readable := json.Unmarshal(body, &told) == nil && code.UnmarshalText([]byte(told.Code)) == nil; !readable {
		return nil
	}
	e := connect.NewWireError(code, errors.New(told.Message))
	for _, d := range told.Details {
		if detail := readDetail(d.Type, d.Value); detail != nil {
			e.AddDetail(detail)
		}
	}
	return e
}

// readDetail reads a detail of an error; nil for one that we do not know, which
// adds nothing.
func readDetail(name, text string) *connect.ErrorDetail {
	value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	kind, err2 := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if errors.Join(err, err2) != nil {
		return nil
	}
	m := kind.New().Interface()
	if proto.Unmarshal(value, m) != nil {
		return nil
	}
	detail, err := connect.NewErrorDetail(m)
	if err != nil {
		return nil
	}
	return detail
}

// retryAfter reads the header in both of its forms (RFC 9110 §10.2.3); 0 for
// none that can be read.
func retryAfter(text string, now time.Time) time.Duration {
	const most = 24 * time.Hour // more is no pause any more, and must not overflow
	if seconds, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63); err == nil {
		return min(time.Duration(min(seconds, uint64(most/time.Second)))*time.Second, most)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), most)
	}
	return 0
}

func waitAdvice(wait time.Duration) string {
	if wait <= 0 {
		return "Try again later."
	}
	return fmt.Sprintf("Try again in %s, as it asks.", max(time.Second, wait.Round(time.Second)))
}

func mediaType(h http.Header) string {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

func statusName(code int) string {
	if name := http.StatusText(code); name != "" {
		return name
	}
	return "no status that HTTP knows"
}

func gunzip(body []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	text, _ := io.ReadAll(io.LimitReader(r, maxErrorBytes))
	return text
}
