package client

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// LastKnown keeps Known in a file, for processes that come when the server is down
// (DESIGN §6.7). There is one for each endpoint and token, so what one token was
// told is no other's; the token is only in a hash that also proves that the file
// was written with it. It may be used by many goroutines and processes at once.
type LastKnown struct {
	path    string
	key     []byte // of the checksum
	keeping coalescer[*Known, struct{}]

	mu      sync.Mutex
	written *Known // what is in the file, as long as its head is the one below
	head    []byte
	busy    bool // another process had the lock for so long that nobody waits for it again
}

const (
	lastKnownHead = "bunting last known 1 " // and the checksum, in hex
	lastKnownMost = 4 * mostSeenBytes
	lockPatience  = 2 * time.Second
	lockLook      = 5 * time.Millisecond
)

// NewLastKnown gives the file of the endpoint and token in the directory. It is
// not read or made yet.
func NewLastKnown(directory, endpoint, token string) *LastKnown {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("bunting last known of " + endpoint))
	key := mac.Sum(nil)
	name := sha256.Sum256(append([]byte("name of "), key...))
	l := &LastKnown{path: filepath.Join(directory, "evaluations", hex.EncodeToString(name[:16])), key: key}
	l.keeping = coalescer[*Known, struct{}]{send: l.write, weigh: func(*Known) int { return 1 }, most: mostRefs, keep: true}
	return l
}

// Path names the file, for messages.
func (l *LastKnown) Path() string { return l.path }

// Read gives what was last known; nil where nothing was kept. The error says what
// is wrong with the file, to read on from its name.
func (l *LastKnown) Read() (*Known, error) {
	text, err := readBounded(l.path, lastKnownMost+1)
	if len(text) > lastKnownMost {
		return nil, fmt.Errorf("has more than %d MB, which is not how it is written", lastKnownMost>>20)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // That there is none is an answer.
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	head, body, _ := bytes.Cut(text, []byte("\n"))
	sum, ours := bytes.CutPrefix(head, []byte(lastKnownHead))
	switch {
	case !ours:
		return nil, errors.New("is not one that this version has written")
	case !hmac.Equal(sum, l.checksum(body)):
		return nil, errors.New("is damaged, or was written with another token: its checksum is wrong")
	}
	var file lastKnownFile
	if err := json.Unmarshal(body, &file); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return file.known()
}

// ownFolder makes a folder that nobody else can read or write, and sees to it that
// one which is there is such: else others could put a link in the file's place.
func ownFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	switch info, err := os.Lstat(path); {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", path)
	}
	return os.Chmod(path, 0o700) //nolint:gosec // A folder. Fails where it belongs to somebody else.
}

// readBounded reads the first bytes of a file. What is no file is not opened: it
// could keep the reader waiting for ever.
func readBounded(path string, most int64) ([]byte, error) {
	switch info, err := os.Lstat(path); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(path) //nolint:gosec // The user names the directory.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(f, most))
}

func (l *LastKnown) checksum(body []byte) []byte {
	mac := hmac.New(sha256.New, l.key)
	mac.Write(body)
	return []byte(hex.EncodeToString(mac.Sum(nil)))
}

// Keep adds fresh answers of one server to what is known; choice names the list
// whose flags they are, "" for none. It returns when they are on the disk. What
// waits at the same time is written together. The error says what is wrong with
// the file, to read on from its name.
func (l *LastKnown) Keep(ctx context.Context, server Server, choice, entity string, answers []Evaluation) error {
	now := time.Now()
	news := newKnown(server.Environment, server.Revision.StoreID)
	if len(answers) > 0 {
		news.StoreID = answers[0].Revision.StoreID
	}
	list := seenList{at: now}
	for _, e := range answers {
		news.take(Seen{Evaluation: e, Entity: entity, At: now})
		list.keys = append(list.keys, e.Key)
	}
	if choice != "" {
		news.lists[choice] = list
	}
	_, err := l.keeping.ask(ctx, news)
	return err
}

// write merges what was seen into the file: written aside, synced and renamed,
// so that whoever reads finds the file before or after it, and nothing between.
func (l *LastKnown) write(ctx context.Context, seen []*Known) ([]struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ownFolder(filepath.Dir(l.path)); err != nil {
		return nil, fmt.Errorf("cannot be written: %w", err)
	}
	// Not the caller's: a cancelled plan has seen what it has seen.
	patience := lockPatience
	if l.busy {
		patience = lockLook
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	lock := flock.New(l.path+".lock", flock.SetPermissions(0o600))
	_, err := lock.TryLockContext(ctx, lockLook)
	l.busy = errors.Is(err, context.DeadlineExceeded)
	switch {
	case l.busy:
		return nil, fmt.Errorf("was in use by another process for %s", lockPatience)
	case err != nil:
		return nil, fmt.Errorf("cannot be locked: %w", err)
	}
	defer func() { _ = lock.Close() }() // there is nothing to lose
	known, damage := l.present()
	for _, news := range seen {
		known = known.merge(news)
	}
	if err := l.replace(known); err != nil {
		return nil, fmt.Errorf("cannot be written: %w", err)
	}
	if damage != nil {
		return nil, fmt.Errorf("%w. It was written anew", damage)
	}
	return make([]struct{}, len(seen)), nil
}

// present is Read, and spares the reading where this process was the last to write:
// many data sources, one after the other, each add a little. l.mu is held.
func (l *LastKnown) present() (*Known, error) {
	if l.written != nil {
		head, err := readBounded(l.path, int64(len(l.head)))
		if err == nil && bytes.Equal(head, l.head) {
			return l.written, nil
		}
	}
	return l.Read()
}

// replace writes the file anew. l.mu is held.
func (l *LastKnown) replace(known *Known) (err error) {
	l.written = nil // nothing is certain until it is done
	body, err := json.Marshal(fileOf(known))
	if err != nil {
		return err
	}
	head := fmt.Appendf(nil, "%s%s\n", lastKnownHead, l.checksum(body))
	aside := l.path + ".new" // whoever has the lock is the only one to write it
	if err = os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // The user names the directory.
	if err != nil {
		return err
	}
	_, err = f.Write(append(head, body...))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	if err = os.Rename(aside, l.path); err == nil {
		l.written, l.head = known, head
	}
	return err
}

// lastKnownFile is Known as the file has it. Names of fields may be added; a
// meaning that changes gets another head.
type lastKnownFile struct {
	Environment string       `json:"environment"`
	StoreID     string       `json:"store_id"`
	Answers     []fileAnswer `json:"answers"`
	Lists       []fileList   `json:"lists"`
}

type fileAnswer struct {
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

type fileList struct {
	Choice string     `json:"choice"`
	Flags  []flag.Key `json:"flags"`
	Seen   time.Time  `json:"seen"`
}

func fileOf(known *Known) lastKnownFile {
	file := lastKnownFile{Environment: known.Environment, StoreID: known.StoreID}
	answers, lists := known.newest()
	for _, s := range answers {
		a := fileAnswer{Flag: s.Key, Entity: s.Entity, Variant: s.Variant, Source: s.Source, Error: s.ErrorCode, Revision: s.Revision.Number, Seen: s.At.UTC()}
		if !s.Value.IsZero() {
			a.Type, a.Value = s.Type.String(), s.Value.JSON()
		}
		file.Answers = append(file.Answers, a)
	}
	for _, choice := range lists {
		list := known.lists[choice]
		file.Lists = append(file.Lists, fileList{Choice: choice, Flags: list.keys, Seen: list.at.UTC()})
	}
	return file
}

func (f lastKnownFile) known() (*Known, error) {
	known := newKnown(f.Environment, f.StoreID)
	for _, a := range f.Answers {
		s := Seen{Entity: a.Entity, At: a.Seen, Evaluation: Evaluation{
			Answer:   flag.Answer{Key: a.Flag, Variant: a.Variant, Source: a.Source, ErrorCode: a.Error},
			Revision: flag.Revision{StoreID: f.StoreID, Number: a.Revision},
		}}
		if a.Value != "" {
			var err error
			if s.Type, err = flag.ParseType(a.Type); err == nil {
				s.Value, err = flag.ParseValue(s.Type, a.Value)
			}
			if err != nil {
				return nil, fmt.Errorf("has a value of the flag %q that cannot be read: %w", a.Flag, err)
			}
		}
		known.take(s)
	}
	for _, list := range f.Lists {
		known.lists[list.Choice] = seenList{keys: list.Flags, at: list.Seen}
	}
	return known, nil
}
