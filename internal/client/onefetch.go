package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// fetched is what is fetched once for all who want it: who comes while the fetch
// is under way waits for its answer, nobody's leaving ends it for the others, and
// a failure is not kept.
type fetched[T any] struct {
	fetch func(ctx context.Context) (T, error)

	mu       sync.Mutex
	has      bool
	value    T
	underway *fetching[T]
}

// fetching is a fetch under way. It ends early when all who wait have left.
type fetching[T any] struct {
	done    chan struct{} // closed when value and err are set
	cancel  context.CancelFunc
	waiting int // guarded by fetched.mu
	value   T
	end     time.Time // of its time; zero: none
	late    bool      // its time ended before it did
	err     error
}

// known gives what was fetched, if it was.
func (f *fetched[T]) known() (value T, has bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, f.has
}

// forget has it fetched anew by who comes next.
func (f *fetched[T]) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.has, f.underway = false, nil
}

// get gives what was fetched, and fetches it first if need be. The error is that
// of the fetch, or the context's when the caller gave up first.
func (f *fetched[T]) get(ctx context.Context) (value T, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return value, err
		}
		now, has := f.join(ctx)
		if has != nil {
			return *has, nil
		}
		select {
		case <-now.done:
		case <-ctx.Done():
			f.leave(now)
			return value, ctx.Err()
		}
		// The fetch had the time of the one who began it, and this caller has more.
		if end, limited := ctx.Deadline(); !now.late || limited && !end.After(now.end) {
			return now.value, now.err
		}
	}
}

// join has the caller wait for the fetch under way, or for a new one; has is not
// nil where there is nothing to wait for.
func (f *fetched[T]) join(ctx context.Context) (now *fetching[T], has *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.has {
		return nil, &f.value
	}
	if f.underway == nil {
		end, _ := ctx.Deadline()
		within, cancel := endingAt(context.WithoutCancel(ctx), end)
		f.underway = &fetching[T]{done: make(chan struct{}), cancel: cancel, end: end}
		go f.run(within, cancel, f.underway)
	}
	f.underway.waiting++
	return f.underway, nil
}

func (f *fetched[T]) leave(now *fetching[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now.waiting--
	if now.waiting > 0 {
		return
	}
	if f.underway == now {
		f.underway = nil // who comes next begins anew
	}
	now.cancel()
}

func (f *fetched[T]) run(ctx context.Context, cancel context.CancelFunc, now *fetching[T]) {
	defer cancel()
	value, err := caught(func() (T, error) { return f.fetch(ctx) })
	now.late = err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.value, now.err = value, err; err == nil && f.underway == now {
		f.value, f.has = value, true
	}
	if f.underway == now {
		f.underway = nil
	}
	close(now.done)
}
