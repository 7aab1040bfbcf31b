package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// MaxStoreIDBytes is the longest a store's id may be.
const MaxStoreIDBytes = 128

// RenewalActor is the actor of the commits that Rename makes.
const RenewalActor = "renewal"

// TakePlace notes the former store (flag.Revision.Place, or its id for whatever it
// came to) among those whose place this one has taken: a
// revision of its own, without edits, or none when it is noted already. It gives
// the revision afterwards. The error is a *flag.Problem when former cannot be
// another store's id.
func TakePlace(ctx context.Context, tx Tx, former, actor string, now time.Time) (flag.Revision, error) {
	present, err := tx.Load(ctx, Wanted{})
	if err != nil {
		return flag.Revision{}, err
	}
	if err := flag.CheckText("former_store_id", former, MaxStoreIDBytes); err != nil {
		return flag.Revision{}, err
	}
	id, _, _ := strings.Cut(former, "@")
	switch {
	case id == "":
		return flag.Revision{}, flag.Invalid("former_store_id", "is missing. Name the store whose place this one has taken, as its health or its log tells.")
	case id == present.Revision.StoreID:
		return flag.Revision{}, flag.Invalid("former_store_id", fmt.Sprintf("is %q, which is this very store. Name the one whose place it has taken.", former))
	case slices.Contains(present.Supersedes, former):
		return present.Revision, nil
	}
	next := present.Revision
	next.Number++
	entry := AuditEntry{Revision: next.Number, Time: instant(now), Actor: actor, Action: actionSupersedeStore, Object: former}
	return next, tx.Save(ctx, Record{
		Commit: &Commit{Revision: next, Supersedes: former}, Audit: []AuditEntry{entry},
		Supersedes: append(slices.Clone(present.Supersedes), former),
	})
}

// Rename gives the store of the id former a new random one: a revision of its own,
// without edits, or none when it has another id already, because every root that
// follows it notices that it was rolled back. It gives the revision afterwards. The
// former id is not superseded: what was lost may be a kill, so that is for people to
// confirm.
func Rename(ctx context.Context, tx Tx, former string, now time.Time) (flag.Revision, error) {
	present, err := tx.Load(ctx, Wanted{})
	if err != nil {
		return flag.Revision{}, err
	}
	if present.Revision.StoreID != former {
		return present.Revision, nil
	}
	next := present.Revision
	next.Number++
	entry := AuditEntry{Revision: next.Number, Time: instant(now), Actor: RenewalActor, Action: actionRenewStore, Object: former}
	if err := tx.Save(ctx, Record{Commit: &Commit{Revision: next}, Audit: []AuditEntry{entry}, StoreID: rand.Text()}); err != nil {
		return flag.Revision{}, err
	}
	// A store may make its id of more than what was saved.
	renewed, err := tx.Load(ctx, Wanted{})
	if err != nil {
		return flag.Revision{}, err
	}
	return renewed.Revision, nil
}
