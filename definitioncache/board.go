package definitioncache

import (
	"fmt"
	"time"
)

// board is what members share but for the bytes: who leads, who fetches for want
// of a copy, and which copy there is. Its rules are those of the scripts of Redis.
// Whoever keeps one keeps others from it meanwhile.
type board struct {
	Lock      lease     `json:"lock"`
	Claim     lease     `json:"claim"`
	Header    Header    `json:"header"`
	Confirmed time.Time `json:"confirmed"` // zero: there is no copy
}

// lease is a right that ends by itself.
type lease struct {
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
}

// heldBy gives the owner; "" where there is none any more. A lease that ends later
// than any can is of a clock that was wrong: it is over.
func (l lease) heldBy(now time.Time, life time.Duration) string {
	if !now.Before(l.Until) || l.Until.After(now.Add(life+time.Second)) {
		return ""
	}
	return l.Owner
}

// turn is ShouldFetch.
func (b *board) turn(owner string, need Need, timing Timing, now time.Time) Turn {
	if holder := b.Lock.heldBy(now, timing.Lock); holder == "" || holder == owner {
		b.Lock = lease{Owner: owner, Until: now.Add(timing.Lock)}
		return Lead
	}
	if holder := b.Claim.heldBy(now, timing.Fetch); need == NoCopy && (holder == "" || holder == owner) {
		b.Claim = lease{Owner: owner, Until: now.Add(timing.Fetch)}
		return Once
	}
	return Follow
}

// header gives the copy's; false where there is none, or its life is over.
func (b *board) header(timing Timing, now time.Time) (Header, bool) {
	return b.Header, !b.Confirmed.IsZero() && b.age(timing, now) < timing.Copy
}

// age is how long ago the copy was confirmed. What was confirmed in the future, by a
// clock that was ahead, is as old as a copy can be: it would stay fresh for ever; but
// what is older does not take its place.
func (b *board) age(timing Timing, now time.Time) time.Duration {
	age := now.Sub(b.Confirmed)
	if age < -time.Second {
		return timing.Copy - time.Millisecond
	}
	return max(0, age)
}

// receive is DefinitionsReceived, but for the bytes. A copy that is known to be
// unusable hinders no other.
func (b *board) receive(owner string, received Received, unusable bool, timing Timing, now time.Time) error {
	switch b.Lock.heldBy(now, timing.Lock) {
	case owner:
	case "":
		b.Lock = lease{Owner: owner, Until: now.Add(timing.Lock)}
	default:
		if b.Claim.heldBy(now, timing.Fetch) != owner {
			return ErrNotLeader
		}
	}
	present, there := b.header(timing, now)
	if unusable {
		there = false
	}
	switch {
	case received.Unchanged && (!there || present.Revision != received.Revision):
		return ErrNoCopy
	case received.Unchanged:
	case there && !received.Replaces(present) && present.Revision != received.Overrules && !b.deserted(received, present, timing, now):
		return older(received.Revision, present.Revision)
	default:
		b.Header = received.Header
	}
	if b.Claim.Owner == owner {
		b.Claim = lease{}
	}
	b.Confirmed = now
	return nil
}

// deserted tells whether the copy is of another store, and nobody whose server is
// that store has renewed it for so long that somebody else's may take its place.
func (b *board) deserted(received Received, present Header, timing Timing, now time.Time) bool {
	return received.Revision.Store != present.Revision.Store && b.age(timing, now) >= 2*timing.Lock
}

// release gives back what is the owner's.
func (b *board) release(owner string) {
	if b.Lock.Owner == owner {
		b.Lock = lease{}
	}
	if b.Claim.Owner == owner {
		b.Claim = lease{}
	}
}

func older(received, present Revision) error {
	if received.Store != present.Store {
		return fmt.Errorf("%w: it is of store %q, what was received is of store %q, which does not say that it supersedes the other", ErrOlder, present.Store, received.Store)
	}
	return fmt.Errorf("%w: it has revision %d, what was received %d", ErrOlder, present.Number, received.Number)
}
