// Package buntingtest runs a flag server inside a test: a real one, over HTTP on
// a free port of this machine, with its definitions in memory. It is for tests of
// whatever speaks to a flag server.
//
//	func TestCheckout(t *testing.T) {
//		server := buntingtest.Start(t)
//		client := NewClient(server.Endpoint, server.Token(t, "evaluate"))
//		…
//	}
//
// Servers of parallel tests know nothing of each other.
package buntingtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/server"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Server is a flag server that runs until its test ends.
type Server struct {
	// Endpoint is the base URL, with scheme and port and without a trailing slash.
	Endpoint string
	// AdminToken is a token that may do everything.
	AdminToken string

	settings settings
	store    store.Store

	mu      sync.Mutex
	address string
	web     *server.Server // of the present run, or of the last one
	stop    func()         // ends the present run and waits for it; nil while stopped
	tokens  int            // how many were made
}

type settings struct {
	environment string
	version     string
	database    string
	now         func() time.Time
	log         io.Writer
}

// Option changes how a server is started.
type Option func(*settings)

// Environment names the environment that the server is. The default is "test".
func Environment(name string) Option { return func(s *settings) { s.environment = name } }

// Version sets the version that the server tells. The default is "0.0.0-test".
func Version(version string) Option { return func(s *settings) { s.version = version } }

// Clock sets what time the server thinks it is, for the expiry of holds and
// tokens and for the times that it writes down. Whether a hold has expired is
// looked at when it is evaluated and committed within a second. The function is
// called from many goroutines.
func Clock(now func() time.Time) Option { return func(s *settings) { s.now = now } }

// Log writes the server's log, JSON lines, to w. By default there is none.
func Log(w io.Writer) Option { return func(s *settings) { s.log = w } }

// Database keeps the definitions in a file instead of in memory, durably, which
// takes some milliseconds for each write.
func Database(path string) Option { return func(s *settings) { s.database = path } }

// Start starts a server, which ends with the test.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	s := &Server{settings: settings{environment: "test", version: "0.0.0-test", now: time.Now, log: io.Discard}}
	for _, option := range options {
		option(&s.settings)
	}
	if err := s.open(tb.Context()); err != nil {
		tb.Fatalf("start a flag server: %v", err)
	}
	tb.Cleanup(func() {
		s.Stop()
		if err := s.store.Close(); err != nil {
			tb.Errorf("close the flag server's database: %v", err)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = "127.0.0.1:0"
	s.run(tb)
	s.AdminToken = s.makeToken(tb, "admin", "", "admin")
	return s
}

func (s *Server) open(ctx context.Context) (err error) {
	sqliteOptions := sqlite.Options{Environment: s.settings.environment, Clock: s.settings.now}
	if s.settings.database == "" {
		s.store, err = sqlite.OpenMemory(ctx, sqliteOptions)
	} else {
		s.store, err = sqlite.Open(ctx, s.settings.database, sqliteOptions)
	}
	return err
}

// run begins a run of the server on the present database and address.
func (s *Server) run(tb testing.TB) {
	tb.Helper()
	listener, err := net.Listen("tcp", s.address) //nolint:noctx // a listener of this machine opens at once
	if err != nil {
		tb.Fatalf("start the flag server on %s: %v", s.address, err)
	}
	s.address = listener.Addr().String()
	s.Endpoint = "http://" + s.address
	web, err := s.compose(tb.Context())
	if err != nil {
		_ = listener.Close() // the error before counts
		tb.Fatalf("start the flag server: %v", err)
	}
	s.web = web
	// Not the test's context, which ends before the clean-up of those who use us.
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = web.Run(ctx, listener) }) // what is cut off is told to its callers
	s.stop = func() {
		web.Cut()
		running.Wait()
		cancel()
	}
}

func (s *Server) compose(ctx context.Context) (*server.Server, error) {
	log := slog.New(slog.NewJSONHandler(s.settings.log, nil))
	evaluating, err := evaluator.NewRoot(ctx, s.store, evaluator.Options{Log: log, Now: s.settings.now})
	if err != nil {
		return nil, err
	}
	return server.New(ctx, server.Options{Store: s.store, Root: evaluating, Version: s.settings.version, Log: log, LogRequests: true, Now: s.settings.now})
}

// Stop ends the server as if its process had died: connections are cut and new
// ones refused. Its definitions and tokens stay. Stopping a stopped server does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Restart starts the stopped server again: at the same endpoint, with the same
// definitions and tokens.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run(tb)
}

// Token makes a token with the scopes ("evaluate", "read", "write", "kill",
// "admin") and gives its secret.
func (s *Server) Token(tb testing.TB, scopes ...string) string {
	tb.Helper()
	return s.NamedToken(tb, "", "", scopes...)
}

// NamedToken makes a token with a name, which the audit log calls its bearer,
// for the keys under a prefix. Both may be empty: a name is made up, and all keys
// are covered.
func (s *Server) NamedToken(tb testing.TB, name, prefix string, scopes ...string) string {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	if name == "" {
		name = fmt.Sprintf("test-%d", s.tokens)
	}
	return s.makeToken(tb, name, prefix, scopes...)
}

func (s *Server) makeToken(tb testing.TB, name, prefix string, scopes ...string) string {
	tb.Helper()
	secret, id := token.NewSecret()
	made := token.Token{ID: id, Name: name, Prefix: flag.Key(prefix), Hash: token.Hash(secret), CreatedAt: s.settings.now().UTC(), CreatedBy: "buntingtest"}
	for _, name := range scopes {
		scope, err := token.ParseScope(name)
		if err != nil {
			tb.Fatalf("make a token: %v", err)
		}
		made.Scopes = append(made.Scopes, scope)
	}
	if err := s.web.AddToken(tb.Context(), made); err != nil {
		tb.Fatalf("make a token: %v", err)
	}
	return secret
}
