package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	// lockPatience is how long an operation waits for another process to be done with
	// the file; less than a definitioncache.File does, for which nobody waits.
	lockPatience = 2 * time.Second
	lockLook     = 5 * time.Millisecond
)

// lastKnownFile is a place in a folder of this user's alone.
type lastKnownFile struct {
	path string
	busy bool // another process had the lock for so long that nobody waits for it again; of change alone
}

func (f *lastKnownFile) String() string { return "the file " + f.path }

func (*lastKnownFile) advice() string { return "Remove it, make its folder writable, or name another" }

func (*lastKnownFile) close() {}

// Reading is of one byte more than is written at most, so that it is seen.
func (f *lastKnownFile) read() ([]byte, error) {
	text, err := readBounded(f.path, lastKnownMost+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", f, err)
	}
	return text, nil
}

// change writes aside, syncs and renames, so that whoever reads finds the file before
// or after it, and nothing between.
func (f *lastKnownFile) change(ctx context.Context, do func(old []byte, damage error) ([]byte, error)) error {
	if err := ownFolder(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("%s cannot be written: %w", f, err)
	}
	patience := lockPatience
	if f.busy {
		patience = lockLook
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lock := flock.New(f.path+".lock", flock.SetPermissions(0o600))
	_, err := lock.TryLockContext(ctx, lockLook)
	f.busy = errors.Is(err, context.DeadlineExceeded)
	switch {
	case f.busy:
		return fmt.Errorf("%s was in use by another process for %s", f, lockPatience)
	case err != nil:
		return fmt.Errorf("%s cannot be locked: %w", f, err)
	}
	defer func() { _ = lock.Close() }() // there is nothing to lose
	old, damage := f.read()
	text, err := do(old, damage)
	if err == nil && (damage != nil || !bytes.Equal(text, old)) {
		err = f.replace(text)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", f, err)
	}
	return nil
}

func (f *lastKnownFile) replace(text []byte) error {
	aside := f.path + ".new" // whoever has the lock is the only one to write it
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // The user names the directory.
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	return os.Rename(aside, f.path)
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
