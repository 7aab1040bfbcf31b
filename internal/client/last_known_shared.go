package client

import (
	"context"
	"maps"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// readable says which of the shared definitions a token may read. It is kept with
// what is last known, because while the server is down nobody else tells it.
type readable struct {
	prefix   flag.Key // the token's
	compiled int64    // how many flags the server evaluates that no definitions have
}

// readableOf gives what the caller's token may read of the server; nil: nothing.
func readableOf(server Server) *readable {
	if server.EvaluatorOnly || !server.Actor.Has(token.Read) {
		return nil
	}
	return &readable{prefix: server.Actor.Prefix, compiled: server.CompiledFlags}
}

// Choice chooses flags that are not asked for by key.
type Choice struct {
	Name   string                // to find the flags again
	Prefix flag.Key              // that all of them lie under
	Has    func(*flag.Flag) bool // which of those that the token covers; nil: every flag under Prefix
}

// among gives the flags that definitions tell a choice to have; false where they
// cannot tell.
func (c Choice) among(all coverage, compiled int64) (keys []flag.Key, ok bool) {
	if c.Has == nil && (compiled > 0 || !c.Prefix.Under(all.prefix)) {
		return nil, false
	}
	for f := range all.Flags(c.Prefix) {
		if c.Has == nil || c.Has(f) {
			keys = append(keys, f.Key)
		}
	}
	return keys, true
}

// Recall gives what was last known together with the copy of the definitions that
// processes share, for when the server is down: what is newer of the two counts, and
// of the same revision what the server said.
// The copy is read once in a walk; it is left out where the token may not read it,
// and where it is older than what the walk was told or has written. What is wrong
// with it is told to Options.Warn. Of a flag that the client has written since,
// neither tells.
func (w *Walk) Recall(ctx context.Context, known *Known) *Known {
	if known == nil {
		return nil
	}
	told := *known
	told.writer = w.client
	if known.readable == nil || known.StoreID == "" || w.client.place == (SharedPlace{}) || w.apart.Load() {
		return &told
	}
	w.mu.Lock()
	if w.recalled == nil {
		w.recalled = &fetched[coverage]{fetch: func(ctx context.Context) (coverage, error) {
			found, err := w.client.sharedCopy(ctx, Server{
				Environment: known.Environment, Revision: flag.Revision{StoreID: known.StoreID},
				Actor: token.Actor{Prefix: known.readable.prefix}, SnapshotBytes: wholeAtMost, // nobody else is there to ask
			})
			if err != nil {
				w.leaveShared(ctx, err)
			}
			return found, nil
		}}
	}
	recalled := w.recalled
	w.mu.Unlock()
	all, err := recalled.get(context.WithoutCancel(ctx)) // whose time may be over, spent on the server
	if err == nil && all.Snapshot != nil && w.current(all.Revision) {
		told.copied = all
	}
	return &told
}

// of gives the answers about the flag, with the one that the copy of the definitions
// gives for the entity where none that is newer was kept.
func (k *Known) of(key flag.Key, entity string) map[string]Seen {
	of := k.answers[key]
	s, ok := k.evaluated(key, entity)
	if had, seen := of[entity]; !ok || seen && !later(s.Revision, had.Revision) {
		return of
	}
	with := map[string]Seen{entity: s}
	for other, seen := range maps.All(of) {
		if other != entity {
			with[other] = seen
		}
	}
	return with
}

// evaluated gives what the copy of the definitions says; false where it does not tell.
func (k *Known) evaluated(key flag.Key, entity string) (Seen, bool) {
	if k.copied.Snapshot == nil || !key.Under(k.copied.prefix) {
		return Seen{}, false
	}
	e, ok := evaluateFrom(k.copied.Snapshot, key, entity)
	switch {
	case !ok && k.readable.compiled > 0:
		return Seen{}, false
	case !ok:
		e = Evaluation{Answer: flag.Answer{Key: key, Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound}, Revision: k.copied.Revision}
	}
	return Seen{Evaluation: e, Entity: entity, At: k.copied.at, Shared: true}, true
}
