//go:build unix

package endtoend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// history is what was done to a crowd, what its proxies answered, and what they asked of the root. What was right of it
// is judged when it is over.
type history struct {
	began, ended time.Time

	mu       sync.Mutex
	lives    []*life
	requests []*request
	writes   []written
	pauses   []span // of Redis
	deeds    []deed
}

// life is one process of a crowd.
type life struct {
	server  *server
	place   int
	process int    // its id
	unasked func() // ends the asking and waits for it; nil: nobody asked yet

	launched, ready, ended time.Time // zero: it is not

	seen []sight
}

// String names it as the tests' messages do.
func (l *life) String() string { return fmt.Sprintf("proxy %d (process %d)", l.place, l.process) }

// state is what the two flags are.
type state struct {
	killed bool
	count  int64
}

// String tells it.
func (s state) String() string {
	return fmt.Sprintf("%s is %s, %s is %d", payKey, map[bool]string{true: "killed", false: "on"}[s.killed], countKey, s.count)
}

// sight is one answer of a proxy.
type sight struct {
	state

	asked, answered time.Time
	store           string
	revision        int64
	stale           bool
	wrong           string // why it is no answer with both flags; "": it is
}

// written is a write to the root.
type written struct {
	state

	revision     int64
	acknowledged time.Time
	kill         bool
}

// request is one that a proxy made at the root.
type request struct {
	life     *life
	at       time.Time
	call     string
	passedOn bool // on behalf of who asked the proxy

	ended time.Time // when the answer was complete; zero: it is not
}

// span is a time.
type span struct{ from, to time.Time }

func (s span) has(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// deed is what was done to the crowd.
type deed struct {
	at   time.Time
	what string
}

// did takes up what was done, for the messages.
func (h *history) did(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deeds = append(h.deeds, deed{time.Now(), what})
}

// finding is something that was not right.
type finding struct {
	at   time.Time
	life *life // nil: it is of no one proxy
	what string
}

// second gives when something was.
func (h *history) second(at time.Time) string {
	return fmt.Sprintf("%.2f s", at.Sub(h.began).Seconds())
}

// tell writes findings with what was done shortly before.
func (h *history) tell(all []finding) string {
	const most, before = 10, 8 * time.Second
	var text strings.Builder
	for i, f := range all {
		if i == most {
			fmt.Fprintf(&text, "and %d more like these\n", len(all)-most)
			break
		}
		fmt.Fprintf(&text, "at %s: %s\n", h.second(f.at), f.what)
		for _, d := range h.deeds {
			if since := f.at.Sub(d.at); since >= -time.Second && since < before {
				fmt.Fprintf(&text, "\t%s: %s\n", h.second(d.at), d.what)
			}
		}
	}
	return text.String()
}

// wrong finds the answers without flags, those that are not what the root had at their revision, and those that are
// older than what the same proxy has answered before.
func (h *history) wrong() (all []finding) {
	at := map[int64]state{}
	for _, w := range h.writes {
		at[w.revision] = w.state
	}
	for _, l := range h.lives {
		var last sight
		for _, s := range l.seen {
			found := func(format string, args ...any) {
				all = append(all, finding{s.answered, l, fmt.Sprintf("%s, asked at %s, answered ", l, h.second(s.asked)) + fmt.Sprintf(format, args...)})
			}
			is, known := at[s.revision]
			switch {
			case s.wrong != "":
				found("without flags: %s", s.wrong)
				continue
			case !known:
				found("with revision %d, which the root did not have", s.revision)
			case is != s.state:
				found("with revision %d that %s; at the root %s", s.revision, s.state, is)
			case s.revision < last.revision || last.store != "" && s.store != last.store:
				found("with revision %d of store %s, and with %d of %s before", s.revision, s.store, last.revision, last.store)
			}
			last = s
		}
	}
	return all
}

// late finds who did not answer with a kill so long after it was acknowledged.
func (h *history) late(limit time.Duration) (all []finding) {
	for _, w := range h.writes {
		if !w.kill {
			continue
		}
		for _, l := range h.lives {
			// Who answers with a later revision has seen it.
			unseen := func(s sight) bool {
				return s.wrong == "" && s.revision < w.revision && s.asked.Sub(w.acknowledged) > limit
			}
			if i := slices.IndexFunc(l.seen, unseen); i >= 0 {
				s := l.seen[i]
				all = append(all, finding{s.asked, l, fmt.Sprintf("%s was asked %s after the kill of revision %d was acknowledged (at %s), and answered with revision %d",
					l, s.asked.Sub(w.acknowledged).Round(time.Millisecond), w.revision, h.second(w.acknowledged), s.revision)})
			}
		}
	}
	return all
}

// unseen gives the longest time after the acknowledgement of a kill at which a proxy was asked and had not seen it.
func (h *history) unseen() (longest time.Duration) {
	for _, w := range h.writes {
		for _, l := range h.lives {
			for _, s := range l.seen {
				if w.kill && s.wrong == "" && s.revision < w.revision {
					longest = max(longest, s.asked.Sub(w.acknowledged))
				}
			}
		}
	}
	return longest
}

// delays gives how long after its acknowledgement each write, or each kill, was seen by each proxy that was there, as
// exactly as it was asked: in the order of length.
func (h *history) delays(kills bool) (took []time.Duration) {
	for _, w := range h.writes {
		if kills && !w.kill {
			continue
		}
		for _, l := range h.lives {
			if l.ready.IsZero() || l.ready.After(w.acknowledged) {
				continue
			}
			seen := func(s sight) bool { return s.wrong == "" && s.revision >= w.revision }
			if i := slices.IndexFunc(l.seen, seen); i >= 0 {
				took = append(took, max(0, l.seen[i].answered.Sub(w.acknowledged)))
			}
		}
	}
	slices.Sort(took)
	return took
}

// watching is the call by which changes are streamed.
const watching = "WatchChanges"

// asked are requests at the root, told apart by when they were made.
type asked struct {
	starting map[*life][]*request   // by a process that starts
	outside  []*request             // while Redis answered
	inside   []map[*life][]*request // while it did not, pause by pause
	passedOn int                    // on behalf of others
}

// away gives how long Redis' pauses were, with the time that it takes to notice that it is back.
func (h *history) away(noticed time.Duration) (lengths []time.Duration) {
	for _, p := range h.pauses {
		lengths = append(lengths, p.to.Sub(p.from)+noticed)
	}
	return lengths
}

// sort tells the requests apart. A process starts until settled after it was ready. What is asked in a pause, or until
// it was noticed that it is over, counts for it up to one request of each process and kill_ttl; what comes after it on
// top of these is a new leader's.
func (h *history) sort(killTTL, settled, noticed time.Duration) asked {
	all := asked{starting: map[*life][]*request{}, inside: make([]map[*life][]*request, len(h.pauses))}
	for i := range all.inside {
		all.inside[i] = map[*life][]*request{}
	}
	lengths := h.away(noticed)
	for _, r := range h.requests {
		i := slices.IndexFunc(h.pauses, func(p span) bool { return span{p.from, p.to.Add(noticed)}.has(r.at) })
		switch {
		case r.passedOn:
			all.passedOn++
		case r.life.ready.IsZero() || r.at.Before(r.life.ready.Add(settled)):
			all.starting[r.life] = append(all.starting[r.life], r)
		case i >= 0 && (r.at.Before(h.pauses[i].to) || len(all.inside[i][r.life]) < most(lengths[i], killTTL)):
			all.inside[i][r.life] = append(all.inside[i][r.life], r)
		default:
			all.outside = append(all.outside, r)
		}
	}
	return all
}

// most is how often one process may ask in a pause.
func most(length, killTTL time.Duration) int { return int(length/killTTL) + 1 }

// byCall counts requests by call: "3 GetServer, 1 GetSnapshot".
func byCall(all []*request) string {
	counts := map[string]int{}
	for _, r := range all {
		counts[r.call]++
	}
	var text []string
	for _, call := range slices.Sorted(maps.Keys(counts)) {
		text = append(text, fmt.Sprintf("%d %s", counts[call], call))
	}
	return cmp.Or(strings.Join(text, ", "), "none")
}

// list tells requests one by one.
func (h *history) list(all []*request) string {
	var text strings.Builder
	for _, r := range all {
		fmt.Fprintf(&text, "\t%s: %s of %s\n", h.second(r.at), r.call, r.life)
	}
	return text.String()
}

// streams gives the most change streams that were open at once while Redis was there, and when.
func (h *history) streams(noticed time.Duration) (most int, when time.Time) {
	for _, began := range h.requests {
		at := began.at
		paused := slices.ContainsFunc(h.pauses, func(p span) bool { return span{p.from, p.to.Add(noticed)}.has(at) })
		if began.call != watching || paused || at.Before(h.began) {
			continue
		}
		open := 0
		for _, r := range h.requests {
			if r.call == watching && !r.at.After(at) && (r.ended.IsZero() || r.ended.After(at)) {
				open++
			}
		}
		if open > most {
			most, when = open, at
		}
	}
	return most, when
}
