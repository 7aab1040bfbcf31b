package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// explain says in words what SQLite's result code means for whoever runs the
// server. Other errors pass unchanged.
func (s *Store) explain(err error) error {
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	const primary = 0xff // extended codes keep the primary one in their low byte
	code := failure.Code() & primary
	if failure.Code() == lib.SQLITE_IOERR_SHMSIZE { // no room for the index of the log
		code = lib.SQLITE_FULL
	}
	switch code {
	case lib.SQLITE_FULL:
		return fmt.Errorf("the disk is full, nothing was written. Free space on it, then try again: %w", err)
	case lib.SQLITE_READONLY:
		return fmt.Errorf("the file is read-only. Let this user write to it and to its folder: %w", err)
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return fmt.Errorf("the file, or one of those that SQLite keeps beside it (-wal, -shm), cannot be opened. Let this user write to them and to their folder: %w", err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("the file is damaged. Keep a copy of it for examination and go back to a backup: %w", err)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return fmt.Errorf("another program keeps it locked. Find out which, end its use, then try again: %w", err)
	case lib.SQLITE_IOERR:
		return fmt.Errorf("the disk reported an error. Look at the system's log, then try again: %w", err)
	}
	return err
}
