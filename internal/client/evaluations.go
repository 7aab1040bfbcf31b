package client

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// When an entity's first question is asked for all flags at once (DESIGN §6.1:
// requests do not grow with resources).
const (
	// allFlagsAtMost is how many flags a server may have for that.
	allFlagsAtMost = 10_000
	// mostAnswers is how many answers a walk asks for in this way, over all
	// entities: some 30 MB. Beyond it what waits is asked for by name.
	mostAnswers = 100_000
	// everything stands for all flags among the keys that are asked for. No flag
	// has an empty key.
	everything flag.Key = ""
)

// evaluations are what flags are for one entity, as far as a walk has asked.
type evaluations struct {
	walk   *Walk
	entity string
	asking coalescer[flag.Key, Evaluation]

	mu    sync.Mutex
	known map[flag.Key]Evaluation // the newest answer for each flag
	// The revision of the newest answer for all flags that the token covers, so
	// that one which known lacks did not exist then; zero where there was none. And
	// whether the server gave it from what it knew last.
	all   flag.Revision
	stale bool
	// How many flags were asked for by name since, and how many of them make it
	// worth asking for all again: four times as many each time, so that evaluations
	// which each follow a write of their own do not each cost an answer for all.
	named, enough int
}

// Evaluate is Client.Evaluate within the walk: the same answer serves everybody
// who asks about the same flag and entity, unless it is older than the minimum or
// than a write of ours to the flag.
func (w *Walk) Evaluate(ctx context.Context, q Question) (Evaluation, error) {
	server, err := w.client.Server(ctx)
	if err != nil {
		return Evaluation{}, w.client.retold(ctx, evaluating(q.Key), err)
	}
	// Nobody is asked together with what the server may refuse.
	if len(q.Caller.Attributes) > 0 || q.Key == everything || !q.Key.Under(server.Actor.Prefix) {
		return w.client.Evaluate(ctx, q)
	}
	if s := w.within(ctx, server); s != nil && (q.Minimum == (flag.Revision{}) || s.Revision == q.Minimum || later(s.Revision, q.Minimum)) {
		if e, ok := evaluateFrom(s, q.Key, q.Caller.TargetingKey); ok {
			w.client.totals.hit()
			return e, nil
		}
	}
	a := w.answersFor(q.Caller.TargetingKey)
	e, ok := a.find(q.Key, false)
	switch {
	case q.Minimum == (flag.Revision{}) && !ok:
		e, err = a.asking.ask(ctx, q.Key)
		return e, w.client.retold(ctx, evaluating(q.Key), err)
	case ok && (q.Minimum == (flag.Revision{}) || e.Revision == q.Minimum || later(e.Revision, q.Minimum)):
		w.client.totals.hit()
		return e, nil
	}
	return w.client.Evaluate(ctx, q)
}

// EvaluateFlags is Evaluate for several flags, in the order asked.
func (w *Walk) EvaluateFlags(ctx context.Context, keys []flag.Key, entity string) ([]Evaluation, error) {
	const op = "evaluate flags"
	server, err := w.client.Server(ctx)
	if err != nil {
		return nil, w.client.retold(ctx, op, err)
	}
	if list, ok := evaluateEachFrom(w.within(ctx, server), keys, entity); ok {
		w.client.totals.hit()
		return list, nil
	}
	for i, key := range keys {
		// The first brings the others where there are not too many flags for that,
		// and what the token does not cover is refused by its name.
		if i > 0 && key.Under(server.Actor.Prefix) {
			continue
		}
		if _, err := w.Evaluate(ctx, Question{Key: key, Caller: flag.Context{TargetingKey: entity}}); err != nil {
			return nil, err
		}
	}
	a := w.answersFor(entity)
	list := make([]Evaluation, 0, len(keys))
	for some := range slices.Chunk(keys, mostRefs) {
		got, err := a.fetch(ctx, some)
		if err != nil {
			return nil, w.client.retold(ctx, op, err)
		}
		list = append(list, got...)
	}
	return list, nil
}

// EvaluateUnder evaluates for the entity every flag that the server knows under
// the prefix, archived ones too, in key order, at no revision older than our
// own writes. A token that does not cover the prefix gets an error.
func (w *Walk) EvaluateUnder(ctx context.Context, prefix flag.Key, entity string) ([]Evaluation, error) {
	op := "evaluate all flags"
	if prefix != "" {
		op = "evaluate the flags under " + quoted(prefix)
	}
	server, err := w.covered(ctx, op, prefix)
	if err != nil {
		return nil, err
	}
	if server.CompiledFlags == 0 { // which no snapshot has
		if s := w.within(ctx, server); s != nil {
			w.client.totals.hit()
			return evaluateUnderFrom(s, prefix, entity), nil
		}
	}
	a := w.answersFor(entity)
	if _, err := a.asking.ask(ctx, everything); err != nil {
		return nil, w.client.retold(ctx, op, err)
	}
	return a.under(prefix), nil
}

func (w *Walk) answersFor(entity string) *evaluations {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.answers[entity]
	if a == nil {
		a = &evaluations{walk: w, entity: entity, known: map[flag.Key]Evaluation{}, enough: fewRefs}
		a.asking = coalescer[flag.Key, Evaluation]{send: a.fetch, weigh: func(flag.Key) int { return 1 }, most: mostRefs, together: w.client.travelled}
		w.answers[entity] = a
	}
	return a
}

// find gives the answer for a flag where it is known and no write of ours has
// changed the flag since. That a flag was not among all is an answer only just now:
// during an apply, another provider's process may have made it since.
func (a *evaluations) find(key flag.Key, justNow bool) (Evaluation, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key == everything {
		return Evaluation{}, a.all != (flag.Revision{}) && !a.walk.client.wroteSince(a.all)
	}
	e, ok := a.known[key]
	if !ok && justNow && a.all != (flag.Revision{}) {
		e, ok = Evaluation{Revision: a.all, Answer: flag.Answer{Key: key, Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound, Stale: a.stale}}, true
	}
	return e, ok && !a.walk.client.wroteAfter(key, e.Revision)
}

// under gives what is known of flags that exist, in key order.
func (a *evaluations) under(prefix flag.Key) []Evaluation {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Evaluation
	for _, key := range slices.Sorted(maps.Keys(a.known)) {
		if e := a.known[key]; key.Under(prefix) && e.ErrorCode != flag.ErrorFlagNotFound {
			list = append(list, e)
		}
	}
	return list
}

// fetch answers questions that were asked together.
func (a *evaluations) fetch(ctx context.Context, keys []flag.Key) ([]Evaluation, error) {
	c := a.walk.client
	caller := flag.Context{TargetingKey: a.entity}
	told := make(map[flag.Key]Evaluation, len(keys))
	rest := a.lacking(keys, told, false)
	whole, err := a.wantsAll(ctx, rest)
	if err != nil {
		return nil, err
	}
	if whole {
		got, err := c.BulkEvaluate(ctx, nil, caller, flag.Revision{})
		if err != nil {
			return nil, err
		}
		a.take(got, true)
		told[everything] = Evaluation{}
		rest = slices.DeleteFunc(a.lacking(rest, told, true), func(key flag.Key) bool { return key == everything })
	}
	if len(rest) > 0 {
		got, err := c.BulkEvaluate(ctx, rest, caller, flag.Revision{})
		if err != nil {
			return nil, err
		}
		a.take(got, false)
		for _, e := range got {
			told[e.Key] = e
		}
	}
	list := make([]Evaluation, len(keys))
	for i, key := range keys {
		list[i] = told[key]
	}
	return list, nil
}

// lacking puts what is known into told, and gives the rest, each key once.
func (a *evaluations) lacking(keys []flag.Key, told map[flag.Key]Evaluation, justNow bool) (rest []flag.Key) {
	for _, key := range keys {
		if e, ok := a.find(key, justNow); ok {
			told[key] = e
		} else {
			rest = append(rest, key)
		}
	}
	slices.Sort(rest)
	return slices.Compact(rest)
}

// wantsAll decides whether all flags are asked for instead of those that are lacking.
func (a *evaluations) wantsAll(ctx context.Context, lacking []flag.Key) (bool, error) {
	if len(lacking) == 0 || lacking[0] == everything { // which is the first in order
		return len(lacking) > 0, nil
	}
	server, err := a.walk.client.Server(ctx)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	a.named += len(lacking)
	worth := a.all == (flag.Revision{}) || a.named > a.enough
	a.mu.Unlock()
	if !worth || server.EvaluatorOnly || server.Flags > allFlagsAtMost || server.SnapshotBytes > wholeAtMost || !a.walk.mayAnswer(int(server.Flags)) {
		return false, nil
	}
	return true, nil
}

// mayAnswer reports whether so many answers may be asked for that nobody may want.
func (w *Walk) mayAnswer(flags int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered+flags > mostAnswers {
		return false
	}
	w.answered += flags
	return true
}

// take keeps what is newer than what is known. An answer for all flags counts as
// one where it is of one revision.
func (a *evaluations) take(got []Evaluation, all bool) {
	for _, e := range got {
		a.walk.show(e.Revision)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var at flag.Revision
	if len(got) > 0 {
		at = got[0].Revision
	}
	all = all && !later(a.all, at) && !slices.ContainsFunc(got, func(e Evaluation) bool { return e.Revision != at })
	if all {
		if a.all != (flag.Revision{}) {
			a.enough *= 4
		}
		a.all, a.stale, a.named = at, len(got) > 0 && got[0].Stale, 0
		maps.DeleteFunc(a.known, func(_ flag.Key, e Evaluation) bool { return !later(e.Revision, at) })
	}
	for _, e := range got {
		if !later(a.known[e.Key].Revision, e.Revision) {
			a.known[e.Key] = e
		}
	}
}

// later reports whether the revision is a later one of the same store.
func later(r, than flag.Revision) bool { return r.StoreID == than.StoreID && r.Number > than.Number }
