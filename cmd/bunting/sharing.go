package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/telemetry"
)

// leastRedisTimeout is the shortest deadline of a call to Redis: a busy machine may
// take as long for a healthy answer.
const leastRedisTimeout = 100 * time.Millisecond

// shareDefinitions gives how a proxy shares the definitions of its upstream with
// others; nil: it does not.
func shareDefinitions(all *configuration.Settings, tells *telemetry.Telemetry) (*evaluator.Sharing, error) {
	settings := all.DefinitionCache
	if !settings.IsSet() {
		return nil, nil //nolint:nilnil // That nothing is shared is an answer.
	}
	place := client.SharedPlace{RedisURL: settings.Redis.URL(), RedisPrefix: settings.RedisPrefix, Directory: settings.Directory}
	for _, file := range []struct {
		setting, path, holds string
		into                 *string
	}{
		{"redis_password_file", settings.RedisPasswordFile, "the password", &place.RedisPassword},
		{"redis_ca_file", settings.RedisCAFile, "the certificates of whom to trust for the Redis", &place.RedisCA},
	} {
		if file.path == "" {
			continue
		}
		content, err := os.ReadFile(file.path)
		if content = bytes.TrimSpace(content); err == nil && len(content) == 0 {
			err = errors.New("it is empty")
		}
		*file.into = string(content)
		if err == nil {
			err = place.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("%s is %q, which cannot be used: %w. Name a file with %s", all.Subject("definition_cache."+file.setting), file.path, err, file.holds)
		}
	}
	return &evaluator.Sharing{
		KillTTL: settings.KillTTL,
		Observe: tells.DefinitionCache(settings.KillTTL),
		Open: func(key definitioncache.Key, timing definitioncache.Timing) (definitioncache.Cache, error) {
			place := place
			place.RedisTimeout = max(timing.Poll/2, leastRedisTimeout)
			cache, err := place.Open(key, timing)
			if err != nil {
				return nil, fmt.Errorf("definition_cache: %w", err)
			}
			return cache, nil
		},
	}, nil
}
