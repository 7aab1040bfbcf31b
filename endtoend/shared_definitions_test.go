//go:build unix

package endtoend

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// ordeal is what a crowd goes through. Its times are those since all of it was ready.
type ordeal struct {
	crowdTiming

	proxies  int
	length   time.Duration
	write    time.Duration   // between two writes: a kill, its end, and a change, in turn
	leaders  []time.Duration // when the leader is killed with -9 and another process takes its place
	frozen   []time.Duration // when Redis neither answers nor refuses
	restarts []time.Duration // when Redis is killed with -9, to be started empty
	pause    time.Duration   // how long each of these takes
}

// TestSharedDefinitionsOfACrowd proves, of few proxies for a short time, what the soak proves of 50 for a minute.
func TestSharedDefinitionsOfACrowd(t *testing.T) {
	const s = time.Second
	ordeal{
		crowdTiming: crowdTiming{killTTL: 2 * s, ask: s / 10}, proxies: 5, length: 10 * s, write: 7 * s / 10,
		leaders: []time.Duration{s}, restarts: []time.Duration{4 * s}, pause: 5 * s / 2,
	}.prove(t)
}

// TestSharedDefinitionsOfManyProxies: fifty proxies share for a minute what one of them fetches, while their leaders and
// their Redis die.
func TestSharedDefinitionsOfManyProxies(t *testing.T) {
	if os.Getenv("BUNTING_SOAK") == "" {
		t.Skip("needs BUNTING_SOAK=1")
	}
	const s = time.Second
	ordeal{
		crowdTiming: crowdTiming{killTTL: 4 * s, ask: s / 4}, proxies: 50, length: 60 * s, write: 13 * s / 10,
		// Some of them while Redis is away.
		leaders: []time.Duration{3 * s, 7 * s, 12 * s, 18 * s, 23 * s, 27 * s, 33 * s, 38 * s, 43 * s, 49 * s, 54 * s},
		frozen:  []time.Duration{10 * s, 35 * s}, restarts: []time.Duration{22 * s, 47 * s}, pause: 5 * s,
	}.prove(t)
}

// What is added to the promises for what a busy machine does to processes that have it to themselves in life.
const (
	// crowdSlack is added to kill_ttl: so long two busy cores may keep the process that is to ask, and the root, waiting.
	crowdSlack = time.Second
	// startRequests is the most that a process may ask of the root when it starts: two greetings, the definitions and the
	// change stream, and once more each where it takes the lead at once, or Redis is away.
	startRequests = 8
	// coldFetches is the most that proxies which start at once may fetch definitions, however many they are: one for a
	// start, one for the lead, which asks on until its stream is open, and those who waited in vain for a Redis that all
	// of them ask in the same moment, on two cores.
	coldFetches = 16
)

// prove puts a crowd through it, and judges what users and the root saw.
func (o ordeal) prove(t *testing.T) {
	t.Helper()
	f := startCrowd(t, o.proxies, o.crowdTiming)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !f.settle(t) {
		<-look.C
	}
	cold := time.Since(f.began)
	f.settled(t, look)
	f.began = time.Now()
	f.did("the crowd is ready")
	f.live(t, o, look)
	f.finish(t)
	f.judge(t, o, cold)
}

// settled waits until the crowd has a leader.
func (f *crowd) settled(t *testing.T, look *time.Ticker) {
	t.Helper()
	for deadline := time.After(readyDeadline); f.findLeader(t) == nil; {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("the crowd has no leader after %s", readyDeadline)
		}
	}
	// Whoever became ready last has started for so long.
	for start := time.Now(); time.Since(start) < 2*f.timing.poll(); {
		<-look.C
	}
}

// due is something to be done at its time, again until it is.
type due struct {
	at time.Duration
	do func() (done bool)
}

// live lets the crowd go through it.
func (f *crowd) live(t *testing.T, o ordeal, look *time.Ticker) {
	t.Helper()
	plan := f.plan(t, o)
	for since := time.Duration(0); since < o.length || len(plan) > 0; since = time.Since(f.began) {
		plan = slices.DeleteFunc(plan, func(d due) bool { return d.at <= since && d.do() })
		f.settle(t)
		if since > 2*o.length {
			t.Fatalf("after %s there are %d things that could not be done yet", since, len(plan))
		}
		<-look.C
	}
}

// plan gives all that is to be done, in order.
func (f *crowd) plan(t *testing.T, o ordeal) (plan []due) {
	t.Helper()
	at := func(at time.Duration, do func() bool) { plan = append(plan, due{at, do}) }
	for i := 0; time.Duration(i)*o.write < o.length-o.killTTL-crowdSlack; i++ { // the last one is to be seen
		at(time.Duration(i)*o.write, func() bool { []func(*testing.T){f.kill, f.lift, f.count}[i%3](t); return true })
	}
	for _, begin := range o.leaders {
		at(begin, func() bool { return f.loseLeader(t) })
	}
	var thaw func()
	for _, begin := range o.frozen {
		at(begin, func() bool { f.pause("Redis is frozen"); thaw = f.redis.Freeze(); return true })
		at(begin+o.pause, func() bool { thaw(); f.resume("Redis is thawed"); return true })
	}
	for _, begin := range o.restarts {
		at(begin, func() bool { f.pause("Redis is killed"); f.redis.Kill(); return true })
		at(begin+o.pause, func() bool { f.redis.Run(); f.resume("Redis is started, empty"); return true })
	}
	slices.SortStableFunc(plan, func(a, b due) int { return cmp.Compare(a.at, b.at) })
	return plan
}

// pause notes that Redis is away from now on, and resume that it is back.
func (f *crowd) pause(what string) {
	f.did(what)
	f.paused = time.Now()
}

func (f *crowd) resume(what string) {
	f.did(what)
	f.pauses = append(f.pauses, span{f.paused, time.Now()})
	f.paused = time.Time{}
}

// loseLeader kills the leader, or while Redis is away, when there is none, the one that was; not yet where there is
// none.
func (f *crowd) loseLeader(t *testing.T) bool {
	t.Helper()
	l := f.findLeader(t)
	if l == nil && f.paused.IsZero() {
		return false
	}
	if l == nil {
		l = f.living[f.leader.place]
	}
	if l.ready.IsZero() {
		return false
	}
	f.replace(t, l)
	f.did(fmt.Sprintf("%s, the leader, is killed, and %s started", l, f.living[l.place]))
	return true
}

// finish ends the asking and the crowd.
func (f *crowd) finish(t *testing.T) {
	t.Helper()
	f.ended = time.Now()
	for _, l := range f.living {
		if l.unasked != nil {
			l.unasked()
		}
		l.server.stop(t, syscall.SIGKILL)
	}
}

// judge fails the test for whatever was not as it is promised, and prints the figures.
func (f *crowd) judge(t *testing.T, o ordeal, cold time.Duration) {
	t.Helper()
	f.mu.Lock() // the last requests may still be on their way
	defer f.mu.Unlock()
	report := func(what string, all []finding) {
		if len(all) == 0 {
			return
		}
		slices.SortStableFunc(all, func(a, b finding) int { return a.at.Compare(b.at) })
		t.Errorf("%s (%d):\n%s", what, len(all), f.tell(all))
		if l := all[0].life; l != nil {
			t.Logf("the end of the log of %s:\n%s", l, l.said(t))
		}
	}
	report("answers that are wrong, or older than before", f.wrong())
	report(fmt.Sprintf("kills not seen within kill_ttl (%s) and %s", o.killTTL, crowdSlack), f.late(o.killTTL+crowdSlack))

	// A proxy notices at its next poll that Redis is back, or that the process before it is gone.
	all := f.sort(o.killTTL, 2*o.poll(), 2*o.poll())
	report("starts that asked too much", f.startsTooMuch(all))
	fetched := 0
	for _, r := range f.requests {
		if r.call == "GetSnapshot" && r.at.Before(f.began) {
			fetched++
		}
	}
	t.Logf("%d proxies that started at once fetched definitions %d times", o.proxies, fetched)
	if fetched > coldFetches {
		t.Errorf("%d proxies that started at once fetched definitions %d times, at most %d are meant", o.proxies, fetched, coldFetches)
	}
	away := time.Duration(0)
	var tooMany []finding
	for i, by := range all.inside {
		length := f.away(2 * o.poll())[i]
		away += length
		allowed := most(length, o.killTTL)
		var together []*request
		for l, list := range by {
			together = append(together, list...)
			if len(list) > allowed {
				tooMany = append(tooMany, finding{list[allowed].at, l, fmt.Sprintf("%s asked %d times in the pause of %s, and may %d times:\n%s", l, len(list), length.Round(time.Millisecond), allowed, f.list(list))})
			}
		}
		t.Logf("Redis' pause at %s, %s: %d requests of %d proxies (%s); each may make %d", f.second(f.pauses[i].from), length.Round(time.Millisecond), len(together), len(by), byCall(together), allowed)
	}
	report("requests in a pause of Redis", tooMany)

	there := f.ended.Sub(f.began) - away
	allowed := int(1.5 * float64(there) / float64(o.poll()))
	t.Logf("while Redis was there, %s: %d requests (%s); %.2f of one poller's, which polls each %s", there.Round(time.Millisecond), len(all.outside), byCall(all.outside),
		float64(len(all.outside))*float64(o.poll())/float64(there), o.poll())
	if len(all.outside) > allowed {
		t.Errorf("%d requests while Redis was there, at most %d are 1.5 of one poller's:\n%s", len(all.outside), allowed, f.list(all.outside[:min(100, len(all.outside))]))
	}
	streams, when := f.streams(2 * o.poll())
	t.Logf("change streams at the root while Redis was there: at most %d at once (at %s)", streams, f.second(when))
	if streams > 2 { // the leader, and one that is about to learn that it is none any more
		t.Errorf("%d change streams were open at once while Redis was there, at %s", streams, f.second(when))
	}
	f.figures(t, all, cold)
}

// startsTooMuch finds processes that asked more when they started than they may.
func (f *crowd) startsTooMuch(all asked) (found []finding) {
	for l, list := range all.starting {
		if len(list) > startRequests {
			found = append(found, finding{list[startRequests].at, l, fmt.Sprintf("%s asked %d times when it started, and may %d times:\n%s", l, len(list), startRequests, f.list(list))})
		}
	}
	return found
}

// figures prints what is asked of nobody, but told to people.
func (f *crowd) figures(t *testing.T, all asked, cold time.Duration) {
	t.Helper()
	var starting []*request
	most, slowest, answers, stale := 0, time.Duration(0), 0, 0
	for _, l := range f.lives {
		starting = append(starting, all.starting[l]...)
		most = max(most, len(all.starting[l]))
		slowest = max(slowest, l.ready.Sub(l.launched))
		for _, s := range l.seen {
			answers++
			if s.stale {
				stale++
			}
		}
	}
	t.Logf("starts of %d processes: %d requests (%s), at most %d of one; the slowest was ready after %s, the first %d after %s; %d more requests on behalf of who asked", len(f.lives), len(starting),
		byCall(starting), most, slowest.Round(time.Millisecond), len(f.living), cold.Round(time.Millisecond), all.passedOn)
	for what, took := range map[string][]time.Duration{"a kill": f.delays(true), "any write": f.delays(false)} {
		if n := len(took); n > 0 {
			t.Logf("until %s was seen: median %s, 99 of 100 %s, longest %s", what, took[n/2].Round(time.Millisecond), took[n*99/100].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
		}
	}
	t.Logf("the last question that was answered without a kill came %s after it", f.unseen().Round(time.Millisecond))
	t.Logf("%d answers, %d of them stale; %d writes", answers, stale, len(f.writes))
}
