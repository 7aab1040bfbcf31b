package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// silentAbout has the upstream say nothing about any token but the proxy's own.
func (g *gate) silentAbout(upstream *harness) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.instead = func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "GetServer" && r.Header.Get(wire.ViaHeader) != "" {
			hung(w, r)
			return
		}
		upstream.server.ServeHTTP(w, r)
	}
}

func kill(ctx context.Context, c clients) error {
	_, err := c.Apply(ctx, connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(hold("pay", "ops")))}}))
	return err
}

// Whoever has no token cannot have a proxy keep kills back, by asking with many
// wrong ones at once.
func TestWrongTokensKeepNoKillBack(t *testing.T) {
	t.Parallel()
	root := start(t)
	root.apply(t, flag.Put(boolean("pay")))
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	if err := admitted(t.Context(), h.as(t, root.admin)); err != nil {
		t.Fatal(err)
	}
	before.silentAbout(root)
	var all sync.WaitGroup
	for i := range 4 * maxQuestions {
		bad := h.as(t, fmt.Sprintf("bunting_bad%d", i))
		all.Go(func() {
			if err := admitted(t.Context(), bad); connect.CodeOf(err) != connect.CodeUnavailable {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 10 {
		if err := kill(t.Context(), h.as(t, root.admin)); err != nil {
			t.Fatal(err)
		}
	}
}

// Nor whoever may only read, by calls that leave no time for an answer.
func TestHastyCallersKeepNoKillBack(t *testing.T) {
	t.Parallel()
	root := start(t)
	root.apply(t, flag.Put(boolean("pay")))
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	reader, admin := h.as(t, root.scoped(t, token.Read)), h.as(t, root.admin)
	for _, c := range []clients{reader, admin} {
		if err := admitted(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	before.mu.Lock()
	before.instead = func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "GetAuditLog" {
			hung(w, r)
			return
		}
		root.server.ServeHTTP(w, r)
	}
	before.mu.Unlock()
	for range 3 {
		for range 2 * client.UpstreamPolicy.BreakAfter {
			ctx, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := reader.GetAuditLog(ctx, connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
			done()
			if err == nil {
				t.Fatal("the audit log was read")
			}
		}
		if err := kill(t.Context(), admin); err != nil {
			t.Fatal(err)
		}
	}
}

// While the questions about tokens of nobody fill the way to the upstream, one about
// a token that is known, and may have been revoked meanwhile, gets through.
func TestWrongTokensKeepNoRevocationBack(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	secret := root.scoped(t, token.Evaluate)
	if err := admitted(t.Context(), h.as(t, secret)); err != nil {
		t.Fatal(err)
	}
	v, ok := h.server.authority.(*verdicts)
	if !ok {
		t.Fatalf("%T", h.server.authority)
	}
	for range cap(v.slots) {
		v.slots <- struct{}{}
	}
	defer func() {
		for range cap(v.slots) {
			<-v.slots
		}
	}()
	c := h.server.tokens
	h.has(t, root.revoke(t, "evaluate-only"))
	c.follow()
	c.mu.Lock() // as if the revocation had come in a gap of the stream
	c.byHash[token.Hash(secret)].RevokedAt = time.Time{}
	c.doubts++
	c.mu.Unlock()
	if err := admitted(t.Context(), h.as(t, secret)); second(told(err)) != reasonTokenRevoked {
		t.Error(err)
	}
}

// So many questions wait at most; who comes then hears it at once.
func TestQuestionsAboutTokensAreBounded(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	known := root.scoped(t, token.Evaluate)
	if err := admitted(t.Context(), h.as(t, known)); err != nil {
		t.Fatal(err)
	}
	before.silentAbout(root)
	v, ok := h.server.authority.(*verdicts)
	if !ok {
		t.Fatalf("%T", h.server.authority)
	}
	for i := range maxAsking {
		secret := fmt.Sprintf("bunting_bad%d", i)
		v.judge(t.Context(), secret, token.Hash(secret), nil)
	}
	q := v.judge(t.Context(), "bunting_bad", token.Hash("bunting_bad"), nil)
	select {
	case <-q.done:
	default:
		t.Error("one more waits")
	}
	if err := admitted(t.Context(), h.as(t, "bunting_bad")); !errors.Is(q.err, errTooMany) || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Error(q.err, err)
	}
	if err := admitted(t.Context(), h.as(t, known)); err != nil {
		t.Error(err)
	}
}
