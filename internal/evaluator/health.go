package evaluator

import (
	"errors"
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

// Health is how well an evaluator is connected to its source of truth.
type Health struct {
	Status   client.Status // Connecting: it has served nothing but what was last known before its start
	Silence  time.Duration // since the source last answered; negative: it never did
	Flags    int           // how many flags are known
	Failures int           // in a row
	Stale    bool          // answers are marked stale
}

// Health tells how well the evaluator is connected to its source.
func (e *Evaluator) Health() Health {
	v := e.present.Load()
	flags, _, _ := v.snapshot.Counts()
	h := Health{Status: client.Serving, Flags: flags, Failures: int(e.failures.Load()), Stale: e.stale(v), Silence: -1}
	if silence, ever := e.silence(); ever {
		h.Silence = silence
	} else {
		h.Status = client.Connecting
	}
	if h.Failures >= degradedAfter || e.Refused() != nil {
		h.Status = client.Degraded
	}
	return h
}

// heard notes that the source answered just now.
func (e *Evaluator) heard() { e.contact.Store(int64(time.Since(e.started)) + 1) }

// heardBefore notes that the source answered so long ago. What is too old to be fresh
// says nothing.
func (e *Evaluator) heardBefore(age time.Duration) {
	if age >= e.staleAfter {
		return
	}
	at := int64(time.Since(e.started)-age) + 1
	if at == 0 {
		at = -1
	}
	for {
		known := e.contact.Load()
		if known != 0 && at <= known || e.contact.CompareAndSwap(known, at) {
			return
		}
	}
}

// silence is how long ago the source last answered, if it ever did.
func (e *Evaluator) silence() (silence time.Duration, ever bool) {
	at := e.contact.Load()
	return time.Since(e.started) - time.Duration(at-1), at != 0
}

// HeardWithin reports whether the source answered not longer ago than that.
func (e *Evaluator) HeardWithin(limit time.Duration) bool {
	silence, ever := e.silence()
	return ever && silence <= limit
}

// stale reports whether the source has been silent for too long, or does not have the
// version, which is asked last: see goBack.
func (e *Evaluator) stale(v *version) bool {
	silence, ever := e.silence()
	return !ever || silence >= e.staleAfter || v.gone.Load()
}

// outcome learns from an attempt to hear the source, and tells of the turns: when it
// fails, when it has for too long, when it does for another reason, and when it no
// longer does.
func (e *Evaluator) outcome(err error) {
	e.telling.Lock()
	defer e.telling.Unlock()
	if err == nil {
		if failed := e.failures.Swap(0); failed > 0 {
			e.log.Info("the source of truth answers again", "failures", failed)
		}
		e.told = ""
		return
	}
	failed, reason := e.failures.Add(1), err.Error()
	if said, ok := errors.AsType[*client.Error](err); ok {
		reason = fmt.Sprintf("%s of %s", said.Kind, said.Endpoint) // the text may count the attempts
	}
	switch {
	case failed == degradedAfter:
		e.log.Error("the source of truth does not answer: serving what was last known", "error", err.Error())
	case reason != e.told:
		e.log.Warn("the source of truth did not answer", "error", err.Error())
	}
	e.told = reason
}
