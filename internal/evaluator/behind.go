package evaluator

import (
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// An upstream that answers with an older revision than what is served is believed when
// it has said so disbelief times in a row, for as long as distrusts: one that lags
// behind others does for seconds. (Of what only the shared copy told, definitioncache
// has a rule of its own.)
const (
	disbelief = 5
	distrusts = 10 * time.Second
)

// doubt is that the upstream does not have the revision that is served.
type doubt struct {
	times int // that it said so in a row
	since time.Time
}

// behindError is that the upstream's answer is older than what is served: nothing of
// it is, and the upstream has not confirmed anything.
type behindError struct {
	endpoint    string
	has, served flag.Revision
	lost        string // what that lacks, to go on from "which"; "": nothing
}

func (e *behindError) Error() string {
	text := fmt.Sprintf("the upstream %s has only revision %d of the store, and %d is served", e.endpoint, e.has.Number, e.served.Number)
	if e.lost != "" {
		return text + ", which " + e.lost + ": what was last known is served. Bring the right store back, or, to serve this one all the same, start this server anew without what it keeps (data)"
	}
	return text + ": what was last known is served until the upstream has caught up, or has said so for a while"
}

// tells keeps whose revision the upstream told of, and ends the doubt where that is
// what is served, or newer.
func (f *Follower) tells(at flag.Revision) {
	f.store.Store(&at.StoreID)
	if served := f.View().Revision; served.StoreID != at.StoreID || served.Number <= at.Number {
		f.doubt.Store(nil)
	}
}

// doubts notes that the upstream does not have what is served, and reports whether it
// has said so for long enough to be believed.
func (f *Follower) doubts() bool {
	next := doubt{since: time.Now()}
	if before := f.doubt.Load(); before != nil {
		next = *before
	}
	next.times++
	f.doubt.Store(&next)
	return f.believed()
}

func (f *Follower) believed() bool {
	d := f.doubt.Load()
	return d != nil && d.times >= disbelief && time.Since(d.since) >= distrusts
}

// behind is what becomes of an older answer of the upstream: an error, so that nobody
// takes what is served for fresh, until the upstream is believed. A standing hold is
// never lost by that (DESIGN §4). Of what only the shared copy told the cycle judges.
func (f *Follower) behind(has *flag.Snapshot, stale bool) error {
	served := f.present.Load().snapshot
	err := &behindError{endpoint: f.upstream.Endpoint(), has: has.Revision, served: served.Revision}
	f.agreed(false)
	switch {
	case stale: // it may have missed what is newer
		return err
	case f.shared != nil && f.shared.applied == served.Revision:
		f.shared.older = has
		return err
	case !f.believed():
		return err
	}
	if refusal := distrust(served, has, f.now()); refusal != nil {
		err.lost = refusal.lacks()
		return err
	}
	f.backTo(has)
	return nil
}

// backTo serves the older snapshot that the upstream insists on.
func (f *Follower) backTo(has *flag.Snapshot) {
	f.doubt.Store(nil)
	f.goBack(has)
}
