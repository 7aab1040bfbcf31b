//go:build unix

package endtoend

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCrowdHistory: what a crowd proves is worth no more than what judges it.
func TestCrowdHistory(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Second
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	// answers make a proxy's, one each second from the first on; a revision below 0 is an answer without flags.
	answers := func(states map[int64]state, revisions ...int64) *life {
		l := &life{ready: at(0)}
		for i, r := range revisions {
			s := sight{state: states[r], asked: at(float64(i)), answered: at(float64(i) + 0.01), store: "s", revision: r}
			if r < 0 {
				s.wrong = "no value"
			}
			l.seen = append(l.seen, s)
		}
		return l
	}
	root := map[int64]state{1: {false, 1}, 2: {true, 1}, 3: {false, 1}}
	for name, row := range map[string]struct {
		life  *life
		wrong string
		late  string
	}{
		"as it should be":          {life: answers(root, 1, 1, 1, 1, 2, 2, 3, 3)},
		"a kill that was lifted":   {life: answers(root, 1, 1, 3, 3, 3, 3, 3)},
		"without flags":            {life: answers(root, 1, -1, 2), wrong: "without flags: no value"},
		"backwards":                {life: answers(root, 2, 1, 2), wrong: "with revision 1 of store s, and with 2 of s before"},
		"of no revision":           {life: answers(root, 1, 7), wrong: "with revision 7, which the root did not have"},
		"of two revisions at once": {life: answers(map[int64]state{1: {true, 1}}, 1), wrong: "with revision 1 that pay is killed, count is 1; at the root pay is on, count is 1"},
		"late":                     {life: answers(root, 1, 1, 1, 1, 1, 1, 2), late: "was asked 4.5s after the kill of revision 2 was acknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &history{began: began, lives: []*life{row.life}}
			for revision := range int64(3) {
				h.writes = append(h.writes, written{state: root[revision+1], revision: revision + 1, acknowledged: at(0.5), kill: revision+1 == 2})
			}
			for _, judged := range []struct {
				want string
				got  []finding
			}{{row.wrong, h.wrong()}, {row.late, h.late(limit)}} {
				if (judged.want == "") != (len(judged.got) == 0) || !strings.Contains(h.tell(judged.got), judged.want) {
					t.Errorf("found %q, want %q", h.tell(judged.got), judged.want)
				}
			}
		})
	}
}

// TestCrowdRequests: each request counts for what it was made for.
func TestCrowdRequests(t *testing.T) {
	t.Parallel()
	const killTTL, poll = 4 * time.Second, time.Second
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	l := &life{ready: at(1)}
	h := &history{began: began, lives: []*life{l}, pauses: []span{{at(10), at(15)}}}
	for _, seconds := range []float64{0.5, 2.5, 5, 11, 12, 14, 16, 18} {
		h.requests = append(h.requests, &request{life: l, at: at(seconds), call: watching, ended: at(seconds + 1.5)})
	}
	h.requests = append(h.requests, &request{life: l, at: at(6), passedOn: true})
	all := h.sort(killTTL, 2*poll, 2*poll)
	got := []int{len(all.starting[l]), len(all.outside), len(all.inside[0][l]), all.passedOn, most(h.away(2 * poll)[0], killTTL)}
	// The three in the pause are one more than it may make, so what comes when it is over counts for the time after it.
	if want := []int{2, 3, 3, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("starting, outside, inside, passed on, allowed: %v, want %v", got, want)
	}
	if streams, when := h.streams(2 * poll); streams != 1 || !when.Equal(at(0.5)) {
		t.Errorf("%d streams at once at %s", streams, h.second(when))
	}
}
