package provider

import (
	"io"
	"maps"
	"net"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// fault is something that can be wrong with a server, or with what stands before
// it.
type fault struct {
	name string
	// serve stands for the server; nil for a fault of the connection itself.
	serve serving
	// says is a part of the diagnostic's detail, so that no fault is taken for
	// another.
	says string
	// again: it may pass, so the request is repeated.
	again bool
	// passing: it is over with the second request in every case.
	passing bool
}

type serving = func(p *faultyProxy, w http.ResponseWriter, r *http.Request)

// silence is said of a server that does not answer in time, be it within the
// request timeout or within the whole operation's.
const silence = "overloaded, or is a firewall dropping packets on the way?"

// The faults of the connection itself.
const (
	refused     = "refused"
	unknownCert = "certificate unknown"
)

var faults = []fault{
	{name: refused, says: "refused the connection", again: true},
	{name: unknownCert, says: "shows a certificate of an authority that this machine does not trust"},
	{name: "reset", serve: resets, says: "closed the connection without an answer", again: true},
	{name: "reset before the answer", serve: after(resets), says: "closed the connection without an answer", again: true},
	{name: "reset in the answer", serve: half(resets), says: "broke off its answer", again: true},
	{name: "cut off", serve: half(aborts), says: "broke off its answer", again: true},
	{name: "cut short", serve: half(ends), says: "is cut off or cannot be read", again: true}, // and ended properly
	{name: "cut JSON", serve: everyTime(anyBody(http.StatusInternalServerError, "application/json", `{"code":"inter`)), says: "answered 500 (Internal Server Error) with JSON", again: true},
	{name: "HTML", serve: everyTime(anyBody(http.StatusOK, "text/html", "<html>It works!</html>")), says: "answered with an HTML page"},
	{name: "empty", serve: everyTime(anyBody(http.StatusOK, "-", "")), says: "answered with an empty body"},
	{name: "wrong content type", serve: mistyped, says: "answered with content of the type application/octet-stream"},
	{name: "wrong types", serve: misbuilt, says: "Nothing can be told from such an answer"},
	{name: "400", serve: everyTime(anyBody(http.StatusBadRequest, "application/json", `{"code":"invalid_argument","message":"that cannot be"}`)), says: "says: that cannot be."},
	{name: "401", serve: everyTime(anyBody(http.StatusUnauthorized, "application/json", `{"code":"unauthenticated","message":"the token is not known"}`)), says: "says: the token is not known. Check that the token is one of this server."},
	{name: "403", serve: everyTime(anyBody(http.StatusForbidden, "application/json", `{"code":"permission_denied","message":"the token may not do this"}`)), says: "says: the token may not do this."},
	{name: "403 of a proxy", serve: everyTime(anyBody(http.StatusForbidden, "text/html", "<html>no</html>")), says: "which is not how a flag server refuses a call"},
	{name: "404 of a proxy", serve: everyTime(anyBody(http.StatusNotFound, "text/html", "<html>no</html>")), says: "answered 404 (Not Found) with an HTML page"},
	{name: "409", serve: everyTime(anyBody(http.StatusConflict, "application/json", `{"code":"aborted","message":"somebody else was first"}`)), says: "says: somebody else was first."},
	{name: "429", serve: everyTime(anyBody(http.StatusTooManyRequests, "text/plain", "no")), says: "answered 429: too many requests", again: true},
	{name: "429 for a second", serve: everyTime(page(http.StatusTooManyRequests, "1")), says: "answered 429: too many requests", again: true, passing: true},
	{name: "429 for longer than there is", serve: everyTime(page(http.StatusTooManyRequests, "60")), says: "asked not to be asked again for 1m0s, which is longer than this operation may take"},
	{name: "500", serve: everyTime(anyBody(http.StatusInternalServerError, "text/plain", "no")), says: "answered 500 (Internal Server Error)", again: true},
	{name: "502", serve: everyTime(anyBody(http.StatusBadGateway, "text/plain", "no")), says: "answered 502 (Bad Gateway)", again: true},
	{name: "503", serve: everyTime(anyBody(http.StatusServiceUnavailable, "text/plain", "no")), says: "answered 503 (Service Unavailable)", again: true},
	{name: "slow headers", serve: slowHeaders, says: silence, again: true},
	{name: "slow body", serve: half(hangs), says: silence, again: true},
	{name: "hanging", serve: hangs, says: silence, again: true},
	{name: "hanging before the answer", serve: after(hangs), says: silence, again: true},
	{name: "redirect to another host", serve: redirects, says: ". Redirects are not followed, so that the token reaches no other host."},
}

// everyTime is a fault that has nothing to do with the server.
func everyTime(h http.HandlerFunc) serving {
	return func(_ *faultyProxy, w http.ResponseWriter, r *http.Request) { h(w, r) }
}

// after lets the server do what it is asked, and loses the answer.
func after(then serving) serving {
	return func(p *faultyProxy, w http.ResponseWriter, r *http.Request) {
		p.answer(r)
		then(p, w, r)
	}
}

// half lets the server do what it is asked, and hands on the first half of the
// answer.
func half(then serving) serving {
	return func(p *faultyProxy, w http.ResponseWriter, r *http.Request) {
		a := p.answer(r)
		maps.Copy(w.Header(), a.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(a.Code)
		w.Write(a.Body.Bytes()[:a.Body.Len()/2])
		w.(http.Flusher).Flush()
		then(p, w, r)
	}
}

func ends(*faultyProxy, http.ResponseWriter, *http.Request) {}

func aborts(*faultyProxy, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// resets ends the connection with a reset.
func resets(_ *faultyProxy, w http.ResponseWriter, _ *http.Request) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	connection.(*net.TCPConn).SetLinger(0)
	connection.Close()
}

// hangs says nothing (more) until the caller leaves.
func hangs(p *faultyProxy, _ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-p.done:
	}
}

// slowHeaders begins an answer and does not get beyond its headers until the
// caller leaves.
func slowHeaders(_ *faultyProxy, w http.ResponseWriter, _ *http.Request) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-")
	io.Copy(io.Discard, connection)
}

// mistyped hands the server's answer on as something else.
func mistyped(p *faultyProxy, w http.ResponseWriter, r *http.Request) {
	a := p.answer(r)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(a.Body.Bytes())
}

// misbuilt answers with a message whose fields are of other types than anything
// that is expected.
func misbuilt(_ *faultyProxy, w http.ResponseWriter, r *http.Request) {
	var message []byte
	for field := protowire.Number(1); field < 20; field++ {
		message = protowire.AppendFixed32(protowire.AppendTag(message, field, protowire.Fixed32Type), 1)
	}
	kind := r.Header.Get("Content-Type")
	if kind == "application/connect+proto" { // a stream, whose messages stand in envelopes
		message = append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
	}
	w.Header().Set("Content-Type", kind)
	w.Write(message)
}

// redirects leads to another host: the proxy by its other name, so that it sees
// whoever follows.
func redirects(_ *faultyProxy, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", strings.Replace("http://"+r.Host+r.URL.Path, "127.0.0.1", "localhost", 1))
	w.WriteHeader(http.StatusFound)
}
