package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// next gives the stream's next message that is no heartbeat.
func next(tb testing.TB, stream *connect.ServerStreamForClient[buntingv1.WatchChangesResponse]) *buntingv1.WatchChangesResponse {
	tb.Helper()
	for stream.Receive() {
		if stream.Msg().GetHeartbeat() == nil {
			return stream.Msg()
		}
	}
	tb.Fatalf("the stream ended with %v", stream.Err())
	return nil
}

func watch(tb testing.TB, c clients, since flag.Revision) *connect.ServerStreamForClient[buntingv1.WatchChangesResponse] {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	stream, err := c.WatchChanges(ctx, connect.NewRequest(&buntingv1.WatchChangesRequest{Since: wire.FromRevision(since)}))
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cancel(); stream.Close() })
	return stream
}

func TestAWatcherGetsEveryCommitInOrder(t *testing.T) {
	t.Parallel()
	h := start(t)
	begin := h.apply(t, flag.Put(boolean("f0")))
	for name, c := range map[string]clients{
		"HTTP/1.1": h.as(t, h.admin), "h2c": h.over(t, h.admin, h2c(t)), "gRPC": h.over(t, h.admin, h2c(t), connect.WithGRPC()),
	} {
		stream := watch(t, c, begin)
		done := make(chan struct{})
		go func() {
			defer close(done)
			at := begin.Number
			for range 30 {
				commit := next(t, stream).GetCommit()
				at++
				if commit.GetRevision().GetNumber() != at {
					t.Errorf("%s: revision %d came, want %d", name, commit.GetRevision().GetNumber(), at)
					return
				}
			}
		}()
		for i := range 10 {
			h.apply(t, flag.Put(boolean(flag.Key(fmt.Sprintf("%s/f%d", strings.ReplaceAll(name, "/", "-"), i)))))
			h.apply(t, flag.Put(hold("f0", fmt.Sprintf("ops-%d", i))))
			h.apply(t, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("f0", fmt.Sprintf("ops-%d", i))})
		}
		<-done
	}
}

func TestWhatACommitTells(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("team-a/pay")), flag.Put(boolean("team-b/pay")))
	begin := h.apply(t, flag.Put(override("team-a/pay", "u1", true)), flag.Put(override("team-b/pay", "u1", true)))
	all := watch(t, h.as(t, h.admin), begin)
	some := watch(t, h.as(t, h.token(t, token.Token{Name: "a", Scopes: []token.Scope{token.Read}, Prefix: "team-a"})), begin)
	for _, stream := range []*connect.ServerStreamForClient[buntingv1.WatchChangesResponse]{all, some} {
		if commit := next(t, stream).GetCommit(); len(commit.GetObjects()) != 0 { // the token was made
			t.Errorf("the making of a token tells %v", commit)
		}
	}
	at := h.apply(t,
		flag.Change{Op: flag.RemoveOverride, Ref: flag.OverrideRef("team-a/pay", "u1")}, flag.Change{Op: flag.RemoveOverride, Ref: flag.OverrideRef("team-b/pay", "u1")})
	commit := next(t, all).GetCommit()
	if wire.ToRevision(commit.GetRevision()) != at || len(commit.GetObjects()) != 2 || commit.GetObjects()[0].GetAbsent().GetOverride().GetFlagKey() != "team-a/pay" {
		t.Errorf("all: %v", commit)
	}
	if commit := next(t, some).GetCommit(); len(commit.GetObjects()) != 1 || commit.GetObjects()[0].GetAbsent().GetOverride().GetFlagKey() != "team-a/pay" {
		t.Errorf("some: %v", commit)
	}
	// A commit of which nothing is to be seen comes all the same: no gaps.
	at = h.apply(t, flag.Put(boolean("team-b/other")))
	if commit := next(t, some).GetCommit(); wire.ToRevision(commit.GetRevision()) != at || len(commit.GetObjects()) != 0 {
		t.Errorf("outside of the prefix: %v", commit)
	}
}

func TestHeartbeatsSayWhetherTheStoreAnswers(t *testing.T) {
	t.Parallel()
	h := start(t)
	stream := watch(t, h.as(t, h.admin), flag.Revision{})
	at := h.server.evaluator.View().Revision
	for range 3 {
		if !stream.Receive() || wire.ToRevision(stream.Msg().GetHeartbeat().GetRevision()) != at {
			t.Fatalf("%v %v", stream.Msg(), stream.Err())
		}
	}
	turns := func(stale bool) {
		t.Helper()
		for stream.Receive() {
			if stream.Msg().GetHeartbeat().GetStale() == stale {
				return
			}
		}
		t.Fatalf("the stream ended with %v", stream.Err())
	}
	h.store.set(func(string) error { return errors.New("away") })
	turns(true) // the server lives, but not what it knows from
	h.store.set(nil)
	turns(false)
}

// gated is an answer whose reader takes nothing until the gate is open.
type gated struct {
	*httptest.ResponseRecorder

	come  chan struct{} // closed when there is something to take
	first sync.Once
	open  chan struct{}
}

func (g *gated) Write(b []byte) (int, error) {
	g.first.Do(func() { close(g.come) })
	<-g.open
	return g.ResponseRecorder.Write(b)
}

func TestAWatcherWhosePlaceIsGoneIsToldToResync(t *testing.T) {
	t.Parallel()
	h := start(t)
	begin := h.apply(t, flag.Put(boolean("pay")))
	c := h.as(t, h.admin)
	// Random, or it would be compressed to nothing and fit into the buffers.
	random := make([]byte, flag.MaxValueBytes/4)
	_, _ = rand.Read(random)
	large, err := flag.StringValue(hex.EncodeToString(random))
	if err != nil {
		t.Fatal(err)
	}
	// Past the wire, which is slow with the race detector.
	write := func(keys ...string) flag.Revision {
		t.Helper()
		batch := store.Batch{Actor: token.Actor{Name: "admin", Scopes: []token.Scope{token.Admin}}, Now: time.Now()}
		for _, key := range keys {
			batch.Changes = append(batch.Changes, flag.Put(&flag.Flag{Key: flag.Key(key), Type: flag.String, Default: large, State: flag.Enabled}))
		}
		out, err := h.server.root.Apply(t.Context(), batch)
		if err != nil || out.Commit == nil {
			t.Fatal(out, err)
		}
		return out.Revision
	}
	// A reader who takes nothing while all this happens.
	slow := &gated{ResponseRecorder: httptest.NewRecorder(), come: make(chan struct{}), open: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		text := fmt.Sprintf(`{"since":{"storeId":%q,"number":"%d"}}`, begin.StoreID, begin.Number)
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, buntingv1connect.FlagAdminServiceWatchChangesProcedure,
			strings.NewReader("\x00\x00\x00\x00"+string(rune(len(text)))+text))
		request.Header.Set("Content-Type", "application/connect+json")
		request.Header.Set("Authorization", "Bearer "+h.admin)
		h.server.ServeHTTP(slow, request)
	}()
	select {
	case <-slow.come: // the first heartbeat: nothing that is written from now on has been read for it
	case <-ended:
		t.Fatalf("the stream ended with %s", slow.Body)
	}
	var at flag.Revision
	for i := range 20 {
		at = write(fmt.Sprintf("big/%d", i))
	}
	close(slow.open)
	<-ended
	if body := slow.Body.String(); strings.Contains(body, `"commit"`) || !strings.Contains(body, `"resync"`) {
		t.Errorf("the slow reader got %d bytes, %d commits", len(body), strings.Count(body, `"commit"`))
	}
	for name, since := range map[string]flag.Revision{"long ago": begin, "another store": {StoreID: "other", Number: 3}, "before all": {StoreID: begin.StoreID, Number: -4}} {
		stream := watch(t, c, since)
		if m := next(t, stream); wire.ToRevision(m.GetResync().GetRevision()) != at {
			t.Errorf("%s: %v", name, m)
		}
		if stream.Receive() || stream.Err() != nil {
			t.Errorf("%s: the stream goes on, or ends with %v", name, stream.Err())
		}
	}
	if code, reason := told(func() error {
		stream := watch(t, c, flag.Revision{StoreID: at.StoreID, Number: at.Number + 9})
		stream.Receive()
		return stream.Err()
	}()); code != connect.CodeFailedPrecondition || reason != "REVISION_NOT_REACHED" {
		t.Errorf("from the future: %v %s", code, reason)
	}
	// One commit that is too large for a message.
	stream := watch(t, c, at)
	write("huge/1", "huge/2", "huge/3", "huge/4", "huge/5")
	if m := next(t, stream); m.GetResync() == nil {
		t.Errorf("a commit of 2.5 MB came as one message")
	}
}

func TestTheDrainEndsStreamsAndAnswersRequests(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")))
	c := h.over(t, h.admin, h2c(t))
	stream := watch(t, c, flag.Revision{})
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	// A write under way in the store when the drain begins.
	inside, goOn := make(chan struct{}), make(chan struct{})
	h.store.set(func(method string) error {
		if method == "Apply" {
			close(inside)
			<-goOn
		}
		return nil
	})
	written := make(chan error, 1)
	for _, client := range []clients{h.as(t, h.admin)} {
		go func() {
			_, err := client.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("late")))}}))
			written <- err
		}()
	}
	<-inside
	ended := make(chan error, 1)
	go func() { ended <- h.drain() }()
	for stream.Receive() {
	}
	if code, reason := told(stream.Err()); code != connect.CodeUnavailable || reason != "NOT_READY" {
		t.Errorf("the stream ended with %v", stream.Err())
	}
	select {
	case err := <-ended:
		t.Fatalf("the drain did not wait for the write: %v", err)
	case err := <-written:
		t.Fatalf("the write ended early: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := h.as(t, h.admin).GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{})); err == nil {
		t.Error("a new connection was taken while draining")
	}
	close(goOn)
	if err := <-written; err != nil {
		t.Errorf("the write under way: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the drain: %v", err)
	}
	if h.server.evaluator.View().Flag("late") == nil {
		t.Error("the write is not there")
	}
}

func TestTheDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.server.drainLimit = 100 * time.Millisecond
	inside, goOn := make(chan struct{}), make(chan struct{})
	defer close(goOn)
	h.store.set(func(method string) error {
		if method == "Apply" {
			close(inside)
			<-goOn
		}
		return nil
	})
	written := make(chan error, 1)
	client := h.as(t, h.admin)
	go func() {
		_, err := client.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("late")))}}))
		written <- err
	}()
	<-inside
	if err := h.drain(); err != nil {
		t.Errorf("the drain: %v", err)
	}
	if err := <-written; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the write that hangs: %v", err)
	}
	if !strings.Contains(h.log.String(), "are cut off") {
		t.Error("the log does not tell")
	}
}

// TestACommitOfSeveralRevisionsTellsWhereItLeadsOnFrom: or a reader would take it for one with a gap before it.
func TestACommitOfSeveralRevisionsTellsWhereItLeadsOnFrom(t *testing.T) {
	t.Parallel()
	at := flag.Revision{StoreID: "s", Number: 8}
	for name, row := range map[string]struct {
		commit evaluator.Commit
		want   *int64
	}{
		"one revision":              {evaluator.Commit{Commit: store.Commit{Revision: at}, Previous: 7}, nil},
		"a difference":              {evaluator.Commit{Commit: store.Commit{Revision: at}, Previous: 7, Joined: true}, new(int64(7))},
		"several that were shared":  {evaluator.Commit{Commit: store.Commit{Revision: at}, Previous: 5}, new(int64(5))},
		"from nothing to the first": {evaluator.Commit{Commit: store.Commit{Revision: flag.Revision{StoreID: "s", Number: 1}}, Previous: 0}, nil},
	} {
		got := commitMessage(row.commit, "").GetCommit().Previous
		if (got == nil) != (row.want == nil) || got != nil && *got != *row.want {
			t.Errorf("%s: it leads on from %v", name, got)
		}
	}
}
