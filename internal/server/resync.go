package server

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Resync tells of another store that is refused (DESIGN §4), or accepts it.
func (s admin) Resync(ctx context.Context, request *connect.Request[buntingv1.ResyncRequest]) (*connect.Response[buntingv1.ResyncResponse], error) {
	m := request.Msg
	response := s.resyncReport(ctx)
	formers := formerStores(m, response)
	if !m.GetAccept() || len(formers) == 0 {
		return connect.NewResponse(response), nil
	}
	if p := checkFound(m.GetFoundStoreId(), response.GetFound().GetStoreId()); p != nil {
		return nil, problemError(p)
	}
	for _, former := range formers {
		if _, err := s.root.Supersede(ctx, former, callerOf(ctx).Name); err != nil {
			return nil, s.answerError(ctx, "accept the store", err)
		}
	}
	response.Served = wire.FromRevision(s.evaluator.View().Revision)
	return connect.NewResponse(response), nil
}

// Resync tells of another store that is refused, here or upstream, or accepts it:
// the upstream writes down whose place its store takes, so that everybody who
// follows it hears of it.
func (s passing) Resync(ctx context.Context, request *connect.Request[buntingv1.ResyncRequest]) (*connect.Response[buntingv1.ResyncResponse], error) {
	m := request.Msg
	refusal := s.evaluator.Refused()
	if refusal != nil && m.GetAccept() && m.GetSupersedes() == "" {
		m.Supersedes = refusal.Known.Place()
	}
	response, err := passOn(ctx, s.Server, buntingv1connect.FlagAdminServiceClient.Resync, m)
	if err == nil && refusal != nil {
		view := s.evaluator.View()
		flags, _, _ := view.Counts()
		response.Msg.Served, response.Msg.ServedFlags = wire.FromRevision(view.Revision), int64(flags)
		tellRefusal(response.Msg, refusal)
	}
	return response, err
}

// resyncReport tells what is served, and what the store holds instead, as it is
// now: the last heartbeat may have come before the store became another one.
func (s admin) resyncReport(ctx context.Context) *buntingv1.ResyncResponse {
	err := s.root.CatchUp(ctx)
	refusal := s.evaluator.Refused()
	view := s.evaluator.View()
	flags, _, _ := view.Counts()
	response := &buntingv1.ResyncResponse{Served: wire.FromRevision(view.Revision), ServedFlags: int64(flags)}
	switch {
	case refusal != nil:
		tellRefusal(response, refusal)
	case err == nil:
		response.Found, response.FoundFlags = response.GetServed(), int64(flags)
	default:
		response.Reason = "the store does not answer: " + err.Error()
	}
	return response
}

func tellRefusal(to *buntingv1.ResyncResponse, refusal *evaluator.RefusalError) {
	to.Found, to.Reason, to.FoundFlags = wire.FromRevision(refusal.Found), refusal.Error(), int64(refusal.FoundFlags)
	to.LostHolds = nil
	for _, ref := range refusal.LostHolds {
		to.LostHolds = append(to.LostHolds, wire.FromRef(ref).GetHold())
	}
}

// checkFound refuses to accept another store than the one that was looked at.
func checkFound(looked, found string) *flag.Problem {
	switch {
	case looked == "":
		return flag.Invalid("found_store_id", "is missing. Name the store that is to be accepted, as it is told without accept.")
	case found == "":
		return &flag.Problem{Kind: flag.ProblemConflict, Field: "found_store_id", Message: fmt.Sprintf("is %q, but the store does not answer now. Nothing was accepted. Try again later.", looked)}
	case looked != found:
		return &flag.Problem{Kind: flag.ProblemConflict, Field: "found_store_id", Message: fmt.Sprintf("is %q, but the store is %q now. Nothing was accepted. Look at it with \"bunting resync\", at the server whose database it is, before it is accepted.", looked, found)}
	}
	return nil
}

// formerStores gives the stores whose place is to be taken: the one that the
// request names, as a proxy does for what it serves itself, and the one that this
// server serves instead of what it found.
func formerStores(m *buntingv1.ResyncRequest, report *buntingv1.ResyncResponse) []string {
	served := wire.ToRevision(report.GetServed())
	var formers []string
	if named := m.GetSupersedes(); named != "" {
		formers = append(formers, named)
	}
	if report.GetReason() != "" && served.StoreID != report.GetFound().GetStoreId() && served.Place() != m.GetSupersedes() {
		formers = append(formers, served.Place())
	}
	return formers
}
