package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, which keep to the fake clock.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.dialled <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("nobody listens")
	}
}

// A stream may be silent for as long as it likes, from its first moment on and
// between two messages, over HTTP/1.1 and HTTP/2.
func TestAStreamThatIsSilentIsNotCutOff(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const silence = 10 * time.Minute
				s := &Server{log: slog.New(slog.DiscardHandler)}
				web := s.network()
				web.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					c := &caller{connection: http.NewResponseController(w)}
					within(c.connection, callLimit)
					defer c.endless()()
					for range 3 {
						time.Sleep(silence) // is what is tested, on the fake clock
						if err := c.write(func() error { _, err := io.WriteString(w, "line\n"); return errors.Join(err, c.connection.Flush()) }); err != nil {
							t.Errorf("write: %v", err)
						}
					}
				})
				listener := &pipes{make(chan net.Conn), make(chan struct{})}
				served := make(chan error, 1)
				go func() { served <- web.Serve(listener) }()

				protocols := new(http.Protocols)
				protocols.SetHTTP1(!http2)
				protocols.SetUnencryptedHTTP2(http2)
				transport := &http.Transport{DialContext: listener.dial, Protocols: protocols}
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://server/", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(response.Body)
				n := 0
				for lines.Scan() {
					n++
				}
				if n != 3 || lines.Err() != nil {
					t.Errorf("%d lines came: %v", n, lines.Err())
				}
				response.Body.Close()
				transport.CloseIdleConnections()
				web.Close()
				<-served
			})
		})
	}
}

// A reader that takes nothing is cut off, silent or not.
func TestAStreamThatNobodyReadsIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{log: slog.New(slog.DiscardHandler)}
		web := s.network()
		ended := make(chan time.Duration, 1)
		web.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c := &caller{connection: http.NewResponseController(w)}
			defer c.endless()()
			began := time.Now()
			for {
				if err := c.write(func() error { _, err := w.Write(make([]byte, 64<<10)); return errors.Join(err, c.connection.Flush()) }); err != nil {
					ended <- time.Since(began)
					return
				}
			}
		})
		listener := &pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- web.Serve(listener) }()
		conn, err := listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if took := <-ended; took > streamWriteLimit {
			t.Errorf("it was cut off after %s", took)
		}
		conn.Close()
		web.Close()
		<-served
	})
}
