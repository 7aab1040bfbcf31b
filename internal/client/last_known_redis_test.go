//go:build unix

package client

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// inRedis opens what is kept in a Redis.
func inRedis(tb testing.TB, place SharedPlace, endpoint, token string) *LastKnown {
	tb.Helper()
	l, err := NewLastKnownIn(place, endpoint, token)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	return l
}

func valueOf(l *LastKnown) *lastKnownRedis {
	r, _ := l.place.(*lastKnownRedis)
	return r
}

func TestLastKnownInARedis(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	testLastKnown(t, func(testing.TB) keptPlace {
		place := SharedPlace{RedisURL: url, RedisPrefix: "bunting-test-" + rand.Text(), RedisTimeout: 10 * time.Second}
		return keptPlace{
			open: func(tb testing.TB, endpoint, token string) *LastKnown {
				tb.Helper()
				l := inRedis(tb, place, endpoint, token)
				valueOf(l).value.Patience = 30 * time.Second // the machine may be busy, and each answer is to be kept
				return l
			},
			get: func(tb testing.TB, l *LastKnown) []byte {
				tb.Helper()
				text, err := valueOf(l).value.Read(tb.Context())
				if err != nil {
					tb.Fatal(err)
				}
				return text
			},
			put: func(tb testing.TB, l *LastKnown, text []byte) {
				tb.Helper()
				err := valueOf(l).value.Change(tb.Context(), func([]byte) ([]byte, error) { return text, nil })
				if err != nil {
					tb.Fatal(err)
				}
			},
		}
	})
}

// An operation whose Redis is frozen does not wait long for what it keeps beside.
func TestLastKnownWaitsShortlyForItsRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l := inRedis(t, SharedPlace{RedisURL: server.URL()}, "http://a", secret)
	t.Cleanup(server.Freeze())
	if _, err := l.Read(); err == nil || !strings.HasSuffix(err.Error(), ": it did not answer within 1s") {
		t.Errorf("Read: %v", err)
	}
}

// A Redis that does not answer costs one wait, whatever is to be kept, and words that
// name it and no secret.
func TestLastKnownWhoseRedisIsAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l := inRedis(t, SharedPlace{RedisURL: server.URL(), RedisPassword: "s3cret", RedisTimeout: 50 * time.Millisecond}, "http://a", secret)
	t.Cleanup(server.Freeze())
	for range 50 {
		err := l.Keep(t.Context(), testServer, "", "u", []Evaluation{answered("f", 5, on)})
		if err == nil || !strings.HasPrefix(err.Error(), l.Place()+":") || strings.Contains(err.Error(), "s3cret") {
			t.Fatalf("Keep: %v; want one that begins with %s, and no secret", err, l.Place())
		}
	}
	if known, err := l.Read(); known != nil || err == nil {
		t.Errorf("got %v, %v", known, err)
	}
	if !strings.Contains(l.Advice(), "Redis") || !strings.HasPrefix(l.Place(), "the last known answers in the Redis at ") {
		t.Errorf("the place is %s, the advice %s", l.Place(), l.Advice())
	}
	if _, err := NewLastKnownIn(SharedPlace{RedisURL: "http://:s3cret@a"}, "http://a", secret); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

// Others always come before: they have kept theirs, which is no trouble to tell of.
func TestLastKnownThatOthersKept(t *testing.T) {
	t.Parallel()
	place := SharedPlace{RedisURL: redistest.URL(t), RedisPrefix: "bunting-test-" + rand.Text(), RedisTimeout: 10 * time.Second}
	slow, quick := inRedis(t, place, "http://a", secret), inRedis(t, place, "http://a", secret)
	tries := int64(0)
	err := slow.place.change(t.Context(), func([]byte, error) ([]byte, error) {
		tries++
		return []byte("slow"), quick.Keep(t.Context(), testServer, "", "u", []Evaluation{answered("f", tries, on)})
	})
	if err != nil || tries < 2 {
		t.Errorf("after %d tries: %v; want no error", tries, err)
	}
	if e, ok := reads(t, slow).Answer("f", "u"); !ok || e.Revision.Number != tries {
		t.Errorf("there is %+v, %t; want what others kept last", e, ok)
	}
	keeps(t, slow, testServer, "", "u", answered("g", 5, on)) // and the next is tried
	if _, ok := reads(t, quick).Answer("g", "u"); !ok {
		t.Error("what came next was not kept")
	}
}
