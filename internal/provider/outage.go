package provider

import (
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

// A server that dies within a walk is told once (DESIGN §6.5): by the first Read
// of a managed resource that misses it. Terraform accepts no plan and no refresh
// in which that error stands, so the other Reads give back the state that they
// got, and ask nobody. Creates, updates, deletes and data sources each report.

// lost reports whether a Read of this walk has told that the server is dead.
func (s *session) lost() bool { return s != nil && s.dead.Load() }

// unread tells why a Read, or a look before a plan, got no answer, unless that was
// told.
func (s *session) unread(diags *diag.Diagnostics, doing string, err error) {
	if !noAnswerForAnybody(err) {
		failed(diags, doing, err)
		return
	}
	if s == nil || !s.dead.CompareAndSwap(false, true) {
		return
	}
	var told diag.Diagnostics
	failed(&told, doing, err)
	for _, d := range told {
		diags.AddError(d.Summary(), d.Detail()+" Nothing else was read after that, and the state stays as it is.")
	}
}

// noAnswerForAnybody reports whether the error is one of the server, or of the way
// to it, and not of what it was asked about.
func noAnswerForAnybody(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case client.Unavailable, client.Timeout, client.RateLimited, client.Unauthenticated, client.NotFlagServer, client.Untrusted:
		return true
	default:
		return false
	}
}
