package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// flippingStore is another store until it has told its tokens: a pool that had one
// connection left to the wrong database.
type flippingStore struct {
	store.Store

	wrong store.Store
}

func (s *flippingStore) Head(ctx context.Context) (flag.Revision, error) {
	if s.wrong != nil {
		return s.wrong.Head(ctx)
	}
	return s.Store.Head(ctx)
}

func (s *flippingStore) Tokens(ctx context.Context) ([]token.Token, error) {
	from := s.wrong
	s.wrong = nil
	return from.Tokens(ctx)
}

// Tokens that another store told, just before the right one was there, do not count.
func TestTokensReadWhileTheStoreBecomesAnotherOne(t *testing.T) {
	t.Parallel()
	right := memory(t)
	root, err := evaluator.NewRoot(t.Context(), right, evaluator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	between := &flippingStore{Store: right, wrong: memory(t, token.Token{Name: "wrong", Scopes: []token.Scope{token.Admin}})}
	s := newStoredTokens(between, root.Evaluator, slog.New(slog.DiscardHandler))
	defer s.close()
	if all, err := s.tokensOf(t.Context()); len(all) != 0 || !store.IsUnreachable(err) {
		t.Errorf("got %v, %v", all, err)
	}
}

// What another root made or ended counts here.
func TestTokensOfAnotherRoot(t *testing.T) {
	t.Parallel()
	h := start(t)
	secret, id := token.NewSecret()
	if err := h.store.CreateToken(t.Context(), token.Token{ID: id, Name: "elsewhere", Hash: token.Hash(secret), Scopes: []token.Scope{token.Read}, CreatedAt: time.Now(), CreatedBy: "test"}, "test"); err != nil {
		t.Fatal(err)
	}
	stream := watch(t, h.as(t, secret), flag.Revision{})
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	var read atomic.Int64
	h.store.set(func(method string) error {
		if method == "Tokens" {
			read.Add(1)
		}
		return nil
	})
	began := time.Now()
	for i := range 200 {
		if code, reason := told(admitted(t.Context(), h.as(t, fmt.Sprintf("bunting_wrong%d", i)))); code != connect.CodeUnauthenticated || reason != "TOKEN_UNKNOWN" {
			t.Fatal(code, reason)
		}
	}
	if n := read.Load(); n > 1+int64(time.Since(began)/tokensInterval) {
		t.Errorf("200 wrong tokens were looked for %d times", n)
	}
	// One that is made now is not mistaken for them, once its commit is known.
	late, id := token.NewSecret()
	if err := h.store.CreateToken(t.Context(), token.Token{ID: id, Name: "late", Hash: token.Hash(late), Scopes: []token.Scope{token.Read}, CreatedAt: time.Now(), CreatedBy: "test"}, "test"); err != nil {
		t.Fatal(err)
	}
	if err := h.server.root.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := admitted(t.Context(), h.as(t, late)); err != nil {
		t.Error(err)
	}
	if _, err := h.store.RevokeToken(t.Context(), "elsewhere", "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	head, err := h.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.has(t, head)
	if code, reason := told(admitted(t.Context(), h.as(t, secret))); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" {
		t.Errorf("%v %s", code, reason)
	}
	for stream.Receive() {
	}
	if _, reason := told(stream.Err()); reason != "TOKEN_REVOKED" {
		t.Errorf("the stream ended with %v", stream.Err())
	}
	// Without the store nobody can say whether an unknown one is good.
	h.store.set(func(method string) error {
		if method == "Tokens" {
			return context.DeadlineExceeded
		}
		return nil
	})
	eventually(t, "it is not called wrong", 5*time.Second, func() bool {
		code, reason := told(admitted(t.Context(), h.as(t, "bunting_good_perhaps")))
		return code == connect.CodeUnavailable && reason == "NOT_READY"
	})
	if err := admitted(t.Context(), h.as(t, h.admin)); err != nil {
		t.Error(err)
	}
}
