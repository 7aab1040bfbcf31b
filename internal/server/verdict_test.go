package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// admitted asks something small as the bearer of a secret.
func admitted(ctx context.Context, c clients) error {
	_, err := c.GetKilledFlags(ctx, connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
	return err
}

// revoke ends the token of the name, and gives the revision that did.
func (h *harness) revoke(tb testing.TB, name string) flag.Revision {
	tb.Helper()
	if _, err := h.as(tb, h.admin).RevokeToken(tb.Context(), connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: name})); err != nil {
		tb.Fatal(err)
	}
	return h.server.evaluator.View().Revision
}

func TestAVerdictIsAskedForOnce(t *testing.T) {
	t.Parallel()
	undisturbed(t, func(c chained) error {
		secret := c.root.scoped(t, token.Evaluate)
		upper, lower := c.upper.count("GetServer"), c.lower.count("GetServer")
		var all sync.WaitGroup
		for range 100 {
			far := c.far.as(t, secret)
			all.Go(func() {
				for range 3 {
					if err := admitted(t.Context(), far); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if n, m := c.lower.count("GetServer")-lower, c.upper.count("GetServer")-upper; n != 1 || m != 1 {
			return fmt.Errorf("100 callers at once took %d questions of the far proxy, %d of the near one", n, m)
		}
		// What the token may do is known, too.
		err := calls["/bunting.v1.FlagAdminService/GetSnapshot"](t.Context(), c.far.as(t, secret))
		if code, reason := told(err); code != connect.CodePermissionDenied || reason != "SCOPE_TOO_SMALL" {
			t.Error(err)
		}
		prefixed := c.root.token(t, token.Token{Name: "team", Scopes: []token.Scope{token.Read}, Prefix: "team"})
		_, err = c.far.as(t, prefixed).Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"}))
		if code, reason := told(err); code != connect.CodePermissionDenied || reason != "PREFIX_DENIED" {
			t.Error(err)
		}
		if bulk, err := c.far.as(t, prefixed).BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{})); err != nil || len(bulk.Msg.GetEvaluations()) != 0 {
			t.Error(bulk, err)
		}
		if logs := c.far.log.String() + c.near.log.String(); strings.Contains(logs, secret) || strings.Contains(logs, token.Hash(secret)) {
			t.Error("a token is in the log")
		}
		return nil
	})
}

// Between a caller's look at what is known and its question somebody else's may end.
func TestWhoLookedBeforeTheVerdictCameDoesNotAskAgain(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	v, ok := h.server.authority.(*verdicts)
	if !ok {
		t.Fatalf("%T", h.server.authority)
	}
	good := root.scoped(t, token.Evaluate)
	for secret, want := range map[string]connect.Code{good: 0, "bunting_wrong": connect.CodeUnauthenticated} {
		hash := token.Hash(secret)
		known, _ := v.look(hash, time.Now())
		if code, _ := told(admitted(t.Context(), h.as(t, secret))); code != want {
			t.Fatal(code)
		}
		asked := before.passed("GetServer")
		if code, _ := told(v.judge(t.Context(), secret, hash, known).wait(t.Context())); code != want {
			t.Errorf("it is told %v, want %v", code, want)
		}
		if n := before.passed("GetServer") - asked; n != 0 {
			t.Errorf("%d questions about what was answered %v a moment ago", n, want)
		}
	}
	// What has become doubtful since is no answer.
	v.credentials.mu.Lock()
	v.doubts++
	v.credentials.mu.Unlock()
	asked := before.passed("GetServer")
	if err := v.judge(t.Context(), good, token.Hash(good), nil).wait(t.Context()); err != nil || before.passed("GetServer") != asked+1 {
		t.Errorf("%d questions: %v", before.passed("GetServer")-asked, err)
	}
}

func TestAWrongTokenIsRefusedWithoutBotheringTheUpstream(t *testing.T) {
	t.Parallel()
	undisturbed(t, func(c chained) error {
		ended := c.root.scoped(t, token.Evaluate)
		c.root.revoke(t, "evaluate-only")
		expired := c.root.token(t, token.Token{Name: "short", Scopes: []token.Scope{token.Evaluate}, CreatedAt: time.Now().Add(-time.Hour), ExpiresAt: time.Now().Add(50 * time.Millisecond)})
		eventually(t, "the token expires", 5*time.Second, func() bool { return admitted(t.Context(), c.root.as(t, expired)) != nil })
		for name, secret := range map[string]string{"unknown": "bunting_wrong", "revoked": ended, "expired": expired} {
			asked := c.upper.count("GetServer")
			want := asConnect(admitted(t.Context(), c.root.as(t, secret)))
			for range 50 {
				got := asConnect(admitted(t.Context(), c.far.as(t, secret)))
				if got == nil || got.Code() != connect.CodeUnauthenticated || got.Message() != want.Message() || got.Meta().Get("WWW-Authenticate") != want.Meta().Get("WWW-Authenticate") {
					t.Fatalf("%s: the root says %v, the far proxy %v", name, want, got)
				}
			}
			if n := c.upper.count("GetServer") - asked; n != 1 {
				return fmt.Errorf("%s: 50 callers took %d questions", name, n)
			}
		}
		return nil
	})
}

func TestARevokedTokenIsRefusedAsSoonAsTheRevisionIsServed(t *testing.T) {
	t.Parallel()
	undisturbed(t, func(c chained) error {
		secret := c.root.scoped(t, token.Read)
		far := c.far.as(t, secret)
		stream := watch(t, far, flag.Revision{})
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		asked := c.upper.count("GetServer")
		began := time.Now()
		at := c.root.revoke(t, "read-only")
		c.far.has(t, at)
		err := admitted(t.Context(), far)
		if code, reason := told(err); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" || !strings.Contains(err.Error(), `the token "read-only" was revoked on `) {
			t.Error(err)
		}
		for stream.Receive() {
		}
		if code, reason := told(stream.Err()); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" {
			t.Errorf("the stream ended with %v", stream.Err())
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		if c.upper.count("GetServer") != asked {
			return errors.New("the upstream was asked, though it had told")
		}
		return nil
	})
}

// The answer that a token is good is on its way while the token is revoked.
func TestARevocationWinsOverAVerdictUnderWay(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	secret := root.scoped(t, token.Evaluate)
	holding := &held{behind: root.server, call: "GetServer", come: make(chan struct{}), let: make(chan struct{})}
	before.mu.Lock()
	before.behind = holding
	before.mu.Unlock()
	answer := make(chan error, 1)
	go func() { answer <- admitted(t.Context(), h.as(t, secret)) }()
	<-holding.come // it was judged good
	h.has(t, root.revoke(t, "evaluate-only"))
	close(holding.let)
	if code, reason := told(<-answer); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" {
		t.Errorf("it was let in: %v %s", code, reason)
	}
}

// Revoked while the proxy did not hear its upstream, and with the stream held back
// for good: what is polled tells nothing of tokens.
func TestAVerdictIsAskedForAgainAfterAGap(t *testing.T) {
	t.Parallel()
	for name, polled := range map[string]bool{"outage": false, "only polling": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := chain(t)
			good, bad := c.root.scoped(t, token.Evaluate), c.root.scoped(t, token.Read)
			for _, secret := range []string{good, bad} {
				if err := admitted(t.Context(), c.far.as(t, secret)); err != nil {
					t.Fatal(err)
				}
			}
			c.upper.set(down)
			at := c.root.revoke(t, "read-only")
			if err := admitted(t.Context(), c.far.as(t, bad)); err != nil {
				t.Errorf("in an outage a verdict is honoured: %v", err)
			}
			if polled {
				c.upper.set(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/WatchChanges") {
						down(w, r)
						return
					}
					c.root.server.ServeHTTP(w, r)
				})
			} else {
				c.upper.set(nil)
			}
			c.far.has(t, at)
			// Who has not heard its upstream for verdictContact does not wait for it.
			eventually(t, "both proxies hear their upstreams", 20*time.Second, func() bool {
				return c.near.server.evaluator.HeardWithin(verdictContact/2) && c.far.server.evaluator.HeardWithin(verdictContact/2)
			})
			if code, reason := told(admitted(t.Context(), c.far.as(t, bad))); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" {
				t.Errorf("the revoked token: %v %s", code, reason)
			}
			if err := admitted(t.Context(), c.far.as(t, good)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInAnOutageVerdictsAreHonouredUntilTheTokenExpires(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	var ahead atomic.Int64 // by how much the proxy's clock is
	h := behind(t, before.URL, root.admin, func(_ *evaluator.FollowerOptions, o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	lasting := root.scoped(t, token.Evaluate)
	short := root.token(t, token.Token{Name: "short", Scopes: []token.Scope{token.Evaluate}, ExpiresAt: time.Now().Add(time.Hour)})
	for _, secret := range []string{lasting, short} {
		if err := admitted(t.Context(), h.as(t, secret)); err != nil {
			t.Fatal(err)
		}
	}
	before.set(down)
	for _, secret := range []string{lasting, short} {
		if err := admitted(t.Context(), h.as(t, secret)); err != nil {
			t.Error(err)
		}
	}
	ahead.Store(int64(2 * time.Hour))
	if err := admitted(t.Context(), h.as(t, lasting)); err != nil {
		t.Error(err)
	}
	if code, reason := told(admitted(t.Context(), h.as(t, short))); code != connect.CodeUnauthenticated || reason != "TOKEN_EXPIRED" {
		t.Errorf("%v %s", code, reason)
	}
	// As one remembered from before a start is, which has to be asked for again.
	h.server.tokens.recall(token.Token{ID: "r", Name: "remembered", Hash: token.Hash("bunting_remembered"), Scopes: []token.Scope{token.Evaluate}})
	if err := admitted(t.Context(), h.as(t, "bunting_remembered")); err != nil {
		t.Error(err)
	}
	before.set(nil)
	eventually(t, "the upstream, which does not know it, is asked", 20*time.Second, func() bool {
		code, reason := told(admitted(t.Context(), h.as(t, "bunting_remembered")))
		return code == connect.CodeUnauthenticated && reason == "TOKEN_UNKNOWN"
	})
}

// Behind a balancer another root may judge a token than the one that told of its
// end, and not know of that yet.
func TestAVerdictOfARootThatIsBehindDoesNotLast(t *testing.T) {
	t.Parallel()
	root := start(t)
	secret := root.scoped(t, token.Evaluate)
	slow, err := evaluator.NewRoot(t.Context(), root.store, evaluator.Options{}) // nobody runs it
	if err != nil {
		t.Fatal(err)
	}
	judge, err := New(t.Context(), Options{Store: root.store, Root: slow})
	if err != nil {
		t.Fatal(err)
	}
	before := newGate(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/GetServer") {
			judge.ServeHTTP(w, r)
			return
		}
		root.server.ServeHTTP(w, r)
	}))
	h := behind(t, before.URL, root.admin)
	h.has(t, root.revoke(t, "evaluate-only"))
	if err := admitted(t.Context(), h.as(t, secret)); err != nil {
		t.Errorf("its judge does not know better, but says %v", err)
	}
	if err := slow.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, reason := told(admitted(t.Context(), h.as(t, secret))); reason != "TOKEN_REVOKED" {
		t.Errorf("the revoked token: %s", reason)
	}
}

// A verdict grows old: it is asked for again, and nobody waits for that.
func TestAnOldVerdictIsAskedForAgainBesideItsUse(t *testing.T) {
	t.Parallel()
	root := start(t)
	holding := &held{behind: root.server, call: "GetServer", come: make(chan struct{}), let: make(chan struct{})}
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	secret := root.scoped(t, token.Evaluate)
	if err := admitted(t.Context(), h.as(t, secret)); err != nil {
		t.Fatal(err)
	}
	before.mu.Lock()
	before.behind = holding
	before.mu.Unlock()
	c := h.server.tokens
	c.mu.Lock()
	c.byHash[token.Hash(secret)].asked = time.Now().Add(-2 * verdictRenewal)
	c.mu.Unlock()
	for range 5 {
		if err := admitted(t.Context(), h.as(t, secret)); err != nil {
			t.Error(err)
		}
	}
	<-holding.come // the one question, while all were answered
	close(holding.let)
	eventually(t, "the verdict is fresh", 5*time.Second, func() bool {
		c.mu.RLock()
		defer c.mu.RUnlock()
		return time.Since(c.byHash[token.Hash(secret)].asked) < verdictRenewal
	})
}

// The root is started anew: the proxy goes on by itself.
func TestARootThatIsStartedAnew(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	secret := root.scoped(t, token.Evaluate)
	c := h.as(t, secret)
	if err := admitted(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	before.set(down)
	anew, err := evaluator.NewRoot(t.Context(), root.store, evaluator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	second := &harness{log: &syncBuffer{}, ended: make(chan struct{}), admin: root.admin, store: root.store}
	second.run(t, Options{Store: root.store, Root: anew}, func() {})
	before.mu.Lock()
	before.behind = second.server
	before.mu.Unlock()
	before.set(nil)
	h.has(t, second.apply(t, flag.Put(boolean("new"))))
	eventually(t, "it answers fresh", 10*time.Second, func() bool { return !evaluated(t, c, "new", "").GetStale() })
	if err := calls["/bunting.v1.FlagAdminService/ListTokens"](t.Context(), h.as(t, root.admin)); err != nil {
		t.Error(err)
	}
}

// Verdicts are bounded, and the ones in use stay.
func TestVerdictsAreBounded(t *testing.T) {
	t.Parallel()
	root := start(t)
	h := behind(t, root.endpoint, root.admin)
	c := h.server.tokens
	for i := range 2 * maxVerdicts {
		c.put(token.Token{ID: strconv.Itoa(i), Hash: strconv.Itoa(i)})
	}
	if n := len(c.all()); n != maxVerdicts {
		t.Errorf("%d are kept", n)
	}
	v, ok := h.server.authority.(*verdicts)
	if !ok {
		t.Fatalf("%T", h.server.authority)
	}
	for i := range 2 * maxVerdicts {
		v.refuse(strconv.Itoa(i), refusedToken{err: unauthenticated(reasonTokenUnknown, "no")})
	}
	if n := len(v.refused); n != maxVerdicts {
		t.Errorf("%d refusals are kept", n)
	}
}
