package evaluator_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

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
	for name, place := range map[string]*place{"follows others": p, "leads": newPlace(t), "shares nothing": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f *evaluator.Follower
			if place == nil {
				f, _ = follow(t, server, kept)
			} else {
				f = place.member(t, server, kept).Follower
			}
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

// No standing hold is lost because an upstream went back: that is for people to decide.
func TestAHoldThatTheUpstreamDoesNotHaveStays(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	at := writer(t, server)(flag.Put(boolean("pay")))
	known := ahead(at, boolean("pay"), &flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"})
	lines := make(said, 100)
	f, _ := follow(t, server, evaluator.FollowerOptions{Options: evaluator.Options{Known: known, Log: slog.New(slog.NewTextHandler(lines, nil))}})
	for limit := time.After(40 * time.Second); ; {
		select {
		case line := <-lines:
			if !strings.Contains(line, "which lacks the hold of") {
				continue
			}
			if !strings.Contains(line, "start this server anew without what it keeps") {
				t.Error(line)
			}
		case <-limit:
			t.Error("it does not say what to do")
		}
		break
	}
	if a := f.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || !a.Stale || f.Health().Status != client.Degraded {
		t.Errorf("at %v it answers %+v, %+v", f.View().Revision, a, f.Health())
	}
}

// said is a log's lines, of which the first ones count.
type said chan string

func (s said) Write(line []byte) (int, error) {
	select {
	case s <- string(line):
	default:
	}
	return len(line), nil
}
