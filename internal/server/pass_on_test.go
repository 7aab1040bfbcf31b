package server

import (
	"bytes"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func protocols(t *testing.T, h *harness, secret string) map[string]clients {
	t.Helper()
	return map[string]clients{
		"Connect": h.as(t, secret), "JSON": h.as(t, secret, connect.WithProtoJSON()),
		"gRPC": h.over(t, secret, h2c(t), connect.WithGRPC()), "gRPC-Web": h.as(t, secret, connect.WithGRPCWeb()),
	}
}

func TestWhoWritesThroughAProxyReadsItThere(t *testing.T) {
	t.Parallel()
	c := chain(t)
	for name, far := range protocols(t, c.far, c.root.admin) {
		key := flag.Key("made-over/" + name)
		response, err := far.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean(key)))}, Note: "by " + name}))
		if err != nil || response.Msg.GetResults()[0].GetStatus() != buntingv1.ResultStatus_RESULT_STATUS_APPLIED {
			t.Fatalf("%s: %v %v", name, response, err)
		}
		if answer := evaluated(t, far, key, ""); !answer.GetValue().GetBoolValue() {
			t.Errorf("%s: %v", name, answer)
		}
	}
	// The change is the caller's, whoever's token the proxies have.
	writer := c.root.token(t, token.Token{Name: "writer", Scopes: []token.Scope{token.Write}})
	request := connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("hers")))}, RequestId: "once"})
	request.Header().Set(requestIDHeader, "find-me")
	for range 2 {
		if _, err := c.far.as(t, writer).Apply(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	log, err := c.far.as(t, c.root.admin).GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{FlagKey: "hers"}))
	if err != nil || len(log.Msg.GetEntries()) != 1 || log.Msg.GetEntries()[0].GetActor() != "writer" {
		t.Errorf("%v %v", log, err)
	}
	if !c.lower.saw("find-me") || !c.upper.saw("find-me") {
		t.Error("the request's id was not passed on")
	}
	// A dry run is judged by the root and changes nothing.
	dry, err := c.far.as(t, writer).Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{DryRun: true, Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("never")))}}))
	if err != nil || dry.Msg.GetResults()[0].GetStatus() != buntingv1.ResultStatus_RESULT_STATUS_APPLIED {
		t.Errorf("%v %v", dry, err)
	}
	if answer := evaluated(t, c.far.as(t, writer), "never", ""); answer.GetErrorCode() == "" {
		t.Error(answer)
	}
}

// What the root refuses comes through two proxies as it was said.
func TestARefusalIsPassedOnUnchanged(t *testing.T) {
	t.Parallel()
	c := chain(t)
	reader, writer := c.root.scoped(t, token.Read), c.root.scoped(t, token.Write)
	first := &buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("a")))}, RequestId: "used"}
	if _, err := c.root.as(t, writer).Apply(t.Context(), connect.NewRequest(first)); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		secret string
		call   func(c clients) error
	}{
		"a request id for other content": {writer, func(c clients) error {
			_, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("b")))}, RequestId: "used"}))
			return err
		}},
		"a scope too small": {reader, func(c clients) error { // with a challenge beside it
			_, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("b")))}}))
			return err
		}},
		"a problem": {c.root.admin, func(c clients) error {
			_, err := c.CreateToken(t.Context(), connect.NewRequest(&buntingv1.CreateTokenRequest{Name: "admin", Scopes: []buntingv1.Scope{1}}))
			return err
		}},
		"nobody": {c.root.admin, func(c clients) error {
			_, err := c.RevokeToken(t.Context(), connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: "nobody"}))
			return err
		}},
		"a bad page": {reader, func(c clients) error {
			_, err := c.GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{PageToken: "x"}))
			return err
		}},
	} {
		root, far := protocols(t, c.root, row.secret), protocols(t, c.far, row.secret)
		for protocol := range root {
			want, got := asConnect(row.call(root[protocol])), asConnect(row.call(far[protocol]))
			if want == nil || got == nil || want.Code() != got.Code() || want.Message() != got.Message() || !slices.EqualFunc(want.Details(), got.Details(), sameDetail) {
				t.Errorf("%s over %s: the root says %v, the far proxy %v", name, protocol, want, got)
				continue
			}
			if want.Meta().Get("WWW-Authenticate") != got.Meta().Get("WWW-Authenticate") {
				t.Errorf("%s over %s: the challenge is %q, not %q", name, protocol, got.Meta().Get("WWW-Authenticate"), want.Meta().Get("WWW-Authenticate"))
			}
		}
	}
}

func asConnect(err error) *connect.Error {
	e, _ := err.(*connect.Error) //nolint:errorlint // as the client gives it
	return e
}

func sameDetail(a, b *connect.ErrorDetail) bool {
	return a.Type() == b.Type() && bytes.Equal(a.Bytes(), b.Bytes())
}

// Too many requests and a request that is too large have one code, and two statuses.
func TestAnUpstreamThatHasTooMuchToDo(t *testing.T) {
	t.Parallel()
	root := start(t)
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	for _, status := range []int{http.StatusTooManyRequests, http.StatusRequestEntityTooLarge} {
		before.mu.Lock()
		before.instead = func(w http.ResponseWriter, r *http.Request) {
			if path.Base(r.URL.Path) != "ListTokens" {
				root.server.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"code":"resource_exhausted","message":"enough"}`)
		}
		before.mu.Unlock()
		response, body := raw(t, http.MethodPost, h.endpoint+buntingv1connect.FlagAdminServiceListTokensProcedure, "{}", "Authorization", "Bearer "+root.admin, "Content-Type", "application/json")
		if response.StatusCode != status || response.Header.Get("Retry-After") != "7" || !strings.Contains(body, `"message":"enough"`) {
			t.Errorf("%s %v %s", response.Status, response.Header, body)
		}
	}
}

// Who removed an object stands in the audit log. Without the upstream the rest of
// the answer is right all the same.
func TestRemovalsAreToldByTheRoot(t *testing.T) {
	t.Parallel()
	root := start(t)
	root.apply(t, flag.Put(boolean("gone")))
	root.apply(t, flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("gone")})
	before := newGate(t, root.server)
	h := behind(t, before.URL, root.admin)
	question := &buntingv1.GetRequest{Refs: []*buntingv1.Ref{wire.FromRef(flag.FlagRef("gone"))}, TellRemovals: true}
	response, err := h.as(t, root.admin).Get(t.Context(), connect.NewRequest(question))
	if err != nil || response.Msg.GetObjects()[0].GetRemoved().GetActor() != "admin" {
		t.Fatal(response, err)
	}
	before.set(down)
	response, err = h.as(t, root.admin).Get(t.Context(), connect.NewRequest(question))
	if err != nil || response.Msg.GetObjects()[0].GetAbsent().GetFlag() != "gone" || response.Msg.GetObjects()[0].GetRemoved() != nil {
		t.Error(response, err)
	}
}

// A call that comes back to a server which passed it on does not go round again.
func TestACallDoesNotGoRound(t *testing.T) {
	t.Parallel()
	c := chain(t)
	// The far proxy becomes the upstream of the near one.
	c.upper.mu.Lock()
	c.upper.behind = c.far.server
	c.upper.mu.Unlock()
	began := time.Now()
	_, err := c.far.as(t, c.root.admin).ListTokens(t.Context(), connect.NewRequest(&buntingv1.ListTokensRequest{}))
	if code, _ := told(err); code == connect.CodeFailedPrecondition {
		if !strings.Contains(err.Error(), "leads back to it") {
			t.Error(err)
		}
	} else {
		t.Errorf("%v", err)
	}
	_, err = c.far.as(t, "bunting_unknown").ListTokens(t.Context(), connect.NewRequest(&buntingv1.ListTokensRequest{}))
	if code, _ := told(err); code != connect.CodeUnavailable {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if n := c.upper.count("ListTokens"); n != 1 {
		t.Errorf("it went round %d times", n)
	}
}
