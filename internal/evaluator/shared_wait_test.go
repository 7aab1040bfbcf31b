package evaluator_test

import (
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Whoever asks for what was just written gets it, however seldom the shared copy is
// looked at otherwise.
func TestWhoWaitsForARevisionHasTheCopyRead(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlaceOf(t, 10*time.Minute)
	first := p.member(t, server, evaluator.FollowerOptions{})
	first.await(t, "it hears the upstream", func() bool { return first.count("WatchChanges") > 0 })
	other := p.member(t, server, evaluator.FollowerOptions{})
	write := writer(t, server)
	for _, key := range []flag.Key{"a", "b", "c", "d"} {
		at := write(flag.Put(boolean(key)))
		for _, m := range []member{first, other} {
			reach(t, m.Follower, at)
		}
	}
}
