package server

import (
	"context"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// auditPages is how many pages of the log are searched in one call for entries
// under a caller's prefix. The caller goes on from where it ended.
const auditPages = 10

// GetAuditLog lists audit entries, newest first.
func (s admin) GetAuditLog(ctx context.Context, request *connect.Request[buntingv1.GetAuditLogRequest]) (*connect.Response[buntingv1.GetAuditLogResponse], error) {
	m := request.Msg
	since, err := wire.ToTime(m.GetSince())
	if err != nil {
		return nil, invalid("since: %w", err)
	}
	if m.GetPageSize() < 0 {
		return nil, invalid("page_size is %d. Ask for 1 to 1,000 entries, or leave it out for 100", m.GetPageSize())
	}
	filter := store.AuditFilter{Key: flag.Key(m.GetFlagKey()), Actor: m.GetActor(), Since: since, Limit: int(m.GetPageSize()), Page: m.GetPageToken()}
	c := callerOf(ctx)
	if filter.Key != "" {
		if err := covered(c.Covers(filter.Key)); err != nil {
			return nil, err
		}
	}
	response := &buntingv1.GetAuditLogResponse{}
	for range auditPages {
		entries, next, err := s.store.Audit(ctx, filter)
		if err != nil {
			return nil, s.answerError(ctx, "read the audit log", err)
		}
		for _, e := range entries {
			if e.Key.Under(c.Prefix) { // what is about tokens has no key: it is for callers without a prefix
				response.Entries = append(response.Entries, auditMessage(e))
			}
		}
		response.NextPageToken = next
		filter.Page = next
		if next == "" || len(response.GetEntries()) > 0 {
			break
		}
	}
	return connect.NewResponse(response), nil
}

func auditMessage(e store.AuditEntry) *buntingv1.AuditEntry {
	return &buntingv1.AuditEntry{
		Revision: e.Revision, Ordinal: int32(e.Ordinal), Time: wire.FromTime(e.Time), Actor: e.Actor, OwnerId: e.OwnerID, //nolint:gosec // at most two for each of store.MaxChanges
		Action: e.Action, Object: e.Object, Before: e.Before, After: e.After, Note: e.Note,
	}
}
