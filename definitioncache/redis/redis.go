// Package redis shares definitions through a Redis, version 6 or newer, or what
// speaks like it.
package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// Cache is the [definitioncache.Cache] in a Redis.
type Cache struct {
	*connection

	key    definitioncache.Key
	timing definitioncache.Timing
	owner  string
	keys   []string // of the lock, the claim and the copy: of one hash slot

	damageMu sync.Mutex // guards damage
	damage   string     // fence and mark of the copy that was found unusable
}

// New gives a part in what is shared. It connects with the first call: a Redis
// that is away keeps nobody from starting.
func New(options Options, key definitioncache.Key, timing definitioncache.Timing) (*Cache, error) {
	if err := errors.Join(key.Validate(), timing.Validate()); err != nil {
		return nil, err
	}
	connection, err := connect(options, "the shared definitions")
	if err != nil {
		return nil, err
	}
	slot := fmt.Sprintf("%s:1:{%s:%s:%d:%s}:", connection.prefix, url.QueryEscape(key.Environment), url.QueryEscape(key.Scope), key.Schema, url.QueryEscape(key.Store))
	return &Cache{
		connection: connection, key: key, timing: timing, owner: rand.Text(),
		keys: []string{slot + "lock", slot + "claim", slot + "copy"},
	}, nil
}

// ShouldFetch is a [definitioncache.Cache]'s.
func (c *Cache) ShouldFetch(ctx context.Context, need definitioncache.Need) (definitioncache.Turn, error) {
	want := "0"
	if need == definitioncache.NoCopy {
		want = "1"
	}
	answer, err := c.run(ctx, turnScript, c.timeout, c.keys, c.owner, milliseconds(c.timing.Lock), milliseconds(c.timing.Fetch), want)
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
	answer, err := c.run(ctx, readScript, valueTimeouts*c.timeout, c.keys, fence(known), milliseconds(c.timing.Copy), definitioncache.MaxStored)
	if err != nil {
		return nil, err
	}
	words, _ := answer.([]any)
	age := time.Duration(max(0, number(words, 1))) * time.Millisecond
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
	answer, err := c.run(ctx, receiveScript, timeout, c.keys, arguments...)
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
	err := c.end(ctx, func(ctx context.Context) error {
		return releaseScript.Run(ctx, c.client, c.keys, c.owner).Err()
	})
	if err != nil {
		return c.say(fmt.Errorf("the lock was not released, and runs out by itself: %w", err))
	}
	return nil
}

// unusable keeps what was found, so that the next to publish may write over it.
func (c *Cache) unusable(damage string, err error) error {
	c.damageMu.Lock()
	c.damage = damage
	c.damageMu.Unlock()
	return c.say(err)
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
