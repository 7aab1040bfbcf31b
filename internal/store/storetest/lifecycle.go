package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// calls are all the calls that a store has, each as the test of a moment.
func calls(s store.Store, now time.Time) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Head":     func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		"Snapshot": func(ctx context.Context) error { _, err := s.Snapshot(ctx); return err },
		"Since":    func(ctx context.Context) error { _, _, err := s.Since(ctx, 0); return err },
		"Apply": func(ctx context.Context) error {
			_, err := s.Apply(ctx, store.Batch{Actor: anna, Now: now, Changes: []flag.Change{flag.Put(aFlag("call"))}})
			return err
		},
		"ExpireHolds": func(ctx context.Context) error { _, err := s.ExpireHolds(ctx, now); return err },
		"Audit":       func(ctx context.Context) error { _, _, err := s.Audit(ctx, store.AuditFilter{}); return err },
		"CreateToken": func(ctx context.Context) error {
			return s.CreateToken(ctx, token.Token{ID: "id", Name: "call", Scopes: []token.Scope{token.Read}, Hash: "hash", CreatedAt: now}, "anna")
		},
		"RevokeToken": func(ctx context.Context) error { _, err := s.RevokeToken(ctx, "there", "anna", now); return err },
		"Supersede":   func(ctx context.Context) error { _, err := s.Supersede(ctx, "former", "anna", now); return err },
		"Renew":       func(ctx context.Context) error { _, err := s.Renew(ctx, "former", now); return err },
		"Tokens":      func(ctx context.Context) error { _, err := s.Tokens(ctx); return err },
	}
}

func testCancellation(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(anna, flag.Put(aFlag("a")))
	if err := w.s.CreateToken(t.Context(), token.Token{ID: "there", Name: "there", Scopes: []token.Scope{token.Read}, Hash: "there", CreatedAt: w.now}, "anna"); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(w.s, w.now) {
		if err := call(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: error %v, want %v", name, err, context.Canceled)
		}
	}
	wantSame(t, "content after cancelled calls", content(w.snapshot()), content(before))

	// Cancelled at any moment: a call has an effect exactly when it says so.
	for i := range 300 { // in the midst of a small one
		w.cancelled(1, time.Duration(i)*2*time.Microsecond, i)
	}
	for i := range 30 { // or of a large one
		w.cancelled(300, time.Duration(i)*500*time.Microsecond, i)
	}
	w.must(anna, flag.Put(aFlag("b"))) // and the store is as good as before
	WantComplete(t.Context(), t, w.s)
}

// cancelled applies so many changes for so long.
func (w *world) cancelled(count int, after time.Duration, round int) {
	w.t.Helper()
	changes := make([]flag.Change, count)
	for i := range changes {
		f := aFlag(flag.Key(fmt.Sprintf("many/%d/%d", count, i)))
		f.Description = strconv.Itoa(round)
		changes[i] = flag.Put(f)
	}
	before := w.snapshot().Revision
	ctx, cancel := context.WithTimeout(w.t.Context(), after)
	defer cancel()
	_, err := w.s.Apply(ctx, store.Batch{Actor: anna, Now: w.now, Changes: changes})
	want := before
	if err == nil {
		want.Number++
	}
	if after := w.snapshot().Revision; after != want {
		w.t.Fatalf("error %v, but from revision %v to %v", err, before, after)
	}
}

func testClosing(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(anna, flag.Put(aFlag("a")))

	// Calls under way end, one way or the other, and Close waits for them.
	var group, started sync.WaitGroup
	for range 4 {
		started.Add(1)
		group.Go(func() {
			for i := 0; ; i++ {
				if i == 1 {
					started.Done()
				}
				f := aFlag("busy")
				f.Description = strconv.Itoa(i)
				if _, err := w.s.Apply(t.Context(), store.Batch{Actor: anna, Now: w.now, Changes: []flag.Change{flag.Put(f)}}); err != nil {
					if !errors.Is(err, store.ErrClosed) || i == 0 {
						t.Errorf("call %d, under way at Close: error %v, want %v", i, err, store.ErrClosed)
					}
					return
				}
			}
		})
	}
	started.Wait()
	if err := w.s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	group.Wait()
	for name, call := range calls(w.s, w.now) {
		if err := call(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: error %v, want %v", name, err, store.ErrClosed)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func testReopen(t *testing.T, open Opener, reopen Reopener) {
	t.Helper()
	w := newWorld(t, open)
	w.must(anna, flag.Put(aFlag("a")), flag.Put(anOverride("a", "u1")), flag.Put(aHold("a", "anna")))
	secret, id := token.NewSecret()
	made := token.Token{ID: id, Name: "ci", Scopes: []token.Scope{token.Read}, Hash: token.Hash(secret), CreatedAt: w.now, CreatedBy: "anna"}
	if err := w.s.CreateToken(t.Context(), made, "anna"); err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{Actor: anna, RequestID: "r", Changes: []flag.Change{flag.Put(aFlag("b"))}}
	first := w.batch(batch)
	if _, err := w.s.Supersede(t.Context(), "former", "anna", w.now); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Renew(t.Context(), w.snapshot().Revision.StoreID, w.now); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()

	w.s = reopen(t, w.s)
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	after := w.snapshot()
	if after.Revision != before.Revision || after.Environment != before.Environment {
		t.Errorf("opened again at %v of %q, want %v of %q", after.Revision, after.Environment, before.Revision, before.Environment)
	}
	wantSame(t, "content after opening again", content(after), content(before))
	if !slices.Equal(after.Supersedes, []string{"former"}) {
		t.Errorf("opened again, the store supersedes %q", after.Supersedes)
	}
	tokens, err := w.s.Tokens(t.Context())
	if err != nil || len(tokens) != 1 || tokens[0].Hash != made.Hash {
		t.Errorf("tokens after opening again: %+v, %v", tokens, err)
	}
	again := w.batch(batch)
	if !again.Repeated {
		t.Error("the request id was forgotten")
	}
	wantSame(t, "the answer again", outcomeText(again), outcomeText(first))
	w.must(anna, flag.Put(aFlag("c")))
	WantComplete(t.Context(), t, w.s)
}
