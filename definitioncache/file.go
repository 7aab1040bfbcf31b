package definitioncache

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	// lockPatience is how long a call waits for another process to be done with the
	// files; it is done in the time of a write.
	lockPatience = 5 * time.Second
	lockLook     = 5 * time.Millisecond
	// maxBoard bounds the file of who leads and which copy there is.
	maxBoard = 2 * maxHeader
)

// File is the [Cache] of processes that share a disk: one machine's. Where it is a
// network's that hangs, so do the calls, for as long as it does and whatever their
// context says. Time is that of the disk, so that containers and machines with clocks of
// their own agree.
type File struct {
	key    Key
	timing Timing
	owner  string
	path   string // of the files, without what tells them apart
	now    func() (time.Time, error)

	mu     sync.Mutex // guards what follows, and keeps calls of this process apart
	ended  bool
	damage []byte // the checksum of the copy that was found unusable
}

// NewFile gives a part in what is shared in a folder, which is made, for this user
// alone, where there is none.
func NewFile(folder string, key Key, timing Timing) (*File, error) {
	if err := validate(key, timing); err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, fmt.Errorf("find the folder of the shared definitions: %w", err)
	}
	if err := ownFolder(folder); err != nil {
		return nil, fmt.Errorf("the folder %s of the shared definitions cannot be made this user's alone. Name another: %w", folder, err)
	}
	name, err := json.Marshal(key)
	if err != nil {
		return nil, fmt.Errorf("name the file of the shared definitions: %w", err)
	}
	sum := sha256.Sum256(name)
	f := &File{key: key, timing: timing, owner: rand.Text(), path: filepath.Join(folder, "definitions-"+hex.EncodeToString(sum[:12]))}
	f.now = f.diskNow
	return f, nil
}

func ownFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, 0o700) //nolint:gosec // A folder. Fails where it belongs to somebody else.
}

// diskNow asks the disk for the time, by a file that it just wrote: one that stays, so
// that who is ended in the midst of it leaves nothing behind.
func (f *File) diskNow() (time.Time, error) {
	path := f.path + ".clock"
	if err := os.WriteFile(path, []byte{'.'}, 0o600); err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// ShouldFetch is a [Cache]'s.
func (f *File) ShouldFetch(ctx context.Context, need Need) (turn Turn, err error) {
	err = f.change(ctx, func(b *board, now time.Time) error {
		turn = b.turn(f.owner, need, f.timing, now)
		return nil
	})
	return turn, err
}

// DefinitionsReceived is a [Cache]'s.
func (f *File) DefinitionsReceived(ctx context.Context, received Received) error {
	if err := received.Validate(f.key); err != nil {
		return err
	}
	var value []byte
	if !received.Unchanged {
		var err error
		if value, err = Encode(received); err != nil {
			return err
		}
	}
	return f.change(ctx, func(b *board, now time.Time) error {
		stored, err := readBounded(f.copyPath(), firstLine)
		gone := err != nil || f.damage != nil && bytes.Equal(stored, f.damage)
		if err := b.receive(f.owner, received, gone, f.timing, now); err != nil || received.Unchanged {
			return err
		}
		// The board first: should we end between the two, then nothing older replaces
		// what was received, and what is there is of another revision than the board
		// says, which readers see.
		if err := f.writeBoard(b); err != nil {
			return err
		}
		return f.write(f.copyPath(), value)
	})
}

// Shutdown is a [Cache]'s.
func (f *File) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return nil
	}
	f.ended = true
	return f.changed(ctx, func(b *board, _ time.Time) error {
		b.release(f.owner)
		return nil
	})
}

// Definitions is a [Cache]'s.
func (f *File) Definitions(ctx context.Context, known Revision) (*Copy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return nil, ErrShutdown
	}
	found, err := f.read(known)
	if errors.Is(err, ErrUnusable) {
		// Perhaps another was just writing it: once more, with others kept away.
		err = f.locked(ctx, func() (err error) {
			found, err = f.read(known)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("the shared definitions in %s: %w", f.copyPath(), err)
	}
	return found, ctx.Err()
}

// read is Definitions. f.mu is held.
func (f *File) read(known Revision) (*Copy, error) {
	b, err := f.readBoard()
	if err != nil {
		return nil, err
	}
	now, err := f.now()
	if err != nil {
		return nil, err
	}
	header, there := b.header(f.timing, now)
	if !there {
		return nil, nil //nolint:nilnil // That there is none is an answer.
	}
	if header.Revision == known {
		return &Copy{Header: header, Known: true, Age: b.age(f.timing, now)}, nil
	}
	value, err := readBounded(f.copyPath(), MaxStored+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // Somebody took it away.
	case err != nil:
		return nil, err
	}
	found, err := Decode(value, f.key)
	if err != nil {
		f.damage = bytes.Clone(value[:min(len(value), firstLine)])
		return nil, err
	}
	if found.Revision != header.Revision {
		return nil, fmt.Errorf("%w: it has revision %d, where %d was written: somebody ended while writing", ErrUnusable, found.Revision.Number, header.Revision.Number)
	}
	f.damage, found.Age = nil, b.age(f.timing, now)
	return found, nil
}

// change lets do change the board, with all others kept away; when do fails,
// nothing is changed.
func (f *File) change(ctx context.Context, do func(b *board, now time.Time) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return ErrShutdown
	}
	return f.changed(ctx, do)
}

// changed is change. f.mu is held.
func (f *File) changed(ctx context.Context, do func(b *board, now time.Time) error) error {
	err := f.locked(ctx, func() error {
		b, err := f.readBoard()
		if err != nil {
			return err
		}
		now, err := f.now()
		if err != nil {
			return err
		}
		before := b
		if err := do(&b, now); err != nil {
			return err
		}
		if before.Lock == b.Lock && before.Claim == b.Claim && before.Confirmed.Equal(b.Confirmed) {
			return nil // a follower writes nothing
		}
		return f.writeBoard(&b)
	})
	if err != nil {
		return fmt.Errorf("the shared definitions in %s: %w", f.copyPath(), err)
	}
	return nil
}

// locked keeps all other processes away from the files. f.mu is held.
func (f *File) locked(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	// The file stays: taking it away could leave two processes with locks on two
	// files of one name.
	lock := flock.New(f.path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, lockLook); err != nil {
		return fmt.Errorf("cannot be locked within %s: %w", lockPatience, err)
	}
	return errors.Join(do(), lock.Close())
}

func (f *File) copyPath() string  { return f.path + ".copy" }
func (f *File) boardPath() string { return f.path + ".json" }

// readBoard gives an empty one where there is none, or one that cannot be read:
// the next to change it writes it anew.
func (f *File) readBoard() (board, error) {
	content, err := readBounded(f.boardPath(), maxBoard)
	if errors.Is(err, fs.ErrNotExist) {
		return board{}, nil
	}
	if err != nil {
		return board{}, err
	}
	var b board
	if err := json.Unmarshal(content, &b); err != nil || b.Header.Key != f.key && !b.Confirmed.IsZero() {
		return board{}, nil //nolint:nilerr // As good as none.
	}
	return b, nil
}

func (f *File) writeBoard(b *board) error {
	content, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return f.write(f.boardPath(), content)
}

// write replaces a file: whoever reads finds the one before or this one, whole,
// whenever the process or the machine ends. All others are kept away.
func (f *File) write(path string, content []byte) error {
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // The user names the folder.
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		_ = os.Remove(aside) // it takes room that may be what is missing
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a renaming last. Windows knows no such thing for a folder.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path) //nolint:gosec // The user names the folder.
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readBounded reads the first bytes of a file. What is no file is not opened: it
// could keep the reader waiting for ever.
func readBounded(path string, most int) ([]byte, error) {
	switch info, err := os.Lstat(path); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is not a file", ErrUnusable)
	}
	file, err := os.Open(path) //nolint:gosec // The user names the folder.
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(file, int64(most)))
}
