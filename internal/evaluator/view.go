package evaluator

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// View is one moment: definitions at one revision, the time, and whether the
// store was silent. All of one question is answered from one view.
type View struct {
	*flag.Snapshot

	Now   time.Time
	Stale bool // the source of truth has not answered for a while; answers say so

	compiled Compiled
}

// Known reports whether anything is known of the source of truth. What is not
// found in a view that knows nothing may be there all the same.
func (v View) Known() bool { return v.Revision != (flag.Revision{}) }

// View gives the present moment.
func (e *Evaluator) View() View { return e.view(e.present.Load()) }

func (e *Evaluator) view(v *version) View {
	return View{Snapshot: v.snapshot, Now: e.now(), Stale: e.stale(v), compiled: e.compiled}
}

// WaitFor gives a view of the minimum revision or a newer one. It waits up to
// WaitLimit, then gives ErrNotReached; a minimum of another store gives
// ErrStoreChanged at once. A minimum without a store id is of any store. Beside
// the errors too the view is the present one.
func (e *Evaluator) WaitFor(ctx context.Context, minimum flag.Revision) (View, error) {
	var limit, again <-chan time.Time
	for {
		v := e.present.Load()
		at := v.snapshot.Revision
		known := at != (flag.Revision{})
		if known && minimum.StoreID != "" && minimum.StoreID != at.StoreID {
			return e.view(v), ErrStoreChanged
		}
		if at.Number >= minimum.Number && (known || minimum.StoreID == "") {
			return e.view(v), nil
		}
		if limit == nil {
			limit = time.After(WaitLimit)
		}
		if e.awaited != nil && again == nil {
			e.awaited()
			again = time.After(awaitedInterval)
		}
		select {
		case <-v.newer:
		case <-again:
			again = nil
		case <-limit:
			return e.view(v), ErrNotReached
		case <-ctx.Done():
			return e.view(v), fmt.Errorf("wait for revision %d: %w", minimum.Number, context.Cause(ctx))
		}
	}
}

// Evaluate answers for one flag.
func (v View) Evaluate(key flag.Key, caller flag.Context) flag.Answer {
	answer := v.Snapshot.Evaluate(key, caller, v.Now)
	if answer.ErrorCode != "" && v.compiled != nil {
		if f := v.compiled.Flag(key); f != nil {
			answer = flag.Resolve(f, false, func(string) *flag.Override { return nil }, caller)
		}
	}
	if v.Stale {
		answer = answer.Aged()
	}
	return answer
}

// Compiled gives the number of flags that are compiled in.
func (v View) Compiled() int {
	if v.compiled == nil {
		return 0
	}
	return len(v.compiled.Keys())
}

// Keys gives the keys of all known flags under the prefix, in order: those of the
// snapshot and those that are compiled in.
func (v View) Keys(prefix flag.Key) iter.Seq[flag.Key] {
	return func(yield func(flag.Key) bool) {
		var compiled []flag.Key
		if v.compiled != nil {
			compiled = v.compiled.Keys()
		}
		next := 0
		// before gives the compiled keys that come before the limit; "" is none.
		before := func(limit flag.Key) bool {
			for ; next < len(compiled) && (limit == "" || compiled[next] < limit); next++ {
				if compiled[next].Under(prefix) && !yield(compiled[next]) {
					return false
				}
			}
			if next < len(compiled) && compiled[next] == limit {
				next++
			}
			return true
		}
		for f := range v.Flags(prefix) {
			if !before(f.Key) || !yield(f.Key) {
				return
			}
		}
		before("")
	}
}

// Killed gives the keys of the killed flags under the prefix, in key order.
func (v View) Killed(prefix flag.Key) iter.Seq[flag.Key] {
	return func(yield func(flag.Key) bool) {
		var last flag.Key // keys are never empty; holds come ordered by key
		for h := range v.Holds(prefix) {
			if h.FlagKey != last && h.StandsAt(v.Now) {
				last = h.FlagKey
				if !yield(last) {
					return
				}
			}
		}
	}
}

// Size counts the flags, overrides and holds under the prefix and tells about
// how many bytes they take on the wire.
func (e *Evaluator) Size(prefix flag.Key) (flags, overrides, holds int, bytes int64) {
	v := e.present.Load()
	if prefix == "" {
		flags, overrides, holds = v.snapshot.Counts()
		return flags, overrides, holds, v.bytes
	}
	for range v.snapshot.Flags(prefix) {
		flags++
	}
	for range v.snapshot.Overrides(prefix) {
		overrides++
	}
	for range v.snapshot.Holds(prefix) {
		holds++
	}
	return flags, overrides, holds, snapshotBytes(v.snapshot, prefix)
}
