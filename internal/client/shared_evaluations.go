package client

import (
	"context"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// within gives definitions that the server confirmed no longer than MaxAge ago, to
// evaluate from: those that the walk has read, else the shared copy, else, where it
// costs no more than the answers would, those that it now reads and shares. Nil:
// the server is to be asked. They are never older than our own writes, nor than
// what the walk was told.
func (w *Walk) within(ctx context.Context, server Server) *flag.Snapshot {
	all, has := w.whole.known()
	if w.client.maxAge == 0 {
		if has && w.shared.Load() && w.young(all, handshakeLife) {
			return all.Snapshot
		}
		return nil
	}
	if !has && w.shares(server) {
		all, _ = w.copied.get(ctx)
		has = w.young(all, w.client.maxAge)
	}
	if !has && server.SnapshotBytes <= wholeAtOnce && w.shares(server) {
		all, _ = w.whole.get(ctx) // why not: the server says it to who asks for an answer
	}
	if !w.young(all, w.client.maxAge) {
		return nil
	}
	return all.Snapshot
}

// young reports whether definitions may be evaluated from that are to be no older.
func (w *Walk) young(all coverage, maxAge time.Duration) bool {
	return all.Snapshot != nil && time.Since(all.at) <= maxAge && w.current(all.Revision)
}

// Share has the definitions shared for when the server is down (Recall), where
// reading them costs no more than answers would. What the server has then confirmed
// just now answers the evaluations of this walk, so that they are not asked for as
// well; also without MaxAge, because it was asked.
func (w *Walk) Share(ctx context.Context) {
	server, err := w.client.Server(ctx)
	if err != nil || server.SnapshotBytes > wholeAtOnce || !w.shares(server) || w.unread.Load() {
		return
	}
	if _, err := w.whole.get(ctx); err != nil {
		w.unread.Store(true) // why, the server says to who asks for an answer
		return
	}
	w.shared.Store(true)
}

// current reports whether a revision is no older than our own writes, nor than what
// the walk was told.
func (w *Walk) current(r flag.Revision) bool {
	if w.client.wroteSince(r) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shown == (flag.Revision{}) || !newer(w.shown, r)
}

// readCopy reads the shared copy as it is; none where it is of no use.
func (w *Walk) readCopy(ctx context.Context) (coverage, error) {
	server, err := w.client.Server(ctx)
	if err != nil {
		return coverage{}, err
	}
	found, err := w.client.sharedCopy(ctx, server)
	if err != nil {
		w.leaveShared(ctx, err)
	}
	return found, nil
}

// sharedCopy reads the shared copy of a server's definitions. Without a snapshot
// there is none.
func (c *Client) sharedCopy(ctx context.Context, server Server) (coverage, error) {
	none := coverage{}
	cache, err := c.openShared(server)
	if err != nil {
		return none, err
	}
	began := time.Now()
	found, err := cache.Definitions(ctx, definitioncache.Revision{})
	if err = cache.leave(ctx, err); err != nil || found == nil {
		return none, err
	}
	s, err := readDefinitions(*found, server)
	if err != nil {
		return none, err
	}
	return coverage{s, server.Actor.Prefix, began.Add(-found.Age)}, nil
}

// evaluateFrom answers from definitions as the server would; false for a flag that
// they lack, of which the server may know more. No clock of ours lifts a hold: it
// stands until the server has marked it as expired.
func evaluateFrom(s *flag.Snapshot, key flag.Key, entity string) (Evaluation, bool) {
	if s == nil || s.Flag(key) == nil {
		return Evaluation{}, false
	}
	return Evaluation{Answer: s.Evaluate(key, flag.Context{TargetingKey: entity}, time.Time{}), Revision: s.Revision}, true
}

// evaluateEachFrom answers about all of the keys; false where one is not known.
func evaluateEachFrom(s *flag.Snapshot, keys []flag.Key, entity string) ([]Evaluation, bool) {
	list := make([]Evaluation, len(keys))
	for i, key := range keys {
		var ok bool
		if list[i], ok = evaluateFrom(s, key, entity); !ok {
			return nil, false
		}
	}
	return list, true
}

// evaluateUnderFrom answers about every flag under the prefix.
func evaluateUnderFrom(s *flag.Snapshot, prefix flag.Key, entity string) []Evaluation {
	var list []Evaluation
	for f := range s.Flags(prefix) {
		e, _ := evaluateFrom(s, f.Key, entity)
		list = append(list, e)
	}
	return slices.Clip(list)
}
