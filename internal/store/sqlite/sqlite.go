// Package sqlite keeps definitions in one SQLite file, in pure Go, durable once
// acknowledged. It has no rules of its own: those are in package store.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"

	_ "modernc.org/sqlite" // the driver named "sqlite"
)

// Options are what a store is opened with.
type Options struct {
	Environment string           // the name that the store is made with, and must have ever after; "": the schema alone is of interest
	Logger      *slog.Logger     // nil: none
	Clock       func() time.Time // nil: the system's; asked only when the store is made
}

// readers is how many may read at once: the server reads from its snapshot in
// memory, so only starting, catching up and the audit log come here.
const readers = 4

// Store is a store.Store in one file, or in memory.
type Store struct {
	store.Writes

	name string // the file, or "memory:", for messages
	env  string

	writer *sql.DB // one connection
	reader *sql.DB // in memory: the writer
	lock   *fileLock

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
	life   context.Context //nolint:containedctx // The store's own, not a caller's: it ends calls under way at Close.
	end    context.CancelFunc
}

var _ store.Store = (*Store)(nil)

// Open opens the store in the file, which it makes when there is none. It
// refuses, in words and without changing it, a file that is not a database, one
// of another program, of another environment, of a newer bunting, or one that
// another process serves.
func Open(ctx context.Context, path string, options Options) (*Store, error) {
	file, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	s := newStore(file, options)
	if err := s.openFile(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", file, err), s.Close())
	}
	return s, nil
}

// OpenMemory makes a store that ends with the process.
func OpenMemory(ctx context.Context, options Options) (*Store, error) {
	s := newStore("memory:", options)
	if err := s.openMemory(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("make a database in memory: %w", err), s.Close())
	}
	return s, nil
}

func newStore(name string, options Options) *Store {
	s := &Store{name: name, env: options.Environment}
	s.Transact = func(ctx context.Context, doing string, do func(context.Context, store.Tx) error) error {
		return s.transact(ctx, doing, func(ctx context.Context, t tx) error { return do(ctx, t) })
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

func (s *Store) openMemory(ctx context.Context, options Options) (err error) {
	// The connection is the database: one, kept for ever.
	if s.writer, err = connect(":memory:", 1, "foreign_keys(1)"); err != nil {
		return err
	}
	s.reader = s.writer
	return s.prepare(ctx, options)
}

// connect makes a pool whose connections run the pragmas first.
func connect(dsn string, connections int, pragmas ...string) (*sql.DB, error) {
	pragmas = append(pragmas, "trusted_schema(0)", "cell_size_check(1)")
	db, err := sql.Open("sqlite", dsn+"?_dqs=0&_pragma="+strings.Join(pragmas, "&_pragma="))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// prepare brings the schema up to date and makes or checks the store's identity.
func (s *Store) prepare(ctx context.Context, options Options) error {
	if err := s.migrate(ctx, options); err != nil {
		return s.explain(err)
	}
	if s.env == "" {
		return nil
	}
	return s.explain(s.identify(ctx, options))
}

// identify names a new store: an id, random at its creation, and an environment.
func (s *Store) identify(ctx context.Context, options Options) error {
	clock := options.Clock
	if clock == nil {
		clock = time.Now
	}
	_, err := s.writer.ExecContext(ctx, `UPDATE meta SET store_id = ?, environment = ?, created_at = ? WHERE store_id = ''`,
		rand.Text(), s.env, clock().UnixMicro())
	if err != nil {
		return fmt.Errorf("name the new store: %w", err)
	}
	return nil
}

// Close ends every use. Calls under way end with store.ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.calls.Wait()

	var errs []error
	if s.reader != nil && s.reader != s.writer {
		errs = append(errs, s.reader.Close())
	}
	if s.writer != nil { // the last connection to close folds the log into the file
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the database %s: %w", s.name, err)
	}
	return nil
}

// enter begins a call: the context given ends with the caller's and with the
// store, and leave must be called.
func (s *Store) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, store.ErrClosed
	}
	s.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(store.ErrClosed) })
	return ctx, func() { stop(); cancel(nil); s.calls.Done() }, nil
}

// failed puts words around the error of a call. What is the caller's fault has
// its own.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	if _, ok := errors.AsType[*flag.Problem](err); ok || err == nil || errors.Is(err, store.ErrRequestReused) || errors.Is(err, store.ErrAnotherStore) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
		if errors.Is(cause, store.ErrClosed) {
			err = cause
		}
	}
	return fmt.Errorf("%s in the database %s: %w", doing, s.name, s.explain(err))
}
