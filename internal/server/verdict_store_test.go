package server

import (
	"net/http"
	"path"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// asked has the upstream judge a token and waits for what it says.
func (h *harness) asked(t *testing.T, secret string) error {
	t.Helper()
	v, ok := h.server.authority.(*verdicts)
	if !ok {
		t.Fatalf("%T", h.server.authority)
	}
	known, _ := v.look(token.Hash(secret), time.Now())
	return v.judge(t.Context(), secret, token.Hash(secret), known).wait(t.Context())
}

// An upstream that is refused judges no token of what the proxy serves: those of
// the right store stay good, and those of the other one get nothing of it.
func TestARefusedUpstreamJudgesNoToken(t *testing.T) {
	t.Parallel()
	upstream, proxy := refusing(t, memory(t, token.Token{Name: "new-admin", Scopes: []token.Scope{token.Admin}}, token.Token{Name: "new-reader", Scopes: []token.Scope{token.Read}}), "new-admin")
	for range 3 {
		for secret, want := range map[string]string{
			"web": "KILLED stale", "new-admin": "unavailable " + reasonUpstream, "new-reader": "unavailable " + reasonUpstream,
			"nobody": "unauthenticated " + reasonTokenUnknown, "revoked": "unauthenticated " + reasonTokenRevoked,
		} {
			if got := proxy.answers(t, secret); got != want {
				t.Errorf("%s is answered %q, want %q", secret, got, want)
			}
		}
		if err := proxy.asked(t, "web"); err == nil {
			t.Error("the other store knows the token")
		}
	}
	found := upstream.server.evaluator.View().Revision.StoreID
	for secret, want := range map[string]string{"new-reader": reasonScopeTooSmall, "web": reasonScopeTooSmall, "nobody": reasonTokenUnknown} {
		if _, err := proxy.resync(t, secret, found); err == nil || second(told(err)) != want {
			t.Errorf("%s may accept: %v, want %s", secret, err, want)
		}
	}
	// Once it is accepted its word counts, and that of the former store no longer.
	if _, err := proxy.resync(t, "new-admin", found); err != nil {
		t.Fatal(err)
	}
	until(t, "DEFAULT", func() string { return proxy.answers(t, "new-reader") })
	until(t, "unauthenticated "+reasonTokenUnknown, func() string { return proxy.answers(t, "web") })
}

// Something that answers in the upstream's place, while the proxy does not hear the
// upstream, ends no token that is known.
func TestWhoIsNotFollowedEndsNoToken(t *testing.T) {
	t.Parallel()
	root, stranger := start(t), start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	secret := root.scoped(t, token.Evaluate)
	if err := admitted(t.Context(), h.as(t, secret)); err != nil {
		t.Fatal(err)
	}
	before.set(func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "GetServer" {
			stranger.server.ServeHTTP(w, r)
			return
		}
		down(w, r)
	})
	eventually(t, "the upstream is not heard", 10*time.Second, func() bool { return !h.server.evaluator.HeardWithin(verdictContact) })
	if err := h.asked(t, secret); err == nil {
		t.Error("the stranger knows the token")
	}
	if err := admitted(t.Context(), h.as(t, secret)); err != nil {
		t.Error(err)
	}
	if err := admitted(t.Context(), h.as(t, "bunting_unknown")); second(told(err)) != reasonTokenUnknown {
		t.Error(err)
	}
}
