package client

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// How many calls of one kind may be under way (DESIGN §6.1). On a short road one
// is enough: who comes meanwhile leaves with all the others when it returns.
// Past slowRoad of latency one would make an apply twice as long, as measured at
// 150 ms.
const (
	slowRoad  = 100 * time.Millisecond
	slowWidth = 3
)

// coalescer lets questions that wait travel together. An idle road takes the
// first question at once; while a call is under way the next wait, and leave as
// one when it returns. There is no timer, so nobody waits for company.
type coalescer[Q, A any] struct {
	// send makes one call. It answers each question, in order, or fails for all.
	send func(ctx context.Context, questions []Q) ([]A, error)
	// weigh gives the bytes of a question; up to most travel together. A question
	// that weighs more travels alone.
	weigh func(Q) int
	most  int
	// keep has a question answered once it was sent, even when its asker gives up:
	// a write is not withdrawn, and its result must be known. The call's context
	// ends all the same with the last asker: it is not to be repeated for nobody.
	keep bool
	// together is told how many questions travel in a call; nil: nobody is.
	together func(questions int)

	mu       sync.Mutex
	waiting  []*asker[Q, A]
	underway int
	latency  time.Duration // of the last call that was answered
}

// asker waits for the answer to one question.
type asker[Q, A any] struct {
	question Q
	gone     func() error  // not nil once the asker's context has ended
	deadline time.Time     // of the asker's context; zero: none
	trip     *trip         // nil until the question is sent; guarded by coalescer.mu
	done     chan struct{} // closed when answer and err are set
	answer   A
	err      error
}

// trip is one call under way.
type trip struct {
	aboard int       // askers who still wait; guarded by coalescer.mu
	end    time.Time // when it ends by itself, as the time of the last of them does; zero: never
	cancel context.CancelFunc
}

// ask gives the answer to the question. The error is that of the call, or the
// context's when the asker gave up first.
func (c *coalescer[Q, A]) ask(ctx context.Context, question Q) (A, error) {
	var none A
	if err := ctx.Err(); err != nil {
		return none, err
	}
	a := &asker[Q, A]{question: question, gone: ctx.Err, done: make(chan struct{})}
	a.deadline, _ = ctx.Deadline()
	c.mu.Lock()
	c.waiting = append(c.waiting, a)
	c.depart(context.WithoutCancel(ctx))
	c.mu.Unlock()

	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done():
	}
	if c.leave(a) {
		return none, ctx.Err()
	}
	<-a.done
	return a.answer, a.err
}

// leave lets an asker give up, unless its question was sent and is kept.
func (c *coalescer[Q, A]) leave(a *asker[Q, A]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.trip == nil {
		c.waiting = slices.DeleteFunc(c.waiting, func(w *asker[Q, A]) bool { return w == a })
		return true
	}
	t := a.trip
	t.aboard--
	if t.aboard == 0 && (t.end.IsZero() || time.Now().Before(t.end)) {
		t.cancel() // nobody waits for the answer any more; what is over in time is told so
	}
	return !c.keep
}

// depart sends what waits, as far as the road is free. c.mu is held.
func (c *coalescer[Q, A]) depart(road context.Context) {
	width := 1
	if c.latency > slowRoad {
		width = slowWidth
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(a *asker[Q, A]) bool { return a.gone() != nil })
	for c.underway < width && len(c.waiting) > 0 {
		load := c.load()
		// The call belongs to nobody in particular, so nobody's leaving ends it for
		// the others. It has as much time as the most patient of them.
		latest := patience(load)
		ctx, cancel := endingAt(road, latest)
		t := &trip{aboard: len(load), end: latest, cancel: cancel}
		for _, a := range load {
			a.trip = t
		}
		c.underway++
		if c.together != nil {
			c.together(len(load))
		}
		go c.travel(ctx, road, cancel, load)
	}
}

// patience gives the time until which anybody waits; zero: somebody has no end.
func patience[Q, A any](load []*asker[Q, A]) (latest time.Time) {
	for _, a := range load {
		if a.deadline.IsZero() {
			return time.Time{}
		}
		if a.deadline.After(latest) {
			latest = a.deadline
		}
	}
	return latest
}

// endingAt gives a context that ends at the time; zero: only when it is cancelled.
func endingAt(ctx context.Context, end time.Time) (context.Context, context.CancelFunc) {
	if end.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end)
}

// load takes what travels together from those who wait. c.mu is held.
func (c *coalescer[Q, A]) load() []*asker[Q, A] {
	weight := 0
	for i, a := range c.waiting {
		if weight += c.weigh(a.question); i > 0 && weight > c.most {
			load := slices.Clone(c.waiting[:i])
			c.waiting = slices.Clone(c.waiting[i:])
			return load
		}
	}
	load := c.waiting
	c.waiting = nil
	return load
}

func (c *coalescer[Q, A]) travel(ctx, road context.Context, cancel context.CancelFunc, load []*asker[Q, A]) {
	defer cancel()
	questions := make([]Q, len(load))
	for i, a := range load {
		questions[i] = a.question
	}
	begin := time.Now()
	answers, err := c.trySend(ctx, questions)
	for i, a := range load {
		if a.err = err; err == nil {
			a.answer = answers[i]
		}
		close(a.done)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underway--
	if err == nil {
		c.latency = time.Since(begin)
	}
	c.depart(road)
}

// trySend is send, whose panics are errors.
func (c *coalescer[Q, A]) trySend(ctx context.Context, questions []Q) ([]A, error) {
	answers, err := caught(func() ([]A, error) { return c.send(ctx, questions) })
	if err == nil && len(answers) != len(questions) {
		err = fmt.Errorf("a defect of this program: %d answers for %d questions", len(answers), len(questions))
	}
	return answers, err
}

// caught makes a call for several who wait, and keeps a panic in it from leaving
// them waiting for ever.
func caught[A any](call func() (A, error)) (answer A, err error) {
	defer func() {
		if found := recover(); found != nil {
			err = fmt.Errorf("a defect of this program stopped the call: %v", found)
		}
	}()
	return call()
}
