package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a server on a real port with a store in memory.
type harness struct {
	server   *Server
	store    *faulty
	endpoint string
	admin    string // an admin's token
	log      *syncBuffer
	drain    func() error  // begins the drain and gives Run's error
	ended    chan struct{} // closed when Run has returned
}

// faulty is the real store, which fails, panics or waits when a test says so.
type faulty struct {
	store.Store

	mu     sync.Mutex
	before func(method string) error
}

func (f *faulty) set(before func(method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *faulty) call(method string) error {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(method)
}

func (f *faulty) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	if err := f.call("Apply"); err != nil {
		return store.Outcome{}, err
	}
	return f.Store.Apply(ctx, batch)
}

func (f *faulty) Head(ctx context.Context) (flag.Revision, error) {
	if err := f.call("Head"); err != nil {
		return flag.Revision{}, err
	}
	return f.Store.Head(ctx)
}

func (f *faulty) Audit(ctx context.Context, filter store.AuditFilter) ([]store.AuditEntry, string, error) {
	if err := f.call("Audit"); err != nil {
		return nil, "", err
	}
	return f.Store.Audit(ctx, filter)
}

func (f *faulty) Tokens(ctx context.Context) ([]token.Token, error) {
	if err := f.call("Tokens"); err != nil {
		return nil, err
	}
	return f.Store.Tokens(ctx)
}

type syncBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Reset()
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// start starts a server; with changes its options.
func start(tb testing.TB, with ...func(*Options)) *harness {
	tb.Helper()
	h := &harness{log: &syncBuffer{}, ended: make(chan struct{})}
	memory, err := sqlite.OpenMemory(tb.Context(), sqlite.Options{Environment: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	h.store = &faulty{Store: memory}
	log := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	evaluating, err := evaluator.NewRoot(tb.Context(), h.store, evaluator.Options{Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	options := Options{Store: h.store, Root: evaluating, Version: "1.2.3", Log: log}
	for _, change := range with {
		change(&options)
	}
	h.run(tb, options, func() { memory.Close() })
	h.admin = h.token(tb, token.Token{Name: "admin", Scopes: []token.Scope{token.Admin}})
	return h
}

// run runs a server until the test ends, and then closes what it stood on.
func (h *harness) run(tb testing.TB, options Options, closing func()) {
	tb.Helper()
	var err error
	if h.server, err = New(tb.Context(), options); err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h.endpoint = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		defer close(h.ended)
		ended <- h.server.Run(ctx, listener)
	}()
	h.drain = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	tb.Cleanup(func() {
		h.server.Cut()
		h.drain()
		closing()
		if strings.Contains(h.log.String(), "a handler panicked") && !strings.Contains(tb.Name(), "Panic") {
			tb.Errorf("a handler panicked:\n%s", h.log)
		}
	})
}

// token makes a token of the name, scopes, prefix and expiry and gives its secret.
func (h *harness) token(tb testing.TB, made token.Token) string {
	tb.Helper()
	secret, id := token.NewSecret()
	made.ID, made.Hash, made.CreatedBy = id, token.Hash(secret), "test"
	if made.CreatedAt.IsZero() {
		made.CreatedAt = time.Now()
	}
	if err := h.server.AddToken(tb.Context(), made); err != nil {
		tb.Fatal(err)
	}
	return secret
}

// scoped makes a token with one scope.
func (h *harness) scoped(tb testing.TB, scope token.Scope) string {
	tb.Helper()
	return h.token(tb, token.Token{Name: scope.String() + "-only", Scopes: []token.Scope{scope}})
}

// clients are both services as a caller with a token sees them.
type clients struct {
	pbflagsv1connect.FlagEvaluatorServiceClient
	buntingv1connect.FlagAdminServiceClient
}

// as gives the clients of a caller; "" for one without a token.
func (h *harness) as(tb testing.TB, secret string, options ...connect.ClientOption) clients {
	tb.Helper()
	return h.over(tb, secret, http1(tb), options...)
}

func (h *harness) over(tb testing.TB, secret string, web *http.Client, options ...connect.ClientOption) clients {
	tb.Helper()
	if secret != "" {
		options = append(options, connect.WithInterceptors(bearer(secret)))
	}
	return clients{
		pbflagsv1connect.NewFlagEvaluatorServiceClient(web, h.endpoint, options...),
		buntingv1connect.NewFlagAdminServiceClient(web, h.endpoint, options...),
	}
}

func http1(tb testing.TB) *http.Client {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// h2c speaks HTTP/2 without TLS from the first byte.
func h2c(tb testing.TB) *http.Client {
	tb.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// bearer sends a token with each call.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, r)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// told is an error as callers see it: its code and the reason beside it.
func told(err error) (connect.Code, string) {
	var e *connect.Error
	if !errors.As(err, &e) {
		return 0, ""
	}
	for _, d := range e.Details() {
		if m, err := d.Value(); err == nil {
			if detail, ok := m.(*buntingv1.ErrorDetail); ok {
				return e.Code(), detail.GetReason()
			}
		}
	}
	return e.Code(), ""
}

// apply makes changes as the admin; none may be refused.
func (h *harness) apply(tb testing.TB, changes ...flag.Change) flag.Revision {
	tb.Helper()
	m := &buntingv1.ApplyRequest{}
	for _, c := range changes {
		m.Changes = append(m.Changes, wire.FromChange(c))
	}
	response, err := h.as(tb, h.admin).Apply(tb.Context(), connect.NewRequest(m))
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range response.Msg.GetResults() {
		if r.GetStatus() != buntingv1.ResultStatus_RESULT_STATUS_APPLIED {
			tb.Fatalf("change %d (%s) is %s: %s", i, changes[i].Ref, r.GetStatus(), r.GetProblem().GetMessage())
		}
	}
	return wire.ToRevision(response.Msg.GetRevision())
}

// boolean is a flag that serves true, and false when killed.
func boolean(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled, Layer: "user"}
}

func override(key flag.Key, entity string, value bool) *flag.Override {
	return &flag.Override{FlagKey: key, EntityID: entity, State: flag.Enabled, Value: flag.BoolValue(value)}
}

func hold(key flag.Key, holder string) *flag.Hold {
	return &flag.Hold{FlagKey: key, Holder: holder, Reason: "it burns"}
}

// raw sends a request as curl does and gives the answer with its body read.
func raw(tb testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := http1(tb).Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response, string(text)
}
