package definitioncache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// woken is a process that steps when told to.
type woken struct {
	*process

	wake  chan struct{}
	mu    sync.Mutex // guards steps
	steps []time.Time
}

// newWoken runs one whose steps take as long as the server's answer.
func newWoken(t *testing.T, s *server) *woken {
	t.Helper()
	w := &woken{wake: make(chan struct{}, 1)}
	w.process = newProcess(t, newMemory(t).Join(), s, func(o *definitioncache.Options) {
		o.Wake = w.wake
		o.Fetch = func(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
			w.mu.Lock()
			w.steps = append(w.steps, time.Now())
			w.mu.Unlock()
			return s.fetch(ctx, known)
		}
	})
	running(t, w.process)
	return w
}

// changes has something new come up each 25 ms.
func (w *woken) changes(s *server, times int) {
	for range times {
		s.set(func() { s.revision.Number++ })
		select {
		case w.wake <- struct{}{}:
		default:
		}
		<-time.After(25 * time.Millisecond)
	}
}

// since counts steps, and gives the longest time between two.
func (w *woken) since(from time.Time) (n int, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.steps {
		if at.Before(from) {
			continue
		}
		n++
		longest, from = max(longest, at.Sub(from)), at
	}
	return n, longest
}

// However many changes there are: of eleven parts of the time a step that they cause
// takes one, and the next comes within a poll all the same.
func TestManyChangesArePublishedAtAPace(t *testing.T) {
	t.Parallel()
	for latency, most := range map[time.Duration]int{5 * time.Millisecond: 92, 20 * time.Millisecond: 25, 300 * time.Millisecond: 6} {
		t.Run(latency.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newServer(1)
				s.latency = latency
				w := newWoken(t, s)
				<-time.After(10*timing.Poll + timing.Poll/2)
				from := time.Now()
				w.changes(s, 200) // in 5 s
				n, longest := w.since(from)
				if n > most || n < 3 {
					t.Errorf("200 changes in 5 s took %d steps; want %d at most", n, most)
				}
				if longest > timing.Poll+latency {
					t.Errorf("between two of them were %s; want a poll at most", longest)
				}
				<-time.After(timing.Poll + 2*latency)
				if w.has() != 201 {
					t.Errorf("a poll after the last change revision %d is served; want 201", w.has())
				}
			})
		})
	}
}

func TestTheFirstChangeAfterQuietIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(1)
		w := newWoken(t, s)
		<-time.After(timing.Poll / 2)
		for range 3 {
			w.changes(s, 40)
			<-time.After(3*timing.Poll + timing.Poll/3)
			from := time.Now()
			w.changes(s, 1)
			w.mu.Lock()
			last := w.steps[len(w.steps)-1]
			w.mu.Unlock()
			if last.Before(from) || last.After(from.Add(time.Millisecond)) {
				t.Errorf("the first change after quiet was asked for %s later; want at once", last.Sub(from))
			}
			<-time.After(2 * timing.Poll)
		}
	})
}

// tooLarge is a cache for which all is.
type tooLarge struct{ definitioncache.Cache }

func (*tooLarge) DefinitionsReceived(context.Context, definitioncache.Received) error {
	return definitioncache.ErrTooLarge
}

// What is too large to be shared is not fetched in whole again and again.
func TestWhatIsTooLargeIsWrittenOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(1)
		var whole atomic.Int64
		p := newProcess(t, &tooLarge{newMemory(t).Join()}, s, func(o *definitioncache.Options) {
			o.Fetch = func(ctx context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
				received, err := s.fetch(ctx, known)
				if err == nil && !received.Unchanged {
					whole.Add(1)
				}
				return received, err
			}
		})
		for number := int64(1); number < 3; number++ {
			s.set(func() { s.revision.Number = number })
			for range 10 {
				p.bad(t, number, definitioncache.ErrTooLarge)
				<-time.After(timing.Poll)
			}
			if n := whole.Load(); n != number {
				t.Errorf("of %d revisions that are too large %d were handed over", number, n)
			}
		}
		if counts := p.seen(); !counts.Leader || counts.Age > 2*timing.Poll {
			t.Errorf("it counts %+v; want it to be confirmed at each poll", counts)
		}
		if err := p.Step(t.Context()); errors.Is(err, definitioncache.ErrNoCopy) {
			t.Errorf("Step: %v", err)
		}
	})
}
