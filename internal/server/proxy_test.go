package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// chained are a root, a proxy behind it and one behind that, with the gates between.
type chained struct {
	root, near, far *harness
	upper, lower    *gate
}

func chain(t *testing.T) chained {
	t.Helper()
	var c chained
	c.root = start(t, func(o *Options) { o.ID = "root" })
	c.root.apply(t, flag.Put(boolean("pay")), flag.Put(boolean("held")), flag.Put(override("pay", "u1", false)), flag.Put(hold("held", "ops-anna")))
	c.upper = newGate(t, c.root.server)
	c.near = behind(t, c.upper.URL, c.root.admin, named("near"))
	c.lower = newGate(t, c.near.server)
	c.far = behind(t, c.lower.URL, c.root.admin, named("far"))
	return c
}

// greetings counts how often the proxies asked their upstreams who they are.
func (c chained) greetings() int {
	return c.upper.count("GetServer") - c.upper.passed("GetServer") + c.lower.count("GetServer") - c.lower.passed("GetServer")
}

// undisturbed does what counts the upstreams' calls, and gives whether the count is
// wrong. A busy machine may break a proxy's stream: it greets its upstream anew, reads
// what it missed, and no longer trusts its verdicts, all of which is counted, too. Then
// it is done again with another chain.
func undisturbed(t *testing.T, do func(c chained) error) {
	t.Helper()
	for left := 4; ; left-- {
		c := chain(t)
		before := c.greetings()
		err := do(c)
		if err == nil {
			return
		}
		if left == 0 || c.greetings() == before {
			t.Error(err)
			return
		}
	}
}

// evaluated asks a server what a flag is.
func evaluated(tb testing.TB, c clients, key flag.Key, entity string) *pbflagsv1.EvaluateResponse {
	tb.Helper()
	response, err := c.Evaluate(tb.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: string(key), EntityId: entity}))
	if err != nil {
		tb.Fatal(err)
	}
	return response.Msg
}

func TestAProxyAnswersAsItsRootDoes(t *testing.T) {
	t.Parallel()
	undisturbed(t, func(c chained) error {
		for name, call := range calls {
			if err := call(t.Context(), c.far.as(t, c.root.admin)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		root, far := c.root.as(t, c.root.admin), c.far.as(t, c.root.admin)
		c.far.has(t, c.root.server.evaluator.View().Revision)
		ask := map[string]func(c clients) (proto.Message, error){
			"bulk": func(c clients) (proto.Message, error) {
				r, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{EntityId: "u1"}))
				return r.Msg, err
			},
			"state": func(c clients) (proto.Message, error) {
				r, err := c.GetFlagState(t.Context(), connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: "held"}))
				return r.Msg, err
			},
			"killed": func(c clients) (proto.Message, error) {
				r, err := c.GetKilledFlags(t.Context(), connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
				return r.Msg, err
			},
			"overrides": func(c clients) (proto.Message, error) {
				r, err := c.GetOverrides(t.Context(), connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: "u1"}))
				return r.Msg, err
			},
			"get": func(c clients) (proto.Message, error) {
				r, err := c.Get(t.Context(), connect.NewRequest(&buntingv1.GetRequest{Refs: []*buntingv1.Ref{wire.FromRef(flag.FlagRef("held")), wire.FromRef(flag.FlagRef("none"))}}))
				return r.Msg, err
			},
			"audit": func(c clients) (proto.Message, error) {
				r, err := c.GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
				return r.Msg, err
			},
		}
		asked := c.upper.counts()
		for name, question := range ask {
			want, err := question(root)
			got, err2 := question(far)
			if err != nil || err2 != nil || !proto.Equal(want, got) {
				t.Errorf("%s: the root says %v (%v), the far proxy %v (%v)", name, want, err, got, err2)
			}
		}
		for call, count := range c.upper.counts() {
			if more := count - asked[call]; more > 0 && call != "GetAuditLog" {
				return fmt.Errorf("it took %d calls of %s at the root", more, call)
			}
		}
		server, err := far.GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{}))
		if want := []string{"far", "near", "root"}; err != nil || !slices.Equal(server.Msg.GetChain(), want) || server.Msg.GetActor() != "admin" || server.Msg.GetEnvironment() != "test" {
			t.Errorf("%v %v", server, err)
		}
		return nil
	})
}

func TestAKillReachesTheFarProxyWithinASecond(t *testing.T) {
	t.Parallel()
	c := chain(t)
	far := c.far.as(t, c.root.scoped(t, token.Evaluate))
	if answer := evaluated(t, far, "pay", ""); answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL {
		t.Fatal(answer)
	}
	// A busy machine may hold a kill up, or break a stream that it would have come by:
	// one of some that is in time and comes whole tells.
	reach := func() error {
		began := time.Now()
		at := c.root.apply(t, flag.Put(hold("pay", "ops-anna")))
		c.far.has(t, at)
		if took := time.Since(began); took > time.Second {
			return fmt.Errorf("it took %s", took)
		}
		answer := evaluated(t, far, "pay", "")
		if answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED {
			t.Fatal(answer)
		}
		if answer.GetStale() {
			return fmt.Errorf("it is answered %v", answer)
		}
		// The stream of changes goes on, and reads on from any proxy.
		stream := watch(t, c.far.as(t, c.root.admin), flag.Revision{StoreID: at.StoreID, Number: at.Number - 1})
		if m := next(t, stream).GetCommit(); wire.ToRevision(m.GetRevision()) != at || m.Previous != nil || len(m.GetObjects()) != 1 {
			return fmt.Errorf("the far stream told %v", m)
		}
		return nil
	}
	err := reach()
	for left := 4; err != nil && left > 0; left-- {
		c.root.apply(t, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("pay", "ops-anna")})
		err = reach()
	}
	if err != nil {
		t.Error(err)
	}
}

func TestWithoutItsUpstreamAProxyServesWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]http.HandlerFunc{"refused": down, "hung": hung} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := chain(t)
			far := c.far.as(t, c.root.admin)
			evaluated(t, far, "pay", "")
			c.upper.set(away)
			began := time.Now()
			eventually(t, "its answers are stale", 10*time.Second, func() bool { return evaluated(t, far, "pay", "").GetStale() })
			if took := time.Since(began); took < 2*time.Second || took > 7*time.Second {
				t.Errorf("stale after %s", took)
			}
			answer := evaluated(t, far, "pay", "")
			if answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_CACHED || !answer.GetValue().GetBoolValue() {
				t.Error(answer)
			}
			if answer := evaluated(t, far, "held", ""); answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED || !answer.GetStale() {
				t.Error(answer)
			}
			if response, body := raw(t, http.MethodGet, c.near.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || !strings.HasPrefix(body, "ready, but stale: the upstream has not answered for ") {
				t.Errorf("%s %s", response.Status, body)
			}
			// What only the root can do is refused in words, and soon no longer asked.
			write := connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("no")))}})
			eventually(t, "writes are refused at once", 20*time.Second, func() bool {
				began, asked := time.Now(), c.upper.count("Apply")
				ctx, done := context.WithTimeout(t.Context(), 3*time.Second)
				defer done()
				_, err := far.Apply(ctx, write)
				if err == nil {
					t.Fatal("it wrote")
				}
				code, reason := told(err)
				return code == connect.CodeUnavailable && reason == "UPSTREAM_UNREACHABLE" && c.upper.count("Apply") == asked && time.Since(began) < time.Second
			})
			asked := c.upper.count("Apply") + c.upper.count("GetServer")
			began = time.Now()
			for i := range 200 {
				wrong := c.far.as(t, fmt.Sprintf("bunting_unknown%d", i))
				_, err := wrong.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"}))
				if code, reason := told(err); code != connect.CodeUnavailable || reason != "UPSTREAM_UNREACHABLE" {
					t.Fatalf("a token that may be good: %v", err)
				}
			}
			if more := c.upper.count("Apply") + c.upper.count("GetServer") - asked; more > 10+int(4*time.Since(began)/time.Second) {
				t.Errorf("200 questions about tokens took %d requests at an upstream that is away", more)
			}
			c.upper.set(nil)
			eventually(t, "its answers are fresh", 20*time.Second, func() bool { return !evaluated(t, far, "pay", "").GetStale() })
			eventually(t, "it writes again", 10*time.Second, func() bool {
				_, err := far.Apply(t.Context(), write)
				return err == nil
			})
		})
	}
}

// The root's server lives, but its store does not: the far proxy must not take the
// life of the one for that of the other.
func TestTheSilenceOfAStoreIsToldDownTheChain(t *testing.T) {
	t.Parallel()
	c := chain(t)
	far := c.far.as(t, c.root.admin)
	evaluated(t, far, "pay", "")
	c.root.store.set(func(method string) error {
		if method == "Head" {
			return context.DeadlineExceeded
		}
		return nil
	})
	began := time.Now()
	eventually(t, "the far proxy's answers are stale", 10*time.Second, func() bool { return evaluated(t, far, "pay", "").GetStale() })
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("it took %s", took)
	}
	c.root.store.set(nil)
	eventually(t, "they are fresh again", 10*time.Second, func() bool { return !evaluated(t, far, "pay", "").GetStale() })
}

func TestAnUpstreamThatCannotServeIsRefusedInWords(t *testing.T) {
	t.Parallel()
	root := start(t, func(o *Options) { o.ID = "the-proxy-itself" })
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>hello</html>")
	}))
	t.Cleanup(page.Close)
	silent := newGate(t, http.HandlerFunc(hung))
	evaluateOnly, prefixed, plain := root.scoped(t, token.Evaluate), root.token(t, token.Token{Name: "p", Scopes: []token.Scope{token.Read}, Prefix: "team"}), root.scoped(t, token.Read)
	for name, row := range map[string]struct {
		endpoint, secret, id, environment string
		words                             []string
	}{
		"HTML":                {page.URL, plain, "p", "", []string{page.URL, "an HTML page"}},
		"nobody":              {"http://127.0.0.1:1", plain, "p", "", []string{"refused the connection"}},
		"hung":                {silent.URL, plain, "p", "", []string{"did not answer within 3s"}},
		"another environment": {root.endpoint, plain, "p", "production", []string{`is of the environment "test"`, `this server is of "production"`}},
		"itself":              {root.endpoint, plain, "the-proxy-itself", "", []string{"leads back to this server: a loop"}},
		"no read":             {root.endpoint, evaluateOnly, "p", "", []string{`has the scope evaluate, but this needs read`}},
		"a prefix":            {root.endpoint, prefixed, "p", "", []string{`covers only the keys under "team"`}},
		"no token":            {root.endpoint, "", "p", "", []string{"wants a token, and none is set"}},
		"an unknown token":    {root.endpoint, "bunting_wrong", "p", "", []string{"does not know the token"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := upstreamClient(t, row.endpoint, row.secret)
			defer upstream.Close()
			began := time.Now()
			_, err := evaluator.NewFollower(t.Context(), upstream, evaluator.FollowerOptions{Options: evaluator.Options{Environment: row.environment}, ID: row.id})
			if err == nil {
				t.Fatal("it is followed")
			}
			for _, words := range row.words {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q is not in: %v", words, err)
				}
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// Behind the proxy's back its root becomes one on the wrong disk (DESIGN §4).
func TestAProxyRefusesARootThatLacksAHold(t *testing.T) {
	t.Parallel()
	root, wrong := start(t), start(t)
	root.apply(t, flag.Put(boolean("pay")), flag.Put(hold("pay", "ops-anna")))
	wrong.apply(t, flag.Put(boolean("pay")))
	if err := wrong.server.AddToken(t.Context(), token.Token{ID: "same", Name: "same", Hash: token.Hash(root.admin), Scopes: []token.Scope{token.Admin}, CreatedAt: time.Now(), CreatedBy: "test"}); err != nil {
		t.Fatal(err)
	}
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	c := h.as(t, root.admin)
	if answer := evaluated(t, c, "pay", ""); answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED {
		t.Fatal(answer)
	}
	before.set(down)
	before.mu.Lock()
	before.behind = wrong.server
	before.mu.Unlock()
	before.set(nil)
	eventually(t, "it is refused", 10*time.Second, func() bool { return h.server.evaluator.Refused() != nil })
	if response, body := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || !strings.Contains(body, "the upstream became another one, which is refused") {
		t.Errorf("%s %s", response.Status, body)
	}
	health, err := c.Health(t.Context(), connect.NewRequest(&pbflagsv1.HealthRequest{}))
	if err != nil || health.Msg.GetStatus() != pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_DEGRADED {
		t.Error(health, err)
	}
	if answer := evaluated(t, c, "pay", ""); answer.GetSource() != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED {
		t.Error(answer)
	}
	former := root.server.evaluator.View().Revision.StoreID
	if _, err := c.Resync(t.Context(), connect.NewRequest(&buntingv1.ResyncRequest{Accept: true, FoundStoreId: wrong.server.evaluator.View().Revision.StoreID, Supersedes: former})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was accepted there is served here", 10*time.Second, func() bool {
		return evaluated(t, c, "pay", "").GetSource() == pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL
	})
}

type compiledFlags []*flag.Flag

func (c compiledFlags) Flag(key flag.Key) *flag.Flag {
	for _, f := range c {
		if f.Key == key {
			return f
		}
	}
	return nil
}

func (c compiledFlags) Keys() (keys []flag.Key) {
	for _, f := range c {
		keys = append(keys, f.Key)
	}
	return keys
}

// A proxy that has only what is compiled in says so, and never that there is nothing.
func TestOfNothingNothingIsSaid(t *testing.T) {
	t.Parallel()
	root := start(t)
	root.apply(t, flag.Put(boolean("stored")))
	before := newGate(t, root.server)
	before.set(down)
	compiled := &flag.Flag{Key: "compiled", Type: flag.Bool, Default: flag.BoolValue(true)}
	h := behind(t, before.URL, root.admin, func(f *evaluator.FollowerOptions, o *Options) {
		f.Compiled, o.Anonymous = compiledFlags{compiled}, true
	})
	c := h.as(t, "")
	if answer := evaluated(t, c, "compiled", ""); !answer.GetValue().GetBoolValue() || !answer.GetStale() {
		t.Error(answer)
	}
	bulk, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{}))
	if err != nil || len(bulk.Msg.GetEvaluations()) != 1 {
		t.Error(bulk, err)
	}
	for name, call := range map[string]func() error{
		"Evaluate": func() error {
			_, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "stored"}))
			return err
		},
		"BulkEvaluate": func() error {
			_, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{"compiled", "stored"}}))
			return err
		},
		"GetFlagState":   func() error { return calls["/pbflags.v1.FlagEvaluatorService/GetFlagState"](t.Context(), c) },
		"GetKilledFlags": func() error { return calls["/pbflags.v1.FlagEvaluatorService/GetKilledFlags"](t.Context(), c) },
		"GetOverrides":   func() error { return calls["/pbflags.v1.FlagEvaluatorService/GetOverrides"](t.Context(), c) },
		"GetServer":      func() error { return calls["/bunting.v1.FlagAdminService/GetServer"](t.Context(), c) },
	} {
		if code, reason := told(call()); code != connect.CodeUnavailable || reason != "NOT_READY" {
			t.Errorf("%s: %v", name, call())
		}
	}
	if response, body := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || body != "ready, but stale: the upstream has not answered since this server was started\n" {
		t.Errorf("%s %s", response.Status, body)
	}
	before.set(nil)
	eventually(t, "it knows what the root knows", 10*time.Second, func() bool {
		_, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "stored"}))
		return err == nil
	})
	if response, body := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || body != "ready\n" {
		t.Errorf("%s %s", response.Status, body)
	}
}

func TestWithNothingAtAllAProxyIsNotReady(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	before.set(down)
	h := behind(t, before.URL, root.admin, func(f *evaluator.FollowerOptions, _ *Options) { f.Compiled = compiledFlags{} })
	if response, body := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); response.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(body, "connecting: the upstream has not answered yet") {
		t.Errorf("%s %s", response.Status, body)
	}
}
