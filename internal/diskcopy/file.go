// Package diskcopy keeps what a server last knew in a file, so that it can start
// and serve that while its source of truth is away (DESIGN §8).
package diskcopy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Copy is what a server knew at one moment.
type Copy struct {
	Snapshot  *flag.Snapshot
	Tokens    []token.Token // with their hashes, the ended ones too
	WrittenAt time.Time
}

// File is the file of a copy. The one process that has it open reads and writes
// it, one goroutine at a time.
type File struct {
	path string
	lock *flock.Flock
}

// Open takes the right to the file, which is made by the first Write. The folder
// is made, for this user alone, where there is none. A file that another process
// has open is refused.
func Open(path string) (*File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	folder := filepath.Dir(absolute)
	if err := os.MkdirAll(folder, 0o700); err != nil { //nolint:gosec // Whoever starts the server names its folder.
		return nil, fmt.Errorf("the folder %s, where the last snapshot is to be kept, cannot be made. Make it, or name another with --data: %w", folder, err)
	}
	// The file stays when it is released: taking it away could leave two servers
	// with locks on two files of one name.
	f := &File{path: absolute, lock: flock.New(absolute+"-lock", flock.SetPermissions(0o600))}
	switch taken, err := f.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("the folder %s, where the last snapshot is to be kept, cannot be written to. Let this user write there, or name another with --data: %w", folder, err)
	case !taken:
		return nil, fmt.Errorf("another bunting server keeps its last snapshot in %s (%s is locked). Stop that one first, or name another folder with --data", absolute, f.lock.Path())
	}
	return f, nil
}

// Path names the file, for messages.
func (f *File) Path() string { return f.path }

// Close gives the right to the file back.
func (f *File) Close() error {
	if err := f.lock.Close(); err != nil {
		return fmt.Errorf("release %s: %w", f.lock.Path(), err)
	}
	return nil
}

// ErrSetAside is in the error of a copy that was read, and is none to go on with.
var ErrSetAside = errors.New("the file was set aside")

// Load gives the copy; nil where none was kept. Damaged, or of another environment
// than the one given ("": any), it is set aside, so that no later Write destroys
// what may still be wanted: the error is ErrSetAside, and says why, and where it is
// now. Going on without it is right. One that cannot be read, or that is in a format
// of another version, stays where it is: what it knows may be a kill that is known
// nowhere else, so going on, and writing over it, is not right.
func (f *File) Load(environment string) (*Copy, error) {
	kept, err := f.load(environment)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // That there is none is an answer.
	case err == nil:
		return kept, nil
	}
	if _, unread := errors.AsType[*fs.PathError](err); unread || errors.Is(err, errFormat) {
		return nil, fmt.Errorf("the last snapshot %s %w. It was left where it is: it may know of a kill that is known nowhere else. Let this server read it, or, to start without it, move it away", f.path, err)
	}
	return nil, f.setAside(err)
}

// load is Load; the error reads on from the file's name.
func (f *File) load(environment string) (*Copy, error) {
	file, err := os.Open(f.path) //nolint:gosec // Whoever starts the server names its folder.
	if err != nil {
		return nil, fmt.Errorf("cannot be opened: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is no file")
	}
	return read(file, info.Size(), environment)
}

// setAside sets the file aside under a name of its own.
func (f *File) setAside(reason error) error {
	aside := f.path + ".refused-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(f.path, aside); err != nil { //nolint:gosec // Whoever starts the server names its folder.
		return fmt.Errorf("the last snapshot %s %w. It could not be set aside either, so move it away: %w", f.path, reason, err)
	}
	return fmt.Errorf("the last snapshot %s %w: %w as %s", f.path, reason, ErrSetAside, aside)
}

// Write replaces the copy. Whoever reads finds the one before or this one, whole,
// whenever the process or the machine ends; after an error, the one before.
func (f *File) Write(c Copy) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the last snapshot %s: %w", f.path, err)
		}
	}()
	aside := f.path + ".new" // nobody else writes it: the lock is ours
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// It holds tokens' hashes and all values: this user's alone.
	file, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // Whoever starts the server names its folder.
	if err != nil {
		return err
	}
	err = write(file, c)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(aside, f.path)
	}
	if err != nil {
		_ = os.Remove(aside) // it takes room that may be what is missing
		return err
	}
	return syncFolder(filepath.Dir(f.path))
}

// syncFolder makes a renaming last. Windows knows no such thing for a folder.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path) //nolint:gosec // Whoever starts the server names its folder.
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
