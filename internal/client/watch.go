package client

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Event is one message of the change stream: what is at Revision is known.
type Event struct {
	Revision flag.Revision
	// Previous is the number of the revision that the edits lead on from. It is
	// Revision's own where nothing changed.
	Previous      int64
	Joined        bool // the edits are a difference: which tokens were revoked on the way is not told
	Edits         []flag.Edit
	RevokedTokens []string // ids
	Supersedes    []string // the id of the store whose place was taken; of a joined commit all of them
	// Silent says that the server lives, but has not heard its source of truth
	// within the last second.
	Silent bool
}

// ErrResync says that the server can no longer tell what changed since the
// revision asked for: read everything, or what differs (Since), and watch from there.
var ErrResync = errors.New("the server no longer knows what changed since then")

const watching = "watch for changes"

// Watch tells of every commit after the revision, in order and without gaps, and
// of the server's heartbeats, until the stream ends. The error is ErrResync, that
// of receive, or an *Error; silence for longer than the limit ends the stream too.
// It makes one attempt: whoever follows a server goes on from what it has.
func (c *Client) Watch(ctx context.Context, since flag.Revision, silence time.Duration, receive func(Event) error) error {
	attempt, end := context.WithCancelCause(ctx)
	defer end(nil)
	watch := time.AfterFunc(silence, func() { end(errSilence) })
	defer watch.Stop()

	stream, err := c.admin.WatchChanges(attempt, connect.NewRequest(&buntingv1.WatchChangesRequest{Since: wire.FromRevision(since)}))
	if err != nil {
		return c.translate(ctx, attempt, watching, err)
	}
	defer func() { end(nil); _ = stream.Close() }() // nobody reads the rest
	for stream.Receive() {
		watch.Reset(silence)
		var event Event
		switch m := stream.Msg().GetMessage().(type) {
		case *buntingv1.WatchChangesResponse_Commit:
			if event, err = eventOf(m.Commit); err != nil {
				return c.broken(watching, "sent a change that cannot be read (%v)", err)
			}
		case *buntingv1.WatchChangesResponse_Heartbeat:
			event.Revision = wire.ToRevision(m.Heartbeat.GetRevision())
			event.Previous, event.Silent = event.Revision.Number, m.Heartbeat.GetStale()
		case *buntingv1.WatchChangesResponse_Resync:
			return ErrResync
		default:
			continue // of a newer server
		}
		if err := receive(event); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return c.translate(ctx, attempt, watching, err)
	}
	return c.broken(watching, "ended the stream of changes without a word")
}

func eventOf(m *buntingv1.Commit) (Event, error) {
	e := Event{Revision: wire.ToRevision(m.GetRevision()), Previous: m.GetPrevious(), Joined: m.Previous != nil, RevokedTokens: m.GetRevokedTokenIds(), Supersedes: m.GetSupersedes()}
	if !e.Joined {
		e.Previous = e.Revision.Number - 1
	}
	for _, object := range m.GetObjects() {
		edit, err := wire.ToObject(object)
		if err != nil {
			return Event{}, err
		}
		e.Edits = append(e.Edits, edit)
	}
	return e, nil
}
