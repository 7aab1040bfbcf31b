package server

import (
	"context"
	"crypto/sha256"
	"hash"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

var _ buntingv1connect.FlagAdminServiceHandler = admin{}

// admin is bunting.v1.FlagAdminService.
type admin struct{ *Server }

// Bounds of one message of a snapshot.
const (
	chunkObjects = 1000
	chunkBytes   = 256 << 10 // passed by at most one object
)

// GetServer is the handshake. A caller with a key prefix is told the counts
// under it.
func (s admin) GetServer(ctx context.Context, _ *connect.Request[buntingv1.GetServerRequest]) (*connect.Response[buntingv1.GetServerResponse], error) {
	c := callerOf(ctx)
	view := s.evaluator.View()
	if !view.Known() {
		return nil, s.answerError(ctx, "greet", errNothingKnown)
	}
	// What is said of the token is said of the revision that is told with it.
	if c.secret != "" {
		if _, err := s.authority.verify(ctx, c.secret, c.hash, s.now()); err != nil {
			return nil, err
		}
	}
	flags, overrides, holds, bytes := s.evaluator.Size(c.Prefix)
	m := &buntingv1.GetServerResponse{
		Environment: view.Environment, EnvironmentColor: s.color, Version: s.version, Protocol: wire.Protocol, OldestProtocol: wire.OldestProtocol,
		Revision: wire.FromRevision(view.Revision), Flags: int64(flags), Overrides: int64(overrides), Holds: int64(holds), SnapshotBytes: bytes,
		Actor: c.Name, Prefix: string(c.Prefix), TokenId: c.id, TokenExpiresAt: wire.FromTime(c.ends), Chain: s.chain(),
		Stale: &view.Stale, CompiledFlags: int64(view.Compiled()),
	}
	for _, scope := range c.Scopes {
		m.Scopes = append(m.Scopes, buntingv1.Scope(scope))
	}
	return connect.NewResponse(m), nil
}

// chain gives the ids of the servers from this one to the root.
func (s *Server) chain() []string {
	if s.follower == nil {
		return []string{s.id}
	}
	return append([]string{s.id}, s.follower.Upstreams()...)
}

// definitions gives a view of the minimum revision or a newer one, in which what is
// not found is not there.
func (s *Server) definitions(ctx context.Context, minimum flag.Revision) (evaluator.View, error) {
	view, err := s.evaluator.WaitFor(ctx, minimum)
	if ctx.Err() == nil && !view.Known() {
		err = errNothingKnown
	}
	return view, err
}

// Get reads the named objects at one revision.
func (s admin) Get(ctx context.Context, request *connect.Request[buntingv1.GetRequest]) (*connect.Response[buntingv1.GetResponse], error) {
	asked := request.Msg.GetRefs()
	if len(asked) > maxNames {
		return nil, invalid("refs names %d objects, more than the %d that one call answers. Ask in several calls, or for a snapshot", len(asked), maxNames)
	}
	if request.Msg.GetTellRemovals() && len(asked) > maxRemovals {
		return nil, invalid("refs names %d objects, more than the %d whose removals one call tells. Ask in several calls", len(asked), maxRemovals)
	}
	refs := make([]flag.Ref, len(asked))
	for i, m := range asked {
		var err error
		if refs[i], err = wire.ToRef(m); err != nil {
			return nil, invalid("refs[%d]: %w", i, err)
		}
		if refs[i].Key == "" {
			return nil, invalid("refs[%d] has an empty key. Name the flag", i)
		}
		if err := covered(callerOf(ctx).Covers(refs[i].Key)); err != nil {
			return nil, err
		}
	}
	view, err := s.definitions(ctx, wire.ToRevision(request.Msg.GetMinimumRevision()))
	if err != nil {
		return nil, s.answerError(ctx, "read definitions", err)
	}
	response := &buntingv1.GetResponse{Revision: wire.FromRevision(view.Revision), Stale: view.Stale}
	var size answerSize
	tell := func(ref flag.Ref, object flag.Object) error {
		m := wire.FromObject(ref, object)
		response.Objects = append(response.Objects, m)
		return size.add(m)
	}
	for _, ref := range refs {
		all := ref.Kind == flag.KindHold && ref.ID == ""
		if !all {
			if err := tell(ref, view.Object(ref)); err != nil {
				return nil, err
			}
		}
		if all || ref.Kind == flag.KindFlag {
			for h := range view.HoldsOf(ref.Key) {
				if err := tell(h.Ref(), h); err != nil {
					return nil, err
				}
			}
		}
	}
	if request.Msg.GetTellRemovals() {
		s.tellRemovals(ctx, response)
	}
	return connect.NewResponse(response), nil
}

// tellRemovals adds to what is absent who removed it. Without the database the
// answer is right all the same, so it is given without.
func (s admin) tellRemovals(ctx context.Context, response *buntingv1.GetResponse) {
	for _, m := range response.GetObjects() {
		gone, err := wire.ToRef(m.GetAbsent())
		if err != nil {
			continue // it is there
		}
		entries, _, err := s.store.Audit(ctx, store.AuditFilter{Key: gone.Key, Limit: removalDepth})
		if err != nil {
			s.log.WarnContext(ctx, "it cannot be told who removed what is absent", "error", err)
			return
		}
		// The newest entry of what is absent is that of its removal.
		if i := slices.IndexFunc(entries, func(e store.AuditEntry) bool { return e.Ref() == gone }); i >= 0 {
			e := entries[i]
			m.Removed = wire.FromStamp(flag.Stamp{Revision: e.Revision, Actor: e.Actor, Time: e.Time, OwnerID: e.OwnerID})
		}
	}
}

// GetSnapshot streams definitions at one revision.
func (s admin) GetSnapshot(ctx context.Context, request *connect.Request[buntingv1.GetSnapshotRequest], stream *connect.ServerStream[buntingv1.GetSnapshotResponse]) error {
	c := callerOf(ctx)
	prefix := flag.Key(request.Msg.GetPrefix())
	if prefix == "" {
		prefix = c.Prefix // all there is for this caller; the start says what is covered
	} else {
		if _, err := flag.ParseKey(string(prefix)); err != nil {
			return invalid("prefix %q: %w", prefix, err)
		}
		if err := covered(c.Covers(prefix)); err != nil {
			return err
		}
	}
	kinds, err := kindsOf(request.Msg.GetParts())
	if err != nil {
		return err
	}
	wanted := func(ref flag.Ref) bool { return slices.Contains(kinds, ref.Kind) && ref.Key.Under(prefix) }

	if _, err := s.definitions(ctx, wire.ToRevision(request.Msg.GetMinimumRevision())); err != nil {
		return s.answerError(ctx, "read a snapshot", err)
	}
	known := wire.ToRevision(request.Msg.GetKnownRevision())
	view, kind, edits, err := s.since(ctx, known, wanted)
	if err != nil {
		return err
	}
	// From here on there is no limit to the whole, only to silence.
	defer c.endless()()
	out := snapshotStream{stream: stream, caller: c, sum: sha256.New()}
	start := &buntingv1.SnapshotStart{
		Revision: wire.FromRevision(view.Revision), Kind: kind, Prefix: string(prefix),
		Environment: view.Environment, Supersedes: view.Supersedes, Stale: view.Stale,
	}
	for _, k := range kinds {
		start.Parts = append(start.Parts, buntingv1.Part(k)) //nolint:gosec // the numbers are the enum's
	}
	if err := out.send(&buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Start{Start: start}}); err != nil {
		return err
	}
	if kind == buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL {
		err = out.everything(view, kinds, prefix)
	} else {
		for _, e := range edits {
			if err = out.add(e.Ref, e.Object); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	return out.end()
}

// since finds out what has to be sent to a reader of the known revision.
func (s admin) since(ctx context.Context, known flag.Revision, wanted func(flag.Ref) bool) (evaluator.View, buntingv1.SnapshotKind, []flag.Edit, error) {
	view := s.evaluator.View()
	if known.StoreID != view.Revision.StoreID || known.Number <= 0 {
		return view, buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, nil, nil
	}
	// A reader who comes from another root may be ahead. Going back is no answer.
	if _, err := s.evaluator.WaitFor(ctx, known); err != nil {
		return view, 0, nil, s.answerError(ctx, "read a snapshot", err)
	}
	view, delta, ok := s.evaluator.Delta(known)
	if !ok {
		return view, buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, nil, nil
	}
	delta = slices.DeleteFunc(delta, func(e flag.Edit) bool { return !wanted(e.Ref) })
	if len(delta) == 0 {
		return view, buntingv1.SnapshotKind_SNAPSHOT_KIND_UNCHANGED, nil, nil
	}
	return view, buntingv1.SnapshotKind_SNAPSHOT_KIND_DELTA, delta, nil
}

func kindsOf(parts []buntingv1.Part) ([]flag.Kind, error) {
	if len(parts) == 0 {
		return []flag.Kind{flag.KindFlag, flag.KindOverride, flag.KindHold}, nil
	}
	kinds := make([]flag.Kind, len(parts))
	for i, p := range parts {
		kinds[i] = flag.Kind(p)
		if kinds[i] < flag.KindFlag || kinds[i] > flag.KindHold {
			return nil, invalid("parts names %s, which is no part. Ask for PART_FLAGS, PART_OVERRIDES or PART_HOLDS", p)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds), nil
}

// snapshotStream sends objects in chunks, counts them and sums them up.
type snapshotStream struct {
	stream *connect.ServerStream[buntingv1.GetSnapshotResponse]
	caller *caller
	chunk  []*buntingv1.Object
	bytes  int
	count  int64
	sum    hash.Hash
}

func (o *snapshotStream) everything(view evaluator.View, kinds []flag.Kind, prefix flag.Key) error {
	for _, kind := range kinds {
		switch kind {
		case flag.KindFlag:
			for f := range view.Flags(prefix) {
				if err := o.add(f.Ref(), f); err != nil {
					return err
				}
			}
		case flag.KindOverride:
			for v := range view.Overrides(prefix) {
				if err := o.add(v.Ref(), v); err != nil {
					return err
				}
			}
		case flag.KindHold:
			for h := range view.Holds(prefix) {
				if err := o.add(h.Ref(), h); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (o *snapshotStream) add(ref flag.Ref, object flag.Object) error {
	m := wire.FromObject(ref, object)
	flag.Digest(o.sum, ref, object)
	o.count++
	o.chunk = append(o.chunk, m)
	if o.bytes += proto.Size(m); len(o.chunk) < chunkObjects && o.bytes < chunkBytes {
		return nil
	}
	return o.flush()
}

func (o *snapshotStream) flush() error {
	if len(o.chunk) == 0 {
		return nil
	}
	err := o.send(&buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Objects{Objects: &buntingv1.SnapshotObjects{Objects: o.chunk}}})
	o.chunk, o.bytes = nil, 0
	return err
}

func (o *snapshotStream) end() error {
	if err := o.flush(); err != nil {
		return err
	}
	return o.send(&buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_End{End: &buntingv1.SnapshotEnd{Count: o.count, Checksum: o.sum.Sum(nil)}}})
}

func (o *snapshotStream) send(m *buntingv1.GetSnapshotResponse) error {
	return o.caller.write(func() error { return o.stream.Send(m) })
}
