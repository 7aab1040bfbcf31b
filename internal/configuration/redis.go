package configuration

import (
	"errors"
	"net/url"
	"strings"

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
	u, err := url.Parse(text) // whose error repeats the URL, with the password
	switch {
	case err != nil || u.User == nil && strings.Contains(text, "@"):
		return Redis{}, errors.New("a URL that cannot be read. Write rediss://USER:PASSWORD@HOST:6379, and characters of the password that are not letters or digits as %XX")
	case (u.Scheme == "redis" || u.Scheme == "rediss") && u.Host != "", u.Scheme == "unix" && u.Path != "":
		return Redis{text}, nil
	}
	return Redis{}, errors.New("which is no Redis. Write redis://HOST:6379, with TLS rediss://HOST:6379, or unix:///PATH")
}, redacted}

// keyPrefix begins the keys in a Redis.
var keyPrefix = text("name", func(text string) error {
	if _, err := name.parse(text); err != nil {
		return err
	}
	if strings.ContainsAny(text, "{}") {
		return errors.New("which has a brace in it: those choose a cluster's slot. Remove it")
	}
	return nil
})
