// Package postgres keeps definitions in a PostgreSQL database, for many roots at
// once: they tell each other of commits, and each sees them in one order. It has
// no rules of its own: those are in package store.
//
// Everything stands in a schema of its own, "bunting", so a database that others
// use too is left as it is; one database holds one environment.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// Options are what a store is opened with. The zero value of each but
// Environment has a meaning.
type Options struct {
	Environment string           // the name that the store is made with, and must have ever after; "": the schema alone is of interest
	Logger      *slog.Logger     // nil: none
	Clock       func() time.Time // nil: the system's; asked only when the store is made

	MaxConnections   int32         // of the pool, beside one that listens; 0: pool_max_conns of the URL, else 4 or the number of cores
	MinConnections   int32         // that are kept open; 0: pool_min_conns of the URL, else 0
	StatementTimeout time.Duration // how long the database may work on one statement; 0: 10 s
	ConnectTimeout   time.Duration // 0: connect_timeout of the URL, else 5 s
}

const (
	defaultStatementTimeout = 10 * time.Second
	defaultConnectTimeout   = 5 * time.Second
	migrateTimeout          = 5 * time.Minute
	closeGrace              = time.Second // after which Close cuts what does not end by itself
)

// wholeFactor is how many times the statement's limit a call may take that reads
// or writes much: a write waits for its turn and sends several statements.
const wholeFactor = 3

// Store is a store.Store in a PostgreSQL database.
type Store struct {
	store.Writes

	name    string // the database, for messages
	env     string
	self    string        // tells this process's own notifications from others'
	limit   time.Duration // of one statement
	options Options
	log     *slog.Logger

	pool     *pgxpool.Pool
	notified chan struct{}

	mu        sync.Mutex // guards what follows
	closed    bool
	prepared  bool
	preparing *preparation // under way; nil: none

	calls sync.WaitGroup
	life  context.Context //nolint:containedctx // The store's own, not a caller's: it ends calls under way at Close.
	end   context.CancelFunc
	wires context.Context //nolint:containedctx // The connections': it cuts what does not end by itself.
	cut   context.CancelFunc
}

var _ store.Store = (*Store)(nil)

// preparation is one try to make the database ready.
type preparation struct {
	done chan struct{} // closed when it has ended
	err  error         // set before
}

// Open reads the URL and makes a store that connects with its first call, or
// with Prepare. While the database cannot be reached every call gives an error
// that wraps store.ErrUnreachable.
func Open(ctx context.Context, address string, options Options) (*Store, error) {
	config, err := parse(address, options)
	if err != nil {
		return nil, err
	}
	s := &Store{
		name: nameOf(&config.ConnConfig.Config), env: options.Environment, self: rand.Text(), options: options, log: options.Logger,
		limit:    orDefault(options.StatementTimeout, defaultStatementTimeout),
		notified: make(chan struct{}, 1),
	}
	s.Transact = func(ctx context.Context, doing string, do func(context.Context, store.Tx) error) error {
		return s.transact(ctx, doing+" in", func(ctx context.Context, t tx) error { return do(ctx, t) })
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.wires, s.cut = context.WithCancel(context.Background())
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &wire{Conn: conn}
		w.stop = context.AfterFunc(s.wires, func() { _ = conn.Close() }) //nolint:contextcheck // The connection outlives the call that makes it; it may be closed already.
		return w, nil
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", s.name, err), s.Close())
	}
	return s, nil
}

// wire is a connection that ends with the store, also where pgx would wait for a
// database that hangs.
type wire struct {
	net.Conn

	stop func() bool
}

// Write sends. A message that could not be sent whole ends the connection at
// once: the database would wait for the rest, and keep others from the revision
// meanwhile.
func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err != nil {
		_ = w.Close() // it has failed already
	}
	return n, err
}

// Close closes the connection.
func (w *wire) Close() error {
	w.stop()
	return w.Conn.Close()
}

// Notified gets a word soon after another process has committed.
func (s *Store) Notified() <-chan struct{} { return s.notified }

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
	grace := time.AfterFunc(closeGrace, s.cut)
	defer grace.Stop()
	defer s.cut()
	s.calls.Wait()
	if s.pool != nil {
		s.pool.Close()
	}
	return nil
}

// Prepare makes the database ready: its schema is brought up to date and a new
// store is named, once for all processes. Where it fails, the next call tries
// again.
func (s *Store) Prepare(ctx context.Context) error {
	ctx, leave, err := s.begin(ctx, migrateTimeout)
	if err != nil {
		return err
	}
	defer leave()
	return s.failed(ctx, "open", s.ready(ctx))
}

// ready waits until the database is prepared. One try serves all who wait, and
// goes on when one of them leaves.
func (s *Store) ready(ctx context.Context) error {
	s.mu.Lock()
	if s.prepared {
		s.mu.Unlock()
		return nil
	}
	p := s.preparing
	if p == nil {
		p = &preparation{done: make(chan struct{})}
		s.preparing = p
		s.calls.Go(func() {
			p.err = s.prepare(s.life)
			s.mu.Lock()
			s.preparing, s.prepared = nil, p.err == nil
			s.mu.Unlock()
			close(p.done)
			if p.err == nil && s.env != "" {
				s.listen(s.life)
			}
		})
	}
	s.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin starts a call: the context given ends with the caller's, with the store,
// and after the limit, and leave must be called.
func (s *Store) begin(ctx context.Context, limit time.Duration) (_ context.Context, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, store.ErrClosed
	}
	s.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(store.ErrClosed) })
	ctx, expire := context.WithTimeout(ctx, limit)
	return ctx, func() { stop(); expire(); cancel(nil); s.calls.Done() }, nil
}

// call runs do on the prepared database, within the limit.
func (s *Store) call(ctx context.Context, doing string, limit time.Duration, do func(context.Context) error) error {
	ctx, leave, err := s.begin(ctx, limit)
	if err != nil {
		return err
	}
	defer leave()
	if err = s.ready(ctx); err == nil {
		err = do(ctx)
	}
	return s.failed(ctx, doing, err)
}

// failed puts words around the error of a call. What is the caller's fault has
// its own.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	if _, ok := errors.AsType[*flag.Problem](err); ok || err == nil || errors.Is(err, store.ErrRequestReused) || errors.Is(err, store.ErrAnotherStore) {
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, store.ErrClosed):
		err = cause
	case errors.Is(cause, context.Canceled) && !errors.Is(err, store.ErrUnreachable):
		err = cause // what the driver says of it is of no interest
	}
	return fmt.Errorf("%s the database %s: %w", doing, s.name, explain(err))
}
