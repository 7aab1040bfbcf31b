package client

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.Redials()) }

// secret is the token of every test's client: what no message may hold.
const secret = "bunting_secret-secret-secret"

// asked is a request as the double saw it.
type asked struct {
	path   string
	header http.Header
	body   []byte
}

// behaviour is what the double does with a connection on which a request has
// been read. The connection is closed afterwards.
type behaviour func(conn net.Conn)

// double stands where a server should: it reads requests and does with their
// connections what a test wants.
type double struct {
	endpoint string
	reached  chan struct{} // closed with the first request

	mu       sync.Mutex
	requests []asked
}

// newDouble starts a double on a free port.
func newDouble(t *testing.T, then behaviour) *double {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &double{endpoint: "http://" + listener.Addr().String(), reached: make(chan struct{})}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				if d.read(conn) {
					then(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return d
}

func (d *double) read(conn net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.requests) == 0 {
		close(d.reached)
	}
	d.requests = append(d.requests, asked{path: r.URL.Path, header: r.Header, body: body})
	return true
}

func (d *double) all() []asked {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

// says answers with a status line, headers and a body.
func says(status, headers, body string) behaviour {
	if headers != "" {
		headers += "\r\n"
	}
	return func(conn net.Conn) {
		fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, headers, len(body), body)
	}
}

// cuts answers with fewer bytes than it promised.
func cuts(headers, body string) behaviour {
	return func(conn net.Conn) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s", headers, len(body)+100, body)
	}
}

// resets ends the connection with a reset instead of an end.
func resets(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
}

// hangs says nothing, or only what is given, until the caller gives up.
func hangs(first string) behaviour {
	return func(conn net.Conn) {
		io.WriteString(conn, first)
		io.Copy(io.Discard, conn)
	}
}

// matching gives each call the content type that it expects of an answer.
func (d *double) matching(body func(stream bool) string, promise int) behaviour {
	return func(conn net.Conn) {
		requests := d.all()
		stream := strings.HasSuffix(requests[len(requests)-1].path, "/GetSnapshot")
		kind := typeUnary
		if stream {
			kind = typeStream
		}
		text := body(stream)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", kind, len(text)+promise, text)
		if promise > 0 {
			conn.(*net.TCPConn).CloseWrite()
		}
	}
}
