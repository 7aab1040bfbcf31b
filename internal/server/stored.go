package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

const (
	// How often the store is asked about tokens that are not known: another root
	// may have made one a moment ago, but wrong ones cost the store no more.
	tokensInterval = time.Second
	// How long reading the tokens may take.
	tokensTimeout = time.Second
)

// storedTokens are the tokens of a root's store.
type storedTokens struct {
	*credentials

	store store.Store

	mu      sync.Mutex
	claimed map[string]token.Token // of a store that is refused, by hash
	last    *question              // the present or last reading of the store; nil: none yet
	at      time.Time              // when it was begun
	made    int64                  // credentials.made at that time
}

func newStoredTokens(from store.Store, following *evaluator.Evaluator, log *slog.Logger) *storedTokens {
	return &storedTokens{credentials: newCredentials(following, math.MaxInt, log), store: from}
}

// begin reads the store's tokens. Those that are known from before count where the
// store does not answer, or is not the one whose definitions are served.
func (s *storedTokens) begin(ctx context.Context, known []token.Token) error {
	first := ctx
	if len(known) > 0 {
		var done context.CancelFunc
		first, done = context.WithTimeout(ctx, tokensTimeout)
		defer done()
	}
	all, err := s.tokensOf(first)
	other := errors.Is(err, errOtherStore)
	if err != nil && !other && (len(known) == 0 || ctx.Err() != nil || !store.IsUnreachable(err)) {
		return err
	}
	for _, t := range all {
		s.put(t)
	}
	if err != nil {
		for _, t := range known {
			s.recall(t)
		}
	}
	return nil
}

// errOtherStore says that the tokens are of another store than the definitions.
var errOtherStore = errors.New("the store is another one than that whose definitions are served")

// tokensOf reads the tokens of the store whose definitions are served. Those of
// another one, which is refused (DESIGN §4) or has not been looked at yet, do not
// count: a wrong database in the place of the right one lets nobody in to what the
// right one held. They are claimed.
func (s *storedTokens) tokensOf(ctx context.Context) ([]token.Token, error) {
	before, err := s.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.store.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if head.StoreID != before.StoreID {
		return nil, fmt.Errorf("%w: the store became another one (%s) while its tokens were read", store.ErrUnreachable, head.StoreID)
	}
	var claimed map[string]token.Token
	if other := head.StoreID != s.evaluator.View().Revision.StoreID; other {
		claimed = make(map[string]token.Token, len(all))
		for _, t := range all {
			claimed[t.Hash] = t
		}
		all, err = nil, errOtherStore
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = claimed
	return all, err
}

// claim gives the living token that only a store knows which is refused. It counts
// for Resync alone: who may confirm the store is in it, but what is served is not
// its. One whose end is known has ended, though an old backup knows nothing of that.
func (s *storedTokens) claim(hash string, now time.Time) (token.Token, bool) {
	if known, _ := s.look(hash, now); known != nil {
		return token.Token{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.claimed[hash]
	return t, ok && t.LivesAt(now)
}

// verify gives the token of the secret. The store is waited for only where the
// token is not known.
func (s *storedTokens) verify(ctx context.Context, _, hash string, now time.Time) (token.Token, error) {
	known, doubtful := s.look(hash, now)
	if known != nil {
		if doubtful {
			s.read()
		}
		return living(known.Token, now)
	}
	if err := s.read().wait(ctx); err != nil && !errors.Is(err, errOtherStore) {
		return token.Token{}, untold(ctx, s.log, connect.CodeUnavailable, reasonNotReady, "the token is not known here yet, and the store, which may know it, does not answer. Try again later", err)
	}
	if known, _ = s.look(hash, now); known == nil {
		return token.Token{}, unauthenticated(reasonTokenUnknown, "this server does not know the token. It may be of another server, or cut off when it was copied")
	}
	return living(known.Token, now)
}

// read reads the store's tokens, unless that has just been done and no commit has
// made one since.
func (s *storedTokens) read() *question {
	s.credentials.mu.RLock()
	made := s.credentials.made
	s.credentials.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || made != s.made || time.Since(s.at) >= tokensInterval {
		s.at, s.made = time.Now(), made
		s.last = s.ask("", 1, nil, func(ctx context.Context) (answer, error) {
			ctx, done := context.WithTimeout(ctx, tokensTimeout)
			defer done()
			all, err := s.tokensOf(ctx)
			return answer{tokens: all, whole: true}, err
		})
	}
	return s.last
}
