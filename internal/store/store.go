// Package store keeps definitions durably: the Store interface, the rules of
// every write in one place (Write), and the conformance suite that each
// implementation passes (storetest).
package store

import (
	"context"
	"errors"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// RequestLife is how long a request id and its answer are kept.
const RequestLife = 24 * time.Hour

// Bounds of one Apply.
const (
	MaxChanges        = 100_000
	MaxRequestIDBytes = 128
	MaxNoteBytes      = 1024
)

// ErrRequestReused says that a request id came with other content than before.
var ErrRequestReused = errors.New("the request id was used before with other content. Use a new id for a new request")

// ErrAnotherStore says that a batch was meant for another store than the one that
// it came to (Batch.StoreID). Nothing was written.
var ErrAnotherStore = errors.New("the store became another one")

// ErrClosed says that the store is closed.
var ErrClosed = errors.New("the store is closed")

// ErrUnreachable says that the database could not be reached: refused, timed
// out, starting up, failing over. Waiting may help, and what was last known may
// be served meanwhile. An error that does not wrap it stays until somebody does
// what its words say.
var ErrUnreachable = errors.New("the database cannot be reached")

// IsUnreachable reports whether an error says that the database could not be
// reached, or did not answer in the time that it was given.
func IsUnreachable(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, context.DeadlineExceeded)
}

// Store keeps definitions. Every method may be called from many goroutines at
// once; an error means that nothing was done, unless it says otherwise.
type Store interface {
	Reader
	Writer
	// Notified gets a word soon after another process has committed. Words are
	// not counted and may be lost, so Head is asked all the same. It is nil where
	// nobody else can write.
	Notified() <-chan struct{}
	// Close ends every use. Calls under way end with an error.
	// Closing twice is closing once; afterwards every call gives ErrClosed.
	Close() error
}

// Reader is what is asked of a store.
type Reader interface {
	// Head gives the present revision: the heartbeat of the source of truth.
	Head(ctx context.Context) (flag.Revision, error)
	// Snapshot reads everything at one revision.
	Snapshot(ctx context.Context) (*flag.Snapshot, error)
	// Since gives the commits after the revision number, in order. With ok
	// false the audit log does not reach back that far: read a snapshot.
	Since(ctx context.Context, number int64) (commits []Commit, ok bool, err error)
	// Audit lists audit entries, newest first. The error is a *flag.Problem when
	// the page is none.
	Audit(ctx context.Context, filter AuditFilter) (entries []AuditEntry, next string, err error)
	// Tokens lists all tokens, the ended ones too, by name.
	Tokens(ctx context.Context) ([]token.Token, error)
}

// Writer is what changes a store. Every commit is a revision of its own and
// audited.
type Writer interface {
	// Apply makes a batch of changes: one transaction, one revision. What is
	// wrong with one change is in its result, not in the error. Two errors are
	// the caller's fault: ErrRequestReused, and a *flag.Problem about the batch as
	// a whole (Batch.Validate). ErrAnotherStore is nobody's.
	Apply(ctx context.Context, batch Batch) (Outcome, error)
	// ExpireHolds commits the expiry of every hold whose time has come: actor
	// "expiry", a revision of its own, none when there is nothing to do.
	ExpireHolds(ctx context.Context, now time.Time) (Outcome, error)
	// CreateToken keeps a new token. The error is a *flag.Problem (already
	// exists) when a living token has the name.
	CreateToken(ctx context.Context, t token.Token, actor string) error
	// RevokeToken ends the living token of the name. The error is a
	// *flag.Problem (not found) when there is none.
	RevokeToken(ctx context.Context, name, actor string, now time.Time) (token.Token, error)
	// Supersede notes that this store has taken the place of the former one, so
	// that whoever knows that one's holds may follow this one without them. Known
	// already, nothing is committed. It gives the revision afterwards; the error
	// is a *flag.Problem when former cannot be another store's id.
	Supersede(ctx context.Context, former, actor string, now time.Time) (flag.Revision, error)
	// Renew gives the store of the id former a new random one, because it was rolled
	// back and would use numbers a second time: actor "renewal". It has another id
	// already: nothing is committed. It gives the revision afterwards.
	Renew(ctx context.Context, former string, now time.Time) (flag.Revision, error)
}

// Batch is what one Apply is asked to do.
type Batch struct {
	Changes   []flag.Change
	Atomic    bool // all or nothing; otherwise each change stands alone
	RequestID string
	Note      string
	Actor     token.Actor
	Now       time.Time // the server's clock, UTC
	StoreID   string    // of the store that it is meant for; "": of any
}

// Outcome is what became of a batch.
type Outcome struct {
	Revision flag.Revision // after it
	Results  []flag.Result // one for each change, in order
	Commit   *Commit       // nil when nothing was committed
	Repeated bool          // the request id was known: this is the first answer
}

// Commit is one committed revision: what every follower needs to come from the
// revision before to this one.
type Commit struct {
	Revision   flag.Revision
	Edits      []flag.Edit
	Tokens     []token.Token // made or ended by the commit, as they are after it, without hashes
	Supersedes string        // the store whose place was taken; "": none
}

// AuditFilter chooses audit entries; all that is set must match.
type AuditFilter struct {
	Key   flag.Key // the flag, its overrides and its holds
	Actor string
	Since time.Time
	Limit int    // at most this many; 0: 100; never more than 1,000
	Page  string // next of the page before
}

// AuditEntry is one object's change within a commit.
type AuditEntry struct {
	Revision int64     `json:"revision"`
	Ordinal  int       `json:"ordinal"` // from 0 within the revision
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`
	OwnerID  string    `json:"owner_id,omitempty"`
	Action   string    `json:"action"` // flag.Op's names, adopt, expire_hold, create_token, revoke_token, supersede_store, renew_store
	Kind     flag.Kind `json:"-"`      // 0 for a token or a store
	Key      flag.Key  `json:"-"`      // "" for a token or a store
	Object   string    `json:"object"` // flag.Ref's text, the token's name, or the former store's id
	Before   string    `json:"before,omitempty"`
	After    string    `json:"after,omitempty"`
	Note     string    `json:"note,omitempty"`
}
