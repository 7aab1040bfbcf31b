package evaluator

import (
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// difference gives the commit that leads from what is known to later definitions of
// the same store. It tells of tokens unless what is known is too old for that.
func difference(known *flag.Snapshot, later wire.Definitions) Commit {
	c := Commit{Commit: store.Commit{Revision: later.Snapshot.Revision}, Previous: known.Revision.Number, Joined: known.Revision.Number < later.TokensSince}
	if !slices.Equal(known.Supersedes, later.Snapshot.Supersedes) {
		c.Joined, c.Superseded = true, later.Snapshot.Supersedes
	}
	for o := range later.Snapshot.Objects() {
		// The same revision of one store is the same object.
		if before := known.Object(o.Ref()); before == nil || before.Stamp().Revision != o.Stamp().Revision {
			c.Edits = append(c.Edits, flag.Edit{Ref: o.Ref(), Object: o})
		}
	}
	for o := range known.Objects() {
		if later.Snapshot.Object(o.Ref()) == nil {
			c.Edits = append(c.Edits, flag.Edit{Ref: o.Ref()})
		}
	}
	for _, t := range later.Revoked {
		if t.Revision > known.Revision.Number {
			c.Tokens = append(c.Tokens, token.Token{ID: t.ID, RevokedAt: time.Now()})
		}
	}
	return c
}
