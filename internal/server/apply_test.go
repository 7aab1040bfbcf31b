package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func adminBatch(changes ...flag.Change) store.Batch {
	return store.Batch{Changes: changes, Actor: token.Actor{Name: "admin", Scopes: []token.Scope{token.Admin}}, Now: time.Now()}
}

// unreadable are changes of which the domain cannot hold what came.
var unreadable = map[string]*buntingv1.Change{
	"nothing":       {},
	"an int string": {Change: &buntingv1.Change_PutFlag{PutFlag: &buntingv1.Flag{Key: "x", Type: 100, DefaultValue: &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_JsonValue{JsonValue: "{"}}}}},
	"a time":        {Change: &buntingv1.Change_PlaceHold{PlaceHold: &buntingv1.Hold{FlagKey: "pay", Holder: "ops", Reason: "r", ExpiresAt: &timestamppb.Timestamp{Nanos: -1}}}},
	"no override":   {Change: &buntingv1.Change_SetOverride{}},
}

func TestOneBadChangeDoesNotFailItsNeighbours(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")))
	c := h.as(t, h.admin)
	for name, bad := range unreadable {
		for _, atomic := range []bool{true, false} {
			for _, dry := range []bool{true, false} {
				before := h.server.evaluator.View().Revision
				key := flag.Key("new-" + strings.ReplaceAll(name, " ", "-"))
				response, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Atomic: atomic, DryRun: dry, Changes: []*buntingv1.Change{
					wire.FromChange(flag.Put(boolean(key))), bad, wire.FromChange(flag.Put(boolean("bad key"))), wire.FromChange(flag.Put(boolean(key + "-too"))),
				}}))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				good := buntingv1.ResultStatus_RESULT_STATUS_APPLIED
				if atomic {
					good = buntingv1.ResultStatus_RESULT_STATUS_ABANDONED
				}
				r := response.Msg.GetResults()
				if len(r) != 4 || r[0].GetStatus() != good || r[3].GetStatus() != good ||
					r[1].GetStatus() != buntingv1.ResultStatus_RESULT_STATUS_REFUSED || r[1].GetProblem().GetKind() != buntingv1.ProblemKind_PROBLEM_KIND_INVALID || r[1].GetProblem().GetMessage() == "" {
					t.Errorf("%s, atomic %t, dry %t: %v", name, atomic, dry, r)
				}
				after := h.server.evaluator.View()
				if written := after.Flag(key) != nil; written == (atomic || dry) || (after.Revision != before) != written {
					t.Errorf("%s, atomic %t, dry %t: written %t, from %v to %v", name, atomic, dry, written, before, after.Revision)
				}
			}
		}
	}
}

func TestABatchThatIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.as(t, h.admin)
	change := []*buntingv1.Change{wire.FromChange(flag.Put(boolean("pay")))}
	for name, request := range map[string]*buntingv1.ApplyRequest{
		"a long note":       {Changes: change, Note: strings.Repeat("n", store.MaxNoteBytes+1)},
		"a long request id": {Changes: change, RequestId: strings.Repeat("n", store.MaxRequestIDBytes+1)},
		"too many changes":  {Changes: slices.Repeat(change, store.MaxChanges+1)},
	} {
		for _, dry := range []bool{true, false} {
			request.DryRun = dry
			if _, err := c.Apply(t.Context(), connect.NewRequest(request)); connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("%s, dry %t: %v", name, dry, err)
			}
		}
	}
	if response, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{})); err != nil || len(response.Msg.GetResults()) != 0 {
		t.Errorf("no change at all: %v %v", response, err)
	}
}

func TestARepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.as(t, h.admin)
	request := &buntingv1.ApplyRequest{RequestId: "r-1", Note: "why", Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("pay")))}}
	first, err := c.Apply(t.Context(), connect.NewRequest(request))
	if err != nil {
		t.Fatal(err)
	}
	h.apply(t, flag.Put(boolean("other")))
	second, err := c.Apply(t.Context(), connect.NewRequest(request))
	if err != nil || second.Msg.GetRevision().GetNumber() != first.Msg.GetRevision().GetNumber() || second.Msg.GetResults()[0].GetStatus() != buntingv1.ResultStatus_RESULT_STATUS_APPLIED {
		t.Errorf("%v %v, want %v", second, err, first)
	}
	request.Note = "another"
	_, err = c.Apply(t.Context(), connect.NewRequest(request))
	if code, reason := told(err); code != connect.CodeInvalidArgument || reason != "REQUEST_ID_REUSED" {
		t.Errorf("other content: %v", err)
	}
}

func TestAStoreThatFails(t *testing.T) {
	t.Parallel()
	h := start(t)
	c, reader := h.as(t, h.admin), h.as(t, h.scoped(t, token.Read))
	h.store.set(func(string) error { return errors.New("the disk at /var/lib is full") })
	for name, call := range map[string]func() error{
		"Apply": func() error {
			_, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("pay")))}}))
			return err
		},
		"Audit": func() error {
			_, err := c.GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
			return err
		},
		"Tokens": func() error {
			_, err := c.ListTokens(t.Context(), connect.NewRequest(&buntingv1.ListTokensRequest{}))
			return err
		},
	} {
		err := call()
		if connect.CodeOf(err) != connect.CodeInternal || !strings.Contains(err.Error(), "the server's store failed: the disk at /var/lib is full") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who only reads is not told where the server keeps its files.
	_, err := reader.GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
	if connect.CodeOf(err) != connect.CodeInternal || !strings.Contains(err.Error(), "under the request id") || strings.Contains(err.Error(), "/var/lib") {
		t.Errorf("a reader is told: %v", err)
	}
	if !strings.Contains(h.log.String(), `"code":"internal","error":"apply changes: the disk at /var/lib is full"`) {
		t.Errorf("the line of the request does not say why:\n%s", h.log)
	}
	h.store.set(func(string) error {
		return fmt.Errorf("%w: connection refused by a server that repeats %s%s", store.ErrUnreachable, h.admin, strings.Repeat("x", 2*maxCauseBytes))
	})
	response, text := raw(t, http.MethodPost, h.endpoint+buntingv1connect.FlagAdminServiceListTokensProcedure, "{}", "Authorization", "Bearer "+h.admin)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, `"unavailable"`) || !strings.Contains(text, "the server's store does not answer: the database cannot be reached: connection refused") {
		t.Errorf("a store that cannot be reached: %d %.300s", response.StatusCode, text)
	}
	if log := h.log.String(); strings.Contains(log, h.admin) || !strings.Contains(log, `"code":"unavailable","error":"list the tokens: the database cannot be reached`) || strings.Contains(log, strings.Repeat("x", maxCauseBytes)) {
		t.Errorf("the log says:\n%s", log)
	}
	// What is in memory is answered all the same.
	if _, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"})); err != nil {
		t.Error(err)
	}
	h.store.set(nil)
	h.apply(t, flag.Put(boolean("pay")))
}

func TestTheAuditLog(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("a")), flag.Put(boolean("b")))
	h.apply(t, flag.Put(hold("a", "ops")))
	c := h.as(t, h.admin)
	list := func(request *buntingv1.GetAuditLogRequest) (lines []string, next string) {
		t.Helper()
		response, err := c.GetAuditLog(t.Context(), connect.NewRequest(request))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range response.Msg.GetEntries() {
			lines = append(lines, e.GetAction()+" "+e.GetObject())
			if e.GetTime() == nil || e.GetActor() == "" || e.GetAfter() == "" || strings.Contains(e.GetAfter(), "hash") {
				t.Errorf("%v", e)
			}
		}
		return lines, response.Msg.GetNextPageToken()
	}
	all, next := list(&buntingv1.GetAuditLogRequest{})
	if want := "place_hold a:ops, put_flag b, put_flag a, create_token admin"; strings.Join(all, ", ") != want || next != "" {
		t.Errorf("%v, next %q", all, next)
	}
	var paged []string
	for page := ""; ; {
		var lines []string
		lines, page = list(&buntingv1.GetAuditLogRequest{PageSize: 1, PageToken: page})
		if paged = append(paged, lines...); page == "" {
			break
		}
	}
	if strings.Join(paged, ", ") != strings.Join(all, ", ") {
		t.Errorf("by pages: %v", paged)
	}
	if some, _ := list(&buntingv1.GetAuditLogRequest{FlagKey: "a", Actor: "admin"}); len(some) != 2 {
		t.Errorf("of a: %v", some)
	}
	for name, bad := range map[string]*buntingv1.GetAuditLogRequest{
		"a page that is none": {PageToken: "x"}, "a negative size": {PageSize: -1}, "a time that is none": {Since: &timestamppb.Timestamp{Nanos: -1}},
	} {
		if _, err := c.GetAuditLog(t.Context(), connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// With each result come the holds of its flag, to callers who may see them.
func TestResultsTellTheHolds(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("team-a/pay")), flag.Put(boolean("team-b/pay")))
	h.apply(t, flag.Put(hold("team-a/pay", "ops")), flag.Put(hold("team-b/pay", "ops")))
	c := h.as(t, h.token(t, token.Token{Name: "a", Scopes: []token.Scope{token.Write, token.Kill}, Prefix: "team-a"}))
	broken := wire.FromChange(flag.Put(boolean("team-b/pay")))
	broken.GetPutFlag().Value = &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_JsonValue{JsonValue: "{"}}
	for _, atomic := range []bool{false, true} {
		response, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Atomic: atomic, Changes: []*buntingv1.Change{
			wire.FromChange(flag.Put(hold("team-a/pay", "ops-2"))), wire.FromChange(flag.Put(boolean("team-b/pay"))), broken,
		}}))
		if err != nil {
			t.Fatal(err)
		}
		want := []int{2, 0, 0} // the second round finds what the first one placed
		for i, r := range response.Msg.GetResults() {
			if len(r.GetHolds()) != want[i] {
				t.Errorf("atomic %t, change %d: %v", atomic, i, r)
			}
			if i > 0 && r.GetObject() != nil {
				t.Errorf("atomic %t, change %d tells of an object that the caller may not see: %v", atomic, i, r)
			}
		}
	}
}
