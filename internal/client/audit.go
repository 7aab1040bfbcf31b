package client

import (
	"context"
	"time"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// AuditFilter chooses audit entries; all that is set must match.
type AuditFilter struct {
	Key   flag.Key // the flag, its overrides and its holds
	Actor string
	Since time.Time
	Limit int    // at most this many in a page; 0: 100; the server gives at most 1,000
	Page  string // next of the page before
}

// AuditEntry is one object's change within a commit.
type AuditEntry struct {
	Revision int64     `json:"revision"`
	Ordinal  int       `json:"ordinal"` // from 0 within the revision
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`
	OwnerID  string    `json:"owner_id,omitempty"`
	Action   string    `json:"action"`           // like put_flag
	Object   string    `json:"object"`           // key, key:entity, key:holder, or a token's name
	Before   string    `json:"before,omitempty"` // the object as JSON; "" when it did not exist
	After    string    `json:"after,omitempty"`
	Note     string    `json:"note,omitempty"`
}

// Audit reads a page of the audit log, newest first. next is "" on the last one.
func (c *Client) Audit(ctx context.Context, filter AuditFilter) (entries []AuditEntry, next string, err error) {
	const op = "read the audit log"
	m, err := call(ctx, c, op, again, c.admin.GetAuditLog, &buntingv1.GetAuditLogRequest{
		FlagKey: string(filter.Key), Actor: filter.Actor, Since: wire.FromTime(filter.Since),
		PageSize: int32(min(max(0, filter.Limit), 1000)), PageToken: filter.Page,
	})
	if err != nil {
		return nil, "", err
	}
	entries = make([]AuditEntry, len(m.GetEntries()))
	for i, e := range m.GetEntries() {
		at, err := wire.ToTime(e.GetTime())
		if err != nil {
			return nil, "", c.broken(op, "sent an entry that cannot be read (%v)", err)
		}
		entries[i] = AuditEntry{
			Revision: e.GetRevision(), Ordinal: int(e.GetOrdinal()), Time: at, Actor: e.GetActor(), OwnerID: e.GetOwnerId(),
			Action: e.GetAction(), Object: e.GetObject(), Before: e.GetBefore(), After: e.GetAfter(), Note: e.GetNote(),
		}
	}
	return entries, m.GetNextPageToken(), nil
}
