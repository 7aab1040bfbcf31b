package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// The header by which a request is found in the log, ours and the caller's.
const requestIDHeader = wire.RequestIDHeader

// Bounds of what callers, and failures, may write into the log.
const (
	maxRequestIDBytes = 64
	maxPathBytes      = 128
	maxCauseBytes     = 1000
)

// record is what the log says of a request: never a token, an entity or a query.
type record struct {
	id    string
	actor string   // "" for none that was authenticated
	code  string   // of the call, "" when it was answered or none
	cause string   // of a failure that is the server's, not the caller's; "": it is none
	via   []string // ids of the servers that passed the call on

	tooLarge bool // the refusal is answered with the status for that
	tooMany  bool // it is the upstream's about too many requests, and not about a large one
}

type recordKey struct{}

var errPanicked = errors.New("the server made a mistake. Its log says more, under the request id of this answer")

// recordOf gives the request's record; outside of a request one that nobody reads.
func recordOf(ctx context.Context) *record {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		return r
	}
	return &record{}
}

// recorded runs a handler, catches its panics, and writes the request's line.
func (s *Server) recorded(w http.ResponseWriter, r *http.Request, handle http.HandlerFunc) {
	began := time.Now()
	rec := &record{id: requestID(r.Header.Get(requestIDHeader)), via: viaOf(r.Header)}
	w.Header().Set(requestIDHeader, rec.id)
	answer := &answerWriter{ResponseWriter: w, record: rec}
	defer func() {
		caught := recover()
		begun := answer.status != 0
		if caught != nil && caught != http.ErrAbortHandler { //nolint:errorlint // a panic's value is compared as net/http does
			s.log.Error("a handler panicked", "panic", caught, "stack", string(debug.Stack()), "request_id", rec.id)
			rec.failed(errPanicked, connect.CodeInternal)
			if !begun {
				s.refuse(answer, r, connect.NewError(connect.CodeInternal, errPanicked))
			}
		}
		took := time.Since(began)
		s.telemetry.Request(r.URL.Path, rec.code, answer.status, took)
		s.writeLine(r, rec, answer.status, took)
		if caught != nil && begun {
			// Half an answer must not look like a whole one: the connection is cut.
			panic(http.ErrAbortHandler)
		}
	}()
	handle(answer, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
}

// slow is how long an answer takes that the log tells of though all went well.
const slow = time.Second

// levelOf says how loud a request's line is. There may be ten thousand a second,
// so what went well is told only to who debugs: but for writes, and for answers
// that took long and were no streams. Who goes away, or finds no flag or page, is
// no failure.
func levelOf(path string, rec *record, status int, took time.Duration) slog.Level {
	p, called := procedures[path]
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable || rec.code == connect.CodeInternal.String():
		return slog.LevelError
	case rec.code == connect.CodeCanceled.String() || path == "/healthz" || path == "/readyz" || rec.code == "" && status == http.StatusNotFound:
		return slog.LevelDebug
	case rec.code != "" || status >= http.StatusBadRequest:
		return slog.LevelWarn
	case writing[path] || took > slow && called && p.limit > 0:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// writing names the procedures that change something.
var writing = map[string]bool{
	buntingv1connect.FlagAdminServiceApplyProcedure:       true,
	buntingv1connect.FlagAdminServiceCreateTokenProcedure: true,
	buntingv1connect.FlagAdminServiceRevokeTokenProcedure: true,
	buntingv1connect.FlagAdminServiceResyncProcedure:      true,
}

// writeLine logs one request.
func (s *Server) writeLine(r *http.Request, rec *record, status int, took time.Duration) {
	level := levelOf(r.URL.Path, rec, status, took)
	if s.logRequests && procedures[r.URL.Path].scope != 0 {
		level = max(level, slog.LevelInfo)
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	if status == 0 {
		status = http.StatusOK // nothing was written: net/http answers so
	}
	path := r.URL.Path
	if len(path) > maxPathBytes {
		path = strings.ToValidUTF8(path[:maxPathBytes], "") + "…"
	}
	attributes := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", path), slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("actor", rec.actor), slog.String("request_id", rec.id),
	}
	if rec.code != "" {
		attributes = append(attributes, slog.String("code", rec.code))
	}
	if rec.cause != "" {
		attributes = append(attributes, slog.String("error", rec.shownCause(r.Header)))
	}
	s.log.LogAttrs(r.Context(), level, "request", attributes...)
}

// requestID takes over a caller's id when it is fit for a log, else makes one.
func requestID(given string) string {
	const fit = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-"
	if given == "" || len(given) > maxRequestIDBytes || strings.Trim(given, fit) != "" {
		return rand.Text()
	}
	return given
}

// answerWriter notes the status of an answer.
type answerWriter struct {
	http.ResponseWriter

	record *record
	status int // 0: nothing was written yet
}

// WriteHeader writes the status. Connect has no code for a body that is too
// large: it writes 429, which asks the caller to try again later, and we 400.
func (a *answerWriter) WriteHeader(status int) {
	if status == http.StatusTooManyRequests && !a.record.tooMany || status == http.StatusBadRequest && a.record.tooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answerWriter) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Flush sends what was written. Connect asks for it after each message of a stream.
func (a *answerWriter) Flush() {
	_ = http.NewResponseController(a.ResponseWriter).Flush() // a recorder that cannot flush has nobody waiting
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// codes notes the code of each call, which the HTTP status does not tell for
// gRPC and for streams.
type codes struct{}

// WrapUnary notes the code of an answer.
func (codes) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		note(ctx, err)
		return response, err
	}
}

// WrapStreamingClient is not asked on a server.
func (codes) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler notes the code with which a stream ended.
func (codes) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, stream connect.StreamingHandlerConn) error {
		err := next(ctx, stream)
		note(ctx, err)
		return err
	}
}

func note(ctx context.Context, err error) {
	if err != nil {
		recordOf(ctx).failed(err, connect.CodeOf(err))
	}
}

// ours are the codes of failures that are the server's. What callers do wrong is
// told to them alone: it repeats what they sent.
var ours = []connect.Code{connect.CodeInternal, connect.CodeUnknown, connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeDataLoss}

// failed notes how a call failed, and why, unless a nearer reason is noted already.
func (r *record) failed(why error, code connect.Code) {
	r.code = code.String()
	if r.cause != "" || !slices.Contains(ours, code) {
		return
	}
	r.cause = why.Error()
	if e, ok := errors.AsType[*connect.Error](why); ok {
		r.cause = e.Message()
	}
}

// shownCause gives the cause as the log may show it: bounded, and without the
// caller's token, should anybody have repeated it.
func (r *record) shownCause(header http.Header) string {
	text := r.cause
	for _, given := range header.Values("Authorization") {
		_, secret, _ := strings.Cut(given, " ")
		if secret = strings.TrimSpace(secret); secret != "" {
			text = strings.ReplaceAll(text, secret, "(token)")
		}
	}
	if len(text) > maxCauseBytes {
		text = text[:maxCauseBytes] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
