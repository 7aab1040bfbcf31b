package evaluator_test

import (
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Two upstreams of one environment's name, and one place: each proxy serves what its
// own upstream has, also one that began while that was away.
func TestWhatAnotherUpstreamSharedIsNotServed(t *testing.T) {
	t.Parallel()
	theirs, ours, p := buntingtest.Start(t), buntingtest.Start(t), newPlace(t)
	writer(t, theirs)(flag.Put(boolean("pay")))
	write := writer(t, ours)
	write(flag.Put(boolean("pay")))
	write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	stranger := p.member(t, theirs, evaluator.FollowerOptions{})
	stranger.await(t, "it shares", stranger.leads)

	f := p.member(t, ours, evaluator.FollowerOptions{})
	for range 4 {
		at := write(flag.Put(boolean("other")))
		view := reach(t, f.Follower, at)
		if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale || view.Revision.StoreID != at.StoreID {
			t.Errorf("at %v it answers %+v", view.Revision, a)
		}
		if h := f.Health(); h.Status != client.Serving || h.Stale {
			t.Errorf("%+v", h)
		}
		if view := stranger.View(); view.Revision.StoreID == at.StoreID {
			t.Errorf("the other serves %v", view.Revision)
		}
	}
}

// A proxy that began with what is shared, while its upstream was away, looks whose
// that is once the upstream answers.
func TestWhoseTheSharedDefinitionsAreIsAskedOnce(t *testing.T) {
	t.Parallel()
	theirs, ours, p := buntingtest.Start(t), buntingtest.Start(t), newPlace(t)
	writer(t, theirs)(flag.Put(boolean("pay")))
	at := writer(t, ours)(flag.Put(boolean("pay")))
	stranger := p.member(t, theirs, evaluator.FollowerOptions{})
	stranger.await(t, "it shares", stranger.leads)

	c, r := upstream(t, ours, ours.Token(t, "read"))
	r.set(cut)
	f, _, err := p.join(t, c, evaluator.FollowerOptions{Options: evaluator.Options{Environment: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	r.set(nil)
	if err := f.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach(t, f, at)
	passASecond(t, f)
	if view := f.View(); view.Revision.StoreID != at.StoreID || view.Stale {
		t.Errorf("it serves %v, stale: %t", view.Revision, view.Stale)
	}
	if r.count("GetServer") > 10 {
		t.Errorf("it greeted %d times", r.count("GetServer"))
	}
}

// An upstream that refuses the token for good ends what began without it.
func TestATokenThatIsRefusedEndsWhatBeganWithoutTheUpstream(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	reach(t, p.member(t, server, evaluator.FollowerOptions{}).Follower, writer(t, server)(flag.Put(boolean("pay"))))
	for name, row := range map[string]struct{ token, want string }{
		"an unknown token":  {"bunting_none", "does not know the token"},
		"too small a scope": {server.Token(t, "evaluate"), "needs read"},
	} {
		c, r := upstream(t, server, row.token)
		r.set(cut)
		f, _, err := p.join(t, c, evaluator.FollowerOptions{Options: evaluator.Options{Environment: "test"}})
		if err != nil {
			t.Fatal(err)
		}
		running(t, f)
		r.set(nil)
		if err := f.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), row.token) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
