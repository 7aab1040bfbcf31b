package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// applicationID marks our databases in their header ("Bunt" in ASCII), so that
// another program's file is told from ours.
const applicationID = 0x42756e74

// The header of SQLite's file format: the file begins with magic, and the
// application id is the big-endian number at applicationIDAt.
const (
	magic           = "SQLite format 3\x00"
	applicationIDAt = 68
	headerSize      = 100
)

// resolve gives the one name of the file behind links, so that two names of one
// database have one lock.
func resolve(path string) (string, error) {
	file, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		return target, nil
	}
	if _, err := os.Lstat(file); err == nil { //nolint:gosec // Whoever starts the server names its file.
		return "", errors.New("this is a link to a file that is not there. Make that file (an empty one will do), or name another")
	}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(file)); err == nil {
		return filepath.Join(folder, filepath.Base(file)), nil
	}
	return file, nil // acquire says what is wrong with the folder
}

// openFile takes the lock, looks at the file before SQLite touches it, and opens
// it.
func (s *Store) openFile(ctx context.Context, options Options) (err error) {
	if info, err := os.Stat(s.name); err == nil && info.IsDir() {
		return fmt.Errorf("this is a folder. Name a file in it, like %s", filepath.Join(s.name, "bunting.db"))
	}
	if s.lock, err = acquire(ctx, s.name); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			lock := s.lock
			s.lock = nil
			// Closed before the lock goes: until then nobody else may open it.
			err = errors.Join(err, s.Close(), lock.abandon())
		}
	}()
	if err := inspect(s.name); err != nil {
		return err
	}
	// What is committed is on the disk (synchronous=FULL); what a large batch
	// makes the log grow to is given back (journal_size_limit, bytes).
	writer := []string{"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)", "journal_size_limit(16777216)"}
	if s.writer, err = connect(dsn(s.name), 1, writer...); err != nil {
		return err
	}
	if err := s.adopt(ctx); err != nil {
		return s.explain(err)
	}
	if err := s.prepare(ctx, options); err != nil {
		return err
	}
	// Readers go through rows once and in order, so a small cache (KiB, negated) is as good.
	s.reader, err = connect(dsn(s.name), readers, "busy_timeout(5000)", "query_only(1)", "cache_size(-256)")
	return err
}

// inspect makes the file when there is none, readable by this user alone, and
// refuses one that is not ours.
func inspect(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // Whoever starts the server names its file.
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not write to the file. Let it, or name another file: %w", err)
	case err != nil:
		return fmt.Errorf("it cannot be opened for writing: %w", err)
	}
	header := make([]byte, headerSize)
	n, err := io.ReadFull(file, header)
	if err := errors.Join(ignoreEnd(err), file.Close()); err != nil {
		return fmt.Errorf("read its header: %w", err)
	}
	if n == 0 {
		return nil
	}
	if n < headerSize || string(header[:len(magic)]) != magic {
		return errors.New("the file is not a database. Name the file of a bunting server, or one that does not exist yet")
	}
	if id := binary.BigEndian.Uint32(header[applicationIDAt:]); id != applicationID && id != 0 {
		return fmt.Errorf("%w (its application id is %#x)", errForeign, id)
	}
	return nil
}

var errForeign = errors.New("the file is a database of another program. Name the file of a bunting server, or one that does not exist yet")

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// adopt marks a new database as ours and sets the journal mode that it has from
// then on. The mark comes first, while the file has no write-ahead log, so that
// it is always found in the file itself.
func (s *Store) adopt(ctx context.Context) error {
	var id, tables int64
	err := s.writer.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &tables)
	switch {
	case err != nil:
		return fmt.Errorf("read its schema: %w", err)
	case id != applicationID && tables > 0:
		return errForeign
	case id != applicationID:
		if _, err := s.writer.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return fmt.Errorf("mark it as a database of bunting: %w", err)
		}
	}
	var mode string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return fmt.Errorf("set its journal mode: %w", err)
	}
	if mode != "wal" {
		return fmt.Errorf("its file system does not allow a write-ahead log (the journal mode is %q). Name a file on a local disk", mode)
	}
	return nil
}

// dsn names a file in the form of SQLite's URIs, where "?", "#" and "%" have a
// meaning of their own.
func dsn(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // a drive letter
		path = "/" + path
	}
	return "file://" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}
