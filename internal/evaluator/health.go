package evaluator

import "time"

// Status is how well an evaluator is connected to its store.
type Status int

// The statuses, with the numbers of pbflags.v1.EvaluatorStatus. An evaluator
// that has loaded its snapshot has been in contact, so it is never Connecting.
const (
	Connecting Status = 1 // no contact yet
	Serving    Status = 2 // in contact
	Degraded   Status = 3 // three or more failures in a row
)

// Health is an evaluator's health.
type Health struct {
	Status   Status
	Silence  time.Duration // since the store last answered
	Flags    int           // how many flags are known
	Failures int           // in a row
	Stale    bool          // answers are marked stale
}

// Health tells how well the evaluator is connected to its store.
func (e *Evaluator) Health() Health {
	flags, _, _ := e.present.Load().snapshot.Counts()
	h := Health{Status: Serving, Silence: e.silence(), Flags: flags, Failures: int(e.failures.Load())}
	h.Stale = h.Silence >= e.staleAfter
	if h.Failures >= degradedAfter {
		h.Status = Degraded
	}
	return h
}

// heard notes that the store answered just now.
func (e *Evaluator) heard() { e.contact.Store(int64(time.Since(e.started))) }

// silence is how long ago the store last answered.
func (e *Evaluator) silence() time.Duration {
	return time.Since(e.started) - time.Duration(e.contact.Load())
}
