package redis

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// MaxValue is the most bytes that a [Value] may have: 32 MB.
const MaxValue = 32 << 20

// errForeign says that something else stands where a value is to be.
var errForeign = errors.New("it was not written by this program or its like")

// ErrOthers is what a change ends with that others always came before.
var ErrOthers = errors.New("others changed it meanwhile, again and again")

// For how long a change is tried that others come before (Value.Patience), and how long to
// rest after the first time, twice as long each time. Each failure is another's success.
const (
	changePatience = time.Second
	changeRest     = 5 * time.Millisecond
	longestWait    = 250 * time.Millisecond
)

// smallTimeouts is how many times as long a call of a Value may take as one without
// bytes: they are few, and nobody waits long for them.
const smallTimeouts = 2

const maxValueName = 1000 // bytes

// Value are bytes that many processes read and change, one after the other, so that
// nobody's change is lost. It may be used from many goroutines at once.
type Value struct {
	*connection

	// Patience is for how long a change is tried that others come before: about a second
	// at first. It may be set until the first Change.
	Patience time.Duration

	key  string
	life time.Duration

	changing sync.Mutex // one change of this process at a time

	mu   sync.Mutex // guards what follows
	mark string     // of the bytes that were seen last; "": none
	seen []byte
}

// NewValue gives the value of a name, which lasts for a life after its last change.
// What it is, like "the last answers", is for messages. It connects with the first
// call.
func NewValue(options Options, what, name string, life time.Duration) (*Value, error) {
	if name == "" || len(name) > maxValueName || life < time.Second {
		return nil, fmt.Errorf("a value in Redis needs a name of 1 to %d bytes and a life of at least a second; found %d bytes and %s", maxValueName, len(name), life)
	}
	connection, err := connect(options, what)
	if err != nil {
		return nil, err
	}
	return &Value{connection: connection, Patience: changePatience, key: connection.prefix + ":1:value:" + url.QueryEscape(name), life: life}, nil
}

// Place names where it is, for messages.
func (v *Value) Place() string { return v.what + " in the Redis at " + v.where }

// Read gives the bytes; nil when there are none, or their life is over. What a Value
// did not write is an error.
func (v *Value) Read(ctx context.Context) ([]byte, error) {
	_, found, err := v.read(ctx)
	return bytes.Clone(found), err
}

// Change puts the bytes that do makes of those that are there in their place, unless
// somebody else was quicker: then do is asked again, and after a Patience of that the
// answer is [ErrOthers]. There may be none, nil, also in place of what a Value did not
// write, which is written over. The same bytes are not written. An error of do is the
// answer, and nothing is changed.
func (v *Value) Change(ctx context.Context, do func(old []byte) ([]byte, error)) error {
	v.changing.Lock()
	defer v.changing.Unlock()
	rest, until := changeRest, time.Now().Add(v.Patience)
	for {
		mark, old, err := v.read(ctx)
		if err != nil && !errors.Is(err, errForeign) {
			return err
		}
		made, err := do(bytes.Clone(old))
		if err != nil || old != nil && made != nil && bytes.Equal(made, old) {
			return err
		}
		if changed, err := v.replace(ctx, mark, made); changed || err != nil {
			return err
		}
		if !time.Now().Before(until) {
			return v.say(fmt.Errorf("%w. Try again", ErrOthers))
		}
		timer := time.NewTimer(mathrand.N(rest)) //nolint:gosec // Nobody gains by guessing it.
		select {
		case <-ctx.Done():
			timer.Stop()
			return v.say(ctx.Err())
		case <-timer.C:
		}
		rest = min(2*rest, longestWait)
	}
}

// Close ends this process's part. Twice is once.
func (v *Value) Close() error {
	return v.end(context.Background(), func(context.Context) error { return nil })
}

// read gives the bytes and their mark; of bytes that cannot be used there is a mark
// and an error.
func (v *Value) read(ctx context.Context) (mark string, found []byte, err error) {
	v.mu.Lock()
	mark, found = v.mark, v.seen
	v.mu.Unlock()
	answer, err := v.run(ctx, valueScript, smallTimeouts*v.timeout, []string{v.key}, mark, MaxValue)
	if err != nil {
		return "", nil, err
	}
	words, _ := answer.([]any)
	switch text(words, 0) {
	case "KNOWN":
		return mark, found, nil
	case "VALUE":
		mark, found = text(words, 1), []byte(text(words, 2))
		v.keep(mark, found)
		return mark, found, nil
	case "NONE":
		return "", nil, nil
	case "FOREIGN":
		return "", nil, v.say(fmt.Errorf("the key %s: %w", v.key, errForeign))
	case "LARGE":
		return text(words, 1), nil, v.say(fmt.Errorf("the key %s: %w: it has more than the %d bytes that are read", v.key, errForeign, MaxValue))
	}
	return "", nil, v.unknown(answer)
}

// replace writes the bytes where those of the mark are still there.
func (v *Value) replace(ctx context.Context, mark string, made []byte) (changed bool, err error) {
	if len(made) > MaxValue {
		return false, v.say(fmt.Errorf("%w: it would have %d bytes, at most %d are kept", definitioncache.ErrTooLarge, len(made), MaxValue))
	}
	next := rand.Text()
	answer, err := v.run(ctx, valueScript, smallTimeouts*v.timeout, []string{v.key}, mark, MaxValue, next, made, milliseconds(v.life))
	if err != nil {
		return false, err
	}
	words, _ := answer.([]any)
	if text(words, 0) == "OK" || text(words, 1) == next { // or the first answer was lost on the way
		v.keep(next, append([]byte{}, made...)) // none is a value as well
		return true, nil
	}
	return false, nil
}

func (v *Value) keep(mark string, seen []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mark, v.seen = mark, seen
}
