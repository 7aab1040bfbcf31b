package client

import (
	"context"
	"sync"
	"time"
)

// pace is when the next request to a host may leave: one pause for all its
// callers, and after a 429 an even spacing at a rate that adapts.
type pace struct {
	policy Policy

	mu      sync.Mutex
	pause   time.Time // nothing leaves before
	rate    float64   // requests a second; 0: as they come
	tooMuch float64   // the rate that met the last 429; 0: none did
	next    time.Time // when the next one leaves, while they are spaced
	rated   time.Time // when the rate was last settled
	second  time.Time // the beginning of the second that is being counted
	sent    int       // requests in it
	lastSec int       // requests in the one before
}

func newPace(policy Policy) *pace { return &pace{policy: policy, rate: policy.MostPerSecond} }

// wait blocks until the caller may send. It does not begin to wait for what
// would outlast the context, or the policy's patience: then tooLong is the time
// that it would take. The error is the context's.
func (p *pace) wait(ctx context.Context) (tooLong time.Duration, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		p.mu.Lock()
		now, next := time.Now(), p.next
		at := p.slot(now)
		if until := at.Sub(now); until > p.patience(ctx, now) {
			p.next = next // nobody takes that place
			p.mu.Unlock()
			return until, nil
		}
		if !at.After(now) {
			p.count(now)
			p.mu.Unlock()
			return 0, nil
		}
		p.mu.Unlock()
		if err := sleep(ctx, at.Sub(now)); err != nil {
			return 0, err
		}
		p.mu.Lock()
		if now := time.Now(); !p.pause.After(now) { // no new pause has begun meanwhile
			p.count(now)
			p.mu.Unlock()
			return 0, nil
		}
		p.mu.Unlock()
	}
}

// slot gives when the caller may send, and takes that place. p.mu is held.
func (p *pace) slot(now time.Time) time.Time {
	at := now
	if p.pause.After(at) {
		at = p.pause
	}
	if p.rate <= 0 {
		if at.After(now) {
			at = at.Add(jitter(p.policy.Backoff)) // or all would leave in the same moment
		}
		return at
	}
	if p.next.After(at) {
		at = p.next
	}
	p.next = at.Add(time.Duration(float64(time.Second) / p.rate))
	return at
}

func (p *pace) patience(ctx context.Context, now time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return deadline.Sub(now)
	}
	return p.policy.Patience
}

// count notes a request that leaves. p.mu is held.
func (p *pace) count(now time.Time) {
	if passed := now.Sub(p.second); passed >= time.Second {
		p.lastSec = p.sent
		if passed >= 2*time.Second {
			p.lastSec = 0
		}
		p.second, p.sent = now, 0
	}
	p.sent++
}

// succeeded speeds up again.
func (p *pace) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 || p.rate == p.policy.MostPerSecond {
		return
	}
	now := time.Now()
	if now.Before(p.rated) {
		return // answered late, within the pause
	}
	faster := p.policy.SpeedUp * now.Sub(p.rated).Seconds()
	if p.rate > 0.9*p.tooMuch && p.rate < 1.1*p.tooMuch {
		faster /= 10
	}
	p.rate += faster
	p.rated = now
	switch most := p.policy.MostPerSecond; {
	case most > 0 && p.rate >= most:
		p.rate = most
	case p.rate >= p.policy.FullSpeed:
		p.rate = 0
	}
}

// limited begins a pause for everybody, and slows down. Several answers of one
// burst slow down once.
func (p *pace) limited(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if wait <= 0 {
		wait = p.policy.backoff(1)
	}
	burst := p.pause.After(now)
	p.stop(now.Add(wait))
	if burst {
		return
	}
	seen := float64(max(p.sent, p.lastSec, 1))
	if p.rate > 0 {
		seen = min(seen, p.rate)
	}
	p.tooMuch = seen
	p.rate, p.rated = max(1, seen*p.policy.SlowDown), p.pause
	p.next = p.pause
}

// paused begins a pause for everybody.
func (p *pace) paused(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop(time.Now().Add(wait))
}

// stop lets nothing leave before the time. p.mu is held.
func (p *pace) stop(until time.Time) {
	if until.After(p.pause) {
		p.pause = until
	}
}

// sleep lets the time pass, unless the context ends first; then its error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
