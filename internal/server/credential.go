package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// authority says whose a secret is.
type authority interface {
	// verify gives the token of the secret, whose hash is given too, as long as it
	// lives. The error is a call's.
	verify(ctx context.Context, secret, hash string, now time.Time) (token.Token, error)
}

// credentials are the tokens that are known, the ended ones too, so that a caller
// is told what became of a token. On a root they are the store's, on a proxy what
// its upstream said of them. Commits say which have ended since.
type credentials struct {
	evaluator *evaluator.Evaluator // whose commits are followed
	most      int                  // tokens that are kept
	log       *slog.Logger

	life       context.Context //nolint:containedctx // The life of all questions, which close ends.
	end        context.CancelFunc
	background sync.WaitGroup // the questions under way

	mu      sync.RWMutex
	byHash  map[string]*credential
	at      flag.Revision        // up to which commits are taken over
	doubts  int64                // how often it was not known what became of tokens
	kept    int64                // how often one was put here
	made    int64                // tokens that commits made
	asking  map[string]*question // by what is asked
	stopped bool
}

// credential is a token that is known.
type credential struct {
	token.Token

	asked time.Time    // when the source of truth said it
	doubt int64        // credentials.doubts at that time; another one: it is to be asked again
	order int64        // credentials.kept when it was put here
	used  atomic.Int64 // when it was last looked for, in seconds
	tried atomic.Int64 // when it was last asked about beside its use, in seconds
}

// question is one asked of the source of truth. Everybody who wants the same
// waits for it, and nobody's leaving ends it.
type question struct {
	done chan struct{} // closed when err is set
	err  error

	// Guarded by credentials.mu.
	doubt, order int64                // of credentials when it was asked
	at           flag.Revision        // the same
	ended        map[string]time.Time // tokens that ended meanwhile, by id
}

// unsure is the doubt of a credential that nobody has said since the start.
const unsure int64 = -1

var errStopping = errors.New("the server is stopping. Connect again")

func newCredentials(following *evaluator.Evaluator, most int, log *slog.Logger) *credentials {
	c := &credentials{evaluator: following, most: most, log: log, byHash: map[string]*credential{}, asking: map[string]*question{}}
	c.life, c.end = context.WithCancel(context.Background())
	if following != nil {
		c.at = following.View().Revision
	}
	return c
}

// close ends the questions under way and waits for them.
func (c *credentials) close() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.end()
	c.background.Wait()
}

// put keeps a token, or what became of it, as the source of truth has just said.
func (c *credentials) put(t token.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(t, c.doubts, time.Now())
}

// revoke notes the end of a token, by its id.
func (c *credentials) revoke(id string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked(token.Token{ID: id, RevokedAt: at})
}

// recall keeps a token as it was last known before this start.
func (c *credentials) recall(t token.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(t, unsure, time.Time{})
}

// forget lets go of a token.
func (c *credentials) forget(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byHash, hash)
}

// all gives the tokens that are known, by hash.
func (c *credentials) all() []token.Token {
	c.follow()
	c.mu.RLock()
	defer c.mu.RUnlock()
	tokens := make([]token.Token, 0, len(c.byHash))
	for _, hash := range slices.Sorted(maps.Keys(c.byHash)) {
		tokens = append(tokens, c.byHash[hash].Token)
	}
	return tokens
}

// keep keeps a token. Called with mu held.
func (c *credentials) keep(t token.Token, doubt int64, asked time.Time) {
	c.kept++
	kept := &credential{Token: t, asked: asked, doubt: doubt, order: c.kept}
	kept.used.Store(time.Now().Unix())
	c.byHash[t.Hash] = kept
	if len(c.byHash) <= c.most {
		return
	}
	// The one least recently used among some: nearly as good as among all.
	const some = 16
	oldest, seen, left := "", int64(math.MaxInt64), some
	for hash, known := range c.byHash {
		if left == 0 {
			break
		}
		left--
		if used := known.used.Load(); hash != t.Hash && used < seen {
			oldest, seen = hash, used
		}
	}
	delete(c.byHash, oldest)
}

// look finds what is known of a token, and whether it may have ended unnoticed.
func (c *credentials) look(hash string, now time.Time) (known *credential, doubtful bool) {
	present := c.evaluator.View().Revision
	c.mu.RLock()
	if c.at != present {
		c.mu.RUnlock()
		c.follow()
		c.mu.RLock()
	}
	defer c.mu.RUnlock()
	if known = c.byHash[hash]; known == nil {
		return nil, false
	}
	if at := now.Unix(); known.used.Load() != at {
		known.used.Store(at)
	}
	return known, known.doubt != c.doubts
}

// follow takes over what the commits since the last time say of tokens. It comes
// before every look, so that a revocation counts from the moment on that its
// revision is served.
func (c *credentials) follow() {
	present := c.evaluator.View().Revision
	c.mu.Lock()
	defer c.mu.Unlock()
	commits, _, ok := c.evaluator.Changes(c.at)
	if !ok {
		c.at = present
		c.doubts++
		return
	}
	for _, commit := range commits {
		c.at = commit.Revision
		if commit.Joined {
			c.doubts++
		}
		for _, t := range commit.Tokens {
			if t.RevokedAt.IsZero() {
				c.made++
			} else {
				c.revoked(t)
			}
		}
	}
}

// revoked notes the end of a token, of which the id and the time are given. Called
// with mu held.
func (c *credentials) revoked(t token.Token) {
	for _, under := range c.asking {
		under.ended[t.ID] = t.RevokedAt
	}
	for _, known := range c.byHash {
		if known.ID == t.ID && known.RevokedAt.IsZero() {
			ended := known.Token
			ended.RevokedAt = t.RevokedAt
			c.keep(ended, known.doubt, known.asked)
			return
		}
	}
}

// answer is what a question brought.
type answer struct {
	tokens []token.Token
	whole  bool          // there are no others
	at     flag.Revision // who said it knew this one; zero: the newest
}

// errTooMany says that a question is one too many.
var errTooMany = errors.New("too many questions about tokens are under way")

// ask asks the source of truth about something, unless that is under way already,
// or so many questions are, or an answer has come since the asker looked and found
// what is known; nil: nothing. What it finds is kept.
func (c *credentials) ask(about string, most int, known *credential, find func(context.Context) (answer, error)) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	if same := c.asking[about]; same != nil {
		return same
	}
	if now := c.byHash[about]; now != known && now != nil && now.doubt == c.doubts {
		q := &question{done: make(chan struct{})}
		close(q.done)
		return q
	}
	q := &question{done: make(chan struct{}), doubt: c.doubts, order: c.kept, at: c.at, ended: map[string]time.Time{}}
	if q.err = c.unasked(most); q.err != nil {
		close(q.done)
		return q
	}
	c.asking[about] = q
	c.background.Go(func() {
		defer close(q.done)
		found, err := find(c.life)
		c.follow() // what was revoked before the answer came counts
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asking, about)
		if q.err = err; err == nil {
			c.found(q, found)
		}
	})
	return q
}

// unasked says why nothing more is asked; nil: it is. Called with mu held.
func (c *credentials) unasked(most int) error {
	switch {
	case c.stopped:
		return errStopping
	case len(c.asking) >= most:
		return errTooMany
	}
	return nil
}

// found keeps what a question brought. Called with mu held.
func (c *credentials) found(q *question, a answer) {
	now, doubt := time.Now(), q.doubt
	if a.at.StoreID == q.at.StoreID && a.at.Number < q.at.Number {
		doubt = unsure // another root said it, which does not know yet what is known here
	}
	if a.whole {
		listed := make(map[string]bool, len(a.tokens))
		for _, t := range a.tokens {
			listed[t.Hash] = true
		}
		maps.DeleteFunc(c.byHash, func(hash string, known *credential) bool { return !listed[hash] && known.order <= q.order })
	}
	for _, t := range a.tokens {
		if known := c.byHash[t.Hash]; known != nil && known.order > q.order {
			continue // it was made, or ended, after the question
		}
		if at, ended := q.ended[t.ID]; ended && t.RevokedAt.IsZero() {
			t.RevokedAt = at
		}
		c.keep(t, doubt, now)
	}
}

// wait waits for the answer. The error is the question's or the context's.
func (q *question) wait(ctx context.Context) error {
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// KnownTokens gives the tokens that count, the ended ones too, with their hashes and
// in the order of these: what Options.KnownTokens takes at another start.
func (s *Server) KnownTokens() []token.Token {
	if s.tokens == nil {
		return nil
	}
	return s.tokens.all()
}

// secretOf reads the header Authorization: Bearer <secret>.
func secretOf(header http.Header) (string, error) {
	given := header.Values("Authorization")
	if len(given) == 0 {
		return "", unauthenticated(reasonTokenMissing, "no token came with the request. Send the header \"Authorization: Bearer TOKEN\"")
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	secret = strings.TrimSpace(secret)
	if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return "", unauthenticated(reasonTokenMissing, "the header Authorization holds no bearer token. Send \"Authorization: Bearer TOKEN\", once")
	}
	return secret, nil
}

// living gives the token, as long as it lives.
func living(t token.Token, now time.Time) (token.Token, error) {
	switch {
	case !t.RevokedAt.IsZero():
		return token.Token{}, unauthenticated(reasonTokenRevoked, fmt.Sprintf("the token %q was revoked on %s. Ask an admin for a new one", t.Name, t.RevokedAt.UTC().Format(time.RFC3339)))
	case !t.LivesAt(now):
		return token.Token{}, unauthenticated(reasonTokenExpired, fmt.Sprintf("the token %q expired on %s. Ask an admin for a new one", t.Name, t.ExpiresAt.UTC().Format(time.RFC3339)))
	}
	return t, nil
}

// unauthenticated makes the answer 401 (RFC 6750 section 3).
func unauthenticated(reason, message string) *connect.Error {
	challenge := `Bearer realm="bunting"`
	if reason != reasonTokenMissing {
		challenge += `, error="invalid_token"`
	}
	return refusal(connect.CodeUnauthenticated, reason, message, challenge)
}
