package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// road is a coalescer of numbers whose calls take as long as a test says. A
// question's answer is the question itself.
type road struct {
	coalescer[int, int]

	takes time.Duration
	fails error

	mu     sync.Mutex
	trips  [][]int // the questions of each call, in the order sent
	ended  int     // calls whose context ended before they did
	widest int
	now    int
}

func newRoad(takes time.Duration) *road {
	r := &road{takes: takes}
	r.coalescer = coalescer[int, int]{send: r.send, weigh: func(q int) int { return q / 1000 }, most: 100}
	return r
}

func (r *road) send(ctx context.Context, questions []int) ([]int, error) {
	r.mu.Lock()
	r.trips = append(r.trips, questions)
	r.now++
	r.widest = max(r.widest, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now--
	}()
	if r.keep { // what has begun is brought to its end
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(r.takes):
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended++
		return nil, ctx.Err()
	}
	if slices.Contains(questions, 666) {
		panic("666")
	}
	return questions, r.fails
}

// asks puts the questions at once, each from a goroutine of its own, after those
// before it have been taken in.
func (r *road) asks(ctx context.Context, t *testing.T, wait *sync.WaitGroup, questions ...int) {
	t.Helper()
	for _, q := range questions {
		wait.Go(func() {
			if got, err := r.ask(ctx, q); err != nil || got != q {
				t.Errorf("asked %d, got %d, %v", q, got, err)
			}
		})
		synctest.Wait()
	}
}

func (r *road) want(t *testing.T, trips ...[]int) {
	t.Helper()
	if !slices.EqualFunc(r.trips, trips, slices.Equal) {
		t.Errorf("trips %v, want %v", r.trips, trips)
	}
}

func TestCoalescing(t *testing.T) {
	for name, row := range map[string]struct {
		takes  time.Duration
		first  []int // asked on the idle road, and answered before the others come
		asked  []int
		trips  [][]int
		widest int
	}{
		"alone":               {takes: time.Millisecond, asked: []int{1}, trips: [][]int{{1}}, widest: 1},
		"the rest together":   {takes: time.Millisecond, asked: []int{1, 2, 3, 4}, trips: [][]int{{1}, {2, 3, 4}}, widest: 1},
		"as much as may":      {takes: time.Millisecond, asked: []int{1, 60_000, 40_000, 30_000, 2}, trips: [][]int{{1}, {60_000, 40_000}, {30_000, 2}}, widest: 1},
		"too heavy, so alone": {takes: time.Millisecond, asked: []int{1, 2, 500_000, 3}, trips: [][]int{{1}, {2}, {500_000}, {3}}, widest: 1},
		"a road of 100 ms":    {takes: slowRoad, first: []int{9}, asked: []int{1, 2, 3}, trips: [][]int{{9}, {1}, {2, 3}}, widest: 1},
		"a slow road":         {takes: slowRoad + 1, first: []int{9}, asked: []int{1, 2, 3, 4, 5}, trips: [][]int{{9}, {1}, {2}, {3}, {4, 5}}, widest: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoad(row.takes)
				var wait sync.WaitGroup
				for _, questions := range [][]int{row.first, row.asked} {
					r.asks(t.Context(), t, &wait, questions...)
					wait.Wait()
				}
				r.want(t, row.trips...)
				if r.widest != row.widest {
					t.Errorf("%d calls at once, want %d", r.widest, row.widest)
				}
			})
		})
	}
}

// Who gives up before his question was sent takes it back; who gives up later
// leaves the others alone; and with the last of them the call ends.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(slowRoad)
		ctx, cancel := context.WithCancel(t.Context())
		var stay, leave sync.WaitGroup
		r.asks(t.Context(), t, &stay, 1)
		gone := func(q int) {
			leave.Go(func() {
				if _, err := r.ask(ctx, q); !errors.Is(err, context.Canceled) {
					t.Errorf("%d: %v", q, err)
				}
			})
			synctest.Wait()
		}
		gone(2)
		cancel()
		leave.Wait() // at once: no clock has moved
		r.asks(t.Context(), t, &stay, 3)
		stay.Wait()
		r.want(t, []int{1}, []int{3})

		ctx, cancel = context.WithCancel(t.Context())
		gone(4) // leads
		gone(5)
		r.asks(t.Context(), t, &stay, 6)
		cancel()
		leave.Wait()
		stay.Wait()
		r.want(t, []int{1}, []int{3}, []int{4}, []int{6})
		if r.ended != 1 {
			t.Errorf("%d calls were ended, want that of 4 alone", r.ended)
		}
		if _, err := r.ask(ctx, 7); !errors.Is(err, context.Canceled) || len(r.trips) != 4 {
			t.Errorf("asked by one who has left: %v, %v", err, r.trips)
		}
	})
}

// What is kept is answered, whoever leaves.
func TestKeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(time.Minute)
		r.keep = true
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		r.asks(ctx, t, &wait, 1)
		wait.Go(func() {
			if _, err := r.ask(ctx, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("2 was not sent, but got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		wait.Wait()
		r.want(t, []int{1})
	})
}

// A call that fails or panics fails for those aboard, and for nobody after them.
func TestTripsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(time.Second)
		r.fails = errors.New("away")
		var wait sync.WaitGroup
		fails := func(q int, want string) {
			wait.Go(func() {
				if _, err := r.ask(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%d: %v", q, err)
				}
			})
			synctest.Wait()
		}
		fails(1, "away")
		wait.Wait()
		r.fails = nil
		r.asks(t.Context(), t, &wait, 2)
		fails(666, "defect")
		fails(3, "defect")
		wait.Wait()
		r.asks(t.Context(), t, &wait, 4)
		wait.Wait()
	})
}

// Whatever comes and goes in whatever order: each gets its own answer, a question
// is sent at most once, and never one that was taken back in time.
func TestCoalescingAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		milliseconds := rapid.Map(rapid.IntRange(1, 500), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
		type asking struct{ Begin, Patience time.Duration }
		takes, keep := milliseconds.Draw(rt, "takes"), rapid.Bool().Draw(rt, "keep")
		all := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) asking {
			return asking{milliseconds.Draw(rt, "begin"), milliseconds.Draw(rt, "patience")}
		}), 1, 30).Draw(rt, "asked")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			r := newRoad(takes)
			r.keep = keep
			var wait sync.WaitGroup
			var mu sync.Mutex
			for q, a := range all {
				wait.Go(func() {
					time.Sleep(a.Begin)
					ctx, cancel := context.WithTimeout(t.Context(), a.Patience)
					defer cancel()
					begin := time.Now()
					got, err := r.ask(ctx, q)
					waited := time.Since(begin)
					if err == nil && got != q || err != nil && (!errors.Is(err, context.DeadlineExceeded) || waited != a.Patience) || !keep && waited > a.Patience {
						mu.Lock()
						defer mu.Unlock()
						wrong = append(wrong, fmt.Sprintf("asked %d, got %d, %v after %s of %s", q, got, err, waited, a.Patience))
					}
				})
			}
			wait.Wait()
			synctest.Wait()
			sent := slices.Concat(r.trips...)
			slices.Sort(sent)
			if unique := len(slices.Compact(slices.Clone(sent))); unique != len(sent) || r.underway != 0 || len(r.waiting) != 0 {
				wrong = append(wrong, fmt.Sprintf("trips %v, %d under way, %d waiting", r.trips, r.underway, len(r.waiting)))
			}
		})
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

// TestRetold: whatever ended a call that several travelled in, each of them is
// told in words of its own.
func TestRetold(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:1", 0)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		kind Kind
	}{
		"the caller has left":                     {over, context.Canceled, Canceled},
		"the call's time is over, ours not quite": {t.Context(), context.DeadlineExceeded, Timeout},
		"the error of the call":                   {t.Context(), &Error{Kind: Unavailable, Op: "read 2 objects"}, Unavailable},
		"a defect":                                {t.Context(), errors.New("a defect"), Broken},
	} {
		var e *Error
		if err := c.retold(tc.ctx, "read the flag", tc.err); !errors.As(err, &e) || e.Kind != tc.kind || e.Op != "read the flag" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
