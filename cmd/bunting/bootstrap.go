package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Names of the first token and of who made it, in the audit log.
const (
	bootstrapToken = "admin"
	bootstrapActor = "bunting-serve"
)

// tokensTimeout is how long a database may take to tell its tokens when they are
// known from before.
const tokensTimeout = 2 * time.Second

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

// lookedAt warns of a file with the admin's token that is not private: whoever may
// read it may do everything, and in a folder of many another user may have put it
// there. It is no more than a warning, because secrets that are mounted into
// containers look so.
func (t firstToken) lookedAt(file string) firstToken {
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" { // which has no such modes
		t.state += ". Other users of this machine may open the file, and with it may do everything: make sure that it is yours, and chmod 600 it"
		t.warn = true
	}
	return t
}

// bootstrap makes the first token of a store that has none, or none of an admin
// that lives, and writes it to the file, which is never overwritten. (Without the
// second, nobody could ever get in again; who may start the server on the
// database may do everything with it anyway.) A file that is there already is the first
// token of a new store, so that a database in memory, or one that was begun anew,
// goes on with the token that its users have. A database that does not answer has
// its tokens already where some are known from before.
func bootstrap(ctx context.Context, to store.Store, file string, now time.Time, lastKnown []token.Token) (firstToken, error) {
	t := firstToken{file: file}
	if absolute, err := filepath.Abs(file); err == nil {
		t.file = absolute
	}
	first := ctx
	if len(lastKnown) > 0 {
		var done context.CancelFunc
		first, done = context.WithTimeout(ctx, tokensTimeout)
		defer done()
	}
	known, err := to.Tokens(first)
	switch {
	case err != nil && len(lastKnown) > 0 && ctx.Err() == nil && store.IsUnreachable(err):
		t.state = "not looked for: the database does not answer, and its tokens are known from before"
		return t, nil
	case err != nil:
		return t, err
	}
	secret, err := readToken(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(known, func(k token.Token) bool { return k.LivesAt(now) && k.Actor().Has(token.Admin) }):
		t.state = "not written: the database has tokens already"
		return t, nil
	case errors.Is(err, fs.ErrNotExist):
		secret, _ = token.NewSecret()
		if err := writeToken(file, secret); err != nil {
			return t, err
		}
		if err := makeFirst(ctx, to, known, secret, now); err != nil {
			// Taken back only where it is certain that the database does not have its
			// token: from a server that shares the file, or in spite of the error.
			if made, unknown := to.Tokens(ctx); unknown == nil && !slices.ContainsFunc(made, func(k token.Token) bool { return k.Hash == token.Hash(secret) }) {
				err = errors.Join(err, os.Remove(file))
			}
			return afterAnother(ctx, to, file, now, err)
		}
		if t.state = "written now"; len(known) > 0 {
			t.state = "written now: every admin's token of this database has expired or was revoked"
			t.warn = true
		}
		return t, nil
	case err != nil:
		return t, err
	}
	i := slices.IndexFunc(known, func(k token.Token) bool { return k.Hash == token.Hash(secret) })
	switch {
	case i >= 0 && known[i].LivesAt(now):
		t.state = "in the file, as before"
		t = t.lookedAt(file)
	case i >= 0:
		t.state = "the one in the file has expired or was revoked. Use another one, and remove the file; where no admin has one left, the next start writes a new one"
		t.warn = true
	case len(known) > 0:
		t.state = "the one in the file is not known to this database. Use one that is, or name another file with --token-file; this one was left as it is"
		t.warn = true
	case !token.IsSecret(secret):
		return t, fmt.Errorf("the file %s holds something else than a token of bunting, and the database is new. Move the file away to have a token written, or name another with --token-file", t.file)
	default:
		if err := makeFirst(ctx, to, known, secret, now); err != nil {
			return afterAnother(ctx, to, file, now, err)
		}
		t.state = "taken from the file, because the database is new"
		t = t.lookedAt(file)
	}
	return t, nil
}

// afterAnother looks again where another server that starts on the same database
// was faster to make the first token. Any other error stays.
func afterAnother(ctx context.Context, to store.Store, file string, now time.Time, err error) (firstToken, error) {
	if p, ok := errors.AsType[*flag.Problem](err); !ok || p.Kind != flag.ProblemAlreadyExists {
		return firstToken{file: file}, err
	}
	return bootstrap(ctx, to, file, now, nil)
}

func makeFirst(ctx context.Context, to store.Store, known []token.Token, secret string, now time.Time) error {
	_, id := token.NewSecret()
	name := bootstrapToken
	if slices.ContainsFunc(known, func(k token.Token) bool { return k.Name == name && k.LivesAt(now) }) {
		name += "-" + id // that one is of another scope
	}
	return to.CreateToken(ctx, token.Token{
		ID: id, Name: name, Scopes: []token.Scope{token.Admin}, Hash: token.Hash(secret), CreatedAt: now.UTC(), CreatedBy: bootstrapActor,
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
