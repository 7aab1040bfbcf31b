package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func passOn(ctx context.Context, c *Client) error {
	_, err := PassOn(ctx, c, Sender{Token: "theirs", RequestID: "r1", Via: []string{"a", "b"}}, buntingv1connect.FlagAdminServiceClient.ListTokens, &buntingv1.ListTokensRequest{})
	return err
}

// What is passed on carries its sender's token, not ours, and its way.
func TestWhatIsPassedOnIsItsSenders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	heard := map[string]http.Header{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		heard[path.Base(r.URL.Path)] = r.Header
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("WWW-Authenticate", "Bearer x")
		w.Header().Set("Retry-After", "9")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"code":"resource_exhausted","message":"enough"}`))
	}))
	t.Cleanup(server.Close)
	c, err := New(Options{Endpoint: server.URL, Token: "ours", Policy: &UpstreamPolicy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	err = passOn(t.Context(), c)
	told, ok := errors.AsType[*ToldError](err)
	if !ok || told.StatusCode != http.StatusTooManyRequests || told.Said.Code() != connect.CodeResourceExhausted || told.Said.Message() != "enough" || connect.IsWireError(told.Said) {
		t.Fatalf("%#v", err)
	}
	if told.Said.Meta().Get("WWW-Authenticate") != "Bearer x" || told.Said.Meta().Get("Retry-After") != "9" {
		t.Errorf("beside it comes %v", told.Said.Meta())
	}
	// That one caller asked too often slows nobody else down.
	if err := passOn(t.Context(), c); err == nil || c.host.breaker.resting() != nil {
		t.Error(err)
	}
	_, _ = c.Greet(t.Context())
	mu.Lock()
	defer mu.Unlock()
	passed, own := heard["ListTokens"], heard["GetServer"]
	if passed.Get("Authorization") != "Bearer theirs" || passed.Get(wire.ViaHeader) != "a, b" || passed.Get(wire.RequestIDHeader) != "r1" {
		t.Errorf("passed on with %v", passed)
	}
	if own.Get("Authorization") != "Bearer ours" || own.Get(wire.ViaHeader) != "" {
		t.Errorf("our own came with %v", own)
	}
}

// A host that answers nobody is asked for others only now and then, and they hear it at once.
func TestAHostThatIsAwayIsSparedWhatIsPassedOn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked, away := 0, true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if away {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/proto")
	}))
	t.Cleanup(server.Close)
	policy := UpstreamPolicy
	policy.Rest, policy.LongestRest = 50*time.Millisecond, 50*time.Millisecond
	c, err := New(Options{Endpoint: server.URL, Token: "ours", Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	began := time.Now()
	for range 300 {
		if e, ok := errors.AsType[*Error](passOn(t.Context(), c)); !ok || e.Kind != Unavailable {
			t.Fatal(e)
		}
	}
	mu.Lock()
	if most := policy.BreakAfter + 1 + int(time.Since(began)/policy.Rest); asked > most {
		t.Errorf("300 calls took %d requests, more than %d", asked, most)
	}
	away = false
	mu.Unlock()
	for end := time.Now().Add(10 * time.Second); passOn(t.Context(), c) != nil; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not asked again")
		}
	}
}
