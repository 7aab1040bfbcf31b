package redis_test

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
)

// A process takes its part until it is interrupted, and hears at once of what others
// publish.
func Example() { //nolint:testableexamples // It would need a Redis of that name.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	key := definitioncache.Key{Environment: "production", Scope: "read"}
	timing := definitioncache.Every(5 * time.Second)
	cache, err := redis.New(redis.Options{URL: "rediss://flags@redis.example.com:6379", Password: os.Getenv("REDIS_PASSWORD")}, key, timing)
	if err != nil {
		slog.Error("share definitions", "error", err)
		return
	}
	cycle, err := definitioncache.New(definitioncache.Options{
		Cache: cache, Timing: timing, Wake: cache.Changes(ctx), Log: slog.Default(),
		Fetch: func(context.Context, definitioncache.Revision) (definitioncache.Received, error) {
			// The server is asked here.
			header := definitioncache.Header{Key: key, Revision: definitioncache.Revision{Store: "3f1c", Number: 7}}
			return definitioncache.Received{Header: header, Body: []byte("dark-mode=on")}, nil
		},
		Apply: func(_ context.Context, definitions definitioncache.Copy) error {
			slog.Info("serve", "definitions", len(definitions.Body))
			return nil
		},
	})
	if err != nil {
		slog.Error("share definitions", "error", err)
		return
	}
	if err := cycle.Run(ctx); err != nil {
		slog.Warn("leave those who share definitions", "error", err)
	}
}
