package definitioncache

import (
	"math/rand/v2"
	"time"
)

// budget is what one process may ask of the server while the shared cache is of no
// use: once an interval, at a moment of its own, so that many that lost the cache at
// once do not all ask at once.
type budget struct {
	every time.Duration
	last  time.Time // of the last fetch
	next  time.Time // zero: the cache is of use
}

// spend tells whether a fetch is due, and counts it.
func (b *budget) spend(now time.Time) bool {
	if b.next.IsZero() {
		b.next = now.Add(rand.N(b.every)) //nolint:gosec // Nobody gains by guessing it.
		if earliest := b.last.Add(b.every); b.next.Before(earliest) {
			b.next = earliest
		}
	}
	if now.Before(b.next) {
		return false
	}
	b.last, b.next = now, now.Add(b.every)
	return true
}

// rest tells that the cache is of use again.
func (b *budget) rest() { b.next = time.Time{} }
