package client

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/redis"
)

// SharedPlace says where processes share definitions: in a Redis or in a folder.
// The zero SharedPlace is none.
type SharedPlace struct {
	// RedisURL, RedisPassword and RedisPrefix are as in redis.Options; none with a
	// Directory.
	RedisURL, RedisPassword, RedisPrefix string
	// RedisCA is the certificates in PEM form of whom to trust for rediss://; "": the
	// system's authorities.
	RedisCA string
	// RedisTimeout is the deadline of a call to Redis; 0: half a second. Twice as long, and
	// what their size adds, an operation waits for definitions, in a folder too.
	RedisTimeout time.Duration
	// Directory is a folder that the processes share.
	Directory string
}

// String names the place, for messages: "the Redis at redis.example.com:6379". It
// has no secret.
func (p SharedPlace) String() string {
	if p.RedisURL == "" {
		return "the folder " + p.Directory
	}
	u, err := url.Parse(p.RedisURL)
	if err != nil {
		return "the Redis"
	}
	return "the Redis at " + cmp.Or(u.Host, u.Path)
}

// Validate says what is wrong with the settings of a Redis, and asks it nothing. The
// error has no secret.
func (p SharedPlace) Validate() error {
	if p.RedisURL == "" {
		return nil
	}
	options, err := p.redis()
	if err != nil {
		return err
	}
	return options.Validate()
}

// Open gives this process's part in what is shared there. It connects nowhere yet.
// The error names what is wrong with the place, and no secret.
func (p SharedPlace) Open(key definitioncache.Key, timing definitioncache.Timing) (definitioncache.Cache, error) {
	switch {
	case p.Directory != "" && p.RedisURL != "":
		return nil, errors.New("definitions are shared in a Redis or in a folder, and both are set. Remove one of them")
	case p.Directory != "":
		return definitioncache.NewFile(p.Directory, key, timing)
	case p.RedisURL == "":
		return nil, errors.New("there is neither a Redis nor a folder to share definitions in. Set one of them")
	}
	options, err := p.redis()
	if err != nil {
		return nil, err
	}
	return redis.New(options, key, timing)
}

// timeout is how long a call to the Redis may take that carries no definitions.
func (p SharedPlace) timeout() time.Duration { return cmp.Or(p.RedisTimeout, sharedCall) }

// redis gives the settings of the Redis.
func (p SharedPlace) redis() (redis.Options, error) {
	options := redis.Options{URL: p.RedisURL, Password: p.RedisPassword, Prefix: p.RedisPrefix, Timeout: p.timeout()}
	if p.RedisCA != "" {
		trusted := x509.NewCertPool()
		if !trusted.AppendCertsFromPEM([]byte(p.RedisCA)) {
			return redis.Options{}, errors.New("the certificates of whom to trust for the Redis cannot be read. They are in PEM form, and begin with -----BEGIN CERTIFICATE-----")
		}
		options.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}
	return options, nil
}
