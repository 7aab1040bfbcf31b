package evaluator

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// word is what the upstream said by its stream.
type word struct {
	revision flag.Revision
	at       time.Time // when it said that it hears its own source of truth; zero: it has not
	over     bool      // the stream ended after it
}

// stream is the leader's: it hears of each change, which the next step publishes.
// What the stream does not bring that step asks for.
func (f *Follower) stream(ctx context.Context) {
	for pause := time.Duration(0); ; {
		events, err := f.watch(ctx)
		if last := f.shared.heard.Load(); last != nil {
			f.shared.heard.Store(&word{last.revision, last.at, true})
		}
		if ctx.Err() != nil {
			return
		}
		if events > 0 {
			pause = 0
			if !errors.Is(err, client.ErrResync) && !errors.Is(err, errGap) {
				f.log.WarnContext(ctx, "the change stream ended", "error", err.Error())
			}
		}
		f.shared.rouse()
		pause = min(max(2*pause, HeartbeatInterval/4), longestPause)
		if !sleep(ctx, pause/2+rand.N(pause/2)) { //nolint:gosec // It spreads load, it keeps no secret.
			return
		}
	}
}

// streamed learns from a message of the stream.
func (s *shared) streamed(e client.Event) {
	if s == nil {
		return
	}
	said := word{revision: e.Revision}
	if before := s.heard.Load(); before != nil && !before.over {
		said.at = before.at
	}
	changed := e.Revision.Number > e.Previous
	if !changed && !e.Silent {
		said.at = time.Now()
	}
	s.heard.Store(&said)
	if changed {
		s.rouse() // now that it counts
	}
}

// hears reports whether the stream tells all that there is: half of the time that a
// kill may take is for it to be silent, and half for the shared copy to grow old. What
// is served and did not come by it, it does not confirm. After its end its last word
// counts until it was handed on, once: a kill is not lost with the upstream.
func (f *Follower) hears() bool {
	said := f.shared.heard.Load()
	return said != nil && said.revision == f.View().Revision && (!said.over || said.revision != f.shared.fetched) && time.Since(said.at) <= f.shared.KillTTL/2
}
