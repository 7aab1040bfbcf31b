package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Names of the first token and of who made it, in the audit log.
const (
	bootstrapToken = "admin"
	bootstrapActor = "bunting-serve"
)

// firstToken is what a start found or did about the admin's token.
type firstToken struct {
	file  string // absolute
	state string // for people
	warn  bool
}

func (t firstToken) tell(ctx context.Context, log *slog.Logger) {
	level := slog.LevelInfo
	if t.warn {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "the admin's token", "file", t.file, "state", t.state)
}

// bootstrap makes the first token of a store that has none and writes it to the
// file, which is never overwritten. A file that is there already is the first
// token of a new store, so that a database in memory, or one that was begun anew,
// goes on with the token that its users have.
func bootstrap(ctx context.Context, to store.Store, file string, now time.Time) (firstToken, error) {
	t := firstToken{file: file}
	if absolute, err := filepath.Abs(file); err == nil {
		t.file = absolute
	}
	known, err := to.Tokens(ctx)
	if err != nil {
		return t, err
	}
	secret, err := readToken(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(known) > 0:
		t.state = "not written: the database has tokens already"
		return t, nil
	case errors.Is(err, fs.ErrNotExist):
		secret, _ = token.NewSecret()
		if err := writeToken(file, secret); err != nil {
			return t, err
		}
		if err := makeFirst(ctx, to, secret, now); err != nil {
			return t, errors.Join(err, os.Remove(file))
		}
		t.state = "written now"
		return t, nil
	case err != nil:
		return t, err
	}
	i := slices.IndexFunc(known, func(k token.Token) bool { return k.Hash == token.Hash(secret) })
	switch {
	case i >= 0 && known[i].LivesAt(now):
		t.state = "in the file, as before"
	case i >= 0:
		t.state = "the one in the file has expired or was revoked. Use another one, and remove the file"
		t.warn = true
	case len(known) > 0:
		t.state = "the one in the file is not known to this database. Use one that is, or name another file with --token-file; this one was left as it is"
		t.warn = true
	case !token.IsSecret(secret):
		return t, fmt.Errorf("the file %s holds something else than a token of bunting, and the database is new. Move the file away to have a token written, or name another with --token-file", t.file)
	default:
		if err := makeFirst(ctx, to, secret, now); err != nil {
			return t, err
		}
		t.state = "taken from the file, because the database is new"
	}
	return t, nil
}

func makeFirst(ctx context.Context, to store.Store, secret string, now time.Time) error {
	_, id := token.NewSecret()
	return to.CreateToken(ctx, token.Token{
		ID: id, Name: bootstrapToken, Scopes: []token.Scope{token.Admin}, Hash: token.Hash(secret), CreatedAt: now.UTC(), CreatedBy: bootstrapActor,
	}, bootstrapActor)
}

// writeToken makes the file, which must not exist, for this user alone. It is on
// the disk before the token is in the database: the other way round a crash in
// between would leave a database whose only token nobody has.
func writeToken(file, secret string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the file that the user names
	if err != nil {
		return fmt.Errorf("write the admin's token: %w. Name a file that can be written with --token-file", err)
	}
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the admin's token: %w", err), os.Remove(file))
	}
	return nil
}
