package client

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// OnDemand answers for an evaluator service that is not ours: one that tells no
// revision and has no snapshot, so that all there is to do is to ask for a flag
// when somebody wants it, and to keep the answer for a while (DESIGN §6.6). In
// front of a Bunting server a snapshot and its stream are the better way.
//
// What it knows goes through flag.Resolve, fresh or not, so an answer in an
// outage is what the rule makes of what was last known. A known kill goes before
// all of it. It may be used by many goroutines at once.
type OnDemand struct {
	client   *Client
	compiled func(flag.Key) *flag.Flag
	fetcher  *fetcher
	kills    killPoller
	polling  sync.WaitGroup

	flags     *knowledge[flag.Key, FlagState]
	overrides *knowledge[string, entityOverrides] // by entity
	answers   *knowledge[enquiry, flag.Answer]    // about flags that are not compiled in
}

// NewOnDemand makes an OnDemand of the client's service and begins to poll its
// kill set. The error is the policy's (Validate).
//
// compiled gives a flag's definition as it was compiled in, of which type,
// default value and layer count, or nil where there is none; compiled itself may
// be nil. A flag without one is passed on to the service's Evaluate. It is called
// with every evaluation, must not wait, and what it gives must not change.
func NewOnDemand(c *Client, policy OnDemandPolicy, compiled func(flag.Key) *flag.Flag) (*OnDemand, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	if compiled == nil {
		compiled = func(flag.Key) *flag.Flag { return nil }
	}
	f := newFetcher(c, policy)
	d := &OnDemand{
		client: c, compiled: compiled, fetcher: f,
		kills:     killPoller{fetcher: f, first: make(chan struct{})},
		flags:     newKnowledge(f, policy.FlagTTL, policy.FlagEntries, opFlagState, c.askFlagState),
		overrides: newKnowledge(f, policy.OverrideTTL, policy.OverrideEntries, opOverrides, c.askOverrides),
		answers: newKnowledge(f, min(policy.FlagTTL, policy.OverrideTTL), policy.OverrideEntries, opAnswer, func(ctx context.Context, q enquiry) (flag.Answer, time.Duration, error) {
			a, keep, err := c.askAnswer(ctx, q)
			if a.Stale {
				keep = policy.FailureTTL // or it would outlast the outage behind the service
			}
			return a, keep, err
		}),
	}
	d.overrides.weigh = func(_ string, o entityOverrides) int { return max(1, len(o)) }
	d.answers.weigh = func(a enquiry, _ flag.Answer) int { return 1 + (len(a.entity)+len(a.attributes))>>10 }
	d.polling.Go(d.kills.run)
	return d, nil
}

// Close ends all fetches and the polling, and waits for them. What is known is
// answered on. It does not close the client.
func (d *OnDemand) Close() {
	d.fetcher.close()
	d.polling.Wait()
}

// FlushAll forgets what is fresh, so that the next questions are asked of the
// service. What was last known stays, and so does the kill set.
func (d *OnDemand) FlushAll() {
	d.flags.flush()
	d.overrides.flush()
	d.answers.flush()
}

// WaitAll returns when no fetch is under way, but for polls of the kill set.
func (d *OnDemand) WaitAll() { d.fetcher.wait() }

// Contact tells how well the service is reached: Health without CachedFlags.
func (d *OnDemand) Contact() Health { return d.fetcher.contact.health() }

// Health tells how well the service is reached. It goes through everything that
// is known.
func (d *OnDemand) Health() Health {
	known := map[flag.Key]bool{}
	d.flags.each(func(key flag.Key, s FlagState) {
		if s.Exists {
			known[key] = true
		}
	})
	d.answers.each(func(a enquiry, answer flag.Answer) {
		if answer.ErrorCode == "" {
			known[a.key] = true
		}
	})
	h := d.Contact()
	h.CachedFlags = len(known)
	return h
}

// Evaluate gives what the flag is for the caller (DESIGN §4). Where what it needs
// is not fresh it waits for a fetch, which takes FetchTimeout at most once its turn
// has come. Where the service does not answer, the answer is stale: what the rule
// makes of what was last known, and of nothing the compiled default.
//
// The error is an *Error: the context ended; or the flag is not compiled in and
// there is nothing to answer with, because nothing is known, or because the flag
// is killed and its default value is not known.
func (d *OnDemand) Evaluate(ctx context.Context, key flag.Key, caller flag.Context) (flag.Answer, error) {
	kills, err := d.kills.known(ctx)
	if err != nil {
		return flag.Answer{}, d.left(ctx, opAnswer(enquiry{key: key}))
	}
	compiled := d.compiled(key)
	if compiled == nil {
		return d.passOn(ctx, key, caller)
	}
	f := *compiled
	f.Key = key
	FlagState{}.onto(&f)
	entity := ""
	if f.HasLayer() {
		entity = caller.Entity(f.Layer)
	}
	if len(entity) > flag.MaxEntityBytes {
		entity = "" // nothing can be about it, and it would fill what is kept
	}
	if kills.has(key, entity) {
		return aged(flag.Resolve(&f, true, nil, caller), kills.err != nil), nil
	}

	// Both are asked for before either is waited for.
	var own *fact[entityOverrides]
	var ownUnder *pursuit[entityOverrides]
	var ownErr error
	if entity != "" {
		own, ownUnder, ownErr = d.overrides.look(ctx, entity)
	}
	state, stateErr := d.state(ctx, key, kills)
	own, ownErr = d.overrides.settle(ctx, own, ownUnder, ownErr)
	stale := stateErr != nil || ownErr != nil
	if stale && ctx.Err() != nil {
		return flag.Answer{}, d.left(ctx, opAnswer(enquiry{key: key}))
	}

	kills = d.kills.present.Load() // one that became known meanwhile counts
	killed := kills.has(key, entity)
	if state != nil {
		state.value.onto(&f)
		killed = killed || state.value.Killed && !kills.lifted(state.came, key, entity)
	}
	a := flag.Resolve(&f, killed, func(string) *flag.Override {
		if own == nil {
			return nil
		}
		return own.value[key]
	}, caller)
	if stale && state == nil && own == nil && !killed {
		a.Stale, a.FreshSource = true, a.Source // of nothing: this is no last known value
		return a, nil
	}
	return aged(a, stale || kills.err != nil), nil
}

// passOn evaluates a flag of which no definition is compiled in: the service's own
// answer to this caller is what is known.
func (d *OnDemand) passOn(ctx context.Context, key flag.Key, caller flag.Context) (flag.Answer, error) {
	attributes, err := d.client.attributesOf(key, caller)
	if err != nil {
		return flag.Answer{}, err
	}
	who := enquiry{key: key, entity: caller.TargetingKey, attributes: attributes}
	f, err := d.answers.read(ctx, who)
	kills := d.kills.present.Load() // one that became known meanwhile counts
	killed := kills.has(key, who.entity)
	outdated := func(f *fact[flag.Answer]) bool {
		if killed {
			return !servesDefault(f.value) && f.asked.Before(kills.came)
		}
		return f.value.Source == flag.SourceKilled && kills.lifted(f.came, key, who.entity)
	}
	if err == nil && outdated(f) {
		d.answers.doubt(who, f)
		f, err = d.answers.read(ctx, who)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return flag.Answer{}, d.left(ctx, opAnswer(who))
	case f == nil:
		return flag.Answer{}, err
	}
	a := f.value
	switch {
	case a.ErrorCode != "":
	case killed && servesDefault(a):
		a.Source = flag.SourceKilled
	case killed && err != nil:
		return flag.Answer{}, err
	case killed:
		return flag.Answer{}, &Error{Kind: Unavailable, Op: opAnswer(who), Endpoint: d.client.endpoint, Message: d.client.endpoint +
			" lists it as killed but answered as if it were not, and its default value is not known. Ask again in a moment, or compile its definition in (descriptors)."}
	case a.Source == flag.SourceKilled && kills.lifted(f.came, key, who.entity):
		a.Source = flag.SourceDefault // what it serves now that it is not is not known
	}
	return aged(a, err != nil || kills.err != nil), nil //nolint:nilerr // It says why the answer is stale.
}

// servesDefault reports whether the value of an answer is the flag's default.
func servesDefault(a flag.Answer) bool {
	source := a.Source
	if source == flag.SourceCached {
		source = a.FreshSource
	}
	return a.ErrorCode == "" && (source == flag.SourceDefault || source == flag.SourceKilled)
}

// state gives a flag's state. One that says killed while a newer kill set does not
// is asked for again: it does not tell what the flag serves now.
func (d *OnDemand) state(ctx context.Context, key flag.Key, kills *killSet) (*fact[FlagState], error) {
	f, err := d.flags.read(ctx, key)
	if err == nil && f.value.Killed && kills.lifted(f.came, key, "") {
		d.flags.doubt(key, f)
		f, err = d.flags.read(ctx, key)
	}
	return f, err
}

// FlagState gives what the service says of a flag, killed where the kill set says
// so; stale tells that it does not say so now. The error is an *Error: nothing is
// known.
func (d *OnDemand) FlagState(ctx context.Context, key flag.Key) (s FlagState, stale bool, err error) {
	kills, err := d.kills.known(ctx)
	if err != nil {
		return FlagState{}, false, d.left(ctx, opFlagState(key))
	}
	f, err := d.state(ctx, key, kills)
	switch {
	case err != nil && ctx.Err() != nil:
		return FlagState{}, false, d.left(ctx, opFlagState(key))
	case f == nil:
		return FlagState{}, false, err
	}
	s = f.value
	switch lifted := kills.lifted(f.came, key, ""); {
	case s.Exists && kills.has(key, ""):
		s.Killed = true
	case s.Killed && lifted:
		s.Killed, s.State = false, flag.Default
	}
	return s, err != nil || kills.err != nil, nil //nolint:nilerr // It says why the state is stale.
}

// Overrides gives the overrides of an entity, by key; stale tells that the service
// does not say so now. The error is an *Error: nothing is known.
func (d *OnDemand) Overrides(ctx context.Context, entity string) (overrides []*flag.Override, stale bool, err error) {
	if len(entity) > flag.MaxEntityBytes {
		return nil, false, nil // it can have none
	}
	f, err := d.overrides.read(ctx, entity)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, false, d.left(ctx, opOverrides(entity))
	case f == nil:
		return nil, false, err
	}
	for _, key := range slices.Sorted(maps.Keys(f.value)) {
		overrides = append(overrides, f.value[key])
	}
	return overrides, err != nil, nil
}

// KilledFlags gives the kill set, by key; stale tells that the last poll failed.
// The error is an *Error: no poll ever succeeded, or the service has no such call.
func (d *OnDemand) KilledFlags(ctx context.Context) (keys []flag.Key, stale bool, err error) {
	kills, err := d.kills.known(ctx)
	switch {
	case err != nil:
		return nil, false, d.left(ctx, opKills)
	case kills.untold != nil:
		return nil, false, kills.untold
	case kills.asked.IsZero():
		return nil, false, kills.err
	}
	return slices.Sorted(maps.Keys(kills.flags)), kills.err != nil, nil
}

// left is the error of a caller whose context has ended.
func (d *OnDemand) left(ctx context.Context, op string) error {
	return d.client.retold(ctx, op, ctx.Err())
}

// aged marks an answer stale, unless the service itself said that it is.
func aged(a flag.Answer, stale bool) flag.Answer {
	if stale && !a.Stale {
		return a.Aged()
	}
	return a
}
