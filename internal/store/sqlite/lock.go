package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// fileLock is the right to serve a database. Two servers on one file would each
// serve what the other had changed, and SQLite itself lets both write in turn,
// so the right is a lock of its own: an empty database beside the real one, with
// an exclusive transaction for as long as the store is open. SQLite knows how to
// lock on every system, within one process too, and the system frees the lock
// with the process, however that ends.
type fileLock struct {
	path string
	made bool // by this very call
	db   *sql.DB
	tx   *sql.Conn
}

// acquire takes the right to serve the database, at once or not at all.
func acquire(ctx context.Context, database string) (_ *fileLock, err error) {
	l := &fileLock{path: database + "-lock"}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.abandon())
		}
	}()
	// Only when it is new: closing any other handle of the file would free the
	// locks that this process has on it (POSIX).
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		l.made = true
		err = file.Close()
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return nil, folderProblem(filepath.Dir(database), err)
	}
	if l.db, err = connect(dsn(l.path), 1, "journal_mode(memory)"); err != nil {
		return nil, err
	}
	if l.tx, err = l.db.Conn(ctx); err == nil {
		// Of a file that may only be read, SQLite makes BEGIN EXCLUSIVE a reader's
		// beginning, which keeps nobody out. The table, never committed, tells.
		_, err = l.tx.ExecContext(ctx, "BEGIN EXCLUSIVE; CREATE TABLE held (x)")
	}
	if failure, ok := errors.AsType[*sqlite.Error](err); ok {
		switch failure.Code() & 0xff {
		case lib.SQLITE_BUSY:
			return nil, fmt.Errorf("another bunting server has it open (%s is locked). Stop that one first, or name another file with --database sqlite:PATH", l.path)
		case lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
			return nil, fmt.Errorf("this user may not open its lock file %s. Another user may have made it, as when bunting ran once as root: start bunting as that user, or give the database and the files beside it (-lock, -wal, -shm) to this one: %w", l.path, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.path, err)
	}
	return l, nil
}

// release gives the right back. The file stays: taking it away could leave two
// servers with locks on two files of one name.
func (l *fileLock) release() error {
	var errs []error
	if l.tx != nil {
		errs = append(errs, l.tx.Close())
	}
	if l.db != nil {
		errs = append(errs, l.db.Close())
	}
	l.tx, l.db = nil, nil
	return errors.Join(errs...)
}

// abandon is release for a database that is refused: whoever named a wrong file
// finds no new one beside it. That is safe, because nobody waits for the lock.
func (l *fileLock) abandon() error {
	if l.made {
		_ = os.Remove(l.path) //nolint:gosec // Made by acquire. On Windows it cannot be removed while open, and stays.
	}
	return l.release()
}

func folderProblem(folder string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder %s does not exist. Make it first, or name a file in another one", folder)
	}
	return fmt.Errorf("the folder %s cannot be written to, and the database keeps files beside it. Let this user write there, or name a file in another folder: %w", folder, err)
}
