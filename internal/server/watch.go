package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

const (
	// A commit of more than this is not sent down a stream: its readers are told
	// to take a snapshot, which comes in chunks.
	maxCommitMessage = 1 << 20
	// A heartbeat says that the source of truth was silent when it was for longer: a
	// reader must not take the server's life for that of the source.
	maxHeartbeatSilence = evaluator.HeartbeatInterval * 3 / 2
)

// WatchChanges streams commits in revision order without gaps. Nothing is
// buffered for a reader: each one reads the common journal at its own pace, and
// who falls out of it is told to read a snapshot.
func (s admin) WatchChanges(ctx context.Context, request *connect.Request[buntingv1.WatchChangesRequest], stream *connect.ServerStream[buntingv1.WatchChangesResponse]) error {
	c := callerOf(ctx)
	defer c.endless()()
	send := func(m *buntingv1.WatchChangesResponse) error {
		return c.write(func() error { return stream.Send(m) })
	}

	at := wire.ToRevision(request.Msg.GetSince())
	if _, err := s.definitions(ctx, flag.Revision{}); err != nil {
		return s.answerError(ctx, "watch changes", err)
	}
	if at == (flag.Revision{}) {
		at = s.evaluator.View().Revision
	} else if present := s.evaluator.View().Revision; at.StoreID == present.StoreID && at.Number > present.Number {
		if _, err := s.evaluator.WaitFor(ctx, at); err != nil {
			return s.answerError(ctx, "watch changes", err)
		}
	}
	beat := time.NewTicker(evaluator.HeartbeatInterval)
	defer beat.Stop()
	for due := true; ; {
		commits, more, ok := s.evaluator.Changes(at)
		for _, commit := range commits {
			m := commitMessage(commit, c.Prefix)
			if ok = proto.Size(m) <= maxCommitMessage; !ok {
				break
			}
			if err := send(m); err != nil {
				return err
			}
			at = commit.Revision
		}
		if !ok {
			present := wire.FromRevision(s.evaluator.View().Revision)
			return send(&buntingv1.WatchChangesResponse{Message: &buntingv1.WatchChangesResponse_Resync{Resync: &buntingv1.Resync{Revision: present}}})
		}
		if due {
			beat := &buntingv1.Heartbeat{Revision: wire.FromRevision(at), Stale: !s.evaluator.HeardWithin(maxHeartbeatSilence)}
			if err := send(&buntingv1.WatchChangesResponse{Message: &buntingv1.WatchChangesResponse_Heartbeat{Heartbeat: beat}}); err != nil {
				return err
			}
		}
		due = false
		select {
		case <-more:
		case <-beat.C:
			due = true
		case <-s.draining:
			return refusal(connect.CodeUnavailable, reasonNotReady, "the server is stopping. Connect again", "")
		case <-ctx.Done():
			return ctx.Err()
		}
		// A token may end while its stream lasts.
		if _, err := s.authority.verify(ctx, c.secret, c.hash, s.now()); err != nil {
			return err
		}
	}
}

// commitMessage gives the message of a commit as far as the prefix goes. A commit
// of which nothing is left is sent all the same: there are no gaps.
func commitMessage(c evaluator.Commit, prefix flag.Key) *buntingv1.WatchChangesResponse {
	m := &buntingv1.Commit{Revision: wire.FromRevision(c.Revision), Supersedes: c.Superseded}
	if c.Supersedes != "" {
		m.Supersedes = []string{c.Supersedes}
	}
	if c.Joined || c.Previous != c.Revision.Number-1 {
		m.Previous = &c.Previous
	}
	for _, t := range c.Tokens {
		if !t.RevokedAt.IsZero() {
			m.RevokedTokenIds = append(m.RevokedTokenIds, t.ID)
		}
	}
	for _, e := range c.Edits {
		if e.Ref.Key.Under(prefix) {
			m.Objects = append(m.Objects, wire.FromObject(e.Ref, e.Object))
		}
	}
	return &buntingv1.WatchChangesResponse{Message: &buntingv1.WatchChangesResponse_Commit{Commit: m}}
}
