package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// When everything is read at once instead of what was asked for (DESIGN §6.1:
// 1,000 flags in at most 3 requests, 10,000 in at most 5, and 10 of a server with
// 100,000 in at most 4 and under 100 kB).
const (
	// wholeAtOnce is the size in bytes up to which the first read takes it all: a
	// second call would cost more than these bytes.
	wholeAtOnce = 1 << 20
	// fewRefs is how many objects are read one by one before it is taken for
	// certain that there is no end of them.
	fewRefs = 10
	// wholeAtMost is the size in bytes beyond which the whole is never read.
	wholeAtMost = 64 << 20
	// mostRefs is how many objects one call asks for.
	mostRefs = 1000
)

// Walk is the reading of one operation, like a Terraform plan. All that it tells
// was read from the server within it, and no older than the client's own writes;
// the number of requests does not grow with the number of objects. It may be used
// by many goroutines at once.
type Walk struct {
	client *Client
	reads  coalescer[flag.Ref, *flag.Snapshot]

	mu     sync.Mutex
	asked  int            // objects that were read one by one
	whole  *flag.Snapshot // everything that the token covers; nil until it was worth reading
	prefix flag.Key       // which whole covers
}

// NewWalk begins the reading of one operation. It sends nothing yet.
func (c *Client) NewWalk() *Walk {
	w := &Walk{client: c}
	w.reads = coalescer[flag.Ref, *flag.Snapshot]{send: w.fetch, weigh: func(flag.Ref) int { return 1 }, most: mostRefs}
	return w
}

// Flag is Client.Flag within the walk.
func (w *Walk) Flag(ctx context.Context, key flag.Key) (*flag.Flag, []*flag.Hold, error) {
	s, err := w.read(ctx, readingFlag(key), flag.FlagRef(key))
	return flagIn(s, key, err)
}

// Holds is Client.Holds within the walk.
func (w *Walk) Holds(ctx context.Context, key flag.Key) ([]*flag.Hold, error) {
	s, err := w.read(ctx, readingHolds(key), flag.FlagRef(key))
	_, holds, err := flagIn(s, key, err)
	return holds, err
}

// Override is Client.Override within the walk.
func (w *Walk) Override(ctx context.Context, key flag.Key, entity string) (*flag.Override, error) {
	s, err := w.read(ctx, readingOverride(key, entity), flag.OverrideRef(key, entity))
	if err != nil {
		return nil, err
	}
	return s.Override(key, entity), nil
}

// read gives a snapshot that covers the object.
func (w *Walk) read(ctx context.Context, op string, ref flag.Ref) (*flag.Snapshot, error) {
	if s := w.known(ref); s != nil {
		return s, nil
	}
	s, err := w.reads.ask(ctx, ref)
	return s, w.client.retold(ctx, op, err)
}

// known gives the whole where it covers the object and no write of ours has
// changed it since; nil otherwise. So a whole that arrives late hides no write.
func (w *Walk) known(ref flag.Ref) *flag.Snapshot {
	w.mu.Lock()
	s, prefix := w.whole, w.prefix
	w.mu.Unlock()
	if s == nil || !ref.Key.Under(prefix) || w.client.wroteAfter(ref.Key, s.Revision) {
		return nil
	}
	return s
}

// fetch reads objects that were asked for together.
func (w *Walk) fetch(ctx context.Context, refs []flag.Ref) ([]*flag.Snapshot, error) {
	if err := w.readWhole(ctx, len(refs)); err != nil {
		return nil, err
	}
	answers := make([]*flag.Snapshot, len(refs))
	var rest []flag.Ref
	for i, ref := range refs {
		if answers[i] = w.known(ref); answers[i] == nil {
			rest = append(rest, ref)
		}
	}
	if len(rest) == 0 {
		return answers, nil
	}
	some, err := w.client.get(ctx, fmt.Sprintf("read %d objects", len(rest)), rest...)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		if answers[i] == nil {
			answers[i] = some
		}
	}
	return answers, nil
}

// readWhole reads everything where that is worth it, once.
func (w *Walk) readWhole(ctx context.Context, asking int) error {
	server, err := w.client.Server(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.asked += asking
	worth := w.whole == nil && (server.SnapshotBytes <= wholeAtOnce || w.asked > fewRefs && server.SnapshotBytes <= wholeAtMost)
	w.mu.Unlock()
	if !worth {
		return nil
	}
	whole, err := w.client.Snapshot(ctx, server.Actor.Prefix)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole, w.prefix = whole, server.Actor.Prefix
	return nil
}
