package server

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// credentials are the store's tokens in memory, the ended ones too, so that a
// caller is told what became of a token.
type credentials struct {
	mu     sync.RWMutex
	byHash map[string]token.Token
}

func newCredentials() *credentials { return &credentials{byHash: map[string]token.Token{}} }

// put keeps a token, or what became of it.
func (c *credentials) put(t token.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byHash[t.Hash] = t
}

// authenticate finds the caller by the header Authorization: Bearer <secret>.
func (c *credentials) authenticate(header http.Header, now time.Time) (token.Token, error) {
	given := header.Values("Authorization")
	if len(given) == 0 {
		return token.Token{}, unauthenticated(reasonTokenMissing, "no token came with the request. Send the header \"Authorization: Bearer TOKEN\"")
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	secret = strings.TrimSpace(secret)
	if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return token.Token{}, unauthenticated(reasonTokenMissing, "the header Authorization holds no bearer token. Send \"Authorization: Bearer TOKEN\", once")
	}
	return c.check(token.Hash(secret), now)
}

// check gives the token of this hash, as long as it lives.
//
// A plain map look-up is enough: what it compares are SHA-256 hashes of what was
// sent, so its time tells a guesser nothing about a secret that is near.
func (c *credentials) check(hash string, now time.Time) (token.Token, error) {
	c.mu.RLock()
	t, known := c.byHash[hash]
	c.mu.RUnlock()
	switch {
	case !known:
		return token.Token{}, unauthenticated(reasonTokenUnknown, "this server does not know the token. It may be of another server, or cut off when it was copied")
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
