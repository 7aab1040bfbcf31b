//go:build unix

package redis_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// join gives a part that is patient: the machine may be busy.
func join(tb testing.TB, url, prefix string, key definitioncache.Key) *redis.Cache {
	tb.Helper()
	cache, err := redis.New(redis.Options{URL: url, Prefix: prefix, Timeout: 10 * time.Second}, key, cachetest.Timing)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cache.Shutdown(context.WithoutCancel(tb.Context())) })
	return cache
}

func TestTheDoubleConforms(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(tb testing.TB) cachetest.Shared {
		tb.Helper()
		double, c := startDouble(tb)
		return cachetest.Shared{Advance: c, Join: func(tb testing.TB, key definitioncache.Key) definitioncache.Cache {
			tb.Helper()
			return join(tb, "redis://"+double.Addr(), "", key)
		}}
	})
}

// startDouble gives a double of Redis with its clock in hand.
func startDouble(tb testing.TB) (*miniredis.Miniredis, func(tb testing.TB, by time.Duration)) {
	tb.Helper()
	double := miniredis.NewMiniRedis()
	if err := double.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(double.Close)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	double.SetTime(now)
	return double, func(_ testing.TB, by time.Duration) {
		now = now.Add(by)
		double.SetTime(now)
		double.FastForward(by)
	}
}

func TestRedisConforms(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	cachetest.Run(t, func(testing.TB) cachetest.Shared {
		prefix := "bunting-test-" + rand.Text()
		return cachetest.Shared{
			Join: func(tb testing.TB, key definitioncache.Key) definitioncache.Cache {
				tb.Helper()
				return join(tb, url, prefix, key)
			},
			Advance: func(tb testing.TB, by time.Duration) {
				tb.Helper()
				advance(tb, url, prefix, by)
			},
		}
	})
}

// client talks to the server itself.
func client(tb testing.TB, url string) *goredis.Client {
	tb.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		tb.Fatal("the URL of the Redis cannot be read") // it may hold a password
	}
	options.ReadTimeout = time.Minute // the machine may be busy
	c := goredis.NewClient(options)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// advance makes all below the prefix older: a server's clock is nobody's to set.
func advance(tb testing.TB, url, prefix string, by time.Duration) {
	tb.Helper()
	err := goredis.NewScript(`
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local left = redis.call('PTTL', key) - ARGV[2]
  if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end
  if redis.call('TYPE', key).ok == 'hash' then
    redis.call('HSET', key, 'at', string.format('%.0f', redis.call('HGET', key, 'at') - ARGV[2]))
  end;
end
return 'OK'`).Run(tb.Context(), client(tb, url), nil, prefix, by.Milliseconds()).Err()
	if err != nil {
		tb.Fatal(err)
	}
}
