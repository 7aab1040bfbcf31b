package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

const (
	defaultPrefix  = "bunting"
	defaultTimeout = time.Second

	// valueTimeouts is how many times as long a call may take that carries the
	// definitions' bytes.
	valueTimeouts = 10

	// maxPrefix is the most bytes of a prefix.
	maxPrefix = 100

	// connections is how many one process needs: its cycle has one call under way.
	connections = 4
)

// quiet keeps the library from writing a line to the standard error output for each
// dial that fails, beside the error that it returns.
var quiet = sync.OnceFunc(logging.Disable)

// Options say where the Redis is.
type Options struct {
	// URL is redis://, rediss:// (TLS) or unix://, with user, password and database:
	// rediss://user:password@host:6379/0. The user needs the commands eval, evalsha,
	// get, set, del, pttl, exists, time, hmget, hget, hset, hstrlen and pexpire on the
	// keys below the prefix; and, to hear of changes at once and not with the next poll,
	// publish and subscribe on the channels below it, and ping: "resetchannels
	// &bunting:* +publish +subscribe +ping".
	URL string
	// Username and Password go before those of the URL, where they are given.
	Username, Password string
	// TLS goes before what rediss:// means by itself; with redis:// it is refused.
	TLS *tls.Config
	// Prefix begins all keys, without braces and at most 100 bytes long; "bunting" when
	// empty.
	Prefix string
	// Timeout is the deadline of a call, ten times that of one that carries the
	// definitions; 1 s when 0.
	Timeout time.Duration
}

// connection is what one part in what is shared has to its Redis.
type connection struct {
	what    string // is shared there, for messages
	where   string
	prefix  string // of all keys
	timeout time.Duration
	client  *goredis.Client

	mu     sync.RWMutex // guards what follows; whoever calls Redis reads, so end waits for it
	ended  bool
	ending []context.CancelFunc // of what listens
}

// connect connects with the first call: a Redis that is away keeps nobody from
// starting.
func connect(options Options, what string) (*connection, error) {
	settings, err := settingsOf(options)
	if err != nil {
		return nil, err
	}
	quiet()
	return &connection{
		what: what, where: settings.Addr, prefix: cmp.Or(options.Prefix, defaultPrefix), timeout: cmp.Or(options.Timeout, defaultTimeout), client: goredis.NewClient(settings),
	}, nil
}

// Validate says what is wrong with the options, and connects nowhere. The error shows
// nothing of the URL, of which any part may be one of a password.
func (o Options) Validate() error {
	_, err := settingsOf(o)
	return err
}

// validatePrefix says what keeps a prefix from beginning keys.
func validatePrefix(prefix string) error {
	switch {
	case strings.ContainsAny(prefix, "{}"):
		return fmt.Errorf("the prefix of Redis' keys cannot have braces, which choose a cluster's slot; found %q", prefix)
	case len(prefix) > maxPrefix:
		return fmt.Errorf("the prefix of Redis' keys has at most %d bytes; found %d", maxPrefix, len(prefix))
	case strings.TrimSpace(prefix) != prefix || !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl):
		return fmt.Errorf("the prefix of Redis' keys cannot begin or end with a space, nor have control characters; found %q", prefix)
	}
	return nil
}

// validateURL says what is wrong with a URL that goredis would not mind, or would tell
// with the URL. What is not escaped in a password ends it: an "@" behind the host is
// that of a password, the start of which stands where the host should.
func validateURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || strings.Contains(text, "#") || u.User == nil && strings.Contains(text, "@") || strings.Contains(u.EscapedPath()+u.RawQuery, "@") {
		return errors.New("the URL of the Redis cannot be read. Write rediss://USER:PASSWORD@HOST:6379/0, and characters of the password that are not letters or digits as %XX")
	}
	overTCP := u.Scheme == "redis" || u.Scheme == "rediss"
	if (!overTCP || u.Hostname() == "") && (u.Scheme != "unix" || u.Host != "" || u.Path == "") {
		return errors.New("the URL is of no Redis. Write redis://HOST:6379, with TLS rediss://HOST:6379, or unix:///PATH")
	}
	if port, err := strconv.Atoi(u.Port()); u.Port() != "" && (err != nil || port < 1 || port > 65535) {
		return errors.New("the port of the Redis is a number from 1 to 65535, and its URL has another. Write redis://HOST:6379")
	}
	return nil
}

// settingsOf never shows the URL, which may hold a password.
func settingsOf(options Options) (*goredis.Options, error) {
	if options.Timeout < 0 {
		return nil, fmt.Errorf("the deadline of a call to Redis cannot be negative; found %s", options.Timeout)
	}
	if err := validateURL(options.URL); err != nil {
		return nil, err
	}
	settings, err := goredis.ParseURL(options.URL)
	if err != nil || settings.DB < 0 {
		return nil, errors.New("the URL of the Redis has a database or a parameter that is not known. The database is a number: redis://HOST:6379/0, or unix:///PATH?db=0")
	}
	if err := validatePrefix(options.Prefix); err != nil {
		return nil, err
	}
	if options.TLS != nil {
		if settings.TLSConfig == nil {
			return nil, errors.New("there are settings of TLS for the Redis, and its URL is not rediss://")
		}
		own := options.TLS.Clone()
		own.ServerName = cmp.Or(own.ServerName, settings.TLSConfig.ServerName)
		settings.TLSConfig = own
	}
	settings.Username = cmp.Or(options.Username, settings.Username)
	settings.Password = cmp.Or(options.Password, settings.Password)
	timeout := cmp.Or(options.Timeout, defaultTimeout)
	settings.ContextTimeoutEnabled = true
	settings.DialTimeout, settings.PoolTimeout = timeout, timeout
	settings.ReadTimeout, settings.WriteTimeout = valueTimeouts*timeout, valueTimeouts*timeout
	settings.DialerRetries, settings.MaxRetries = 1, 1 // once more, should an old connection be gone
	settings.PoolSize, settings.PipelinePoolSize = connections, -1
	// What a user of few rights may not, and nobody needs.
	settings.DisableIdentity = true
	settings.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return settings, nil
}

// run runs a script within the deadline.
func (c *connection) run(ctx context.Context, script *goredis.Script, timeout time.Duration, keys []string, arguments ...any) (any, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.ended {
		return nil, definitioncache.ErrShutdown
	}
	if deadline, ok := ctx.Deadline(); ok { // the caller's may be sooner
		timeout = min(timeout, time.Until(deadline).Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := script.Run(ctx, c.client, keys, arguments...).Result()
	if err != nil {
		return nil, c.say(inWords(err, timeout))
	}
	return answer, nil
}

// end waits for the calls under way, makes the last one, and closes the connection;
// twice is once.
func (c *connection) end(ctx context.Context, last func(ctx context.Context) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	for _, cancel := range c.ending {
		cancel()
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return cmp.Or(inWords(last(ctx), c.timeout), c.client.Close())
}

func (c *connection) unknown(answer any) error {
	return c.say(fmt.Errorf("it answered with a %T, which no script of ours gives. Is it a Redis?", answer))
}

func (c *connection) say(err error) error {
	return fmt.Errorf("%s in the Redis at %s: %w", c.what, c.where, err)
}

// inWords says what the errors of a call mean for us that had so long.
func inWords(err error, timeout time.Duration) error {
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return fmt.Errorf("it did not answer within %s", timeout)
	}
	if err == nil {
		return nil
	}
	said, _, _ := strings.Cut(err.Error(), " script: ") // and which one of ours, and where
	for _, known := range []struct{ part, words string }{
		{"READONLY", "it takes no writes: a replica, or a failover under way"},
		{"OOM ", "its memory is full. Give it more, or let it evict (maxmemory-policy)"},
		{"WRONGPASS", "it refuses user or password"},
		{"NOAUTH", "it asks for a password"},
		{"NOPERM", "the user may not run what is needed there; see its ACL"},
		{"MISCONF", "it cannot write to its disk, and takes no writes"},
		{"LOADING", "it is starting"},
	} {
		if strings.Contains(said, known.part) {
			return fmt.Errorf("%s: %s", known.words, strings.TrimSuffix(said, "."))
		}
	}
	return err
}
