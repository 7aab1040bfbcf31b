package evaluator_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// confirm has the server's store, of that id, take the place of the former one.
func confirm(t *testing.T, server *buntingtest.Server, store, former string) {
	t.Helper()
	accept := connect.NewRequest(&buntingv1.ResyncRequest{Accept: true, FoundStoreId: store, Supersedes: former})
	accept.Header().Set("Authorization", "Bearer "+server.AdminToken)
	if _, err := buntingv1connect.NewFlagAdminServiceClient(http.DefaultClient, server.Endpoint).Resync(t.Context(), accept); err != nil {
		t.Fatal(err)
	}
}

func TestAnUpstreamThatIsNotTheRightOneIsRefused(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("prod"))
	greeting := func() client.Server {
		c, _ := upstream(t, server, server.AdminToken)
		s, err := c.Greet(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}()
	stranger := buntingtest.Start(t)
	for name, c := range map[string]struct {
		token   string
		options evaluator.FollowerOptions
		want    string
	}{
		"another environment": {server.AdminToken, evaluator.FollowerOptions{Options: evaluator.Options{Environment: "staging"}},
			`is of the environment "prod", but this server is of "staging"`},
		"known of another environment": {server.AdminToken, evaluator.FollowerOptions{Options: evaluator.Options{Known: flag.NewSnapshot("staging", flag.Revision{StoreID: "s", Number: 1})}},
			`is of the environment "prod", but this server is of "staging"`},
		"itself":            {server.AdminToken, evaluator.FollowerOptions{ID: greeting.Chain[0]}, "leads back to this server: a loop"},
		"a part of it":      {server.NamedToken(t, "part", "pay", "read"), evaluator.FollowerOptions{}, `covers only the keys under "pay"`},
		"too small a scope": {server.Token(t, "evaluate"), evaluator.FollowerOptions{}, "needs read"},
		"an unknown token":  {stranger.AdminToken, evaluator.FollowerOptions{}, "does not know the token"},
		"no token":          {"", evaluator.FollowerOptions{}, "wants a token, and none is set"},
	} {
		t.Run(name, func(t *testing.T) {
			up, _ := upstream(t, server, c.token)
			_, err := evaluator.NewFollower(t.Context(), up, c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v", err)
			}
			if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
				t.Error("the error holds the token")
			}
		})
	}
}

func TestAnotherStoreIsFollowedOnceItWasAccepted(t *testing.T) {
	t.Parallel()
	server, other := buntingtest.Start(t), buntingtest.Start(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	held := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	f, r := follow(t, server, evaluator.FollowerOptions{})
	reach(t, f, held)
	elsewhere := writer(t, other)(flag.Put(boolean("pay")))
	r.lead(other)
	server.Restart(t) // what was connected connects anew, and finds the other store

	for f.Refused() == nil {
		passASecond(t, f)
		if f.View().Revision.StoreID != held.StoreID {
			t.Fatalf("it follows %v", f.View().Revision)
		}
	}
	refused := f.Refused()
	if len(refused.LostHolds) != 1 || refused.LostHolds[0] != flag.HoldRef("pay", "ops") || refused.Found.StoreID != elsewhere.StoreID || f.Health().Status != client.Degraded {
		t.Errorf("%+v", refused)
	}
	snapshots := r.count("GetSnapshot")
	passASecond(t, f)
	if n := r.count("GetSnapshot"); n != snapshots {
		t.Errorf("%d more snapshots were read of a store that holds what it held when it was refused", n-snapshots)
	}
	confirm(t, other, elsewhere.StoreID, held.StoreID)
	view := reach(t, f, flag.Revision{StoreID: elsewhere.StoreID, Number: elsewhere.Number + 1})
	if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal || f.Refused() != nil {
		t.Errorf("%+v, %v", a, f.Refused())
	}
}

func TestARefusalEndsWhenTheRightUpstreamIsBack(t *testing.T) {
	t.Parallel()
	server, other := buntingtest.Start(t), buntingtest.Start(t)
	write := writer(t, server)
	f, r := follow(t, server, evaluator.FollowerOptions{})
	reach(t, f, write(flag.Put(boolean("pay"))))
	r.lead(other)
	server.Restart(t)
	for f.Refused() == nil {
		passASecond(t, f)
	}
	r.lead(nil)
	reach(t, f, write(flag.Put(boolean("new"))))
	for range 10 { // failures are forgotten a moment later
		if f.Health().Status == client.Serving {
			break
		}
		passASecond(t, f)
	}
	if f.Refused() != nil || f.Health().Status != client.Serving {
		t.Errorf("%v, %+v", f.Refused(), f.Health())
	}
	snapshots := r.count("GetSnapshot")
	passASecond(t, f)
	if n := r.count("GetSnapshot") - snapshots; n > 1 {
		t.Errorf("it polls %d times a second instead of listening", n)
	}
}

func TestAnotherEnvironmentBehindTheSameAddressIsRefused(t *testing.T) {
	t.Parallel()
	server, other := buntingtest.Start(t), buntingtest.Start(t, buntingtest.Environment("staging"))
	f, r := follow(t, server, evaluator.FollowerOptions{})
	at := writer(t, server)(flag.Put(boolean("pay")))
	reach(t, f, at)
	elsewhere := writer(t, other)
	elsewhere(flag.Put(boolean("pay")))
	elsewhere(flag.Put(boolean("strange")))
	r.lead(other)
	server.Restart(t)
	for f.Health().Failures == 0 {
		passASecond(t, f)
	}
	passASecond(t, f)
	if view := f.View(); view.Environment != "test" || view.Flag("strange") != nil {
		t.Errorf("it serves %q at %v", view.Environment, view.Revision)
	}
}

func TestAConfirmationIsHeardByPollingToo(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	c, r := upstream(t, server, server.Token(t, "read"))
	r.set(swallowed)
	f, err := evaluator.NewFollower(t.Context(), c, evaluator.FollowerOptions{Poll: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	from := f.View().Revision
	confirm(t, server, from.StoreID, "former")
	view := reach(t, f, write(flag.Put(boolean("new"))))
	if len(view.Supersedes) != 1 {
		t.Errorf("it supersedes %v", view.Supersedes)
	}
	commits, _, ok := f.Changes(from)
	if !ok || !slices.ContainsFunc(commits, func(c evaluator.Commit) bool { return slices.Contains(c.Superseded, "former") }) {
		t.Errorf("told on are %+v", commits)
	}
}
