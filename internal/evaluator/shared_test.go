package evaluator_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

const killTTL = time.Second

// place is where followers of a test share definitions, and may be lost.
type place struct {
	memory  *definitioncache.Memory
	killTTL time.Duration
	lost    atomic.Bool
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return newPlaceOf(t, killTTL)
}

func newPlaceOf(t *testing.T, killTTL time.Duration) *place {
	t.Helper()
	poll := killTTL / 4
	memory, err := definitioncache.NewMemory(definitioncache.Key{Environment: "test", Scope: "read", Schema: wire.DefinitionsSchema},
		definitioncache.Timing{Poll: poll, Lock: 5 * poll / 2, Copy: time.Hour, Fetch: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &place{memory: memory, killTTL: killTTL}
}

// part is a follower's part, and what it counted last.
type part struct {
	definitioncache.Cache

	place  *place
	step   sync.Mutex // who holds it keeps the next step from its beginning
	counts atomic.Pointer[definitioncache.Counts]
}

var errLost = errors.New("the shared place is lost")

func (p *part) ShouldFetch(ctx context.Context, need definitioncache.Need) (definitioncache.Turn, error) {
	p.step.Lock()
	defer p.step.Unlock()
	if p.place.lost.Load() {
		return definitioncache.Follow, errLost
	}
	return p.Cache.ShouldFetch(ctx, need)
}

func (p *part) Shutdown(ctx context.Context) error {
	err := p.Cache.Shutdown(ctx)
	if p.place.lost.Load() {
		return errLost
	}
	return err
}

func (p *part) leads() bool { return p.counts.Load().Leader }

// join makes a follower that shares; run it.
func (p *place) join(t *testing.T, up *client.Client, options evaluator.FollowerOptions) (*evaluator.Follower, *part, error) {
	t.Helper()
	own := &part{Cache: p.memory.Join(), place: p}
	options.Sharing = &evaluator.Sharing{
		KillTTL: p.killTTL,
		Open: func(key definitioncache.Key, _ definitioncache.Timing) (definitioncache.Cache, error) {
			if want := (definitioncache.Key{Environment: "test", Scope: "read", Schema: wire.DefinitionsSchema}); key != want {
				t.Errorf("it shares under %+v", key)
			}
			return own, nil
		},
		Observe: func(c definitioncache.Counts) { own.counts.Store(&c) },
	}
	f, err := evaluator.NewFollower(t.Context(), up, options)
	return f, own, err
}

// member is a follower that shares and runs.
type member struct {
	*evaluator.Follower
	*part
	*road
}

func (p *place) member(t *testing.T, server *buntingtest.Server, options evaluator.FollowerOptions) member {
	t.Helper()
	c, r := upstream(t, server, server.Token(t, "read"))
	f, own, err := p.join(t, c, options)
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	return member{f, own, r}
}

// await waits until something is so of a member.
func (m member) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 20 {
		if is() {
			return
		}
		passASecond(t, m.Follower)
	}
	t.Fatalf("it is not so that %s; refused: %v", what, m.Refused())
}

// hears waits until a member leads and its stream tells it all: its steps ask for
// nothing. (What is asked for beside a stream may come first, as one commit of many.)
func (m member) hears(t *testing.T) {
	t.Helper()
	fetches, asked := int64(0), -1
	m.await(t, "it hears the upstream", func() bool {
		fetchesBefore, askedBefore := fetches, asked
		fetches, asked = m.counts.Load().Fetches, m.count("GetSnapshot")
		return fetches > fetchesBefore+1 && asked == askedBefore // one may have asked before
	})
}

func TestFollowersShareWhatOneOfThemHears(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlaceOf(t, 10*time.Second)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	first := p.member(t, server, evaluator.FollowerOptions{})
	first.hears(t)
	others := []member{p.member(t, server, evaluator.FollowerOptions{}), p.member(t, server, evaluator.FollowerOptions{})}
	from := others[0].View().Revision
	for _, change := range []flag.Change{flag.Put(boolean("a")), flag.Put(boolean("b")), {Op: flag.DeleteFlag, Ref: flag.FlagRef("a")}} {
		write(change)
	}
	killed := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	for _, f := range others {
		view := reach(t, f.Follower, killed)
		if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale || view.Flag("a") != nil || view.Flag("b") == nil {
			t.Errorf("%+v at %v", a, view.Revision)
		}
		if n := f.count("GetSnapshot") + f.count("WatchChanges"); n != 0 {
			t.Errorf("who follows asked the upstream %d times", n)
		}
	}
	commits, _, ok := others[0].Changes(from)
	if !ok || len(commits) == 0 || commits[len(commits)-1].Revision != killed || slices.ContainsFunc(commits, func(c evaluator.Commit) bool { return c.Joined }) {
		t.Errorf("told on are (%t) %+v", ok, commits)
	}
	if h := others[1].Health(); h.Status != client.Serving || h.Failures != 0 || h.Stale {
		t.Errorf("%+v", h)
	}
}

// A leader that loses its upstream before it has published hands on what it heard.
func TestWhatTheStreamSaidLastIsHandedOn(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlaceOf(t, 10*time.Second)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	c, way := upstream(t, server, server.Token(t, "read"))
	first, own, err := p.join(t, c, evaluator.FollowerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan struct{}, 100)
	way.set(func(call string, _ *http.Request) error {
		if call == "WatchChanges" {
			streams <- struct{}{}
		}
		return nil
	})
	second := p.member(t, server, evaluator.FollowerOptions{})
	second.set(cut)
	running(t, first)
	<-streams
	own.step.Lock() // it does not publish
	killed := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	reach(t, first, killed)
	way.set(func(call string, _ *http.Request) error {
		if call == "WatchChanges" {
			streams <- struct{}{}
		}
		return errCut
	})
	server.Restart(t)
	<-streams // the first has ended
	own.step.Unlock()
	if a := reach(t, second.Follower, killed).Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled {
		t.Errorf("it answers %+v", a)
	}
}

func TestARevokedTokenEndsWhereItIsShared(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlaceOf(t, 10*time.Second)
	first := p.member(t, server, evaluator.FollowerOptions{})
	first.hears(t)
	other := p.member(t, server, evaluator.FollowerOptions{})
	c, _ := upstream(t, server, server.AdminToken)
	made, _, err := c.CreateToken(t.Context(), token.Token{Name: "app", Scopes: []token.Scope{token.Read}})
	if err != nil {
		t.Fatal(err)
	}
	write := writer(t, server)
	reach(t, other.Follower, write(flag.Put(boolean("before"))))
	from := other.View().Revision
	if _, err := c.RevokeToken(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	reach(t, other.Follower, write(flag.Put(boolean("after"))))
	commits, _, ok := other.Changes(from)
	ended := false
	for _, commit := range commits {
		ok = ok && !commit.Joined
		ended = ended || slices.ContainsFunc(commit.Tokens, func(of token.Token) bool { return of.ID == made.ID && !of.RevokedAt.IsZero() })
	}
	if !ok || !ended {
		t.Errorf("told on are (%t) %+v", ok, commits)
	}
}

func TestWhoLeadsIsReplaced(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	first, second := p.member(t, server, evaluator.FollowerOptions{}), p.member(t, server, evaluator.FollowerOptions{})
	at := write(flag.Put(boolean("pay")))
	reach(t, second.Follower, at)
	first.await(t, "one of them leads", func() bool { return first.leads() != second.leads() })
	if second.leads() { // on a machine that was busy for as long as a lock lasts
		first, second = second, first
	}
	first.set(cut)
	server.Restart(t) // its stream ends too: it hears nothing any more, and lets others try
	for i := range 3 {
		at = write(flag.Put(boolean(flag.Key(strings.Repeat("x", i+1)))))
		reach(t, first.Follower, at)
		reach(t, second.Follower, at)
	}
	second.await(t, "the other leads, and who hears of the upstream by it is well", func() bool {
		h := first.Health()
		return second.leads() && !first.leads() && h.Status == client.Serving && !h.Stale
	})
}

func TestWithoutTheSharedPlaceEachAsksByItself(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	first, second := p.member(t, server, evaluator.FollowerOptions{}), p.member(t, server, evaluator.FollowerOptions{})
	reach(t, second.Follower, write(flag.Put(boolean("pay"))))
	p.lost.Store(true)
	for range 3 {
		at := write(flag.Put(boolean("pay")))
		for _, f := range []member{first, second} {
			reach(t, f.Follower, at)
			if h := f.Health(); h.Failures != 0 || h.Stale || h.Status != client.Serving {
				t.Errorf("%+v", h)
			}
		}
	}
	p.lost.Store(false)
	second.await(t, "somebody leads", func() bool { return first.leads() || second.leads() })
}

// Of a lock that stays only who had it tells.
func TestWhoNeverLedTellsOfNoLock(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlaceOf(t, time.Minute)
	c, _ := upstream(t, server, server.Token(t, "read"))
	for i, told := range []bool{true, false} {
		var log bytes.Buffer
		f, own, err := p.join(t, c, evaluator.FollowerOptions{Options: evaluator.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { f.Run(ctx) })
		member{f, own, nil}.await(t, "the first leads", func() bool { return own.leads() == told })
		p.lost.Store(true)
		end()
		run.Wait()
		p.lost.Store(false)
		if strings.Contains(log.String(), "another proxy leads") != told {
			t.Errorf("follower %d tells:\n%s", i, &log)
		}
		if told { // and another has the lock now
			if _, err := p.memory.Join().ShouldFetch(t.Context(), definitioncache.Refresh); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAFollowerThatIsDeniedLivesOnWhatOthersHear(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	denied := p.member(t, server, evaluator.FollowerOptions{})
	denied.set(func(_ string, q *http.Request) error { q.Header.Set("Authorization", "Bearer none"); return nil })
	other := p.member(t, server, evaluator.FollowerOptions{})
	other.await(t, "who is not denied leads", func() bool {
		write(flag.Put(boolean("pay")))
		return other.leads()
	})
	reach(t, denied.Follower, write(flag.Put(boolean("new"))))
}

func TestSharedDefinitionsBeginWhileTheUpstreamIsAway(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	at := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	first := p.member(t, server, evaluator.FollowerOptions{})
	reach(t, first.Follower, at)
	first.set(cut)
	first.await(t, "it is stale", func() bool { return first.Health().Stale })

	c, r := upstream(t, server, server.AdminToken)
	r.set(cut)
	f, _, err := p.join(t, c, evaluator.FollowerOptions{Options: evaluator.Options{Environment: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	if a := f.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || !a.Stale {
		t.Errorf("it answers %+v", a)
	}
	if _, _, err := p.join(t, c, evaluator.FollowerOptions{}); err == nil || !strings.Contains(err.Error(), "Set environment, so that") {
		t.Errorf("got %v", err)
	}
	if _, _, err := newPlace(t).join(t, c, evaluator.FollowerOptions{Options: evaluator.Options{Environment: "test"}}); err == nil || !strings.Contains(err.Error(), "read the shared definitions, or those of the upstream") {
		t.Errorf("with nothing shared: %v", err)
	}
}

func TestAnotherStoreIsSharedOnceItWasAccepted(t *testing.T) {
	t.Parallel()
	server, other, p := buntingtest.Start(t), buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	held := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	first, second := p.member(t, server, evaluator.FollowerOptions{}), p.member(t, server, evaluator.FollowerOptions{})
	reach(t, second.Follower, held)
	elsewhere := writer(t, other)(flag.Put(boolean("pay")))
	for _, f := range []member{first, second} {
		f.lead(other)
	}
	server.Restart(t) // what was connected connects anew, and finds the other store
	for _, f := range []member{first, second} {
		f.await(t, "it refuses the other store", func() bool { return f.Refused() != nil })
		if f.View().Revision.StoreID != held.StoreID || f.Health().Status != client.Degraded {
			t.Errorf("it follows %v", f.View().Revision)
		}
	}
	confirm(t, other, elsewhere.StoreID, held.StoreID)
	for _, f := range []member{first, second} {
		view := reach(t, f.Follower, flag.Revision{StoreID: elsewhere.StoreID, Number: elsewhere.Number + 1})
		if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceGlobal || f.Refused() != nil {
			t.Errorf("%+v, %v", a, f.Refused())
		}
	}
}

// Whoever can write to the shared place may make up a revision there. It is served
// while the upstream may merely lag, and no longer.
func TestARevisionThatWasMadeUpDoesNotStay(t *testing.T) {
	t.Parallel()
	server, p := buntingtest.Start(t), newPlace(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	at := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	stranger := p.memory.Join()
	if turn, err := stranger.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
		t.Fatal(turn, err)
	}
	made := flag.Revision{StoreID: at.StoreID, Number: 1 << 39}
	body, err := wire.EncodeDefinitions(wire.Definitions{Snapshot: flag.NewSnapshot("test", made).With(made, slices.Values([]flag.Edit{{Ref: flag.FlagRef("pay"), Object: boolean("pay")}}))})
	if err != nil {
		t.Fatal(err)
	}
	key := definitioncache.Key{Environment: "test", Scope: "read", Schema: wire.DefinitionsSchema}
	if err := stranger.DefinitionsReceived(t.Context(), definitioncache.Received{Header: definitioncache.Header{Key: key, Revision: definitioncache.Revision{Store: made.StoreID, Number: made.Number}}, Body: body}); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := p.member(t, server, evaluator.FollowerOptions{}), p.member(t, server, evaluator.FollowerOptions{})
	for _, f := range []member{first, second} {
		f.await(t, "the upstream is believed", func() bool { return f.View().Revision != made })
		if a := f.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale {
			t.Errorf("at %v it answers %+v", f.View().Revision, a)
		}
	}
	at = write(flag.Put(boolean("new")))
	reach(t, first.Follower, at)
	reach(t, second.Follower, at)
}
