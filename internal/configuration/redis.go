package configuration

import (
	"fmt"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// Redis is the URL of a Redis. Printed, it shows no password.
type Redis struct{ url string }

// URL gives the URL with its password: for the connection alone, not for logs.
func (r Redis) URL() string { return r.url }

// IsSet reports whether there is one.
func (r Redis) IsSet() bool { return r.url != "" }

// String gives the URL without its password.
func (r Redis) String() string { return redacted(r.url) }

// GoString keeps the password out of %#v.
func (r Redis) GoString() string { return r.String() }

// MarshalText keeps the password out of JSON.
func (r Redis) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Redis) hasPassword() bool { return redacted(r.url) != r.url }

func (r Redis) hasTLS() bool { return strings.HasPrefix(r.url, "rediss://") }

// redis is the URL of a Redis, or empty.
var redis = kind[Redis]{"redis", yamlfile.String, func(text string) (Redis, error) {
	if text == "" {
		return Redis{}, nil
	}
	return Redis{text}, usable(client.SharedPlace{RedisURL: text})
}, redacted}

// usable asks those whose rules these are.
func usable(place client.SharedPlace) error {
	if err := place.Validate(); err != nil {
		return fmt.Errorf("which cannot be used: %w", err)
	}
	return nil
}

// keyPrefix begins the keys in a Redis.
var keyPrefix = text("name", func(text string) error {
	if text == "" {
		return errEmpty
	}
	return usable(client.SharedPlace{RedisURL: "redis://localhost", RedisPrefix: text})
})
