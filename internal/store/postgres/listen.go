package postgres

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// How the listener waits.
const (
	firstPause   = 100 * time.Millisecond // before connecting again, doubled with each failure
	longestPause = 5 * time.Second
	silence      = 15 * time.Second // after which it asks whether the connection still stands
)

// listen puts a word into notified whenever another process has committed, until
// the context ends. It has a connection of its own, which it makes anew when it
// breaks.
func (s *Store) listen(ctx context.Context) {
	pause, told := firstPause, false
	for ctx.Err() == nil {
		err := s.hear(ctx, func() { pause, told = firstPause, false })
		if ctx.Err() != nil {
			return
		}
		if !told { // once in an outage
			told = true
			s.log.LogAttrs(ctx, slog.LevelWarn, "other servers' changes come by polling: the database does not notify",
				slog.String("database", s.name), slog.String("error", explain(err).Error()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // Many servers are not to come back at once; nobody gains by guessing.
		}
		pause = min(2*pause, longestPause)
	}
}

// hear listens until the connection breaks. It calls connected once it listens.
func (s *Store) hear(ctx context.Context, connected func()) error {
	connecting, done := context.WithTimeout(ctx, s.limit)
	defer done()
	conn, err := pgx.ConnectConfig(connecting, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
		defer done()
		_ = conn.Close(closing) // it may be broken
		<-conn.PgConn().CleanupDone()
	}()
	if _, err := conn.Exec(connecting, "LISTEN "+channel); err != nil {
		return err
	}
	connected()
	s.tell() // of what was committed while nobody listened
	for {
		waiting, done := context.WithTimeout(ctx, silence)
		notification, err := conn.WaitForNotification(waiting)
		quiet := errors.Is(waiting.Err(), context.DeadlineExceeded)
		done()
		switch {
		case err == nil && notification.Payload != s.self:
			s.tell()
		case err == nil:
		case ctx.Err() != nil || !quiet:
			return err
		default:
			pinging, done := context.WithTimeout(ctx, s.limit)
			err := conn.Ping(pinging)
			done()
			if err != nil {
				return err
			}
		}
	}
}

// tell puts a word into notified, unless there is one.
func (s *Store) tell() {
	select {
	case s.notified <- struct{}{}:
	default:
	}
}
