package redis_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
)

func TestSettingsAreCheckedAndShowNoSecret(t *testing.T) {
	t.Parallel()
	short := cachetest.Timing
	short.Lock = 2 * short.Poll
	for _, c := range []struct {
		options redis.Options
		key     definitioncache.Key
		timing  definitioncache.Timing
		want    string
	}{
		{redis.Options{URL: "redis://:s3cret@h:x/0"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "http://:s3cret@h"}, cachetest.Key, cachetest.Timing, "is of no Redis"},
		{redis.Options{URL: "redis://:s3%cret@h"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		// What is not escaped in a password ends it, and its start would be the host.
		{redis.Options{URL: "redis://ci:4711#s3cret@h"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "redis://ci:4711/s3cret@h"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "redis://ci:4711?s3cret@h"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "redis://ci:x@s3#cret@h"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "unix://ci:x@s3/cret@/run/redis"}, cachetest.Key, cachetest.Timing, "cannot be read"},
		{redis.Options{URL: "unix://s3/redis"}, cachetest.Key, cachetest.Timing, "is of no Redis"},
		{redis.Options{URL: "redis://:s3cret@"}, cachetest.Key, cachetest.Timing, "is of no Redis"},
		{redis.Options{URL: "redis://"}, cachetest.Key, cachetest.Timing, "is of no Redis"},
		{redis.Options{URL: "redis://:s3cret@h:99999"}, cachetest.Key, cachetest.Timing, "is a number from 1 to 65535"},
		{redis.Options{URL: "redis://:s3cret@h:0"}, cachetest.Key, cachetest.Timing, "is a number from 1 to 65535"},
		{redis.Options{URL: "redis://:s3cret@h/s3"}, cachetest.Key, cachetest.Timing, "The database is a number"},
		{redis.Options{URL: "redis://:s3cret@h/-1"}, cachetest.Key, cachetest.Timing, "The database is a number"},
		{redis.Options{URL: "unix:///x?s3=bar"}, cachetest.Key, cachetest.Timing, "The database is a number"},
		{redis.Options{URL: "redis://:s3cret@h", TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, cachetest.Key, cachetest.Timing, "is not rediss://"},
		{redis.Options{URL: "redis://:s3cret@h", Prefix: "{a}"}, cachetest.Key, cachetest.Timing, "cannot have braces"},
		{redis.Options{URL: "redis://:s3cret@h", Prefix: "  "}, cachetest.Key, cachetest.Timing, "cannot begin or end with a space"},
		{redis.Options{URL: "redis://:s3cret@h", Prefix: "a\nb"}, cachetest.Key, cachetest.Timing, "nor have control characters"},
		{redis.Options{URL: "redis://:s3cret@h", Prefix: strings.Repeat("a", 101)}, cachetest.Key, cachetest.Timing, "at most 100 bytes; found 101"},
		{redis.Options{URL: "redis://:s3cret@h", Timeout: -1}, cachetest.Key, cachetest.Timing, "cannot be negative"},
		{redis.Options{URL: "redis://:s3cret@h"}, definitioncache.Key{}, cachetest.Timing, "name of their environment"},
		{redis.Options{URL: "redis://:s3cret@h"}, cachetest.Key, short, "the lock must outlive two polls"},
	} {
		_, err := redis.New(c.options, c.key, c.timing)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3") {
			t.Errorf("%s: %v; want %q, and no secret", c.options.Prefix, err, c.want)
		}
	}
}

func TestByTLS(t *testing.T) {
	t.Parallel()
	// It has a certificate of its own for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	double := miniredis.NewMiniRedis()
	if err := double.StartTLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}); err != nil {
		t.Fatal(err)
	}
	defer double.Close()
	double.RequireUserAuth("flags", "word")
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	for _, c := range []struct {
		pool *x509.CertPool
		good bool
	}{{trusted, true}, {x509.NewCertPool(), false}} {
		cache, err := redis.New(redis.Options{
			URL: "rediss://flags:word@" + double.Addr(), Timeout: 10 * time.Second, TLS: &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12},
		}, cachetest.Key, cachetest.Timing)
		if err != nil {
			t.Fatal(err)
		}
		turn, err := cache.ShouldFetch(t.Context(), definitioncache.Refresh)
		if (err == nil && turn == definitioncache.Lead) != c.good {
			t.Errorf("a good certificate: %t; ShouldFetch = %d, %v", c.good, turn, err)
		}
		if err := cache.Shutdown(t.Context()); (err == nil) != c.good {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

// An hour's difference between the clocks of two processes and Redis' changes
// nothing: time is Redis' own.
func TestAClockThatIsWrongByAnHour(t *testing.T) {
	t.Parallel()
	double, advance := startDouble(t) // its clock is months away from ours
	leader, follower := join(t, "redis://"+double.Addr(), "", cachetest.Key), join(t, "redis://"+double.Addr(), "", cachetest.Key)
	if _, err := leader.ShouldFetch(t.Context(), definitioncache.Refresh); err != nil {
		t.Fatal(err)
	}
	received := cachetest.Definitions(1)
	received.FetchedAt = time.Now().Add(time.Hour)
	if err := leader.DefinitionsReceived(t.Context(), received); err != nil {
		t.Fatal(err)
	}
	advance(t, time.Minute)
	found, err := follower.Definitions(t.Context(), definitioncache.Revision{})
	if err != nil || found == nil || found.Age != time.Minute {
		t.Errorf("the copy is %+v, %v; want the age of a minute", found, err)
	}
	// Nor does a copy stay fresh for an hour when Redis' own clock goes back, as in a
	// failover to a machine whose clock is wrong: it is old until it is renewed.
	advance(t, -time.Hour)
	for _, known := range []definitioncache.Revision{{}, received.Revision} {
		found, err := follower.Definitions(t.Context(), known)
		if err != nil || found == nil || found.Age != cachetest.Timing.Copy-time.Millisecond {
			t.Errorf("a copy of the future is %+v, %v; want it as old as can be", found, err)
		}
	}
	if err := leader.DefinitionsReceived(t.Context(), received); err != nil {
		t.Error(err)
	}
	if found, err := follower.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found == nil || found.Age != 0 {
		t.Errorf("the copy is %+v, %v; want a new one", found, err)
	}
}
