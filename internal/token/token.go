// Package token says who a caller is and what the caller may do: tokens, their
// scopes and key prefixes. A token's secret is random, shown once, and known
// afterwards by its hash alone.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Scope is something that a token may do.
type Scope int32

// The scopes, with the numbers of bunting.v1.Scope.
const (
	Evaluate Scope = 1 // evaluation, the state calls and the handshake
	Read     Scope = 2 // definitions and the audit log; includes Evaluate
	Write    Scope = 3 // flags and overrides; includes Read, never Kill
	Kill     Scope = 4 // holds; includes Read
	Admin    Scope = 5 // everything
)

var scopeNames = [...]string{"unspecified", "evaluate", "read", "write", "kill", "admin"}

// String gives the scope's name.
func (s Scope) String() string { return scopeNames[max(0, min(s, Admin))] }

// ParseScope finds a scope by its name.
func ParseScope(name string) (Scope, error) {
	for s := Evaluate; s <= Admin; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, flag.Invalid("scope", fmt.Sprintf("is %q. Write evaluate, read, write, kill or admin.", name))
}

// MarshalText writes the scope's name.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the scope's name.
func (s *Scope) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScope(string(text))
	return err
}

// includes says which scopes each one brings along, itself among them.
var includes = map[Scope][]Scope{
	Evaluate: {Evaluate},
	Read:     {Read, Evaluate},
	Write:    {Write, Read, Evaluate},
	Kill:     {Kill, Read, Evaluate},
	Admin:    {Admin, Write, Kill, Read, Evaluate},
}

// Actor is an authenticated caller.
type Actor struct {
	Name   string   // the token's name: what the audit log calls the caller
	Scopes []Scope  // what the token was given
	Prefix flag.Key // only keys under it; "": all
}

// Has reports whether the actor has the scope, by itself or within another.
func (a Actor) Has(s Scope) bool {
	return slices.ContainsFunc(a.Scopes, func(given Scope) bool { return slices.Contains(includes[given], s) })
}

// Require gives nil when the actor has the scope, else a *flag.Problem that
// names the scope, what the token has, and what to do.
func (a Actor) Require(s Scope) error {
	if a.Has(s) {
		return nil
	}
	names := make([]string, len(a.Scopes))
	for i, given := range a.Scopes {
		names[i] = given.String()
	}
	return denied("the token %q has the scope %s, but this needs %s. Use a token with that scope, or have an admin make one with \"bunting token create NAME --scope %s\".",
		a.Name, strings.Join(names, ", "), s, s)
}

// Covers gives nil when the key lies under the actor's prefix, else a
// *flag.Problem.
func (a Actor) Covers(key flag.Key) error {
	if key.Under(a.Prefix) {
		return nil
	}
	return denied("the token %q covers the keys under %q only, not %q. Use a token that covers it.", a.Name, a.Prefix, key)
}

// May gives nil when the actor may make the change, as far as scope and prefix
// say; whose the object is, is the store's question.
func (a Actor) May(c flag.Change) error {
	need := Write
	if c.Op.Kind() == flag.KindHold {
		need = Kill
	}
	if err := a.Require(need); err != nil {
		return err
	}
	return a.Covers(c.Ref.Key)
}

func denied(format string, args ...any) error {
	return &flag.Problem{Kind: flag.ProblemDenied, Message: fmt.Sprintf(format, args...)}
}

// Token is a credential without its secret.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"` // unique among the living
	Scopes    []Scope   `json:"scopes"`
	Prefix    flag.Key  `json:"prefix,omitempty"`
	Hash      string    `json:"-"` // Hash of the secret
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	RevokedAt time.Time `json:"revoked_at,omitzero"` // zero: not revoked
}

// Actor gives the caller that the token stands for.
func (t Token) Actor() Actor { return Actor{Name: t.Name, Scopes: t.Scopes, Prefix: t.Prefix} }

// LivesAt reports whether the token is neither revoked nor expired.
func (t Token) LivesAt(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// Validate checks a token that is to be made.
func (t Token) Validate(now time.Time) error {
	if err := flag.ValidateHolder(t.Name); err != nil || flag.IsTerraformHolder(t.Name) {
		return flag.Invalid("name", fmt.Sprintf("is %q, but a token's name is up to %d letters, digits, \".\", \"_\", \"@\", \"/\" and \"-\", and not \"terraform\" or under \"terraform/\". Write a name like \"ops-anna\".", t.Name, flag.MaxHolderBytes))
	}
	if len(t.Scopes) == 0 {
		return flag.Invalid("scope", "is missing. Write one or more of evaluate, read, write, kill and admin.")
	}
	for _, s := range t.Scopes {
		if includes[s] == nil {
			return flag.Invalid("scope", "is not one of evaluate, read, write, kill and admin.")
		}
	}
	if t.Prefix != "" {
		if _, err := flag.ParseKey(string(t.Prefix)); err != nil {
			return flag.In("prefix", err)
		}
		if slices.Contains(t.Scopes, Admin) {
			return flag.Invalid("prefix", "is given together with the scope admin, which covers everything. Leave one of the two out.")
		}
	}
	return flag.ValidateExpiry(t.ExpiresAt, now)
}

// secretPrefix makes a leaked secret recognisable to scanners.
const secretPrefix = "bunting_"

// secretBytes is how much randomness a secret has.
const secretBytes = 32

// NewSecret makes a secret of 256 random bits, and an id for its token.
func NewSecret() (secret, id string) {
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails: it ends the program when the system has no randomness (crypto/rand)
	return secretPrefix + base64.RawURLEncoding.EncodeToString(random), rand.Text()
}

// IsSecret reports whether the text has the form of a secret of ours, so that
// nothing that can be guessed becomes a token.
func IsSecret(text string) bool {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	random, err := base64.RawURLEncoding.DecodeString(encoded)
	return ok && err == nil && len(random) == secretBytes
}

// Hash gives what is stored of a secret. A plain SHA-256 is enough: the secret
// has 256 random bits, so there is nothing to guess that a slow hash would slow.
func Hash(secret string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))
}
