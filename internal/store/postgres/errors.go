package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

// meaning says what an SQLSTATE means for whoever runs the server.
type meaning struct {
	says   string
	passes bool // waiting may help, so the error wraps store.ErrUnreachable
}

// The states that are asked for by name.
const (
	standbyState = "55000" // a standby's answer when it is asked for its place in the log
	pausedState  = "25P03" // the session ended because its transaction was idle
)

// meanings by SQLSTATE (PostgreSQL's documentation, appendix A). The words of a
// class, its first two characters, serve the states that are not named.
var meanings = map[string]meaning{
	"53100":      {says: "the database server's disk is full, nothing was written. Free space on it, then try again"},
	"53200":      {"the database server is out of memory. Give it more, or look for what takes it", true},
	"53300":      {"the database server has no connection to spare. Raise its max_connections, or give this server a smaller pool", true},
	"25006":      {says: "the database is read-only, nothing was written. Find out why (default_transaction_read_only, a standby, a full disk) and make it writable"},
	standbyState: {"the server that answers is a standby, or is becoming the primary. Where it stays one, name the primary, or all servers: postgres://…@HOST,HOST/DATABASE", true},
	"28":         {says: "the database server does not let this user in. Check user, password and the server's pg_hba.conf"},
	"3D000":      {says: "the database does not exist. Make it first (CREATE DATABASE … ENCODING 'UTF8'), or name another"},
	"42501":      {says: "this user may not do that. Grant it the rights (to make the schema: CREATE on the database; afterwards: the schema \"bunting\" and its tables), or run \"bunting migrate\" as a user who has them"},
	"42P01":      {says: "a table of bunting is missing. Restore the database from a backup"},
	"42703":      {says: "a column of a table of bunting is missing. Restore the database from a backup"},
	"57P01":      {"the database server is shutting down", true},
	"57P02":      {"the database server is restarting after a crash of one of its processes", true},
	"57P03":      {"the database server is starting up or shutting down", true},
	"57P04":      {says: "the database was dropped. Restore it from a backup, or name another"},
	"57P05":      {"the database server ended a connection that was idle", true},
	"57014":      {"the database took longer than the statement timeout, nothing was written. Find out what it is busy with, or raise the timeout", true},
	"55P03":      {"another server kept the revision locked for too long, nothing was written. Find out which (pg_stat_activity), or try again", true},
	"25P03":      {"this process paused for too long within a transaction, nothing was written. Give it more processor time, or try again", true},
	"22021":      {says: "the database refused a text that is not valid in its encoding"},
	"08":         {"the connection to the database broke", true},
	"53":         {"the database server lacks something that it needs", true},
	"57":         {"an operator of the database intervened", true},
	"58":         {says: "the database server reported an error of its system. Look at its log"},
	"XX":         {says: "the database is damaged, or its server has a fault. Look at its log, keep a copy for examination and go back to a backup"},
}

// explain says in words what a failure means for whoever runs the server, and
// whether it may pass by itself (store.ErrUnreachable). Errors of our own pass
// unchanged.
func explain(err error) error {
	if errors.Is(err, store.ErrUnreachable) || errors.Is(err, store.ErrClosed) {
		return err
	}
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		m, known := meanings[failure.Code]
		if !known {
			m, known = meanings[failure.Code[:min(len(failure.Code), 2)]]
		}
		said := plain{err, fmt.Sprintf("%s (SQLSTATE %s)", failure.Message, failure.Code)}
		switch {
		case !known:
			return err
		case m.passes:
			return fmt.Errorf("%w: %s: %w", store.ErrUnreachable, m.says, said)
		}
		return fmt.Errorf("%s: %w", m.says, said)
	}
	if distrusts(err) {
		return fmt.Errorf("the server's certificate, or its refusal of TLS, is not what the URL asks for. Check sslmode and sslrootcert: %w", oneLine(err))
	}
	switch connecting, ok := errors.AsType[*pgconn.ConnectError](err); {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err):
		return fmt.Errorf("%w: it did not answer in time: %w", store.ErrUnreachable, oneLine(err))
	case ok && strings.Contains(connecting.Error(), "standby"):
		return fmt.Errorf("%w: %s: %w", store.ErrUnreachable, meanings[standbyState].says, oneLine(err))
	case ok:
		return fmt.Errorf("%w: no connection could be made. Start it, or check host and port: %w", store.ErrUnreachable, oneLine(err))
	case broken(err):
		return fmt.Errorf("%w: the connection broke: %w", store.ErrUnreachable, oneLine(err))
	}
	return err
}

// distrusts reports whether the two sides do not agree on TLS, which stays so.
func distrusts(err error) bool {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &certificate) ||
		strings.Contains(err.Error(), "server refused TLS connection")
}

// broken reports whether the error is of a connection, not of an answer.
func broken(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed)
}

// plain is an error in other words.
type plain struct {
	error

	text string
}

// Error gives the words.
func (p plain) Error() string { return p.text }

// Unwrap gives the error.
func (p plain) Unwrap() error { return p.error }

// oneLine is an error whose words are on one line: pgx takes a line for each
// host.
func oneLine(err error) error { return plain{err, strings.Join(strings.Fields(err.Error()), " ")} }
