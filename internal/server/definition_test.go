package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// received is a snapshot stream as its reader saw it.
type received struct {
	start  *buntingv1.SnapshotStart
	edits  []flag.Edit
	chunks []*buntingv1.SnapshotObjects
	end    *buntingv1.SnapshotEnd
}

func (r received) ids() (ids []string) {
	for _, e := range r.edits {
		ids = append(ids, e.Ref.String())
	}
	return ids
}

// readSnapshot reads a whole snapshot and checks its count and sum.
func readSnapshot(tb testing.TB, c clients, request *buntingv1.GetSnapshotRequest) (r received) {
	tb.Helper()
	stream, err := c.GetSnapshot(tb.Context(), connect.NewRequest(request))
	if err != nil {
		tb.Fatal(err)
	}
	defer stream.Close()
	sum := sha256.New()
	for stream.Receive() {
		m := stream.Msg()
		switch {
		case r.end != nil, (m.GetStart() != nil) != (r.start == nil):
			tb.Fatalf("out of order: %v", m)
		case m.GetStart() != nil:
			r.start = proto.CloneOf(m.GetStart())
		case m.GetEnd() != nil:
			r.end = proto.CloneOf(m.GetEnd())
		default:
			r.chunks = append(r.chunks, proto.CloneOf(m.GetObjects()))
			for _, o := range m.GetObjects().GetObjects() {
				edit, err := wire.ToObject(o)
				if err != nil {
					tb.Fatal(err)
				}
				r.edits = append(r.edits, edit)
				flag.Digest(sum, edit.Ref, edit.Object)
			}
		}
	}
	if err := stream.Err(); err != nil {
		tb.Fatal(err)
	}
	if r.end.GetCount() != int64(len(r.edits)) || !bytes.Equal(r.end.GetChecksum(), sum.Sum(nil)) {
		tb.Fatalf("%d objects came, the end says %d, or the sum is wrong", len(r.edits), r.end.GetCount())
	}
	return r
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.as(t, h.admin)
	empty := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{})
	if empty.start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL || len(empty.edits) != 0 {
		t.Fatalf("an empty store: %v", empty)
	}
	for _, key := range []flag.Key{"b", "a/x", "a"} {
		h.apply(t, flag.Put(boolean(key)))
	}
	at := h.apply(t, flag.Put(override("a", "u2", true)), flag.Put(override("a", "u1", true)), flag.Put(hold("b", "ops")))

	full := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{})
	if want := []string{"a", "a/x", "b", "a:u1", "a:u2", "b:ops"}; !slices.Equal(full.ids(), want) || wire.ToRevision(full.start.GetRevision()) != at || len(full.start.GetParts()) != 3 {
		t.Errorf("full: %v at %v", full.ids(), full.start)
	}
	parts := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{Prefix: "a", Parts: []buntingv1.Part{buntingv1.Part_PART_OVERRIDES, buntingv1.Part_PART_FLAGS, buntingv1.Part_PART_FLAGS}})
	if want := []string{"a", "a/x", "a:u1", "a:u2"}; !slices.Equal(parts.ids(), want) || parts.start.GetPrefix() != "a" || len(parts.start.GetParts()) != 2 {
		t.Errorf("parts: %v, %v", parts.ids(), parts.start)
	}

	// What changed since, the removed objects as absent; nothing when nothing did.
	known := wire.FromRevision(at)
	if r := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{KnownRevision: known}); r.start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_UNCHANGED || len(r.edits) != 0 {
		t.Errorf("unchanged: %v", r)
	}
	h.apply(t, flag.Change{Op: flag.RemoveOverride, Ref: flag.OverrideRef("a", "u1")}, flag.Put(boolean("c")))
	last := h.apply(t, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("b", "ops")})
	delta := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{KnownRevision: known})
	if want := []string{"c", "a:u1", "b:ops"}; delta.start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_DELTA || !slices.Equal(delta.ids(), want) || wire.ToRevision(delta.start.GetRevision()) != last {
		t.Errorf("delta: %v %v", delta.ids(), delta.start)
	}
	if delta.edits[0].Object == nil || delta.edits[1].Object != nil || delta.edits[2].Object != nil {
		t.Errorf("delta: %+v", delta.edits)
	}
	if r := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{KnownRevision: known, Prefix: "a/x"}); r.start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_UNCHANGED || wire.ToRevision(r.start.GetRevision()) != last {
		t.Errorf("nothing differs under the prefix: %v", r.start)
	}
	for name, foreign := range map[string]*buntingv1.Revision{
		"another store": {StoreId: "other", Number: 1}, "negative": {StoreId: at.StoreID, Number: -5}, "no number": {StoreId: at.StoreID},
	} {
		if r := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{KnownRevision: foreign}); r.start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL || len(r.edits) != 5 {
			t.Errorf("%s: %v, %v", name, r.start, r.ids())
		}
	}
}

func TestSnapshotsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := start(t)
	at := h.apply(t, flag.Put(boolean("a")))
	c := h.as(t, h.admin)
	for name, want := range map[string]struct {
		request *buntingv1.GetSnapshotRequest
		code    connect.Code
		reason  string
	}{
		"a prefix that is no key": {&buntingv1.GetSnapshotRequest{Prefix: "a/"}, connect.CodeInvalidArgument, ""},
		"a part that is none":     {&buntingv1.GetSnapshotRequest{Parts: []buntingv1.Part{9}}, connect.CodeInvalidArgument, ""},
		"part 0":                  {&buntingv1.GetSnapshotRequest{Parts: []buntingv1.Part{0}}, connect.CodeInvalidArgument, ""},
		"a reader who is ahead":   {&buntingv1.GetSnapshotRequest{KnownRevision: &buntingv1.Revision{StoreId: at.StoreID, Number: at.Number + 1}}, connect.CodeFailedPrecondition, "REVISION_NOT_REACHED"},
	} {
		stream, err := c.GetSnapshot(t.Context(), connect.NewRequest(want.request))
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() {
			t.Errorf("%s: something was sent: %v", name, stream.Msg())
		}
		if code, reason := told(stream.Err()); code != want.code || reason != want.reason {
			t.Errorf("%s: %v", name, stream.Err())
		}
		stream.Close()
	}
}

func TestSnapshotsComeInBoundedChunks(t *testing.T) {
	t.Parallel()
	h := start(t)
	large, err := flag.StringValue(strings.Repeat("x", chunkBytes*3/4))
	if err != nil {
		t.Fatal(err)
	}
	var changes []flag.Change
	for i := range chunkObjects + 500 {
		changes = append(changes, flag.Put(boolean(flag.Key(fmt.Sprintf("a/%05d", i)))))
	}
	for i := range 5 {
		changes = append(changes, flag.Put(&flag.Flag{Key: flag.Key(fmt.Sprintf("b/%d", i)), Type: flag.String, Default: large, State: flag.Enabled}))
	}
	h.apply(t, changes...)
	r := readSnapshot(t, h.as(t, h.admin), &buntingv1.GetSnapshotRequest{})
	if len(r.edits) != len(changes) || len(r.chunks) < 4 {
		t.Errorf("%d objects in %d chunks", len(r.edits), len(r.chunks))
	}
	for i, chunk := range r.chunks {
		if n := len(chunk.GetObjects()); n > chunkObjects || proto.Size(chunk) > 2*chunkBytes {
			t.Errorf("chunk %d has %d objects and %d bytes", i, n, proto.Size(chunk))
		}
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")), flag.Put(boolean("calm")))
	at := h.apply(t, flag.Put(override("pay", "u1", true)), flag.Put(hold("pay", "ops-a")), flag.Put(hold("pay", "ops-b")))
	c := h.as(t, h.admin)
	get := func(refs ...flag.Ref) (lines []string) {
		t.Helper()
		m := &buntingv1.GetRequest{MinimumRevision: wire.FromRevision(at)}
		for _, r := range refs {
			m.Refs = append(m.Refs, wire.FromRef(r))
		}
		response, err := c.Get(t.Context(), connect.NewRequest(m))
		if err != nil {
			t.Fatal(err)
		}
		if wire.ToRevision(response.Msg.GetRevision()) != at {
			t.Errorf("revision %v, want %v", response.Msg.GetRevision(), at)
		}
		for _, o := range response.Msg.GetObjects() {
			edit, err := wire.ToObject(o)
			if err != nil {
				t.Fatal(err)
			}
			line := edit.Ref.String()
			if edit.Object == nil {
				line = "no " + line
			}
			lines = append(lines, line)
		}
		return lines
	}
	for _, c := range []struct {
		refs []flag.Ref
		want []string
	}{
		{nil, nil},
		{[]flag.Ref{flag.FlagRef("pay")}, []string{"pay", "pay:ops-a", "pay:ops-b"}},
		{[]flag.Ref{flag.FlagRef("calm"), flag.FlagRef("gone")}, []string{"calm", "no gone"}},
		{[]flag.Ref{flag.OverrideRef("pay", "u1"), flag.OverrideRef("pay", "u2")}, []string{"pay:u1", "no pay:u2"}},
		{[]flag.Ref{flag.HoldRef("pay", "ops-b"), flag.HoldRef("pay", "ops-z")}, []string{"pay:ops-b", "no pay:ops-z"}},
		{[]flag.Ref{flag.HoldRef("pay", ""), flag.HoldRef("calm", ""), flag.HoldRef("gone", "")}, []string{"pay:ops-a", "pay:ops-b"}},
	} {
		if got := get(c.refs...); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.refs, got, c.want)
		}
	}
	for name, bad := range map[string]*buntingv1.GetRequest{
		"an empty ref": {Refs: []*buntingv1.Ref{{}}}, "an empty key": {Refs: []*buntingv1.Ref{wire.FromRef(flag.FlagRef(""))}},
		"too many removals": {Refs: slices.Repeat([]*buntingv1.Ref{wire.FromRef(flag.FlagRef("pay"))}, maxRemovals+1), TellRemovals: true},
		"too many":          {Refs: slices.Repeat([]*buntingv1.Ref{wire.FromRef(flag.FlagRef("pay"))}, maxNames+1)},
	} {
		if _, err := c.Get(t.Context(), connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	for reason, minimum := range map[string]*buntingv1.Revision{
		"STORE_CHANGED": {StoreId: "other", Number: 1}, "REVISION_NOT_REACHED": {StoreId: at.StoreID, Number: at.Number + 100},
	} {
		_, err := c.Get(t.Context(), connect.NewRequest(&buntingv1.GetRequest{MinimumRevision: minimum}))
		if code, told := told(err); code != connect.CodeFailedPrecondition || told != reason {
			t.Errorf("%v, want %s", err, reason)
		}
	}
}

// Who removed what is absent is told when that is asked, for nothing else, and
// not knowing it spoils no answer.
func TestGetTellsRemovals(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")), flag.Put(boolean("gone")))
	h.apply(t, flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("gone")})
	c := h.as(t, h.admin)
	var asked int
	removals := func(tell bool) (by []string) {
		t.Helper()
		m := &buntingv1.GetRequest{TellRemovals: tell}
		for _, key := range []flag.Key{"pay", "gone", "never"} {
			m.Refs = append(m.Refs, wire.FromRef(flag.FlagRef(key)))
		}
		response, err := c.Get(t.Context(), connect.NewRequest(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range response.Msg.GetObjects() {
			by = append(by, o.GetRemoved().GetActor())
		}
		return by
	}
	h.store.set(func(method string) error {
		if method == "Audit" {
			asked++
		}
		return nil
	})
	if got := removals(false); !slices.Equal(got, []string{"", "", ""}) || asked != 0 {
		t.Errorf("not asked: %q after %d questions to the store", got, asked)
	}
	if got := removals(true); !slices.Equal(got, []string{"", "admin", ""}) || asked != 2 {
		t.Errorf("asked: %q after %d questions to the store", got, asked)
	}
	h.store.set(func(string) error { return errors.New("away") })
	if got := removals(true); !slices.Equal(got, []string{"", "", ""}) {
		t.Errorf("without the store: %q", got)
	}
}

func TestTheHandshake(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *Options) { o.EnvironmentColor = "#cc0000" })
	h.apply(t, flag.Put(boolean("pay")), flag.Put(boolean("old")))
	at := h.apply(t, flag.Put(override("pay", "u1", true)), flag.Put(hold("pay", "ops")), flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef("old")})
	response, err := h.as(t, h.admin).GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	m := response.Msg
	size := m.GetSnapshotBytes()
	if m.GetTokenId() == "" || len(m.GetChain()) != 1 || m.GetChain()[0] == "" {
		t.Errorf("the token is %q, the chain %q", m.GetTokenId(), m.GetChain())
	}
	m.SnapshotBytes, m.TokenId, m.Chain = 0, "", nil
	want := &buntingv1.GetServerResponse{
		Environment: "test", EnvironmentColor: "#cc0000", Version: "1.2.3", Protocol: 1, OldestProtocol: 1, Revision: wire.FromRevision(at),
		Flags: 2, Overrides: 1, Holds: 1, Actor: "admin", Scopes: []buntingv1.Scope{buntingv1.Scope_SCOPE_ADMIN},
		Stale: new(bool),
	}
	if !proto.Equal(m, want) || size < 100 || size > 2000 {
		t.Errorf("%v of %d bytes, want %v", m, size, want)
	}
}
