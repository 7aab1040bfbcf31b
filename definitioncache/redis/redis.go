// Package redis shares definitions through a Redis, version 6 or newer, or what
// speaks like it.
package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

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
	// get, set, del, pttl, exists, type, time, hmget, hget, hset, hstrlen and pexpire on the
	// keys below the prefix.
	URL string
	// Username and Password go before those of the URL, where they are given.
	Username, Password string
	// TLS goes before what rediss:// means by itself; with redis:// it is refused.
	TLS *tls.Config
	// Prefix begins all keys, without braces; "bunting" when empty.
	Prefix string
	// Timeout is the deadline of a call, ten times that of one that carries the
	// definitions; 1 s when 0.
	Timeout time.Duration
}

// Cache is the [definitioncache.Cache] in a Redis.
type Cache struct {
	key     definitioncache.Key
	timing  definitioncache.Timing
	timeout time.Duration
	client  *goredis.Client
	where   string // for messages
	owner   string
	keys    []string // of the lock, the claim and the copy: of one hash slot

	mu    sync.RWMutex // guards ended; whoever calls Redis reads, so Shutdown waits for it
	ended bool

	damageMu sync.Mutex // guards damage
	damage   string     // fence and mark of the copy that was found unusable
}

// New gives a part in what is shared. It connects with the first call: a Redis
// that is away keeps nobody from starting.
func New(options Options, key definitioncache.Key, timing definitioncache.Timing) (*Cache, error) {
	if err := errors.Join(key.Validate(), timing.Validate()); err != nil {
		return nil, err
	}
	connection, err := connectionOf(options)
	if err != nil {
		return nil, err
	}
	quiet()
	prefix := cmp.Or(options.Prefix, defaultPrefix)
	if strings.ContainsAny(prefix, "{}") {
		return nil, fmt.Errorf("the prefix of Redis' keys can not have braces, which choose a cluster's slot; found %q", prefix)
	}
	slot := fmt.Sprintf("%s:1:{%s:%s:%d:%s}:", prefix, url.QueryEscape(key.Environment), url.QueryEscape(key.Scope), key.Schema, url.QueryEscape(key.Store))
	return &Cache{
		key: key, timing: timing, timeout: cmp.Or(options.Timeout, defaultTimeout),
		client: goredis.NewClient(connection), where: connection.Addr, owner: rand.Text(),
		keys: []string{slot + "lock", slot + "claim", slot + "copy"},
	}, nil
}

// connectionOf never shows the URL, which may hold a password.
func connectionOf(options Options) (*goredis.Options, error) {
	if options.Timeout < 0 {
		return nil, fmt.Errorf("the deadline of a call to Redis can not be negative; found %s", options.Timeout)
	}
	connection, err := goredis.ParseURL(options.URL)
	if err != nil {
		return nil, errors.New("the URL of the Redis can not be read. It is redis://, rediss:// or unix://, with characters of the password that mean something in a URL escaped: rediss://user:password@host:6379/0")
	}
	if options.TLS != nil {
		if connection.TLSConfig == nil {
			return nil, errors.New("there are settings of TLS for the Redis, and its URL is not rediss://")
		}
		own := options.TLS.Clone()
		own.ServerName = cmp.Or(own.ServerName, connection.TLSConfig.ServerName)
		connection.TLSConfig = own
	}
	connection.Username = cmp.Or(options.Username, connection.Username)
	connection.Password = cmp.Or(options.Password, connection.Password)
	timeout := cmp.Or(options.Timeout, defaultTimeout)
	connection.ContextTimeoutEnabled = true
	connection.DialTimeout, connection.PoolTimeout = timeout, timeout
	connection.ReadTimeout, connection.WriteTimeout = valueTimeouts*timeout, valueTimeouts*timeout
	connection.DialerRetries, connection.MaxRetries = 1, 1 // once more, should an old connection be gone
	connection.PoolSize, connection.PipelinePoolSize = connections, -1
	// What a user of few rights may not, and nobody needs.
	connection.DisableIdentity = true
	connection.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return connection, nil
}

// ShouldFetch is a [definitioncache.Cache]'s.
func (c *Cache) ShouldFetch(ctx context.Context, need definitioncache.Need) (definitioncache.Turn, error) {
	want := "0"
	if need == definitioncache.NoCopy {
		want = "1"
	}
	answer, err := c.run(ctx, turnScript, c.timeout, c.owner, milliseconds(c.timing.Lock), milliseconds(c.timing.Fetch), want)
	if err != nil {
		return definitioncache.Follow, err
	}
	switch word, _ := answer.(string); word {
	case "LEAD":
		return definitioncache.Lead, nil
	case "ONCE":
		return definitioncache.Once, nil
	case "FOLLOW":
		return definitioncache.Follow, nil
	}
	return definitioncache.Follow, c.unknown(answer)
}

// Definitions is a [definitioncache.Cache]'s.
func (c *Cache) Definitions(ctx context.Context, known definitioncache.Revision) (*definitioncache.Copy, error) {
	answer, err := c.run(ctx, readScript, valueTimeouts*c.timeout, fence(known), milliseconds(c.timing.Copy), definitioncache.MaxStored)
	if err != nil {
		return nil, err
	}
	words, _ := answer.([]any)
	age := time.Duration(number(words, 1)) * time.Millisecond
	switch text(words, 0) {
	case "NONE":
		return nil, nil //nolint:nilnil // That there is none is an answer.
	case "KNOWN":
		return &definitioncache.Copy{Header: definitioncache.Header{Key: c.key, Revision: known}, Known: true, Age: age}, nil
	case "FOREIGN":
		return nil, c.unusable("", fmt.Errorf("%w: %s was not written by this program or its like", definitioncache.ErrUnusable, c.keys[2]))
	case "LARGE":
		return nil, c.unusable(text(words, 2)+text(words, 3), fmt.Errorf("%w: it has more than the %d bytes that are read", definitioncache.ErrUnusable, definitioncache.MaxStored))
	case "COPY":
		found, err := definitioncache.Decode([]byte(text(words, 4)), c.key)
		if err == nil && fence(found.Revision) != text(words, 2) {
			err = fmt.Errorf("%w: it has another revision than %.100q, as it says beside it", definitioncache.ErrUnusable, text(words, 2))
		}
		if err != nil {
			return nil, c.unusable(text(words, 2)+text(words, 3), err)
		}
		found.Age = age
		return found, nil
	}
	return nil, c.unknown(answer)
}

// DefinitionsReceived is a [definitioncache.Cache]'s.
func (c *Cache) DefinitionsReceived(ctx context.Context, received definitioncache.Received) error {
	if err := received.Validate(c.key); err != nil {
		return err
	}
	timeout, unchanged, mark := c.timeout, "1", ""
	var value []byte
	if !received.Unchanged {
		var err error
		if value, err = definitioncache.Encode(received); err != nil {
			return err
		}
		sum := sha256.Sum256(value)
		timeout, unchanged, mark = valueTimeouts*c.timeout, "0", hex.EncodeToString(sum[:])
	}
	c.damageMu.Lock()
	damage := c.damage
	c.damageMu.Unlock()
	arguments := []any{c.owner, milliseconds(c.timing.Lock), milliseconds(c.timing.Copy), fence(received.Revision), unchanged, damage, mark, value, fence(received.Overrules)}
	for _, store := range received.Supersedes {
		arguments = append(arguments, store)
	}
	answer, err := c.run(ctx, receiveScript, timeout, arguments...)
	if err != nil {
		return err
	}
	words, _ := answer.([]any)
	switch text(words, 0) {
	case "OK":
		return nil
	case "NOTLEADER":
		return c.say(definitioncache.ErrNotLeader)
	case "NOCOPY":
		return c.say(definitioncache.ErrNoCopy)
	case "OLDER":
		return c.say(fmt.Errorf("%w: it has the revision %.100q, what was received %.100q", definitioncache.ErrOlder, text(words, 1), fence(received.Revision)))
	}
	return c.unknown(answer)
}

// Shutdown is a [definitioncache.Cache]'s.
func (c *Cache) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := releaseScript.Run(ctx, c.client, c.keys, c.owner).Err()
	if err = errors.Join(err, c.client.Close()); err != nil {
		return c.say(fmt.Errorf("the lock was not released, and runs out by itself: %w", err))
	}
	return nil
}

// run runs a script within the deadline.
func (c *Cache) run(ctx context.Context, script *goredis.Script, timeout time.Duration, arguments ...any) (any, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.ended {
		return nil, definitioncache.ErrShutdown
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := script.Run(ctx, c.client, c.keys, arguments...).Result()
	if err != nil {
		return nil, c.say(inWords(err))
	}
	return answer, nil
}

// unusable keeps what was found, so that the next to publish may write over it.
func (c *Cache) unusable(damage string, err error) error {
	c.damageMu.Lock()
	c.damage = damage
	c.damageMu.Unlock()
	return c.say(err)
}

func (c *Cache) unknown(answer any) error {
	return c.say(fmt.Errorf("it answered with a %T, which no script of ours gives. Is it a Redis?", answer))
}

func (c *Cache) say(err error) error {
	return fmt.Errorf("the shared definitions in the Redis at %s: %w", c.where, err)
}

// inWords says what Redis' errors mean for us.
func inWords(err error) error {
	for _, known := range []struct{ part, words string }{
		{"READONLY", "it takes no writes: a replica, or a failover under way"},
		{"OOM ", "its memory is full. Give it more, or let it evict (maxmemory-policy)"},
		{"WRONGPASS", "it refuses user or password"},
		{"NOAUTH", "it asks for a password"},
		{"NOPERM", "the user may not run what is needed there; see its ACL"},
		{"MISCONF", "it can not write to its disk, and takes no writes"},
		{"LOADING", "it is starting"},
	} {
		if strings.Contains(err.Error(), known.part) {
			return fmt.Errorf("%s: %w", known.words, err)
		}
	}
	return err
}

// fence writes a revision so that the scripts can compare it; "" for none.
func fence(revision definitioncache.Revision) string {
	if revision == (definitioncache.Revision{}) {
		return ""
	}
	return fmt.Sprintf("%019d %s", revision.Number, revision.Store)
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

func text(words []any, i int) string {
	if i >= len(words) {
		return ""
	}
	word, _ := words[i].(string)
	return word
}

func number(words []any, i int) int64 {
	if i >= len(words) {
		return 0
	}
	n, _ := words[i].(int64)
	return n
}
