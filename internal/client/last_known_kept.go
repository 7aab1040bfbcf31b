package client

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// LastKnown keeps Known in a file or in a Redis, for processes that come when the
// server is down (DESIGN §6.7). There is one for each endpoint and token, so what one
// token was told is no other's; the token is only in a hash that also proves that
// what is there was written with it. It may be used by many goroutines and processes
// at once, and is closed when it is not needed any more.
type LastKnown struct {
	place   lastKnownPlace
	key     []byte // of the checksum
	keeping coalescer[*Known, struct{}]

	mu      sync.Mutex
	written *Known // what is kept, as long as its head is the one below
	head    []byte
}

// lastKnownPlace is where the bytes lie. Its errors name it.
type lastKnownPlace interface {
	// read gives the bytes; nil where there are none.
	read() ([]byte, error)
	// change puts what do makes of the bytes in their place, of which damage says why
	// they cannot be read; nobody changes them meanwhile. The same bytes are not written.
	change(ctx context.Context, do func(old []byte, damage error) ([]byte, error)) error
	// String names it, and advice says what to do when it cannot be used, to go on
	// with the setting that names another.
	String() string
	advice() string
	// close gives back what reading and changing has opened.
	close()
}

const (
	lastKnownHead = "bunting last known 1 " // and the checksum, in hex
	lastKnownMost = 4 * mostSeenBytes
)

// NewLastKnown gives the file of the endpoint and token in the directory. It is
// not read or made yet.
func NewLastKnown(directory, endpoint, token string) *LastKnown {
	key, name := lastKnownKey(endpoint, token)
	return newLastKnown(&lastKnownFile{path: filepath.Join(directory, "evaluations", name)}, key)
}

// NewLastKnownIn gives what the endpoint and token have in a place that is shared by
// many runners: in its folder, or in its Redis. It is not asked yet. The error is of
// the place's settings.
func NewLastKnownIn(place SharedPlace, endpoint, token string) (*LastKnown, error) {
	if place.RedisURL == "" {
		return NewLastKnown(place.Directory, endpoint, token), nil
	}
	key, name := lastKnownKey(endpoint, token)
	inRedis, err := newLastKnownRedis(place, name)
	if err != nil {
		return nil, err
	}
	return newLastKnown(inRedis, key), nil
}

// lastKnownKey gives the key of the checksum, and a name that tells nothing of it.
func lastKnownKey(endpoint, token string) (key []byte, name string) {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("bunting last known of " + endpoint))
	key = mac.Sum(nil)
	sum := sha256.Sum256(append([]byte("name of "), key...))
	return key, hex.EncodeToString(sum[:16])
}

func newLastKnown(place lastKnownPlace, key []byte) *LastKnown {
	l := &LastKnown{place: place, key: key}
	l.keeping = coalescer[*Known, struct{}]{send: l.write, weigh: func(*Known) int { return 1 }, most: mostRefs, keep: true}
	return l
}

// Place names the file or the Redis, for messages.
func (l *LastKnown) Place() string { return l.place.String() }

// Advice says what to do when the place cannot be used: "Remove it, make its folder
// writable, or name another", to go on with the setting that does.
func (l *LastKnown) Advice() string { return l.place.advice() }

// Close gives back what it has opened. Nothing is read or kept after it.
func (l *LastKnown) Close() { l.place.close() }

// Read gives what was last known; nil where nothing was kept. The error names the
// place and says what is wrong with it.
func (l *LastKnown) Read() (*Known, error) {
	text, err := l.place.read()
	if err != nil {
		return nil, err
	}
	return l.parse(text)
}

// parse gives what the bytes tell; nil where there are none.
func (l *LastKnown) parse(text []byte) (*Known, error) {
	head, body, _ := bytes.Cut(text, []byte("\n"))
	sum, ours := bytes.CutPrefix(head, []byte(lastKnownHead))
	switch {
	case text == nil:
		return nil, nil //nolint:nilnil // That there is none is an answer.
	case len(text) > lastKnownMost:
		return nil, fmt.Errorf("%s has more than %d MB, which is not how it is written", l.place, lastKnownMost>>20)
	case !ours:
		return nil, fmt.Errorf("%s is not one that this version has written", l.place)
	case !hmac.Equal(sum, l.checksum(body)):
		return nil, fmt.Errorf("%s is damaged, or was written with another token: its checksum is wrong", l.place)
	}
	var kept keptKnown
	err := json.Unmarshal(body, &kept)
	if err == nil {
		var known *Known
		if known, err = kept.known(); err == nil {
			return known, nil
		}
	}
	return nil, fmt.Errorf("%s cannot be read: %w", l.place, err)
}

func (l *LastKnown) checksum(body []byte) []byte {
	mac := hmac.New(sha256.New, l.key)
	mac.Write(body)
	return []byte(hex.EncodeToString(mac.Sum(nil)))
}

// Keep adds fresh answers of one server to what is known; choice names the list
// whose flags they are, "" for none. It returns when they are there. What
// waits at the same time is written together. The error names the
// place and says what is wrong with it.
func (l *LastKnown) Keep(ctx context.Context, server Server, choice, entity string, answers []Evaluation) error {
	now := time.Now()
	news := newKnown(server.Environment, server.Revision.StoreID)
	if len(answers) > 0 {
		news.StoreID = answers[0].Revision.StoreID
	}
	news.readable = readableOf(server)
	list := seenList{at: now, revision: server.Revision.Number}
	for i, e := range answers {
		if i == 0 || e.Revision.Number < list.revision {
			list.revision = e.Revision.Number
		}
		news.take(Seen{Evaluation: e, Entity: entity, At: now})
		list.keys = append(list.keys, e.Key)
	}
	if choice != "" {
		news.lists[choice] = list
	}
	_, err := l.keeping.ask(ctx, news)
	return err
}

// write merges what was seen into what is kept. Not within the caller's time: a
// cancelled plan has seen what it has seen.
func (l *LastKnown) write(ctx context.Context, seen []*Known) ([]struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var known *Known
	var head []byte
	var damage error
	err := l.place.change(context.WithoutCancel(ctx), func(old []byte, unread error) ([]byte, error) {
		if known, damage = nil, unread; damage == nil {
			known, damage = l.present(old)
		}
		if damage == nil && !slices.ContainsFunc(seen, known.lacks) {
			head = old[:bytes.IndexByte(old, '\n')+1]
			return old, nil
		}
		l.written = nil // nothing is certain until it is done
		for _, news := range seen {
			known = known.merge(news)
		}
		body, err := json.Marshal(keptOf(known))
		if err != nil {
			return nil, err
		}
		head = fmt.Appendf(nil, "%s%s\n", lastKnownHead, l.checksum(body))
		return append(bytes.Clone(head), body...), nil
	})
	if err != nil {
		return nil, err
	}
	l.written, l.head = known, head
	if damage != nil {
		return nil, fmt.Errorf("%w. It was written anew", damage)
	}
	return make([]struct{}, len(seen)), nil
}

// present is parse, and spares it where this process was the last to write: many data
// sources, one after the other, each add a little. l.mu is held.
func (l *LastKnown) present(text []byte) (*Known, error) {
	if l.written != nil && bytes.HasPrefix(text, l.head) {
		return l.written, nil
	}
	return l.parse(text)
}

// keptKnown is Known as it is kept. Names of fields may be added; a
// meaning that changes gets another head.
type keptKnown struct {
	Environment string       `json:"environment"`
	StoreID     string       `json:"store_id"`
	Answers     []keptAnswer `json:"answers"`
	Lists       []keptList   `json:"lists"`
	// Definitions says which of the shared definitions the token may read; none: nothing.
	Definitions *keptReadable `json:"definitions,omitempty"`
}

type keptReadable struct {
	Prefix   flag.Key `json:"prefix,omitempty"`
	Compiled int64    `json:"compiled_flags,omitempty"`
}

type keptAnswer struct {
	Flag     flag.Key    `json:"flag"`
	Entity   string      `json:"entity,omitempty"`
	Type     string      `json:"type,omitempty"`
	Value    string      `json:"value,omitempty"` // as JSON text: the exact number
	Variant  string      `json:"variant,omitempty"`
	Source   flag.Source `json:"source"`
	Error    string      `json:"error,omitempty"`
	Revision int64       `json:"revision"`
	Seen     time.Time   `json:"seen"`
}

type keptList struct {
	Choice string     `json:"choice"`
	Flags  []flag.Key `json:"flags"`
	Seen   time.Time  `json:"seen"`
	// Revision is no later than the one that the list is of; 0: it was not kept.
	Revision int64 `json:"revision,omitempty"`
}

func keptOf(known *Known) keptKnown {
	kept := keptKnown{Environment: known.Environment, StoreID: known.StoreID}
	if r := known.readable; r != nil {
		kept.Definitions = &keptReadable{Prefix: r.prefix, Compiled: r.compiled}
	}
	answers, lists := known.newest()
	for _, s := range answers {
		a := keptAnswer{Flag: s.Key, Entity: s.Entity, Variant: s.Variant, Source: s.Source, Error: s.ErrorCode, Revision: s.Revision.Number, Seen: s.At.UTC()}
		if !s.Value.IsZero() {
			a.Type, a.Value = s.Type.String(), s.Value.JSON()
		}
		kept.Answers = append(kept.Answers, a)
	}
	for _, choice := range lists {
		list := known.lists[choice]
		kept.Lists = append(kept.Lists, keptList{Choice: choice, Flags: list.keys, Seen: list.at.UTC(), Revision: list.revision})
	}
	return kept
}

func (k keptKnown) known() (*Known, error) {
	known := newKnown(k.Environment, k.StoreID)
	if d := k.Definitions; d != nil {
		known.readable = &readable{prefix: d.Prefix, compiled: d.Compiled}
	}
	for _, a := range k.Answers {
		s := Seen{Entity: a.Entity, At: a.Seen, Evaluation: Evaluation{
			Answer:   flag.Answer{Key: a.Flag, Variant: a.Variant, Source: a.Source, ErrorCode: a.Error},
			Revision: flag.Revision{StoreID: k.StoreID, Number: a.Revision},
		}}
		if a.Value != "" {
			var err error
			if s.Type, err = flag.ParseType(a.Type); err == nil {
				s.Value, err = flag.ParseValue(s.Type, a.Value)
			}
			if err != nil {
				return nil, fmt.Errorf("it has a value of the flag %q that cannot be read: %w", a.Flag, err)
			}
		}
		known.take(s)
	}
	for _, list := range k.Lists {
		known.lists[list.Choice] = seenList{keys: list.Flags, at: list.Seen, revision: list.Revision}
	}
	return known, nil
}
