package client

import (
	"context"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Definitions gives a snapshot that covers the prefix, read within the walk and
// not older than the client's own writes. It may hold more than what is under the
// prefix. It is the one that all else of the walk is read from, where there is no
// more than that takes and no write came since. A token that does not cover the
// prefix gets an error.
func (w *Walk) Definitions(ctx context.Context, prefix flag.Key) (*flag.Snapshot, error) {
	op := readingSnapshot(prefix)
	server, err := w.covered(ctx, op, prefix)
	if err != nil {
		return nil, err
	}
	if server.SnapshotBytes <= wholeAtMost {
		all, err := w.whole.get(ctx)
		if err != nil || !w.client.wroteSince(all.Revision) {
			return all.Snapshot, w.client.retold(ctx, op, err)
		}
	}
	s, err := w.client.Snapshot(ctx, prefix)
	if err == nil && w.client.wroteSince(s.Revision) {
		return nil, &Error{Kind: RevisionNotReached, Op: op, Endpoint: w.client.endpoint, Message: w.client.endpoint + " has not heard yet of what this program has written. Try again in a moment."}
	}
	return s, err
}

// covered refuses a prefix of which the token sees only a part: what else there
// is would be taken for absent.
func (w *Walk) covered(ctx context.Context, op string, prefix flag.Key) (Server, error) {
	server, err := w.client.Server(ctx)
	if err != nil {
		return server, w.client.retold(ctx, op, err)
	}
	if prefix.Under(server.Actor.Prefix) {
		return server, nil
	}
	return server, &Error{Kind: Denied, Op: op, Endpoint: w.client.endpoint, Message: "the token " + quoted(server.Actor.Name) + " covers only the flags under " +
		quoted(server.Actor.Prefix) + ", so which others there are is not known. Name that prefix, or use a token that covers more."}
}
