package evaluator_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// road is the way to an upstream: it notes what is asked, and fails what a test
// wants to fail.
type road struct {
	mu    sync.Mutex
	asked map[string]int
	fail  func(call string, r *http.Request) error // nil: nothing fails
	to    *buntingtest.Server                      // where it leads instead; nil: where it should
}

func (r *road) RoundTrip(q *http.Request) (*http.Response, error) {
	call := q.URL.Path[strings.LastIndex(q.URL.Path, "/")+1:]
	r.mu.Lock()
	r.asked[call]++
	fail, to := r.fail, r.to
	r.mu.Unlock()
	if to != nil {
		q.URL.Host = strings.TrimPrefix(to.Endpoint, "http://")
		q.Header.Set("Authorization", "Bearer "+to.AdminToken)
	}
	if fail != nil {
		if err := fail(call, q); err != nil {
			return nil, err
		}
	}
	return http.DefaultTransport.RoundTrip(q)
}

func (r *road) set(fail func(call string, q *http.Request) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

func (r *road) count(call string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[call]
}

// lead leads to another server, or, with nil, to where it should.
func (r *road) lead(to *buntingtest.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// swallowed collects the stream and passes nothing on.
func swallowed(call string, q *http.Request) error {
	if call != "WatchChanges" {
		return nil
	}
	<-q.Context().Done()
	return q.Context().Err()
}

var errCut = errors.New("the road is cut")

func cut(string, *http.Request) error { return errCut }

func boolean(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled}
}

// writer is a client that writes to the server.
func writer(t *testing.T, server *buntingtest.Server) func(changes ...flag.Change) flag.Revision {
	t.Helper()
	c, err := client.New(client.Options{Endpoint: server.Endpoint, Token: server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(changes ...flag.Change) flag.Revision {
		t.Helper()
		applied, err := c.Apply(t.Context(), client.Batch{Changes: changes, Atomic: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range applied.Results {
			if r.Problem != nil {
				t.Fatal(r.Problem)
			}
		}
		return applied.Revision
	}
}

// upstream is a client as a proxy has it: what fails is tried again by the
// follower alone.
func upstream(t *testing.T, server *buntingtest.Server, token string) (*client.Client, *road) {
	t.Helper()
	r := &road{asked: map[string]int{}}
	c, err := client.New(client.Options{
		Endpoint: server.Endpoint, Token: token, Transport: r, RequestTimeout: 20 * time.Second,
		Policy: &client.Policy{Attempts: 1, BreakAfter: 1 << 30},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return c, r
}

func running(t *testing.T, f *evaluator.Follower) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
}

func follow(t *testing.T, server *buntingtest.Server, options evaluator.FollowerOptions) (*evaluator.Follower, *road) {
	t.Helper()
	c, r := upstream(t, server, server.Token(t, "read"))
	f, err := evaluator.NewFollower(t.Context(), c, options)
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	return f, r
}

// reach waits until the follower has the revision, for as long as an outage that
// was just ended may be noticed late.
func reach(t *testing.T, f *evaluator.Follower, at flag.Revision) evaluator.View {
	t.Helper()
	for range 15 {
		view, err := f.WaitFor(t.Context(), at)
		if err == nil {
			return view
		}
		if errors.Is(err, evaluator.ErrStoreChanged) {
			passASecond(t, f)
		}
	}
	t.Fatalf("the follower is at %v, want %v; refused: %v", f.View().Revision, at, f.Refused())
	return evaluator.View{}
}

// passASecond waits for what does not come.
func passASecond(t *testing.T, f *evaluator.Follower) {
	t.Helper()
	_, _ = f.WaitFor(t.Context(), flag.Revision{Number: 1 << 40})
}

func TestAFollowerHearsOfEveryCommit(t *testing.T) {
	t.Parallel()
	for range 5 {
		if hearsOfEveryCommit(t) {
			return
		}
	}
	t.Error("its stream broke off each time")
}

// hearsOfEveryCommit is false where the stream broke off, as on a machine so busy that
// it was silent for too long: then it proves nothing.
func hearsOfEveryCommit(t *testing.T) bool {
	t.Helper()
	server := buntingtest.Start(t)
	write := writer(t, server)
	begin := write(flag.Put(boolean("pay")))
	f, r := follow(t, server, evaluator.FollowerOptions{})
	if at := f.View().Revision; at != begin && at.Number < begin.Number {
		t.Fatalf("it begins at %v, want %v", at, begin)
	}
	at := f.View().Revision
	for i := range 20 {
		write(flag.Put(boolean(flag.Key(fmt.Sprintf("f/%d", i)))))
	}
	killed := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	view := reach(t, f, killed)
	n := r.count("GetSnapshot")
	for range 10 { // who asked because its stream broke off has it anew soon
		if n == 1 || r.count("WatchChanges") > 1 {
			break
		}
		passASecond(t, f)
	}
	if r.count("WatchChanges") > 1 {
		return false
	}
	if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale {
		t.Errorf("the answer is %+v", a)
	}
	commits, _, ok := f.Changes(at)
	if !ok || int64(len(commits)) != killed.Number-at.Number {
		t.Errorf("%d commits are told on (%t), want %d", len(commits), ok, killed.Number-at.Number)
	}
	if n != 1 {
		t.Errorf("%d snapshots were read, want the first one alone", n)
	}
	return true
}

func TestAFollowerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	large := boolean("late")
	large.Description = strings.Repeat("x", 4000)
	for name, c := range map[string]struct {
		flag      *flag.Flag
		snapshots int // beside the first; at most
	}{
		"an upstream that was away": {boolean("late"), 3},
		// Too large for the stream, so the reader is sent to take what differs.
		"a commit too large for the stream": {large, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			write := writer(t, server)
			write(flag.Put(boolean("pay")))
			f, r := follow(t, server, evaluator.FollowerOptions{})
			server.Restart(t)
			var changes []flag.Change
			for i := range 300 {
				next := *c.flag
				next.Key = flag.Key(fmt.Sprintf("late/%d", i))
				changes = append(changes, flag.Put(&next))
			}
			view := reach(t, f, write(changes...))
			if flags, _, _ := view.Counts(); flags != 301 {
				t.Errorf("there are %d flags, want 301", flags)
			}
			if n := r.count("GetSnapshot") - 1; n > c.snapshots {
				t.Errorf("%d more snapshots were read, want at most %d", n, c.snapshots)
			}
		})
	}
}

func TestWhereTheStreamDoesNotGetThroughTheUpstreamIsPolled(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")))
	c, r := upstream(t, server, server.Token(t, "read"))
	r.set(swallowed)
	f, err := evaluator.NewFollower(t.Context(), c, evaluator.FollowerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, f)
	from := f.View().Revision
	at := write(flag.Put(boolean("late")), flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	write(flag.Put(boolean("later")))
	last := write(flag.Put(boolean("latest")))
	view := reach(t, f, last)
	if a := view.Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || a.Stale {
		t.Errorf("after %v the answer is %+v", at, a)
	}
	// Whoever reads from here gets the several commits as one.
	commits, _, ok := f.Changes(from)
	if !ok || len(commits) == 0 || commits[0].Previous != from.Number || commits[len(commits)-1].Revision != last {
		t.Errorf("told on are %+v, %t", commits, ok)
	}
	if f.Health().Status != client.Serving {
		t.Errorf("%+v", f.Health())
	}
}

func TestAFollowerBeginsWithWhatWasLastKnown(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	write := writer(t, server)
	write(flag.Put(boolean("pay")), flag.Put(boolean("on")))
	held := write(flag.Put(&flag.Hold{FlagKey: "pay", Holder: "ops", Reason: "it burns"}))
	before, _ := follow(t, server, evaluator.FollowerOptions{})
	known := reach(t, before, held).Snapshot

	c, r := upstream(t, server, server.Token(t, "read"))
	r.set(cut)
	f, err := evaluator.NewFollower(t.Context(), c, evaluator.FollowerOptions{Options: evaluator.Options{Known: known}})
	if err != nil {
		t.Fatal(err)
	}
	if h := f.Health(); h.Status != client.Connecting || h.Silence >= 0 || !h.Stale || h.Flags != 2 {
		t.Errorf("%+v", h)
	}
	if a := f.View().Evaluate("pay", flag.Context{}); a.Source != flag.SourceKilled || !a.Stale {
		t.Errorf("%+v", a)
	}
	if a := f.View().Evaluate("on", flag.Context{}); a.Source != flag.SourceCached || a.FreshSource != flag.SourceGlobal {
		t.Errorf("%+v", a)
	}
	running(t, f)
	r.set(nil)
	reach(t, f, write(flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef("on")}))
	for range 10 { // failures are forgotten a moment later
		if f.Health().Failures == 0 {
			break
		}
		passASecond(t, f)
	}
	if a := f.View().Evaluate("on", flag.Context{}); a.Source != flag.SourceArchived || a.Stale {
		t.Errorf("%+v", a)
	}
	if h := f.Health(); h.Status != client.Serving || h.Failures != 0 {
		t.Errorf("%+v", h)
	}
}

func TestWithNothingKnownAnUpstreamThatIsAwayStopsTheStart(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c, r := upstream(t, server, server.AdminToken)
	r.set(cut)
	if _, err := evaluator.NewFollower(t.Context(), c, evaluator.FollowerOptions{}); err == nil || !strings.Contains(err.Error(), "read the definitions of the upstream") {
		t.Errorf("error is %v", err)
	}
	f, err := evaluator.NewFollower(t.Context(), c, evaluator.FollowerOptions{Options: evaluator.Options{Compiled: compiled{boolean("built/in")}}})
	if err != nil {
		t.Fatal(err)
	}
	if a := f.View().Evaluate("built/in", flag.Context{}); a.ErrorCode != "" || !a.Stale || !a.Value.Bool() {
		t.Errorf("%+v", a)
	}
}

// compiled is a registry of flags.
type compiled []*flag.Flag

func (c compiled) Flag(key flag.Key) *flag.Flag {
	for _, f := range c {
		if f.Key == key {
			return f
		}
	}
	return nil
}

func (c compiled) Keys() (keys []flag.Key) {
	for _, f := range c {
		keys = append(keys, f.Key)
	}
	return keys
}

func TestCompiledFlagsAnswerWhereTheStoreHasNone(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	write := writer(t, server)
	mine := boolean("b")
	mine.State = flag.Default
	at := write(flag.Put(mine), flag.Put(boolean("d")))
	f, _ := follow(t, server, evaluator.FollowerOptions{Options: evaluator.Options{Compiled: compiled{boolean("a"), boolean("b"), boolean("e")}}})
	view := reach(t, f, at)
	var keys []flag.Key
	for key := range view.Keys("") {
		keys = append(keys, key)
	}
	if fmt.Sprint(keys) != "[a b d e]" {
		t.Errorf("known are %v", keys)
	}
	if a := view.Evaluate("a", flag.Context{}); a.Source != flag.SourceGlobal || a.Stale {
		t.Errorf("%+v", a)
	}
	if a := view.Evaluate("b", flag.Context{}); a.Value.Bool() {
		t.Errorf("the store's word does not win: %+v", a)
	}
	if a := view.Evaluate("c", flag.Context{}); a.ErrorCode != flag.ErrorFlagNotFound {
		t.Errorf("%+v", a)
	}
}
