package server

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// procedure is what is asked of a call before anything of its body is read.
type procedure struct {
	scope     token.Scope
	bodyBytes int           // the message, decompressed
	limit     time.Duration // from the first byte to the last; 0: a stream
	side      side          // where it is answered
}

// Bounds of the calls.
const (
	smallBody    = 1 << 20
	namesBody    = 8 << 20  // maxNames of the longest keys and entities
	applyBody    = 64 << 20 // DESIGN §5
	maxRemovals  = 100      // absent objects that the audit log is asked about
	removalDepth = 100      // audit entries of a flag among which its removals are looked for
	maxNames     = 10_000   // flags or objects named in one question
	callLimit    = 15 * time.Second
	applyLimit   = 2 * time.Minute

	// A reader that takes nothing for this long is cut off.
	streamWriteLimit = 10 * time.Second
	// What a deadline on the connection adds to a call's limit, so that the call
	// itself can still say that its time is up.
	deadlineGrace = 5 * time.Second
)

// procedures names every procedure there is. What is not here is not served.
var procedures = map[string]procedure{
	pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure:       {token.Evaluate, smallBody, callLimit, publicSide},
	pbflagsv1connect.FlagEvaluatorServiceBulkEvaluateProcedure:   {token.Evaluate, namesBody, callLimit, publicSide},
	pbflagsv1connect.FlagEvaluatorServiceHealthProcedure:         {token.Evaluate, smallBody, callLimit, publicSide},
	pbflagsv1connect.FlagEvaluatorServiceGetFlagStateProcedure:   {token.Evaluate, smallBody, callLimit, publicSide},
	pbflagsv1connect.FlagEvaluatorServiceGetKilledFlagsProcedure: {token.Evaluate, smallBody, callLimit, publicSide},
	pbflagsv1connect.FlagEvaluatorServiceGetOverridesProcedure:   {token.Evaluate, namesBody, callLimit, publicSide},

	buntingv1connect.FlagAdminServiceGetServerProcedure:    {token.Evaluate, smallBody, callLimit, publicSide},
	buntingv1connect.FlagAdminServiceGetSnapshotProcedure:  {token.Read, smallBody, 0, publicSide},
	buntingv1connect.FlagAdminServiceGetProcedure:          {token.Read, namesBody, callLimit, publicSide},
	buntingv1connect.FlagAdminServiceApplyProcedure:        {token.Read, applyBody, applyLimit, adminSide}, // what a change needs, it is asked itself
	buntingv1connect.FlagAdminServiceWatchChangesProcedure: {token.Read, smallBody, 0, publicSide},
	buntingv1connect.FlagAdminServiceGetAuditLogProcedure:  {token.Read, smallBody, callLimit, adminSide},
	buntingv1connect.FlagAdminServiceCreateTokenProcedure:  {token.Admin, smallBody, callLimit, adminSide},
	buntingv1connect.FlagAdminServiceListTokensProcedure:   {token.Admin, smallBody, callLimit, adminSide},
	buntingv1connect.FlagAdminServiceRevokeTokenProcedure:  {token.Admin, smallBody, callLimit, adminSide},
	buntingv1connect.FlagAdminServiceResyncProcedure:       {token.Admin, smallBody, callLimit, adminSide},
}

// caller goes through a call's context: who asks, and the connection's deadlines.
type caller struct {
	token.Actor

	secret     string    // to ask again while a stream lasts, and to pass calls on
	hash       string    // of the secret
	id         string    // of the token
	ends       time.Time // when the token expires; zero: never
	connection *http.ResponseController
}

type callerKey struct{}

// callerOf gives the authenticated caller of the call.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller) // call puts it there before every handler
	return c
}

// call authenticates, sets the limits, and hands over to the procedure.
func (s *Server) call(w http.ResponseWriter, r *http.Request, p procedure) {
	c := &caller{connection: http.NewResponseController(w)}
	limit := p.limit
	if limit == 0 {
		limit = callLimit
	}
	within(c.connection, limit)
	formIsJSON(r)
	w.Header().Set("Cache-Control", "no-store") // what a proxy on the way remembers would be stale

	var err error
	var t token.Token
	if err = s.misled(r); err == nil {
		t, err = s.authenticate(r.Context(), r.Header, p.scope, c)
		if claimed, ok := s.claimed(r, c); err != nil && ok {
			t, err = claimed, nil
		}
	}
	if err == nil {
		c.Actor, c.id, c.ends = t.Actor(), t.ID, t.ExpiresAt
		recordOf(r.Context()).actor = c.Name
		err = s.answered(r.Context(), p.side)
	}
	if err == nil {
		err = allowed(c.Require(p.scope))
	}
	if err == nil && r.ContentLength > int64(p.bodyBytes) {
		recordOf(r.Context()).tooLarge = true
		err = connect.NewError(connect.CodeOutOfRange, fmt.Errorf("the request has %d bytes, more than the %d that this call takes. Send less at once", r.ContentLength, p.bodyBytes))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	// An envelope and the end of a compressed stream come on top of the message.
	r.Body = http.MaxBytesReader(w, r.Body, int64(p.bodyBytes)+maxHeaderBytes)

	ctx := context.WithValue(r.Context(), callerKey{}, c)
	if p.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.limit)
		defer cancel()
	}
	s.rpc.ServeHTTP(w, r.WithContext(ctx))
}

// anonymous is who asks without a token, where that is allowed.
var anonymous = token.Token{Name: "anonymous", Scopes: []token.Scope{token.Evaluate}}

// authenticate finds the caller, and notes the secret. Without a token, which is no
// wrong one, it is anonymous where that is allowed and enough.
func (s *Server) authenticate(ctx context.Context, header http.Header, scope token.Scope, c *caller) (t token.Token, err error) {
	if s.anonymous && scope == token.Evaluate && len(header.Values("Authorization")) == 0 {
		return anonymous, nil
	}
	if c.secret, err = secretOf(header); err != nil {
		return t, err
	}
	c.hash = token.Hash(c.secret)
	return s.authority.verify(ctx, c.secret, c.hash, s.now())
}

// claimed gives the token of a store that is refused, where it counts.
func (s *Server) claimed(r *http.Request, c *caller) (token.Token, bool) {
	if s.claim == nil || r.URL.Path != buntingv1connect.FlagAdminServiceResyncProcedure {
		return token.Token{}, false
	}
	return s.claim(c.hash, s.now())
}

// within gives the request on the connection so long, and the grace. The
// deadlines of the request before are gone with that. Every request needs it: the
// server reads what is left of a body before it answers, so one that never comes
// would hold the connection for ever, without any token.
func within(connection *http.ResponseController, limit time.Duration) {
	// An error means that the connection knows none, as in a test's recorder.
	deadline := time.Now().Add(limit + deadlineGrace)
	_ = connection.SetReadDeadline(deadline)
	_ = connection.SetWriteDeadline(deadline)
}

// endless takes the limits off the connection for a stream, which may be silent
// for as long as it likes: over HTTP/2 a deadline that has passed resets a stream
// even when nothing waits to be written. What ends the stream is written within a
// limit again, which end sets.
func (c *caller) endless() (end func()) {
	_ = c.connection.SetReadDeadline(time.Time{})
	_ = c.connection.SetWriteDeadline(time.Time{})
	return func() { _ = c.connection.SetWriteDeadline(time.Now().Add(streamWriteLimit)) }
}

// write sends a message of a stream; a reader that does not take it in time is
// cut off.
func (c *caller) write(send func() error) error {
	_ = c.connection.SetWriteDeadline(time.Now().Add(streamWriteLimit))
	err := send()
	if err == nil {
		_ = c.connection.SetWriteDeadline(time.Time{})
	}
	return err
}

// formIsJSON takes the body of `curl -d` for what its sender means. Nothing is
// lost by it: a form that a browser sends from another site carries no token.
func formIsJSON(r *http.Request) {
	if r.Method != http.MethodPost {
		return
	}
	kind := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); kind == "" || err == nil && media == "application/x-www-form-urlencoded" {
		r.Header.Set("Content-Type", "application/json")
	}
}
