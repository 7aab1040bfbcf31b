package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// How long a connection that only listens may be silent before it is asked whether it
// is there still, and how long to wait before the next is made: twice as long each
// time, for somebody who may not listen may never.
const (
	silence     = 30 * time.Second
	firstRest   = 500 * time.Millisecond
	longestRest = time.Minute
)

// Changes tells soon after another has published something changed, for
// [definitioncache.Options.Wake]; of many changes once. A word may be lost, and who has
// no right to subscribe hears none: polling goes on. It ends with the context or the
// Shutdown, and the channel is never closed.
func (c *Cache) Changes(ctx context.Context) <-chan struct{} {
	words := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		cancel()
	}
	c.ending = append(c.ending, cancel)
	go func() {
		defer cancel()
		for rest := firstRest; ctx.Err() == nil; rest = min(2*rest, longestRest) {
			if c.listen(ctx, words) {
				rest = firstRest
			}
			timer := time.NewTimer(rest/2 + rand.N(rest/2)) //nolint:gosec // Nobody gains by guessing it.
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}()
	return words
}

// listen hears until something is wrong, and tells whether it could hear. What is
// wrong is nobody's to know: the calls that poll say it.
func (c *Cache) listen(ctx context.Context, words chan<- struct{}) (heard bool) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	channel := c.client.Subscribe(limited, c.keys[2])
	closing := func() { _ = channel.Close() } // also of what waits to hear
	defer closing()
	defer context.AfterFunc(ctx, closing)()
	wait, asked := c.timeout, true
	for {
		said, err := channel.ReceiveTimeout(ctx, wait)
		var quiet net.Error
		switch {
		case errors.As(err, &quiet) && quiet.Timeout() && !asked:
			if err := channel.Ping(ctx); err != nil {
				return heard
			}
			wait, asked = c.timeout, true
			continue
		case err != nil:
			return heard
		}
		wait, asked = silence, false
		message, told := said.(*goredis.Message)
		if told && message.Payload == c.owner {
			continue
		}
		if _, began := said.(*goredis.Subscription); began || told {
			heard = true
			select {
			case words <- struct{}{}: // also for what was said while nobody heard
			default:
			}
		}
	}
}
