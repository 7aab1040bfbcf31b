//go:build unix

package endtoend

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// crowd is many proxies before one root, which share its definitions through a Redis. Each is asked for two flags all
// the time, and each request that one makes at the root is counted.
type crowd struct {
	root   *server
	writer *client.Client
	secret string // the proxies' token
	redis  *redistest.Server
	timing crowdTiming

	ctx    context.Context // the asking ends with it
	asking sync.WaitGroup
	living []*life   // of each place the present one
	leader *life     // the last one that was found; nil: none was
	now    state     // what the root serves
	paused time.Time // since when Redis is away; zero: it is not

	history
}

// crowdTiming is how fast a crowd is to be.
type crowdTiming struct {
	killTTL time.Duration
	ask     time.Duration // between two questions to one proxy
}

// poll is how often a proxy polls: a quarter of kill_ttl.
func (t crowdTiming) poll() time.Duration { return t.killTTL / 4 }

// The two flags. pay is on unless it is killed, and count counts the writes to it, so an answer says which revision's it
// is.
const (
	payKey   = "pay"
	countKey = "count"
)

func startCrowd(t *testing.T, proxies int, timing crowdTiming) *crowd {
	t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &crowd{root: startServer(t, "--log-level", "error"), redis: redistest.Start(t), timing: timing, ctx: ctx}
	t.Cleanup(func() { end(); f.asking.Wait() })
	f.secret = f.root.newToken(t, "proxies", "SCOPE_READ")
	var err error
	if f.writer, err = client.New(client.Options{Endpoint: f.root.endpoint, Token: f.root.token, UserAgent: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.writer.Close)
	f.began = time.Now()
	f.write(t, flag.Put(boolean(payKey)), state{})
	f.count(t)
	for place := range proxies { // all at once, as a crowd starts after an outage
		f.living = append(f.living, f.launch(t, place))
	}
	return f
}

// launch starts a proxy in a place. What it asks of the root comes through a way of its own.
func (f *crowd) launch(t *testing.T, place int) *life {
	t.Helper()
	l := &life{place: place, launched: time.Now()}
	upstream := startProxy(t, f.root.endpoint, func(w http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
		asked := &request{life: l, at: time.Now(), call: call, passedOn: r.Header.Get(wire.ViaHeader) != ""}
		f.mu.Lock()
		f.requests = append(f.requests, asked)
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			asked.ended = time.Now()
		}()
		pass.ServeHTTP(w, r)
	})
	// Many processes share few processors: one each is enough, and rare collections leave more to others.
	env := []string{"BUNTING_TOKEN=" + f.secret, "GOMAXPROCS=1", "GOGC=400"}
	l.server = &server{dir: t.TempDir(), env: env, args: append([]string{"--upstream", upstream.endpoint, "--anonymous", "evaluate"}, f.sharing()...)}
	l.server.launch(t)
	l.process = l.server.cmd.Process.Pid
	f.mu.Lock()
	f.lives = append(f.lives, l)
	f.mu.Unlock()
	return l
}

// sharing gives the settings by which a proxy shares definitions.
func (f *crowd) sharing() []string {
	return []string{
		"--definition-cache-redis", f.redis.URL(), "--definition-cache-kill-ttl", f.timing.killTTL.String(),
		"--stale-after", (2 * f.timing.killTTL).String(),
	}
}

// settle notes who has become ready, has them asked, and reports whether all are.
func (f *crowd) settle(t *testing.T) bool {
	t.Helper()
	all := true
	for _, l := range f.living {
		if l.ready.IsZero() && l.server.isReady(t) {
			l.ready = time.Now()
			f.ask(l)
		}
		all = all && !l.ready.IsZero()
		if l.ready.IsZero() && time.Since(l.launched) > readyDeadline {
			t.Fatalf("%s was not ready within %s:\n%s", l, readyDeadline, l.server.log(t))
		}
	}
	return all
}

// ask asks a proxy for the two flags all the time, until its end.
func (f *crowd) ask(l *life) {
	ctx, end := context.WithCancel(f.ctx)
	done := make(chan struct{})
	l.unasked = func() { end(); <-done }
	transport := &http.Transport{}
	asked := pbflagsv1connect.NewFlagEvaluatorServiceClient(&http.Client{Transport: transport, Timeout: 10 * time.Second}, l.server.endpoint, connect.WithAcceptCompression("gzip", nil, nil))
	f.asking.Go(func() {
		defer close(done)
		defer transport.CloseIdleConnections()
		tick := time.NewTicker(f.timing.ask)
		defer tick.Stop()
		for {
			s := sight{asked: time.Now()}
			answer, err := asked.BulkEvaluate(ctx, connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{payKey, countKey}}))
			if ctx.Err() != nil {
				return
			}
			s.read(answer, err)
			f.mu.Lock()
			l.seen = append(l.seen, s)
			f.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// read takes an answer up.
func (s *sight) read(answer *connect.Response[pbflagsv1.BulkEvaluateResponse], err error) {
	s.answered = time.Now()
	if err != nil {
		s.wrong = "no answer: " + err.Error()
		return
	}
	both := answer.Msg.GetEvaluations()
	if len(both) != 2 {
		s.wrong = fmt.Sprintf("%d flags", len(both))
		return
	}
	pay, count := both[0], both[1]
	s.revision, s.store, s.stale = pay.GetRevision(), pay.GetStoreId(), pay.GetStale()
	source := pay.GetSource()
	if fresh := pay.GetFreshSource(); pay.GetStale() && fresh != pbflagsv1.EvaluationSource_EVALUATION_SOURCE_UNSPECIFIED {
		source = fresh
	}
	s.state = state{source == pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED, count.GetValue().GetInt64Value()}
	switch {
	case pay.GetErrorCode() != "" || count.GetErrorCode() != "":
		s.wrong = cmp.Or(pay.GetErrorCode(), count.GetErrorCode())
	case pay.GetValue() == nil || count.GetValue() == nil:
		s.wrong = "no value"
	case count.GetRevision() != s.revision:
		s.wrong = fmt.Sprintf("flags of two revisions in one answer: %d and %d", s.revision, count.GetRevision())
	case s.killed == pay.GetValue().GetBoolValue():
		s.wrong = fmt.Sprintf("%s is %t by %s", payKey, pay.GetValue().GetBoolValue(), pay.GetSource())
	}
}

// replace kills a proxy with -9 and starts another in its place.
func (f *crowd) replace(t *testing.T, l *life) {
	t.Helper()
	if l.unasked != nil {
		l.unasked()
	}
	l.server.stop(t, syscall.SIGKILL)
	l.ended = time.Now()
	f.living[l.place] = f.launch(t, l.place)
}

// findLeader looks in the proxies' logs who leads, the last leader first; nil: nobody does.
func (f *crowd) findLeader(t *testing.T) *life {
	t.Helper()
	among := f.living
	if f.leader != nil {
		among = append([]*life{f.living[f.leader.place]}, f.living...)
	}
	for _, l := range among {
		if !l.ready.IsZero() && leads(t, l.server) {
			f.leader = l
			return l
		}
	}
	return nil
}

// write makes a change at the root, after which the flags are as is says.
func (f *crowd) write(t *testing.T, change flag.Change, is state) {
	t.Helper()
	applied, err := f.writer.Apply(t.Context(), client.Batch{Changes: []flag.Change{change}})
	if err == nil && applied.Results[0].Problem != nil {
		err = applied.Results[0].Problem
	}
	if err != nil {
		t.Fatal(err)
	}
	f.writes = append(f.writes, written{state: is, revision: applied.Revision.Number, acknowledged: time.Now(), kill: change.Op == flag.PlaceHold})
	f.now = is
	f.did(fmt.Sprintf("revision %d: %s", applied.Revision.Number, is))
}

// count makes the other flag count on.
func (f *crowd) count(t *testing.T) {
	t.Helper()
	is := state{f.now.killed, f.now.count + 1}
	f.write(t, flag.Put(&flag.Flag{Key: countKey, Type: flag.Int, Default: flag.IntValue(0), Value: flag.IntValue(is.count), State: flag.Enabled}), is)
}

// kill kills the flag, and lift lets it go again.
func (f *crowd) kill(t *testing.T) {
	t.Helper()
	f.write(t, flag.Put(&flag.Hold{FlagKey: payKey, Holder: "ops", Reason: "it burns"}), state{true, f.now.count})
}

func (f *crowd) lift(t *testing.T) {
	t.Helper()
	f.write(t, flag.Change{Op: flag.ReleaseHold, Ref: opsHold}, state{false, f.now.count})
}

// said gives the last lines of a proxy's log.
func (l *life) said(t *testing.T) string {
	t.Helper()
	lines := strings.SplitAfter(readFile(t, filepath.Join(l.server.dir, "server.log")), "\n")
	const most = 12
	return strings.Join(lines[max(0, len(lines)-most):], "")
}
