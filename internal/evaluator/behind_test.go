package evaluator_test

import (
	"slices"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// ahead gives what a server may have kept of the store, of a revision that the store
// does not have.
func ahead(at flag.Revision, objects ...flag.Object) *flag.Snapshot {
	at.Number += 100
	var edits []flag.Edit
	for _, o := range objects {
		edits = append(edits, flag.Edit{Ref: o.Ref(), Object: o})
	}
	return flag.NewSnapshot("test", at).With(at, slices.Values(edits))
}

// What was kept and is ahead of the upstream is never fresh, and does not stay: it is
// served as last known until the upstream is believed.
func TestWhatIsAheadOfTheUpstreamIsNotFresh(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	at := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	reach(t, p.member(t, server, evaluator.FollowerOptions{}).Follower, at)
	kept := evaluator.FollowerOptions{Options: evaluator.Options{Known: ahead(at, boolean("pay"))}}
	alone, _ := follow(t, server, kept)
	for name, f := range map[string]*evaluator.Follower{
		"follows others": p.member(t, server, kept).Follower,
		"leads":          newPlace(t).member(t, server, kept).Follower,
		"shares nothing": alone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			degraded := false
			for range 40 {
				view := f.View()
				a := view.Evaluate("pay", flag.Context{})
				if view.Revision.Number < at.Number+100 {
					break
				}
				degraded = degraded || f.Health().Status == client.Degraded
				if a.Source != flag.SourceCached || !a.Stale {
					t.Fatalf("at %v it answers %+v", view.Revision, a)
				}
				passASecond(t, f)
			}
			if a := f.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale {
				t.Errorf("at %v it answers %+v", f.View().Revision, a)
			}
			if !degraded {
				t.Error("its health never was DEGRADED")
			}
			reach(t, f, at)
			for range 10 { // failures are forgotten a moment later
				if f.Health().Status == client.Serving {
					break
				}
				passASecond(t, f)
			}
			if h := f.Health(); h.Status != client.Serving || h.Failures != 0 {
				t.Errorf("%+v", h)
			}
		})
	}
}
