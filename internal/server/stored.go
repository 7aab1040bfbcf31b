package server

import (
	"context"
	"fmt"
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

	mu   sync.Mutex
	last *question // the present or last reading of the store; nil: none yet
	at   time.Time // when it was begun
	made int64     // credentials.made at that time
}

func newStoredTokens(from store.Store, following *evaluator.Evaluator) *storedTokens {
	return &storedTokens{credentials: newCredentials(following, math.MaxInt), store: from}
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
	if err := s.read().wait(ctx); err != nil {
		return token.Token{}, refusal(connect.CodeUnavailable, reasonNotReady, fmt.Sprintf("the token is not known here yet, and the store, which may know it, does not answer (%v). Try again later", err), "")
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
		s.last = s.ask("", func(ctx context.Context) (answer, error) {
			ctx, done := context.WithTimeout(ctx, tokensTimeout)
			defer done()
			all, err := s.store.Tokens(ctx)
			return answer{tokens: all, whole: true}, err
		})
	}
	return s.last
}
