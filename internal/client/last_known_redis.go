package client

import (
	"context"
	"errors"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
)

const (
	// lastKnownLife is how long answers are kept in a Redis after the last was added: a
	// pipeline that runs once a month finds its own, and what nobody asks about any more
	// goes by itself.
	lastKnownLife = 32 * 24 * time.Hour
	// lastKnownRest is for how long a Redis that failed is not waited for again when
	// answers are added.
	lastKnownRest = time.Minute
)

// lastKnownRedis is a place in a Redis.
type lastKnownRedis struct {
	value *redis.Value

	failed error // of the last change; of change alone
	until  time.Time
}

func newLastKnownRedis(place SharedPlace, name string) (*lastKnownRedis, error) {
	options, err := place.redis()
	if err != nil {
		return nil, err
	}
	value, err := redis.NewValue(options, "the last known answers", "evaluations:"+name, lastKnownLife)
	if err != nil {
		return nil, err
	}
	return &lastKnownRedis{value: value}, nil
}

func (r *lastKnownRedis) String() string { return r.value.Place() }

func (*lastKnownRedis) advice() string {
	return "See to it that the Redis can be reached and its user may use what is there, or name another"
}

func (r *lastKnownRedis) close() { _ = r.value.Close() } // there is nothing to lose

func (r *lastKnownRedis) read() ([]byte, error) { return r.value.Read(context.Background()) }

func (r *lastKnownRedis) change(ctx context.Context, do func(old []byte, damage error) ([]byte, error)) error {
	if r.failed != nil && time.Now().Before(r.until) {
		return r.failed
	}
	r.failed = r.value.Change(ctx, func(old []byte) ([]byte, error) { return do(old, nil) })
	if errors.Is(r.failed, redis.ErrOthers) {
		r.failed = nil // somebody else's is kept: it is no trouble, and what comes next is tried
	}
	r.until = time.Now().Add(lastKnownRest)
	return r.failed
}
