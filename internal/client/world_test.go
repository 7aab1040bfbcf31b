package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// trouble is what becomes of a request on its way.
type trouble int

const (
	none    trouble = iota
	lost            // the connection breaks before the server has it
	unheard         // the connection breaks when the server has done it
	absent          // 503
	late            // the answer takes ten times as long
	limited         // 429, for a second
)

// world is a server that is right, on the fake clock, at the end of a road that
// is long and has troubles. It knows flags and nothing else.
type world struct {
	buntingv1connect.UnimplementedFlagAdminServiceHandler

	latency  time.Duration
	troubles func(n int) trouble // of the n-th request, from 0; nil: none
	padding  int64               // bytes that the handshake says there are beside

	mu     sync.Mutex
	flags  *flag.Snapshot
	first  map[string]*buntingv1.ApplyResponse // by request id
	counts map[string]int                      // requests by call
	bytes  int                                 // of all answers
}

func newWorld(latency time.Duration, flags int) *world {
	revision := flag.Revision{StoreID: "s", Number: 3}
	edits := make([]flag.Edit, flags)
	for i := range edits {
		f := newFlag(numbered(i))
		edits[i] = flag.Edit{Ref: f.Ref(), Object: f}
	}
	return &world{
		latency: latency, flags: flag.NewSnapshot("test", revision).With(revision, slices.Values(edits)),
		first: map[string]*buntingv1.ApplyResponse{}, counts: map[string]int{},
	}
}

func (w *world) client(t *testing.T) *Client {
	t.Helper()
	c, err := New(Options{Endpoint: "http://flags.test", Token: secret, Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// total gives how many requests there were.
func (w *world) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, count := range w.counts {
		n += count
	}
	return n
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n := w.total()
	w.mu.Lock()
	w.counts[path.Base(r.URL.Path)]++
	w.mu.Unlock()
	now := none
	if w.troubles != nil {
		now = w.troubles(n)
	}
	if err := sleep(r.Context(), w.latency/2); err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	switch now {
	case lost:
		return nil, syscall.ECONNRESET
	case absent:
		answer.WriteHeader(http.StatusServiceUnavailable)
	case limited:
		answer.Header().Set("Retry-After", "1")
		answer.WriteHeader(http.StatusTooManyRequests)
	default:
		_, handler := buntingv1connect.NewFlagAdminServiceHandler(w)
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(answer, r)
	}
	back := w.latency / 2
	if now == late {
		back = 10 * w.latency
	}
	if err := sleep(r.Context(), back); err != nil {
		return nil, err
	}
	if now == unheard {
		return nil, syscall.ECONNRESET
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += answer.Body.Len()
	return answer.Result(), nil
}

func (w *world) now() *flag.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flags
}

func (w *world) GetServer(context.Context, *connect.Request[buntingv1.GetServerRequest]) (*connect.Response[buntingv1.GetServerResponse], error) {
	now := w.now()
	flags, _, _ := now.Counts()
	return connect.NewResponse(&buntingv1.GetServerResponse{
		Environment: "test", Version: "1", Protocol: wire.Protocol, OldestProtocol: wire.OldestProtocol, Revision: wire.FromRevision(now.Revision),
		Flags: int64(flags), SnapshotBytes: int64(flags)*100 + w.padding,
	}), nil
}

func (w *world) Get(_ context.Context, r *connect.Request[buntingv1.GetRequest]) (*connect.Response[buntingv1.GetResponse], error) {
	now := w.now()
	answer := &buntingv1.GetResponse{Revision: wire.FromRevision(now.Revision)}
	for _, m := range r.Msg.GetRefs() {
		ref, err := wire.ToRef(m)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		answer.Objects = append(answer.Objects, wire.FromObject(ref, now.Object(ref)))
	}
	return connect.NewResponse(answer), nil
}

func (w *world) GetSnapshot(_ context.Context, _ *connect.Request[buntingv1.GetSnapshotRequest], stream *connect.ServerStream[buntingv1.GetSnapshotResponse]) error {
	now := w.now()
	start := &buntingv1.SnapshotStart{Revision: wire.FromRevision(now.Revision), Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL}
	digest, all := sha256.New(), &buntingv1.SnapshotObjects{}
	for f := range now.Flags("") {
		flag.Digest(digest, f.Ref(), f)
		all.Objects = append(all.Objects, wire.FromObject(f.Ref(), f))
	}
	end := &buntingv1.SnapshotEnd{Count: int64(len(all.GetObjects())), Checksum: digest.Sum(nil)}
	for _, m := range []*buntingv1.GetSnapshotResponse{
		{Message: &buntingv1.GetSnapshotResponse_Start{Start: start}}, {Message: &buntingv1.GetSnapshotResponse_Objects{Objects: all}}, {Message: &buntingv1.GetSnapshotResponse_End{End: end}},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Apply(_ context.Context, r *connect.Request[buntingv1.ApplyRequest]) (*connect.Response[buntingv1.ApplyResponse], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if first := w.first[r.Msg.GetRequestId()]; first != nil {
		return connect.NewResponse(first), nil
	}
	var results []*buntingv1.Result
	revision := flag.Revision{StoreID: w.flags.Revision.StoreID, Number: w.flags.Revision.Number + 1}
	edits := func(yield func(flag.Edit) bool) {
		for _, m := range r.Msg.GetChanges() {
			change, err := wire.ToChange(m)
			if err != nil {
				panic(err)
			}
			f := *change.Object.(*flag.Flag)
			f.Changed = flag.Stamp{Revision: revision.Number, Actor: "ci"}
			results = append(results, wire.FromResult(change, flag.Result{Status: flag.Applied, Object: &f}))
			if !yield(flag.Edit{Ref: change.Ref, Object: &f}) {
				return
			}
		}
	}
	w.flags = w.flags.With(revision, iter.Seq[flag.Edit](edits))
	answer := &buntingv1.ApplyResponse{Revision: wire.FromRevision(revision), Results: results}
	w.first[r.Msg.GetRequestId()] = answer
	return connect.NewResponse(answer), nil
}
