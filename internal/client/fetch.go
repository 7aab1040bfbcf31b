package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

var (
	// errDefect is the cause of a fetch that a panic stopped.
	errDefect = errors.New("a panic")
	// errEnded is the cause of a fetch that Close ended or did not let begin.
	errEnded = errors.New("the cache was closed")
)

// fetcher makes the fetches of an OnDemand. They belong to it and not to the
// callers who wait for them, so nobody's leaving fails the others.
type fetcher struct {
	client  *Client
	policy  OnDemandPolicy
	contact contact
	// breaker spares callers the waiting for a service that has not answered
	// several times, whichever flag it was.
	breaker breaker
	slots   chan struct{}   // one for each fetch that may be at the service
	life    context.Context //nolint:containedctx // The life of all fetches, which Close ends.
	end     context.CancelFunc

	mu       sync.Mutex
	underway int
	closed   bool
	idle     sync.Cond // underway came to 0
}

func newFetcher(c *Client, policy OnDemandPolicy) *fetcher {
	f := &fetcher{
		client: c, policy: policy, contact: contact{recovered: make(chan struct{}, 1)}, slots: make(chan struct{}, poolSize),
		breaker: breaker{policy: Policy{BreakAfter: degradedAfter, Rest: policy.FailureTTL, LongestRest: policy.FailureTTL}},
	}
	f.idle.L = &f.mu
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// start runs the work beside the caller, and reports whether it does: no longer
// after close.
func (f *fetcher) start(work func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.underway++
	go func() {
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.underway--
			if f.underway == 0 {
				f.idle.Broadcast()
			}
		}()
		work()
	}()
	return true
}

// wait returns when no work is under way.
func (f *fetcher) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.underway > 0 {
		f.idle.Wait()
	}
}

// close ends all work and waits for it.
func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.end()
	f.wait()
}

// fetch asks the service, when its turn comes and unless it is spared. Of the
// context counts what it carries.
func (f *fetcher) fetch(ctx context.Context, op string, ask func(context.Context) error) error {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-f.life.Done():
		return f.ended(op)
	}
	if e := f.breaker.admit(); e != nil {
		e.Op = op
		return e
	}
	return f.attempt(ctx, op, ask)
}

// attempt asks the service within the time of one fetch, and learns from how that
// ends.
func (f *fetcher) attempt(ctx context.Context, op string, ask func(context.Context) error) (err error) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), f.policy.FetchTimeout)
	defer done()
	defer context.AfterFunc(f.life, done)() //nolint:contextcheck // Close ends every fetch.
	before := f.contact.begin()
	defer func() {
		if found := recover(); found != nil {
			err = &Error{Kind: Broken, Op: op, Endpoint: f.client.endpoint, Err: errDefect,
				Message: f.client.redact(plain(fmt.Sprintf("a defect of this program stopped the call: %v. Report it.", found), 600))}
		}
		err = f.learn(op, before, err)
	}()
	return ask(ctx)
}

func (f *fetcher) learn(op string, before int, err error) error {
	switch e, failed := errors.AsType[*Error](err); {
	case err == nil:
		f.contact.succeeded()
		f.breaker.answered()
		return nil
	case f.life.Err() != nil:
		f.breaker.left()
		return f.ended(op)
	case failed && (e.Kind == Unavailable || e.Kind == Timeout):
		f.breaker.fell(e)
	default:
		f.breaker.answered()
	}
	f.contact.failed(before)
	return err
}

func (f *fetcher) ended(op string) error {
	return &Error{Kind: Canceled, Op: op, Endpoint: f.client.endpoint, Err: errEnded, Message: "it was closed before " + f.client.endpoint + " had answered."}
}
