package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Snapshot reads everything under the prefix, or everything, at one revision. It
// is whole, proven by count and checksum, not older than our own last write, and
// not stale, or an error: what it lacks under the prefix does not exist. The environment is set where a handshake has told it.
func (c *Client) Snapshot(ctx context.Context, prefix flag.Key) (*flag.Snapshot, error) {
	s, stale, err := c.SnapshotEvenStale(ctx, prefix)
	if stale {
		return nil, c.stale(readingSnapshot(prefix))
	}
	return s, err
}

// SnapshotEvenStale reads as Snapshot does, from a stale server too, and tells
// whether it is one: then what is lacking may exist by now. It is for people who
// look, not for programs that decide.
func (c *Client) SnapshotEvenStale(ctx context.Context, prefix flag.Key) (*flag.Snapshot, bool, error) {
	s, err := c.definitions(ctx, readingSnapshot(prefix), snapshotReader{prefix: prefix, minimum: c.lastWritten()})
	if err != nil {
		return nil, false, err
	}
	return flag.NewSnapshot(c.environment(), s.revision).With(s.revision, slices.Values(s.edits)), s.stale, nil
}

// Difference is what leads from a known revision to the present one.
type Difference struct {
	Revision    flag.Revision
	Environment string   // that the definitions are of
	Supersedes  []string // ids of the stores whose place this one has taken
	Stale       bool     // the server itself has not heard its source of truth for a while
	Whole       bool     // the edits are everything there is; else what differs from what was known
	Edits       []flag.Edit
}

// Since reads what differs from the known revision, or everything where the server
// cannot tell or nothing is known (the zero Revision). It is whole, proven by
// count and checksum, or an error.
func (c *Client) Since(ctx context.Context, known flag.Revision) (Difference, error) {
	const op = "read what changed"
	s, err := c.definitions(ctx, op, snapshotReader{known: known})
	if err != nil {
		return Difference{}, err
	}
	return Difference{
		Revision: s.revision, Environment: s.environment, Supersedes: s.supersedes, Stale: s.stale,
		Whole: s.whole(), Edits: s.edits,
	}, nil
}

// definitions reads a snapshot or what differs, as the reader that it begins with
// says.
func (c *Client) definitions(ctx context.Context, op string, wanted snapshotReader) (s snapshotReader, err error) {
	err = c.repeat(ctx, op, true, func() (err error) {
		s, err = c.stream(ctx, op, wanted)
		return err
	})
	return s, err
}

// readingSnapshot says what is read, to read on from "cannot".
func readingSnapshot(prefix flag.Key) string {
	if prefix == "" {
		return "read all flags"
	}
	return "read the flags under " + quoted(prefix)
}

// stream makes one attempt at reading a snapshot. Silence is limited, the
// stream's length is not: each message winds the watch up again.
func (c *Client) stream(ctx context.Context, op string, wanted snapshotReader) (snapshotReader, error) {
	attempt, end := context.WithCancelCause(ctx)
	defer end(nil)
	watch := time.AfterFunc(c.timeout, func() { end(errSilence) })
	defer watch.Stop()

	stream, err := c.admin.GetSnapshot(attempt, connect.NewRequest(wanted.question()))
	if err != nil {
		return snapshotReader{}, c.translate(ctx, attempt, op, err)
	}
	s, err := c.receive(stream, op, wanted, func() { watch.Reset(c.timeout) })
	if err != nil {
		if _, said := errors.AsType[*Error](err); !said {
			err = c.translate(ctx, attempt, op, err)
		}
		end(nil) // nobody reads the rest
	}
	_ = stream.Close() // what was to be read has been read
	return s, err
}

// receive reads a stream to its end. alive is called at each message. The error
// is an *Error, or what the stream itself has for one.
func (c *Client) receive(stream *connect.ServerStreamForClient[buntingv1.GetSnapshotResponse], op string, s snapshotReader, alive func()) (snapshotReader, error) {
	for stream.Receive() {
		alive()
		if wrong := s.take(stream.Msg()); wrong != "" {
			return s, c.broken(op, "%s", wrong)
		}
	}
	if err := stream.Err(); err != nil {
		return s, err
	}
	if !s.ended {
		return s, c.broken(op, "ended the list after %d objects without saying that it is whole", s.count)
	}
	return s, nil
}

// snapshotReader puts a snapshot's messages together and proves that none is
// missing.
type snapshotReader struct {
	prefix flag.Key
	known  flag.Revision // what differs from it is asked for; zero: everything

	minimum flag.Revision // the server waits for it; zero: for none

	started     bool
	ended       bool
	kind        buntingv1.SnapshotKind
	revision    flag.Revision
	environment string
	supersedes  []string
	stale       bool
	count       int64
	edits       []flag.Edit
	texts       flag.Texts
}

func (s *snapshotReader) question() *buntingv1.GetSnapshotRequest {
	q := &buntingv1.GetSnapshotRequest{Prefix: string(s.prefix), MinimumRevision: wire.FromRevision(s.minimum)}
	if s.known != (flag.Revision{}) {
		q.KnownRevision = wire.FromRevision(s.known)
	}
	return q
}

// whole reports whether the edits are everything there is.
func (s *snapshotReader) whole() bool { return s.kind == buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL }

// take reads one message; what it gives is what is wrong with it, or "".
func (s *snapshotReader) take(m *buntingv1.GetSnapshotResponse) (wrong string) {
	if s.ended {
		return "went on after the end of the list"
	}
	switch m := m.GetMessage().(type) {
	case *buntingv1.GetSnapshotResponse_Start:
		switch {
		case s.started:
			return "began the list twice"
		case m.Start.GetKind() != buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL && s.known == (flag.Revision{}):
			return "sent changes where the whole was asked for"
		case m.Start.GetPrefix() != string(s.prefix):
			return "sent another part of the flags than was asked for"
		case !coversAll(m.Start.GetParts()):
			return "left out a kind of objects that was asked for"
		}
		s.started, s.kind, s.revision = true, m.Start.GetKind(), wire.ToRevision(m.Start.GetRevision())
		s.environment, s.supersedes, s.stale = m.Start.GetEnvironment(), m.Start.GetSupersedes(), m.Start.GetStale()
	case *buntingv1.GetSnapshotResponse_Objects:
		if !s.started {
			return "sent objects before the start of the list"
		}
		for _, object := range m.Objects.GetObjects() {
			edit, err := wire.ToObject(object)
			if err != nil {
				return "sent an object that cannot be read (" + err.Error() + ")"
			}
			if edit.Object != nil {
				s.texts.Share(edit.Object)
				edit.Ref = edit.Object.Ref() // of the shared texts too
			}
			removed := edit.Object == nil && s.kind == buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL
			if removed || !edit.Ref.Key.Under(s.prefix) {
				return "sent an object that does not belong to the list"
			}
			s.edits = append(s.edits, edit)
		}
		s.count = int64(len(s.edits))
	case *buntingv1.GetSnapshotResponse_End:
		digest := sha256.New()
		for _, e := range s.edits {
			flag.Digest(digest, e.Ref, e.Object)
		}
		switch {
		case !s.started:
			return "ended the list before it began"
		case m.End.GetCount() != s.count:
			return "lost objects on the way: the list's count does not match"
		case !bytes.Equal(m.End.GetChecksum(), digest.Sum(nil)):
			return "altered objects on the way: the list's checksum does not match"
		}
		s.ended = true
	default:
		return "sent a part of the list that cannot be read"
	}
	return ""
}

// coversAll reports whether the parts are all there are. None named means all.
func coversAll(parts []buntingv1.Part) bool {
	for _, p := range []buntingv1.Part{buntingv1.Part_PART_FLAGS, buntingv1.Part_PART_OVERRIDES, buntingv1.Part_PART_HOLDS} {
		if len(parts) > 0 && !slices.Contains(parts, p) {
			return false
		}
	}
	return true
}
