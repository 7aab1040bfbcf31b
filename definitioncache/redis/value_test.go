//go:build unix

package redis_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

func newValue(tb testing.TB, options redis.Options, life time.Duration) *redis.Value {
	tb.Helper()
	if options.Timeout == 0 {
		options.Timeout = 10 * time.Second
	}
	v, err := redis.NewValue(options, "words", "of a test", life)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(v.Close(), v.Close()); err != nil {
			tb.Error(err)
		}
	})
	return v
}

// put changes a value to bytes, whatever was there.
func put(value string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(value), nil }
}

// valueIs tells when a value is another than wanted; "": none.
func valueIs(t *testing.T, v *redis.Value, want string) {
	t.Helper()
	if got, err := v.Read(t.Context()); err != nil || string(got) != want || (got == nil) != (want == "") {
		t.Errorf("Read gives %.100q, %v; want %.100q", got, err, want)
	}
}

func TestAValueIsReadAndChanged(t *testing.T) {
	t.Parallel()
	options := redis.Options{URL: redistest.URL(t), Prefix: "bunting-test-" + rand.Text()}
	one, other := newValue(t, options, time.Hour), newValue(t, options, time.Hour)
	valueIs(t, one, "")
	if err := one.Change(t.Context(), func(old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("there is %q", old)
		}
		return []byte("a"), nil
	}); err != nil {
		t.Fatal(err)
	}
	valueIs(t, other, "a")
	refused := errors.New("no")
	if err := other.Change(t.Context(), func(old []byte) ([]byte, error) {
		old[0] = '!' // it is the caller's own
		return old, refused
	}); !errors.Is(err, refused) {
		t.Errorf("Change: %v", err)
	}
	valueIs(t, other, "a")
	if err := other.Change(t.Context(), func(old []byte) ([]byte, error) { return append(old, 'b'), nil }); err != nil {
		t.Fatal(err)
	}
	valueIs(t, one, "ab")
	c := client(t, options.URL)
	keys := c.Keys(t.Context(), options.Prefix+":*").Val()
	if len(keys) != 1 || !strings.HasPrefix(one.Place(), "words in the Redis at ") {
		t.Fatalf("the keys are %q, the place %s", keys, one.Place())
	}
	if left := c.PTTL(t.Context(), keys[0]).Val(); left <= 59*time.Minute || left > time.Hour {
		t.Errorf("it lasts for %s; want an hour", left)
	}
	if err := c.Del(t.Context(), keys[0]).Err(); err != nil { // its life is over
		t.Fatal(err)
	}
	valueIs(t, one, "")
	if err := one.Change(t.Context(), put("c")); err != nil {
		t.Fatal(err)
	}
	valueIs(t, other, "c")
	if err := one.Change(t.Context(), put(strings.Repeat("x", redis.MaxValue+1))); !errors.Is(err, definitioncache.ErrTooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	valueIs(t, other, "c")
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if _, err := one.Read(t.Context()); !errors.Is(err, definitioncache.ErrShutdown) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNoChangeIsLost(t *testing.T) {
	t.Parallel()
	options := redis.Options{URL: redistest.URL(t), Prefix: "bunting-test-" + rand.Text()}
	const goroutines = 50
	start := make(chan struct{})
	var wg sync.WaitGroup
	var v *redis.Value
	for i := range goroutines {
		if i%5 == 0 { // ten processes of five each
			v = newValue(t, options, time.Hour)
			v.Patience = 30 * time.Second // the machine may be busy, and each change is to be kept
		}
		own := v
		wg.Go(func() {
			<-start
			if err := own.Change(t.Context(), func(old []byte) ([]byte, error) { return append(old, byte(i)), nil }); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	got, err := v.Read(t.Context())
	if err != nil || len(got) != goroutines {
		t.Fatalf("Read gives %d bytes, %v; want %d", len(got), err, goroutines)
	}
	for i := range goroutines {
		if !bytes.Contains(got, []byte{byte(i)}) {
			t.Errorf("the change %d was lost", i)
		}
	}
}

// Somebody is quicker each time: that is told in a while, and what is theirs stays.
func TestAChangeThatOthersAlwaysComeBefore(t *testing.T) {
	t.Parallel()
	options := redis.Options{URL: redistest.URL(t), Prefix: "bunting-test-" + rand.Text()}
	slow, quick := newValue(t, options, time.Hour), newValue(t, options, time.Hour)
	tries, start := 0, time.Now()
	var last time.Time
	err := slow.Change(t.Context(), func([]byte) ([]byte, error) {
		tries, last = tries+1, time.Now()
		return []byte("slow"), quick.Change(t.Context(), put(fmt.Sprintf("quick %d", tries)))
	})
	if !errors.Is(err, redis.ErrOthers) || !strings.Contains(err.Error(), "others changed it") || tries < 2 || last.Sub(start) > 5*time.Second {
		t.Errorf("after %d tries, the last %s later: %v", tries, last.Sub(start), err)
	}
	valueIs(t, slow, fmt.Sprintf("quick %d", tries))
}

// What is not changed is not written, so that nobody else's change is lost to it.
func TestAChangeToTheSameBytesIsNone(t *testing.T) {
	t.Parallel()
	options := redis.Options{URL: redistest.URL(t), Prefix: "bunting-test-" + rand.Text()}
	one, other := newValue(t, options, time.Hour), newValue(t, options, time.Hour)
	if err := one.Change(t.Context(), put("a")); err != nil {
		t.Fatal(err)
	}
	tries := 0
	err := other.Change(t.Context(), func(old []byte) ([]byte, error) {
		tries++
		if tries > 1 {
			t.Error("it is asked again for what it left as it was")
		}
		return old, one.Change(t.Context(), put("b"))
	})
	if err != nil {
		t.Error(err)
	}
	valueIs(t, other, "b")
	empty := newValue(t, redis.Options{URL: options.URL, Prefix: "bunting-test-" + rand.Text()}, time.Hour)
	if err := empty.Change(t.Context(), func([]byte) ([]byte, error) { return []byte{}, nil }); err != nil {
		t.Error(err)
	}
	if got, err := empty.Read(t.Context()); got == nil || err != nil {
		t.Errorf("Read gives %v, %v; want no bytes, which are a value as well", got, err)
	}
}

func TestAForeignValueIsNeitherReadNorKept(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	for name, foreign := range map[string]func(ctx context.Context, c *goredis.Client, key string) error{
		"a text": func(ctx context.Context, c *goredis.Client, key string) error {
			return c.Set(ctx, key, "hello", 0).Err()
		},
		"a list": func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.LPush(ctx, key, "hello").Err())
		},
		"another hash": func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.HSet(ctx, key, "value", "hello").Err())
		},
		"too large": func(ctx context.Context, c *goredis.Client, key string) error {
			return c.Do(ctx, "EVAL", "return redis.call('HSET', KEYS[1], 'mark', 'x', 'value', string.rep('x', 40000000))", 1, key).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := redis.Options{URL: url, Prefix: "bunting-test-" + rand.Text()}
			v := newValue(t, options, time.Hour)
			if err := v.Change(t.Context(), put("a")); err != nil {
				t.Fatal(err)
			}
			c := client(t, url)
			key := c.Keys(t.Context(), options.Prefix+":*").Val()[0]
			if err := foreign(t.Context(), c, key); err != nil {
				t.Fatal(err)
			}
			if got, err := v.Read(t.Context()); got != nil || err == nil || !strings.Contains(err.Error(), "was not written by this program") || !strings.Contains(err.Error(), key) {
				t.Errorf("Read gives %.20q, %v", got, err)
			}
			if err := v.Change(t.Context(), put("b")); err != nil {
				t.Fatal(err)
			}
			valueIs(t, newValue(t, options, time.Hour), "b")
			if left := c.PTTL(t.Context(), key).Val(); left <= 0 {
				t.Errorf("it lasts for %s", left)
			}
		})
	}
}

func TestAValueWhoseRedisIsInTrouble(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := redis.Options{URL: server.URL(), Username: "flags", Password: "s3cret"}
	err := client(t, server.URL()).Do(t.Context(), "ACL", "SETUSER", "flags", "on", ">s3cret", "~bunting:*",
		"+eval", "+evalsha", "+del", "+exists", "+hget", "+hset", "+hstrlen", "+pexpire").Err()
	if err != nil {
		t.Fatal(err)
	}
	wrong, impatient := options, options
	wrong.Password = "s3cret too"
	impatient.Timeout = 30 * time.Millisecond
	hasty := newValue(t, impatient, time.Hour)
	for _, c := range []struct {
		name  string
		value *redis.Value
		cause func()
		words string
	}{
		{name: "good", value: newValue(t, options, time.Hour)},
		{name: "wrong password", value: newValue(t, wrong, time.Hour), words: "it refuses user or password"},
		{name: "frozen", value: hasty, cause: func() { t.Cleanup(server.Freeze()) }, words: "the Redis at"},
		{name: "away", value: hasty, cause: server.Kill, words: "the Redis at"},
	} {
		t.Run(c.name, func(t *testing.T) { //nolint:paralleltest // One after the other.
			if c.cause != nil {
				c.cause()
			}
			_, read := c.value.Read(t.Context())
			change := c.value.Change(t.Context(), put("a"))
			for _, err := range []error{read, change} {
				if (err == nil) != (c.words == "") || err != nil && (!strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "s3cret")) {
					t.Errorf("it says %v; want words with %q, and no secret", err, c.words)
				}
			}
		})
	}
	if _, err := redis.NewValue(options, "words", "", time.Hour); err == nil {
		t.Error("no name is taken")
	}
	if _, err := redis.NewValue(options, "words", "a", 0); err == nil {
		t.Error("no life is taken")
	}
}
