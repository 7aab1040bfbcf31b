package server

import (
	"context"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Resync tells of another store that is refused (DESIGN §4), or accepts it.
func (s admin) Resync(ctx context.Context, request *connect.Request[buntingv1.ResyncRequest]) (*connect.Response[buntingv1.ResyncResponse], error) {
	m := request.Msg
	view := s.evaluator.View()
	refusal := s.evaluator.Refused()
	response := &buntingv1.ResyncResponse{Served: wire.FromRevision(view.Revision), Found: wire.FromRevision(view.Revision)}
	flags, _, _ := view.Counts()
	response.ServedFlags, response.FoundFlags = int64(flags), int64(flags)
	if refusal != nil {
		response.Found, response.Reason, response.FoundFlags = wire.FromRevision(refusal.Found), refusal.Error(), int64(refusal.FoundFlags)
		for _, ref := range refusal.LostHolds {
			response.LostHolds = append(response.LostHolds, wire.FromRef(ref).GetHold())
		}
	}
	former := m.GetSupersedes()
	if former == "" && refusal != nil {
		former = refusal.Known.StoreID
	}
	if !m.GetAccept() || former == "" || former == response.GetFound().GetStoreId() {
		return connect.NewResponse(response), nil
	}
	if _, err := s.root.Supersede(ctx, former, callerOf(ctx).Name); err != nil {
		return nil, s.answerError(ctx, "accept the store", err)
	}
	response.Served = wire.FromRevision(s.evaluator.View().Revision)
	return connect.NewResponse(response), nil
}
