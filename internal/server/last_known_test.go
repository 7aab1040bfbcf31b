package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// lastKnown is what a server knew before it was started anew: the flag "pay", which
// is held, and three tokens, of which one has expired and one is revoked.
func lastKnown() (*flag.Snapshot, []token.Token) {
	at := flag.Revision{StoreID: "former", Number: 9}
	pay, held := boolean("pay"), hold("pay", "ops")
	snapshot := flag.NewSnapshot("test", at).With(at, slices.Values([]flag.Edit{{Ref: pay.Ref(), Object: pay}, {Ref: held.Ref(), Object: held}}))
	return snapshot, []token.Token{
		{ID: "1", Name: "old-admin", Scopes: []token.Scope{token.Admin}, Hash: token.Hash("old-admin")},
		{ID: "2", Name: "web", Scopes: []token.Scope{token.Read}, Hash: token.Hash("web")},
		{ID: "3", Name: "expired", Scopes: []token.Scope{token.Admin}, Hash: token.Hash("expired"), ExpiresAt: time.Now().Add(-time.Minute)},
		{ID: "4", Name: "revoked", Scopes: []token.Scope{token.Admin}, Hash: token.Hash("revoked"), RevokedAt: time.Now().Add(-time.Minute)},
	}
}

// memory is a store in memory with tokens, each of which is its own secret.
func memory(tb testing.TB, tokens ...token.Token) *faulty {
	tb.Helper()
	s, err := sqlite.OpenMemory(tb.Context(), sqlite.Options{Environment: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	for _, t := range tokens {
		t.ID, t.Hash, t.CreatedAt, t.CreatedBy = t.Name, token.Hash(t.Name), time.Now(), "test"
		if err := s.CreateToken(tb.Context(), t, "test"); err != nil {
			tb.Fatal(err)
		}
	}
	return &faulty{Store: s}
}

// run runs a server until the test's end.
func run(tb testing.TB, options Options) *harness {
	tb.Helper()
	h := &harness{log: &syncBuffer{}}
	options.Log = slog.New(slog.NewJSONHandler(h.log, nil))
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
	go func() { ended <- h.server.Run(ctx, listener) }()
	tb.Cleanup(func() {
		cancel()
		h.server.Cut()
		<-ended
	})
	return h
}

// rootOf runs a root of the store that begins with what was last known.
func rootOf(tb testing.TB, from store.Store) *harness {
	tb.Helper()
	snapshot, tokens := lastKnown()
	root, err := evaluator.NewRoot(tb.Context(), from, evaluator.Options{Environment: "test", Known: snapshot})
	if err != nil {
		tb.Fatal(err)
	}
	return run(tb, Options{Store: from, Root: root, KnownTokens: tokens})
}

// answers gives value and source of the flag "pay" for a caller, or the error.
func (h *harness) answers(tb testing.TB, secret string) string {
	tb.Helper()
	a, err := h.as(tb, secret).Evaluate(tb.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"}))
	if err != nil {
		code, reason := told(err)
		return code.String() + " " + reason
	}
	text := strings.TrimPrefix(a.Msg.GetSource().String(), "EVALUATION_SOURCE_")
	if a.Msg.GetStale() {
		text += " stale"
	}
	return text
}

// until asks until the answer is that, for 10 s at most.
func until(tb testing.TB, want string, ask func() string) {
	tb.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(10 * time.Second)
	for got := ""; got != want; {
		select {
		case <-look.C:
			got = ask()
		case <-deadline:
			tb.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A root whose database does not answer serves what was last known, to those it
// knew; when the database is back, what that holds counts, and nothing else.
func TestARootWithoutItsDatabaseServesWhatWasLastKnown(t *testing.T) {
	t.Parallel()
	// The database comes back with what was last known, and with a change.
	back := memory(t, token.Token{Name: "web", Scopes: []token.Scope{token.Read}}, token.Token{Name: "other", Scopes: []token.Scope{token.Evaluate}})
	if _, err := back.Supersede(t.Context(), "former", "anna", time.Now()); err != nil {
		t.Fatal(err)
	}
	back.set(func(string) error { return store.ErrUnreachable })
	h := rootOf(t, back)
	for secret, want := range map[string]string{
		"web": "KILLED stale", "old-admin": "KILLED stale", "other": "unavailable " + reasonNotReady,
		"expired": "unauthenticated " + reasonTokenExpired, "revoked": "unauthenticated " + reasonTokenRevoked,
	} {
		if got := h.answers(t, secret); got != want {
			t.Errorf("%s is answered %q, want %q", secret, got, want)
		}
	}
	response, text := raw(t, http.MethodGet, h.endpoint+"/readyz", "")
	if response.StatusCode != http.StatusOK || !strings.Contains(text, "stale: the store has not answered since") {
		t.Errorf("/readyz says %d %q", response.StatusCode, text)
	}
	known := h.server.KnownTokens()
	if names := []string{known[0].Name, known[1].Name, known[2].Name, known[3].Name}; len(known) != 4 || !slices.Contains(names, "revoked") || known[0].Hash > known[1].Hash {
		t.Errorf("known are %v", known)
	}

	back.set(nil)
	until(t, "DEFAULT", func() string { return h.answers(t, "web") }) // there is no such flag
	until(t, "DEFAULT", func() string { return h.answers(t, "other") })
	until(t, "unauthenticated "+reasonTokenUnknown, func() string { return h.answers(t, "old-admin") })
}

// silentStore is a store whose answers never come.
type silentStore struct{ store.Store }

func (silentStore) Head(ctx context.Context) (flag.Revision, error) {
	<-ctx.Done()
	return flag.Revision{}, ctx.Err()
}

func (silentStore) Tokens(ctx context.Context) ([]token.Token, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silentStore) Notified() <-chan struct{} { return nil }

func TestARootWhoseDatabaseHangsStartsAllTheSame(t *testing.T) {
	t.Parallel()
	began := time.Now()
	h := rootOf(t, silentStore{})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to start", took)
	}
	if got := h.answers(t, "web"); got != "KILLED stale" {
		t.Errorf("the answer is %s", got)
	}
	if got := h.answers(t, "nobody"); got != "unavailable "+reasonNotReady {
		t.Errorf("a token that is not known is answered %s", got)
	}
}

// resync accepts the store that was found as the caller, or, "", only asks.
func (h *harness) resync(tb testing.TB, secret, found string) (*buntingv1.ResyncResponse, error) {
	tb.Helper()
	r, err := h.as(tb, secret).Resync(tb.Context(), connect.NewRequest(&buntingv1.ResyncRequest{Accept: found != "", FoundStoreId: found}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// A database that is refused lets its admins confirm it, and nobody do anything
// else; what was last known is served to those that were known, until it is confirmed.
func TestARefusedStoreIsConfirmedByItsAdmins(t *testing.T) {
	t.Parallel()
	found := memory(t,
		token.Token{Name: "new-admin", Scopes: []token.Scope{token.Admin}}, token.Token{Name: "new-reader", Scopes: []token.Scope{token.Read}},
		token.Token{Name: "revoked", Scopes: []token.Scope{token.Admin}}, token.Token{Name: "web", Scopes: []token.Scope{token.Read}})
	h := rootOf(t, found)
	follower := following(t, h, "web")
	for secret, want := range map[string]string{
		"web": "KILLED stale", "old-admin": "KILLED stale", "new-admin": "unauthenticated " + reasonTokenUnknown,
		"new-reader": "unauthenticated " + reasonTokenUnknown, "revoked": "unauthenticated " + reasonTokenRevoked,
	} {
		if got := h.answers(t, secret); got != want {
			t.Errorf("%s is answered %q, want %q", secret, got, want)
		}
	}
	for secret, want := range map[string]string{
		"web": reasonScopeTooSmall, "new-reader": reasonScopeTooSmall, "revoked": reasonTokenRevoked, "expired": reasonTokenExpired, "nobody": reasonTokenUnknown,
	} {
		if _, err := h.resync(t, secret, "any"); err == nil || !strings.HasSuffix(second(told(err)), want) {
			t.Errorf("%s may accept: %v, want %s", secret, err, want)
		}
	}
	if _, text := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); !strings.Contains(text, "refused") {
		t.Errorf("/readyz says %q", text)
	}
	_, err := h.as(t, "old-admin").Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{{Change: &buntingv1.Change_ReleaseHold{ReleaseHold: &buntingv1.HoldRef{FlagKey: "pay", Holder: "ops"}}}}}))
	if code, _ := told(err); code != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "nothing is written to it") {
		t.Errorf("a refused store is written to: %v", err)
	}
	if _, err := h.as(t, "old-admin").CreateToken(t.Context(), connect.NewRequest(&buntingv1.CreateTokenRequest{Name: "x", Scopes: []buntingv1.Scope{buntingv1.Scope_SCOPE_READ}})); err == nil {
		t.Error("a refused store takes a token")
	}
	report, err := h.resync(t, "new-admin", "")
	if err != nil || report.GetServed().GetStoreId() != "former" || report.GetFound().GetStoreId() == "former" || report.GetServedFlags() != 1 ||
		report.GetFoundFlags() != 0 || len(report.GetLostHolds()) != 1 || report.GetLostHolds()[0].GetHolder() != "ops" || report.GetReason() == "" {
		t.Fatalf("told is %v, %v", report, err)
	}
	if got := h.answers(t, "web"); got != "KILLED stale" {
		t.Errorf("asking changed what is served: %s", got)
	}
	_, unnamed := h.as(t, "new-admin").Resync(t.Context(), connect.NewRequest(&buntingv1.ResyncRequest{Accept: true}))
	_, another := h.resync(t, "new-admin", "looked-at")
	for want, err := range map[connect.Code]error{connect.CodeInvalidArgument: unnamed, connect.CodeFailedPrecondition: another} {
		if code, _ := told(err); code != want || !strings.Contains(err.Error(), "found_store_id") || h.server.evaluator.Refused() == nil {
			t.Errorf("a store that was not looked at is accepted: %v, want %v", err, want)
		}
	}
	if report, err = h.resync(t, "new-admin", report.GetFound().GetStoreId()); err != nil || report.GetServed().GetStoreId() != report.GetFound().GetStoreId() {
		t.Fatalf("accepted, but told is %v, %v", report, err)
	}
	until(t, "DEFAULT", func() string { return h.answers(t, "new-admin") })
	until(t, "unauthenticated "+reasonTokenUnknown, func() string { return h.answers(t, "old-admin") })
	entries, _, err := found.Audit(t.Context(), store.AuditFilter{Limit: 1})
	if err != nil || len(entries) != 1 || entries[0].Action != "supersede_store" || entries[0].Actor != "new-admin" || entries[0].Object != "former@9" {
		t.Errorf("audited is %v, %v", entries, err)
	}
	if report, err := h.resync(t, "new-admin", report.GetFound().GetStoreId()); err != nil || report.GetReason() != "" || report.GetFound().GetStoreId() != report.GetServed().GetStoreId() {
		t.Errorf("with nothing refused: %v, %v", report, err)
	}
	// It reaches everybody who follows.
	until(t, report.GetFound().GetStoreId(), func() string { return follower.View().Revision.StoreID })
}

func second(_ connect.Code, reason string) string { return reason }

// following runs a follower of the server, which began with what was last known.
func following(tb testing.TB, h *harness, secret string) *evaluator.Follower {
	tb.Helper()
	upstream, err := client.New(client.Options{Endpoint: h.endpoint, Token: secret})
	if err != nil {
		tb.Fatal(err)
	}
	snapshot, _ := lastKnown()
	f, err := evaluator.NewFollower(tb.Context(), upstream, evaluator.FollowerOptions{ID: "proxy", Options: evaluator.Options{Known: snapshot}})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-ended; upstream.Close() })
	return f
}

// refusing runs a root on the store, and a proxy of it that knows what was last known
// and so refuses it. The proxy's own token is the one of the name.
func refusing(t *testing.T, found store.Store, name string) (upstream, proxy *harness) {
	t.Helper()
	root, err := evaluator.NewRoot(t.Context(), found, evaluator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	upstream = run(t, Options{Store: found, Root: root})
	link, err := client.New(client.Options{Endpoint: upstream.endpoint, Token: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	snapshot, tokens := lastKnown()
	follower, err := evaluator.NewFollower(t.Context(), link, evaluator.FollowerOptions{ID: "proxy", Options: evaluator.Options{Known: snapshot}})
	if err != nil {
		t.Fatal(err)
	}
	return upstream, run(t, Options{Follower: follower, Upstream: link, KnownTokens: tokens})
}

// A proxy that refuses what its upstream has become confirms it there, for what it
// serves itself: the upstream, begun on the new store, knows nothing of the former.
func TestAProxyConfirmsAStoreAtItsUpstream(t *testing.T) {
	t.Parallel()
	upstream, proxy := refusing(t, memory(t, token.Token{Name: "new-admin", Scopes: []token.Scope{token.Admin}}), "new-admin")
	if err := proxy.server.AddToken(t.Context(), token.Token{Name: "x"}); err == nil || !strings.Contains(err.Error(), "has no store") {
		t.Errorf("a proxy keeps a token: %v", err)
	}
	report, err := proxy.resync(t, "new-admin", "")
	if err != nil || report.GetReason() == "" || report.GetServed().GetStoreId() != "former" || report.GetFound() == nil || len(report.GetLostHolds()) != 1 {
		t.Fatalf("told is %v, %v", report, err)
	}
	if _, err := proxy.resync(t, "new-admin", report.GetFound().GetStoreId()); err != nil {
		t.Fatal(err)
	}
	until(t, "DEFAULT", func() string { return proxy.answers(t, "new-admin") })
	if s := upstream.server.evaluator.View().Supersedes; !slices.Equal(s, []string{"former@9"}) {
		t.Errorf("the upstream supersedes %v", s)
	}
}
