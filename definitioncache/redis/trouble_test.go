//go:build unix

package redis_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

const (
	slot    = ":1:{production:read:1:}:"
	lockKey = slot + "lock"
	copyKey = slot + "copy"
)

// process serves definitions whose server has one revision.
type process struct {
	*definitioncache.Cycle

	served  int64 // -1: nothing
	fetches int
}

func newProcess(tb testing.TB, cache definitioncache.Cache, revision int64) *process {
	tb.Helper()
	p := &process{served: -1}
	var err error
	p.Cycle, err = definitioncache.New(definitioncache.Options{
		Cache: cache, Timing: cachetest.Timing,
		Fetch: func(_ context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
			p.fetches++
			received := cachetest.Definitions(revision)
			received.Unchanged = known == received.Revision
			return received, nil
		},
		Apply: func(_ context.Context, definitions definitioncache.Copy) error {
			p.served = definitions.Revision.Number
			return nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// says takes a step that must serve the revision and say why something is wrong.
func (p *process) says(t *testing.T, serves int64, words ...string) {
	t.Helper()
	err := p.Step(t.Context())
	if p.served != serves {
		t.Errorf("it serves revision %d; want %d (%v)", p.served, serves, err)
	}
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("it says %v; want words with %q", err, word)
		}
	}
	if len(words) == 0 && err != nil {
		t.Errorf("it says %v", err)
	}
}

// copied tells what the copy is, by whoever can read it.
func copied(t *testing.T, cache definitioncache.Cache, want int64) {
	t.Helper()
	found, err := cache.Definitions(t.Context(), definitioncache.Revision{})
	if err != nil || found == nil || found.Revision.Number != want {
		t.Errorf("the copy is %+v, %v; want revision %d", found, err, want)
	}
}

// What Redis itself may be like, after a leader published revision 5 and when its
// server has revision 6.
func TestARedisInTrouble(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]struct {
		cause    func(t *testing.T, server *redistest.Server, c *goredis.Client) error
		reads    bool          // the copy can be read still
		patience time.Duration // 0: long, for the trouble is told at once
		words    string
	}{
		"read-only": {cause: func(t *testing.T, _ *redistest.Server, c *goredis.Client) error { //nolint:thelper // A row of the table.
			return errors.Join(c.ConfigSet(t.Context(), "replica-serve-stale-data", "yes").Err(), c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
		}, reads: true, words: "it takes no writes"},
		"out of memory": {cause: func(t *testing.T, _ *redistest.Server, c *goredis.Client) error { //nolint:thelper // A row of the table.
			return c.ConfigSet(t.Context(), "maxmemory", "1").Err()
		}, reads: true, words: "its memory is full"},
		"wrong password": {cause: func(t *testing.T, _ *redistest.Server, c *goredis.Client) error { //nolint:thelper // A row of the table.
			return errors.Join(c.ConfigSet(t.Context(), "requirepass", "other").Err(), c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
		}, words: "password"},
		"killed": {cause: func(_ *testing.T, server *redistest.Server, _ *goredis.Client) error {
			server.Kill()
			return nil
		}, words: "the Redis at"},
		"hung": {cause: func(t *testing.T, server *redistest.Server, _ *goredis.Client) error { //nolint:thelper // A row of the table.
			t.Cleanup(server.Freeze())
			return nil
		}, patience: time.Second, words: "it did not answer within 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			c := client(t, server.URL())
			join := func() *redis.Cache {
				cache, err := redis.New(redis.Options{URL: server.URL(), Timeout: cmp.Or(trouble.patience, 10*time.Second)}, cachetest.Key, cachetest.Timing)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cache.Shutdown(context.WithoutCancel(t.Context())) })
				return cache
			}
			lead := join()
			newProcess(t, lead, 5).says(t, 5)
			follower := newProcess(t, join(), 6)
			follower.says(t, 5)
			if err := trouble.cause(t, server, c); err != nil {
				t.Fatal(err)
			}
			lost := newProcess(t, lead, 6) // who leads, and knows nothing
			lost.says(t, 6, trouble.words)
			if err := lost.Step(t.Context()); strings.Contains(fmt.Sprint(err), "script:") {
				t.Errorf("it tells of our scripts: %v", err)
			}
			if trouble.reads {
				follower.says(t, 5)
				copied(t, lead, 5)
				return
			}
			follower.says(t, 5, trouble.words) // it keeps what it has, and to its budget
			if follower.fetches != 0 {
				t.Errorf("the follower fetched %d times at once", follower.fetches)
			}
			newProcess(t, join(), 6).says(t, 6, trouble.words)
		})
	}
}

// After an outage the leader goes on where it was; what was lost is published
// anew.
func TestARedisThatForgotEverything(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cache := join(t, server.URL(), "", cachetest.Key)
	leader := newProcess(t, cache, 5)
	leader.says(t, 5)
	server.Kill()
	server.Run()
	leader.says(t, 5)
	copied(t, cache, 5)
}

// What may stand under our keys.
func TestAHostileValueIsNeitherServedNorKept(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	for name, hostile := range map[string]struct {
		put   func(ctx context.Context, c *goredis.Client, key string) error
		words string
	}{
		"a text": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.Set(ctx, key, "hello", 0).Err()
		}, "was not written by this program"},
		"a list": {func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.LPush(ctx, key, "hello").Err())
		}, "was not written by this program"},
		"another hash": {func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.HSet(ctx, key, "a", "b").Err())
		}, "was not written by this program"},
		"no bytes": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HDel(ctx, key, "value").Err()
		}, "something else uses the same place"},
		"foreign bytes": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "value", "hello").Err()
		}, "something else uses the same place"},
		"cut": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "value", c.HGet(ctx, key, "value").Val()[:200]).Err()
		}, "damaged or cut off"},
		"a bit flipped": {func(ctx context.Context, c *goredis.Client, key string) error {
			value := []byte(c.HGet(ctx, key, "value").Val())
			value[len(value)-9] ^= 1
			return c.HSet(ctx, key, "value", value).Err()
		}, "damaged or cut off"},
		"of a newer program": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "value", strings.Replace(c.HGet(ctx, key, "value").Val(), " 1 ", " 2 ", 1)).Err()
		}, "another version wrote it"},
		"a fence out of reach": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "fence", "9999999999999999999 A").Err()
		}, "it has another revision than"},
		"torn": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "fence", "0000000000000000006 A").Err()
		}, "it has another revision than"},
		"of the future": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "at", "9999999999999").Err()
		}, ""},
		"of no time": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "at", "nan").Err()
		}, ""},
		"of an endless time": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "at", "inf").Err()
		}, ""},
		"a mark without end": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "mark", strings.Repeat("x", 1<<20), "more", "y").Err()
		}, "was not written by this program"},
		"a fence without end": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.HSet(ctx, key, "fence", strings.Repeat("9", 1<<20), "more", "y").Err()
		}, "was not written by this program"},
		"too large": {func(ctx context.Context, c *goredis.Client, key string) error {
			return c.Do(ctx, "EVAL", "return redis.call('HSET', KEYS[1], 'value', string.rep('x', 60000000))", 1, key).Err()
		}, "bytes that are read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := "bunting-test-" + rand.Text()
			leader := join(t, url, prefix, cachetest.Key)
			newProcess(t, leader, 5).says(t, 5)
			if err := hostile.put(t.Context(), client(t, url), prefix+copyKey); err != nil {
				t.Fatal(err)
			}
			follower := join(t, url, prefix, cachetest.Key)
			found, err := follower.Definitions(t.Context(), definitioncache.Revision{})
			p := newProcess(t, follower, 5)
			if hostile.words == "" { // only its age is wrong
				if err != nil || found == nil || found.Age != cachetest.Timing.Copy-time.Millisecond {
					t.Errorf("Definitions gives %+v, %v; want it as old as can be", found, err)
				}
				p.says(t, 5)
			} else {
				if !errors.Is(err, definitioncache.ErrUnusable) || !strings.Contains(err.Error(), hostile.words) {
					t.Errorf("Definitions gives %+v, %v; want words with %q", found, err, hostile.words)
				}
				p.says(t, 5, hostile.words)
			}
			p.says(t, 5)
			if fields, err := client(t, url).HLen(t.Context(), prefix+copyKey).Result(); err != nil || fields != 4 {
				t.Errorf("the copy has %d fields, %v", fields, err)
			}
			copied(t, leader, 5)
			if left := client(t, url).PTTL(t.Context(), prefix+copyKey).Val(); left <= 0 || left > cachetest.Timing.Copy {
				t.Errorf("the copy lasts for %s", left)
			}
		})
	}
}

// What is as old as can be stays that within a script, in which a Redis' clock goes on.
func TestACopyOfTheFutureIsThereEachTime(t *testing.T) {
	t.Parallel()
	url, prefix := redistest.URL(t), "bunting-test-"+rand.Text()
	leader := join(t, url, prefix, cachetest.Key)
	newProcess(t, leader, 5).says(t, 5)
	if err := client(t, url).HSet(t.Context(), prefix+copyKey, "at", "9999999999999").Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if found, err := leader.Definitions(t.Context(), cachetest.Definitions(5).Revision); err != nil || found == nil || found.Age != cachetest.Timing.Copy-time.Millisecond {
			t.Fatalf("Definitions gives %+v, %v after %d times; want the copy, as old as can be", found, err, i)
		}
	}
}

func TestALockThatIsNotOursIsTaken(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	for name, put := range map[string]func(ctx context.Context, c *goredis.Client, key string) error{
		"for ever": func(ctx context.Context, c *goredis.Client, key string) error { return c.Set(ctx, key, "x", 0).Err() },
		"for a year": func(ctx context.Context, c *goredis.Client, key string) error {
			return c.Set(ctx, key, "x", 365*24*time.Hour).Err()
		},
		"a list": func(ctx context.Context, c *goredis.Client, key string) error { return c.LPush(ctx, key, "x").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := "bunting-test-" + rand.Text()
			for _, key := range []string{lockKey, slot + "claim"} {
				if err := put(t.Context(), client(t, url), prefix+key); err != nil {
					t.Fatal(err)
				}
			}
			cache := join(t, url, prefix, cachetest.Key)
			if turn, err := cache.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil || turn != definitioncache.Lead {
				t.Fatalf("ShouldFetch = %d, %v; want the lead", turn, err)
			}
			other := join(t, url, prefix, cachetest.Key)
			if turn, err := other.ShouldFetch(t.Context(), definitioncache.NoCopy); err != nil || turn != definitioncache.Once {
				t.Fatalf("ShouldFetch = %d, %v; want a turn for want of a copy", turn, err)
			}
			newProcess(t, cache, 5).says(t, 5)
			copied(t, cache, 5)
		})
	}
}

// Somebody deletes the lock: two lead at once, and nothing goes backwards.
func TestTwoLeadersAtOnce(t *testing.T) {
	t.Parallel()
	url, prefix := redistest.URL(t), "bunting-test-"+rand.Text()
	first, second := join(t, url, prefix, cachetest.Key), join(t, url, prefix, cachetest.Key)
	newer, behind := newProcess(t, first, 9), newProcess(t, second, 4)
	newer.says(t, 9)
	if err := client(t, url).Del(t.Context(), prefix+lockKey).Err(); err != nil {
		t.Fatal(err)
	}
	behind.says(t, 9, "what is served is newer")
	if err := second.DefinitionsReceived(t.Context(), cachetest.Definitions(4)); !errors.Is(err, definitioncache.ErrOlder) {
		t.Errorf("who leads as well publishes something older: %v", err)
	}
	copied(t, first, 9)
	newer.says(t, 9)
	if err := first.DefinitionsReceived(t.Context(), cachetest.Definitions(10)); !errors.Is(err, definitioncache.ErrNotLeader) {
		t.Errorf("who lost the lock publishes: %v", err)
	}
}

// A user of an ACL with what the documentation names, below the prefix alone.
func TestAUserOfFewRights(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := client(t, server.URL())
	err := admin.Do(t.Context(), "ACL", "SETUSER", "flags", "on", ">p@ss/word", "~bunting:*",
		"+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+exists", "+time", "+hmget", "+hget", "+hset", "+hstrlen", "+pexpire").Err()
	if err != nil {
		t.Fatal(err)
	}
	with := func(options redis.Options) *redis.Cache {
		options.Timeout = 10 * time.Second
		cache, err := redis.New(options, cachetest.Key, cachetest.Timing)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Shutdown(context.WithoutCancel(t.Context())) })
		return cache
	}
	good := with(redis.Options{URL: server.URL(), Username: "flags", Password: "p@ss/word"})
	newProcess(t, good, 5).says(t, 5)
	newProcess(t, with(redis.Options{URL: strings.Replace(server.URL(), "unix://", "unix://flags:p%40ss%2Fword@", 1)}), 6).says(t, 5)
	newProcess(t, with(redis.Options{URL: server.URL(), Username: "flags", Password: "p@ss/word", Prefix: "elsewhere"}), 6).says(t, 6, "see its ACL")
	wrong := newProcess(t, with(redis.Options{URL: server.URL(), Username: "flags", Password: "s3cret"}), 6)
	wrong.says(t, 6, "it refuses user or password")
	if err := wrong.Step(t.Context()); strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error shows the password: %v", err)
	}
	if err := good.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
