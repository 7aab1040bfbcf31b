package diskcopy

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// How often a copy is written (DESIGN §8): at most every 5 s, and at most 5 % of
// the time.
const (
	shortestPause = 5 * time.Second
	pausePerWrite = 20          // times as long as the last one took
	lookInterval  = time.Second // how often it is looked whether there is something to write
)

// Keeper keeps the copy in step with what a server knows.
type Keeper struct {
	trusted func() *flag.Snapshot
	tokens  func() []token.Token
	log     *slog.Logger
	write   func(Copy) error

	kept       flag.Revision // what the file holds
	keptTokens []token.Token
	trouble    string // the last failure to write, as it was told; "": none
}

// NewKeeper makes a keeper of the file, which holds what was loaded from it (nil:
// nothing). Trusted gives what is known and may be kept (evaluator.Trusted), nil
// where that is nothing; tokens those that count, in an order that does not change
// while they do not.
func NewKeeper(file *File, loaded *Copy, trusted func() *flag.Snapshot, tokens func() []token.Token, log *slog.Logger) *Keeper {
	k := &Keeper{trusted: trusted, tokens: tokens, log: log, write: file.Write}
	if loaded != nil {
		k.kept, k.keptTokens = loaded.Snapshot.Revision, loaded.Tokens
	}
	return k
}

// Run writes the copy whenever what is known has changed, until the context ends,
// and then once more. What answers never waits for it. It is called once.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			k.keep()
			return
		case <-tick.C:
		}
		if time.Now().Before(next) {
			continue
		}
		if took, written := k.keep(); written {
			next = time.Now().Add(max(shortestPause, pausePerWrite*took))
		}
	}
}

// keep writes the copy, if there is something to write, and tells how long it took.
func (k *Keeper) keep() (took time.Duration, tried bool) {
	c := Copy{Snapshot: k.trusted(), WrittenAt: time.Now()}
	if c.Snapshot == nil {
		return 0, false
	}
	c.Tokens = k.tokens()
	if c.Snapshot.Revision == k.kept && slices.EqualFunc(c.Tokens, k.keptTokens, sameToken) {
		return 0, false
	}
	err := k.write(c)
	took = time.Since(c.WrittenAt)
	if err != nil {
		if cause := err.Error(); cause != k.trouble {
			k.trouble = cause
			k.log.Error("the last snapshot could not be written; that before is kept, and it is tried again", "error", cause)
		}
		return took, true
	}
	if k.trouble != "" {
		k.log.Info("the last snapshot is written again")
		k.trouble = ""
	}
	k.kept, k.keptTokens = c.Snapshot.Revision, c.Tokens
	return took, true
}

func sameToken(a, b token.Token) bool {
	return a.Hash == b.Hash && a.ID == b.ID && a.Name == b.Name && a.Prefix == b.Prefix && slices.Equal(a.Scopes, b.Scopes) &&
		a.ExpiresAt.Equal(b.ExpiresAt) && a.RevokedAt.Equal(b.RevokedAt)
}
