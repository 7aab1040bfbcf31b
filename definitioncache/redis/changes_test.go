//go:build unix

package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// told waits for a word.
func told(t *testing.T, words <-chan struct{}) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-words:
	case <-time.After(20 * time.Second):
		t.Fatal("no word came")
	}
	return time.Since(start)
}

func publish(t *testing.T, cache definitioncache.Cache, received definitioncache.Received) {
	t.Helper()
	if err := cache.DefinitionsReceived(t.Context(), received); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeIsToldAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	leader, follower := join(t, server.URL(), "", cachetest.Key), join(t, server.URL(), "", cachetest.Key)
	other := cachetest.Key
	other.Scope = "read below a"
	ctx, stop := context.WithCancel(t.Context())
	words, own, others := follower.Changes(ctx), leader.Changes(ctx), join(t, server.URL(), "", other).Changes(ctx)
	for _, each := range []<-chan struct{}{words, own, others} {
		told(t, each) // it hears from now on
	}
	publish(t, leader, cachetest.Definitions(1))
	if d := told(t, words); d > time.Second { // on an idle machine less than one millisecond
		t.Errorf("the word came after %s", d)
	}
	unchanged := cachetest.Definitions(1)
	unchanged.Unchanged = true
	publish(t, leader, unchanged)
	for number := range int64(100) {
		publish(t, leader, cachetest.Definitions(2+number))
	}
	told(t, words)
	found, err := follower.Definitions(t.Context(), definitioncache.Revision{})
	if err != nil || found == nil || found.Revision.Number < 2 {
		t.Errorf("who is told reads %+v, %v", found, err)
	}
	if len(own) != 0 || len(others) != 0 {
		t.Error("who published is told, or who shares something else")
	}
	stop() // it ends: goleak looks
}

func TestAfterAnOutageChangesAreToldAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	leader, follower := join(t, server.URL(), "", cachetest.Key), join(t, server.URL(), "", cachetest.Key)
	words := follower.Changes(t.Context())
	told(t, words)
	server.Kill()
	server.Run()
	told(t, words) // of what was missed meanwhile
	publish(t, leader, cachetest.Definitions(1))
	told(t, words)
	if err := follower.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if late := follower.Changes(t.Context()); len(late) != 0 {
		t.Error("after the Shutdown there is a word")
	}
}

// Who may neither publish nor subscribe shares all the same, and does not try again
// and again.
func TestWhoMayNotListenPolls(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := client(t, server.URL())
	err := admin.Do(t.Context(), "ACL", "SETUSER", "mute", "on", ">word", "resetchannels", "~bunting:*",
		"+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+exists", "+time", "+hmget", "+hget", "+hset", "+hstrlen", "+pexpire").Err()
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "listener", "on", ">word", "~bunting:*", "resetchannels", "&bunting:*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	with := func(user string) *redis.Cache {
		cache, err := redis.New(redis.Options{URL: server.URL(), Username: user, Password: "word", Timeout: 10 * time.Second}, cachetest.Key, cachetest.Timing)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Shutdown(context.WithoutCancel(t.Context())) })
		return cache
	}
	mute, other, listener := with("mute"), with("mute"), with("listener")
	words, none := listener.Changes(t.Context()), other.Changes(t.Context())
	told(t, words)
	newProcess(t, mute, 5).says(t, 5)
	newProcess(t, other, 6).says(t, 5)
	copied(t, listener, 5)
	if len(words) != 0 || len(none) != 0 {
		t.Error("who may not publish has told somebody, or who may not listen is told")
	}
	// Who may, tells.
	if err := mute.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	newProcess(t, with("listener"), 7).says(t, 7)
	told(t, words)
	var denials int
	errors := admin.Info(t.Context(), "errorstats").Val()
	if _, err := fmt.Sscanf(errors[max(0, strings.Index(errors, "errorstat_NOPERM")):], "errorstat_NOPERM:count=%d", &denials); err != nil || denials > 20 {
		t.Errorf("the server counts %d denials (%v); want some, and few:\n%s", denials, err, errors)
	}
}

// Run goes by it: what is published is served at once, and not with the next poll.
func TestWhoIsToldServesItBeforeTheNextPoll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	leader, follower := join(t, server.URL(), "", cachetest.Key), join(t, server.URL(), "", cachetest.Key)
	publish(t, leader, cachetest.Definitions(1))
	ctx, stop := context.WithCancel(t.Context())
	words, served := follower.Changes(ctx), make(chan int64, 10)
	told(t, words)
	cycle, err := definitioncache.New(definitioncache.Options{
		Cache: follower, Timing: cachetest.Timing, Wake: words, Log: slog.New(slog.DiscardHandler),
		Fetch: func(context.Context, definitioncache.Revision) (definitioncache.Received, error) {
			return definitioncache.Received{}, definitioncache.ErrDenied
		},
		Apply: func(_ context.Context, definitions definitioncache.Copy) error {
			served <- definitions.Revision.Number
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cycle.Run(ctx) }()
	for want := range int64(3) {
		if want > 0 {
			publish(t, leader, cachetest.Definitions(want+1))
		}
		select {
		case got := <-served:
			if got != want+1 {
				t.Errorf("revision %d is served; want %d", got, want+1)
			}
		case <-time.After(cachetest.Timing.Poll / 2):
			t.Fatalf("revision %d is not served before the next poll", want+1)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
