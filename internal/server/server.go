// Package server puts an evaluator and its store on the network: both Connect
// services on one port, tokens, health, and a drain that loses no answer.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/telemetry"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Bounds of connections. There is no time limit on the whole of a response: each
// handler sets its own, because a stream has none.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	pingAfter         = 15 * time.Second // of silence on an HTTP/2 connection
	pingTimeout       = 15 * time.Second
	maxHeaderBytes    = 64 << 10
	compressFrom      = 1024 // bytes; smaller answers are not worth it
)

// DrainLimit is how long requests under way may take once the server is told to
// stop.
const DrainLimit = 15 * time.Second

// Options are what a server stands on: a store, another flag server, or a service
// that has only FlagEvaluatorService.
type Options struct {
	Store store.Store
	Root  *evaluator.Root // of Store; Run runs it

	Follower *evaluator.Follower // of Upstream; Run runs it
	Upstream *client.Client      // passes calls on; its own token is not used for that

	OnDemand *client.OnDemand   // Run closes it. It needs Anonymous: nobody judges tokens there
	Compiled evaluator.Compiled // the flags that OnDemand has compiled in; nil: none

	// KnownTokens are those that were last known, from before this start
	// (Server.KnownTokens). They count while the source of truth says nothing of them.
	KnownTokens []token.Token

	ID        string               // of this run of the server, in chains of proxies; "": the follower's, or a random one
	Version   string               // of the program, for the handshake
	Log       *slog.Logger         // nil: nothing is logged
	Telemetry *telemetry.Telemetry // nil: one of its own, without spans
	Now       func() time.Time     // what time it is, for tokens and stamps; nil: the system's clock

	Anonymous     bool         // callers without a token have the scope evaluate
	AdminListener net.Listener // an own one of the admin side, which Run closes; nil: it is answered beside the rest
	AdminOff      bool         // the admin side is not answered at all
	LogRequests   bool         // each at INFO; else those that went well and fast at DEBUG

	EnvironmentColor string // by which people tell the environment; "": none
}

// Server is an http.Handler of everything that a flag server answers.
type Server struct {
	store     store.Store          // nil on a proxy
	root      *evaluator.Root      // nil on a proxy
	follower  *evaluator.Follower  // nil but on a proxy
	upstream  *client.Client       // the follower's
	onDemand  *client.OnDemand     // nil but before a plain evaluator service
	compiled  evaluator.Compiled   // beside onDemand; may be nil
	evaluator *evaluator.Evaluator // the root's or the follower's; nil beside onDemand
	anonymous bool
	id        string
	version   string
	log       *slog.Logger
	telemetry *telemetry.Telemetry
	now       func() time.Time

	adminListener net.Listener
	adminOff      bool
	logRequests   bool
	color         string

	web       *http.Server
	tokens    *credentials // nil beside onDemand
	authority authority
	claim     func(hash string, now time.Time) (token.Token, bool) // by a token of a store that is not served; nil beside onDemand
	rpc       http.Handler
	errors    *connect.ErrorWriter

	draining   chan struct{} // closed when the drain begins
	drainLimit time.Duration
}

// New makes a server and, of a store, loads the tokens. It is ready to answer.
func New(ctx context.Context, options Options) (*Server, error) {
	s := &Server{
		store: options.Store, root: options.Root, follower: options.Follower, upstream: options.Upstream, onDemand: options.OnDemand, compiled: options.Compiled,
		id: options.ID, version: options.Version, log: options.Log, now: options.Now,
		anonymous: options.Anonymous, adminListener: options.AdminListener, adminOff: options.AdminOff, logRequests: options.LogRequests, color: options.EnvironmentColor,
		telemetry: options.Telemetry, draining: make(chan struct{}), drainLimit: DrainLimit,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.id == "" && s.follower != nil {
		s.id = s.follower.ID()
	}
	if s.id == "" {
		s.id = rand.Text()
	}
	if s.telemetry == nil {
		s.telemetry = telemetry.New(telemetry.Options{Version: s.version})
	}
	s.telemetry.Observe(s.state)
	answering, administering, err := s.stand(ctx, options.KnownTokens)
	if err != nil {
		return nil, err
	}

	handling := []connect.HandlerOption{
		connect.WithInterceptors(codes{}, s.telemetry),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			return []connect.HandlerOption{connect.WithReadMaxBytes(procedures[spec.Procedure].bodyBytes)}
		}),
	}
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(answering, handling...))
	mux.Handle(buntingv1connect.NewFlagAdminServiceHandler(administering, handling...))
	s.rpc = mux
	s.web = s.network()
	s.errors = connect.NewErrorWriter(handling...)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.recorded(w, r, func(w http.ResponseWriter, r *http.Request) {
		// Paths are compared as they came: a mux that cleans them would redirect,
		// and a redirect must never turn one name into another.
		if p, ok := procedures[r.URL.Path]; ok {
			s.call(w, r, p)
			return
		}
		within(http.NewResponseController(w), callLimit)
		switch r.URL.Path {
		case "/healthz":
			answerText(w, r, http.StatusOK, "alive")
		case "/readyz":
			s.readyz(w, r)
		case "/metrics":
			s.metrics(w, r)
		default:
			if strings.HasPrefix(r.URL.Path, profilesPath) {
				s.profiles(w, r)
				return
			}
			answerText(w, r, http.StatusNotFound, "This is a Bunting flag server. There is nothing at this path.")
		}
	})
}

// network makes the http.Server that Run uses.
func (s *Server) network() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           s,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: streamWriteLimit},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
}

// Run serves on the listener and that of the admin side, which it closes, and runs the evaluator, until the
// context ends; then it drains: not ready any more, streams end, requests under
// way are answered within DrainLimit, and those that are not are cut off. The
// error is that of a listener which failed. It is called once.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	// Requests and the evaluator outlive the context: its end begins the drain.
	beyond, end := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { s.runSource(beyond) })
	defer background.Wait()
	defer end()
	s.web.BaseContext = func(l net.Listener) context.Context { return onListener(beyond, l) }

	listeners := []net.Listener{listener}
	if s.adminListener != nil {
		listeners = append(listeners, s.adminListener)
	}
	ended := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() {
			ended <- fmt.Errorf("serve on %s: %w", l.Addr(), s.web.Serve(l))
		})
	}
	select {
	case err := <-ended:
		s.Cut()
		serving.Wait()
		return err
	case <-ctx.Done():
	}
	s.log.InfoContext(ctx, "draining", "limit", s.drainLimit.String())
	close(s.draining)
	limit, cancel := context.WithTimeout(beyond, s.drainLimit)
	defer cancel()
	if err := s.web.Shutdown(limit); err != nil {
		s.log.WarnContext(ctx, "requests that were not answered in time are cut off", "error", err.Error())
		s.Cut()
	}
	serving.Wait()
	for range listeners {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
	}
	return nil
}

// Cut closes the listeners and every connection at once. Run returns.
func (s *Server) Cut() { _ = s.web.Close() } // the connections are given up as it is

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

func answerText(w http.ResponseWriter, r *http.Request, status int, text string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && status == http.StatusOK {
		w.Header().Set("Allow", "GET, HEAD")
		status, text = http.StatusMethodNotAllowed, "only GET"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, text) //nolint:gosec // plain text, which no browser takes for anything else
}
