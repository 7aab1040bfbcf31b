package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// calls makes each procedure once, with a harmless request.
var calls = map[string]func(ctx context.Context, c clients) error{
	pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure: func(ctx context.Context, c clients) error {
		_, err := c.Evaluate(ctx, connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"}))
		return err
	},
	pbflagsv1connect.FlagEvaluatorServiceBulkEvaluateProcedure: func(ctx context.Context, c clients) error {
		_, err := c.BulkEvaluate(ctx, connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{}))
		return err
	},
	pbflagsv1connect.FlagEvaluatorServiceHealthProcedure: func(ctx context.Context, c clients) error {
		_, err := c.Health(ctx, connect.NewRequest(&pbflagsv1.HealthRequest{}))
		return err
	},
	pbflagsv1connect.FlagEvaluatorServiceGetFlagStateProcedure: func(ctx context.Context, c clients) error {
		_, err := c.GetFlagState(ctx, connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: "pay"}))
		return err
	},
	pbflagsv1connect.FlagEvaluatorServiceGetKilledFlagsProcedure: func(ctx context.Context, c clients) error {
		_, err := c.GetKilledFlags(ctx, connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
		return err
	},
	pbflagsv1connect.FlagEvaluatorServiceGetOverridesProcedure: func(ctx context.Context, c clients) error {
		_, err := c.GetOverrides(ctx, connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: "u1"}))
		return err
	},
	buntingv1connect.FlagAdminServiceGetServerProcedure: func(ctx context.Context, c clients) error {
		_, err := c.GetServer(ctx, connect.NewRequest(&buntingv1.GetServerRequest{}))
		return err
	},
	buntingv1connect.FlagAdminServiceGetSnapshotProcedure: func(ctx context.Context, c clients) error {
		stream, err := c.GetSnapshot(ctx, connect.NewRequest(&buntingv1.GetSnapshotRequest{}))
		if err != nil {
			return err
		}
		defer stream.Close()
		for stream.Receive() {
		}
		return stream.Err()
	},
	buntingv1connect.FlagAdminServiceGetProcedure: func(ctx context.Context, c clients) error {
		_, err := c.Get(ctx, connect.NewRequest(&buntingv1.GetRequest{Refs: []*buntingv1.Ref{wire.FromRef(flag.FlagRef("pay"))}}))
		return err
	},
	buntingv1connect.FlagAdminServiceApplyProcedure: func(ctx context.Context, c clients) error {
		_, err := c.Apply(ctx, connect.NewRequest(&buntingv1.ApplyRequest{DryRun: true, Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("new")))}}))
		return err
	},
	buntingv1connect.FlagAdminServiceWatchChangesProcedure: func(ctx context.Context, c clients) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.WatchChanges(ctx, connect.NewRequest(&buntingv1.WatchChangesRequest{}))
		if err != nil {
			return err
		}
		defer stream.Close()
		if stream.Receive() {
			return nil
		}
		return stream.Err()
	},
	buntingv1connect.FlagAdminServiceGetAuditLogProcedure: func(ctx context.Context, c clients) error {
		_, err := c.GetAuditLog(ctx, connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
		return err
	},
	buntingv1connect.FlagAdminServiceCreateTokenProcedure: func(ctx context.Context, c clients) error {
		_, err := c.CreateToken(ctx, connect.NewRequest(&buntingv1.CreateTokenRequest{Name: fmt.Sprintf("t%d", time.Now().UnixNano()), Scopes: []buntingv1.Scope{buntingv1.Scope_SCOPE_READ}}))
		return err
	},
	buntingv1connect.FlagAdminServiceListTokensProcedure: func(ctx context.Context, c clients) error {
		_, err := c.ListTokens(ctx, connect.NewRequest(&buntingv1.ListTokensRequest{}))
		return err
	},
	buntingv1connect.FlagAdminServiceRevokeTokenProcedure: func(ctx context.Context, c clients) error {
		_, err := c.RevokeToken(ctx, connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: "nobody"}))
		if code, _ := told(err); code == connect.CodeNotFound {
			return nil // allowed, and there is none
		}
		return err
	},
	buntingv1connect.FlagAdminServiceResyncProcedure: func(ctx context.Context, c clients) error {
		_, err := c.Resync(ctx, connect.NewRequest(&buntingv1.ResyncRequest{}))
		return err
	},
}

func TestEveryProcedureIsGuarded(t *testing.T) {
	t.Parallel()
	for _, file := range []protoreflect.FileDescriptor{pbflagsv1.File_pbflags_v1_evaluator_proto, buntingv1.File_bunting_v1_admin_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				path := fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(j).Name())
				if p, ok := procedures[path]; !ok || p.scope == 0 || p.bodyBytes == 0 {
					t.Errorf("%s has no place in procedures", path)
				}
				if calls[path] == nil {
					t.Errorf("%s is not called by these tests", path)
				}
				if streams := service.Methods().Get(j).IsStreamingServer(); streams != (procedures[path].limit == 0) {
					t.Errorf("%s has the time limit %s", path, procedures[path].limit)
				}
			}
		}
	}
}

// Every procedure for every kind of caller.
func TestScopes(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")))
	// DESIGN §9, written out.
	includes := map[token.Scope]string{
		token.Evaluate: "evaluate", token.Read: "evaluate read", token.Write: "evaluate read write",
		token.Kill: "evaluate read kill", token.Admin: "evaluate read write kill admin",
	}
	needed := map[string]string{
		"Evaluate": "evaluate", "BulkEvaluate": "evaluate", "Health": "evaluate", "GetFlagState": "evaluate", "GetKilledFlags": "evaluate",
		"GetOverrides": "evaluate", "GetServer": "evaluate", "GetSnapshot": "read", "Get": "read", "Apply": "read", "WatchChanges": "read",
		"GetAuditLog": "read", "CreateToken": "admin", "ListTokens": "admin", "RevokeToken": "admin", "Resync": "admin",
	}
	type caller struct {
		secret string
		code   connect.Code // 0: it depends on the scope
		reason string
		scope  token.Scope
	}
	unknown, _ := token.NewSecret()
	revoked := h.token(t, token.Token{Name: "gone", Scopes: []token.Scope{token.Admin}})
	if _, err := h.as(t, h.admin).RevokeToken(t.Context(), connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: "gone"})); err != nil {
		t.Fatal(err)
	}
	callers := map[string]caller{
		"none":    {"", connect.CodeUnauthenticated, "TOKEN_MISSING", 0},
		"unknown": {unknown, connect.CodeUnauthenticated, "TOKEN_UNKNOWN", 0},
		"expired": {h.token(t, token.Token{Name: "old", Scopes: []token.Scope{token.Admin}, CreatedAt: time.Now().Add(-time.Hour), ExpiresAt: time.Now().Add(-time.Minute)}),
			connect.CodeUnauthenticated, "TOKEN_EXPIRED", 0},
		"revoked": {revoked, connect.CodeUnauthenticated, "TOKEN_REVOKED", 0},
	}
	for scope := range includes {
		callers[scope.String()] = caller{secret: h.scoped(t, scope), scope: scope}
	}
	for path, call := range calls {
		name := path[strings.LastIndex(path, "/")+1:]
		for who, c := range callers {
			for protocol, option := range map[string]connect.ClientOption{"connect": connect.WithClientOptions(), "grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb()} {
				web := http1(t)
				if protocol == "grpc" {
					web = h2c(t)
				}
				err := call(t.Context(), h.over(t, c.secret, web, option))
				code, reason := told(err)
				want, wantReason := c.code, c.reason
				if c.scope != 0 && !strings.Contains(includes[c.scope], needed[name]) {
					want, wantReason = connect.CodePermissionDenied, "SCOPE_TOO_SMALL"
				}
				if code != want || reason != wantReason || want == 0 && err != nil {
					t.Errorf("%s with the token %s over %s: %v (%s), want %v (%s)", name, who, protocol, err, reason, want, wantReason)
				}
				if want == connect.CodePermissionDenied && !strings.Contains(err.Error(), needed[name]) {
					t.Errorf("%s with the token %s: the error does not name the scope %s: %v", name, who, needed[name], err)
				}
			}
		}
	}
}

// What each kind of change needs, and that a dry run needs none of it.
func TestScopesOfChanges(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")))
	h.apply(t, flag.Put(override("pay", "u9", true)), flag.Put(hold("pay", "ops-9")), flag.Put(boolean("old")))
	needs := map[string]struct {
		change flag.Change
		scope  token.Scope
	}{
		"put a flag":         {flag.Put(boolean("new")), token.Write},
		"archive a flag":     {flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef("pay")}, token.Write},
		"restore a flag":     {flag.Change{Op: flag.RestoreFlag, Ref: flag.FlagRef("pay")}, token.Write},
		"delete a flag":      {flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("old")}, token.Write},
		"set an override":    {flag.Put(override("pay", "u1", true)), token.Write},
		"remove an override": {flag.Change{Op: flag.RemoveOverride, Ref: flag.OverrideRef("pay", "u9")}, token.Write},
		"place a hold":       {flag.Put(hold("pay", "ops-1")), token.Kill},
		"release a hold":     {flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("pay", "ops-9")}, token.Kill},
	}
	for _, scope := range []token.Scope{token.Read, token.Write, token.Kill} {
		c := h.as(t, h.scoped(t, scope))
		for name, need := range needs {
			for _, dry := range []bool{true, false} {
				if !dry && scope == need.scope {
					continue // the store's tests say what becomes of it
				}
				response, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{DryRun: dry, Changes: []*buntingv1.Change{wire.FromChange(need.change)}}))
				code, reason := told(err)
				switch {
				case dry:
					if err != nil || response.Msg.GetResults()[0].GetProblem().GetKind() == buntingv1.ProblemKind_PROBLEM_KIND_DENIED && scope == token.Read && need.scope == token.Write {
						t.Errorf("%s, dry, with %s: %v %v", name, scope, err, response)
					}
				case scope == token.Read:
					if code != connect.CodePermissionDenied || reason != "SCOPE_TOO_SMALL" {
						t.Errorf("%s with %s: %v", name, scope, err)
					}
				default:
					problem := response.Msg.GetResults()[0].GetProblem()
					if problem.GetKind() != buntingv1.ProblemKind_PROBLEM_KIND_DENIED || !strings.Contains(problem.GetMessage(), "needs "+need.scope.String()) {
						t.Errorf("%s with %s: %v %v", name, scope, err, problem)
					}
				}
			}
		}
	}
	if flags, overrides, holds := h.server.evaluator.View().Counts(); flags != 2 || overrides != 1 || holds != 1 {
		t.Errorf("something was written: %d flags, %d overrides, %d holds", flags, overrides, holds)
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, key := range []flag.Key{"team-a", "team-a/pay", "team-ab/pay", "team-b/pay"} {
		h.apply(t, flag.Put(boolean(key)))
		h.apply(t, flag.Put(override(key, "u1", false)), flag.Put(hold(key, "ops")))
	}
	c := h.as(t, h.token(t, token.Token{Name: "a", Scopes: []token.Scope{token.Write, token.Kill}, Prefix: "team-a"}))
	ctx := t.Context()
	mine := []string{"team-a", "team-a/pay"}
	check := func(what string, err error, got []string) {
		t.Helper()
		if err != nil || strings.Join(got, " ") != strings.Join(mine, " ") {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	var got []string
	bulk, err := c.BulkEvaluate(ctx, connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{}))
	for _, e := range bulk.Msg.GetEvaluations() {
		got = append(got, e.GetFlagId())
	}
	check("BulkEvaluate", err, got)
	killed, err := c.GetKilledFlags(ctx, connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
	check("GetKilledFlags", err, killed.Msg.GetFlagIds())
	overrides, err := c.GetOverrides(ctx, connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: "u1"}))
	got = nil
	for _, o := range overrides.Msg.GetOverrides() {
		got = append(got, o.GetFlagId())
	}
	check("GetOverrides", err, got)
	snapshot := readSnapshot(t, c, &buntingv1.GetSnapshotRequest{Parts: []buntingv1.Part{buntingv1.Part_PART_FLAGS}})
	check("GetSnapshot", nil, snapshot.ids())
	if snapshot.start.GetPrefix() != "team-a" {
		t.Errorf("the snapshot covers %q", snapshot.start.GetPrefix())
	}
	audit, err := c.GetAuditLog(ctx, connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
	for _, e := range audit.Msg.GetEntries() {
		if key, _, _ := strings.Cut(e.GetObject(), ":"); !flag.Key(key).Under("team-a") {
			t.Errorf("the audit log tells of %q", e.GetObject())
		}
	}
	if err != nil || len(audit.Msg.GetEntries()) != 6 {
		t.Errorf("%d audit entries, %v", len(audit.Msg.GetEntries()), err)
	}
	server, err := c.GetServer(ctx, connect.NewRequest(&buntingv1.GetServerRequest{}))
	if m := server.Msg; err != nil || m.GetFlags() != 2 || m.GetOverrides() != 2 || m.GetHolds() != 2 || m.GetPrefix() != "team-a" {
		t.Errorf("%v %v", m, err)
	}

	for _, key := range []flag.Key{"team-b/pay", "team-ab/pay", "team", "nothing"} {
		for name, call := range map[string]func() error{
			"Evaluate": func() error {
				_, err := c.Evaluate(ctx, connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: string(key)}))
				return err
			},
			"BulkEvaluate": func() error {
				_, err := c.BulkEvaluate(ctx, connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{"team-a/pay", string(key)}}))
				return err
			},
			"GetFlagState": func() error {
				_, err := c.GetFlagState(ctx, connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: string(key)}))
				return err
			},
			"GetOverrides": func() error {
				_, err := c.GetOverrides(ctx, connect.NewRequest(&pbflagsv1.GetOverridesRequest{EntityId: "u1", FlagIds: []string{string(key)}}))
				return err
			},
			"Get": func() error {
				_, err := c.Get(ctx, connect.NewRequest(&buntingv1.GetRequest{Refs: []*buntingv1.Ref{wire.FromRef(flag.HoldRef(key, ""))}}))
				return err
			},
			"GetSnapshot": func() error {
				stream, err := c.GetSnapshot(ctx, connect.NewRequest(&buntingv1.GetSnapshotRequest{Prefix: string(key)}))
				if err != nil {
					return err
				}
				defer stream.Close()
				stream.Receive()
				return stream.Err()
			},
			"GetAuditLog": func() error {
				_, err := c.GetAuditLog(ctx, connect.NewRequest(&buntingv1.GetAuditLogRequest{FlagKey: string(key)}))
				return err
			},
		} {
			if code, reason := told(call()); code != connect.CodePermissionDenied || reason != "PREFIX_DENIED" {
				t.Errorf("%s of %q: %v %s", name, key, code, reason)
			}
		}
		for _, dry := range []bool{true, false} {
			response, err := c.Apply(ctx, connect.NewRequest(&buntingv1.ApplyRequest{DryRun: dry, Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean(key)))}}))
			if err != nil || response.Msg.GetResults()[0].GetProblem().GetKind() != buntingv1.ProblemKind_PROBLEM_KIND_DENIED {
				t.Errorf("Apply to %q, dry %t: %v %v", key, dry, response, err)
			}
		}
	}
}

func TestTheAnswersToABadToken(t *testing.T) {
	t.Parallel()
	h := start(t)
	weak := h.scoped(t, token.Evaluate)
	url := h.endpoint + pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure
	for name, c := range map[string]struct {
		header    []string
		url       string
		status    int
		challenge string
		message   string
	}{
		"none":           {nil, url, 401, `Bearer realm="bunting"`, "no token came with the request"},
		"another scheme": {[]string{"Authorization", "Basic YTpi"}, url, 401, `Bearer realm="bunting"`, "holds no bearer token"},
		"empty":          {[]string{"Authorization", "Bearer "}, url, 401, `Bearer realm="bunting"`, "holds no bearer token"},
		"two":            {[]string{"Authorization", "Bearer " + weak, "Authorization", "Bearer " + weak}, url, 401, `Bearer realm="bunting"`, "once"},
		"unknown":        {[]string{"Authorization", "Bearer something"}, url, 401, `Bearer realm="bunting", error="invalid_token"`, "does not know the token"},
		"too weak": {[]string{"Authorization", "bearer " + weak}, h.endpoint + buntingv1connect.FlagAdminServiceGetProcedure, 403,
			`Bearer realm="bunting", error="insufficient_scope"`, "but this needs read"},
		"good": {[]string{"Authorization", "bearer  " + weak}, url, 200, "", ""},
	} {
		response, body := raw(t, http.MethodPost, c.url, `{"flagId":"x"}`, c.header...)
		if response.StatusCode != c.status || response.Header.Get("WWW-Authenticate") != c.challenge || !strings.Contains(body, c.message) {
			t.Errorf("%s: %s %q %s", name, response.Status, response.Header.Get("WWW-Authenticate"), body)
		}
	}
}

func TestARevokedTokenEndsAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t)
	secret := h.scoped(t, token.Read)
	c := h.as(t, secret)
	stream, err := c.WatchChanges(t.Context(), connect.NewRequest(&buntingv1.WatchChangesRequest{}))
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	defer stream.Close()
	if _, err := h.as(t, h.admin).RevokeToken(t.Context(), connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: "read-only"})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{})); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a call with it: %v", err)
	}
	for stream.Receive() {
	}
	if code, reason := told(stream.Err()); code != connect.CodeUnauthenticated || reason != "TOKEN_REVOKED" {
		t.Errorf("the stream ended with %v", stream.Err())
	}
}

func TestTokenCalls(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.as(t, h.admin)
	ctx := t.Context()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	made, err := c.CreateToken(ctx, connect.NewRequest(&buntingv1.CreateTokenRequest{Name: "ops-anna", Scopes: []buntingv1.Scope{buntingv1.Scope_SCOPE_KILL}, Prefix: "team-a", ExpiresAt: wire.FromTime(expires)}))
	if err != nil {
		t.Fatal(err)
	}
	server, err := h.as(t, made.Msg.GetSecret()).GetServer(ctx, connect.NewRequest(&buntingv1.GetServerRequest{}))
	if err != nil || server.Msg.GetActor() != "ops-anna" || server.Msg.GetPrefix() != "team-a" {
		t.Fatal(server, err)
	}
	// The revision that making a token took is known before the call is answered.
	if head, err := h.store.Head(ctx); err != nil || wire.ToRevision(server.Msg.GetRevision()) != head {
		t.Errorf("told revision %v, the store is at %v (%v)", server.Msg.GetRevision(), head, err)
	}
	for name, bad := range map[string]*buntingv1.CreateTokenRequest{
		"no name": {Scopes: []buntingv1.Scope{1}}, "no scope": {Name: "x"}, "foreign scope": {Name: "x", Scopes: []buntingv1.Scope{77}},
		"Terraform's name": {Name: "terraform", Scopes: []buntingv1.Scope{1}}, "past": {Name: "x", Scopes: []buntingv1.Scope{1}, ExpiresAt: wire.FromTime(time.Now().Add(-time.Hour))},
	} {
		if _, err := c.CreateToken(ctx, connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.CreateToken(ctx, connect.NewRequest(&buntingv1.CreateTokenRequest{Name: "ops-anna", Scopes: []buntingv1.Scope{1}})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a name twice: %v", err)
	}
	revoked, err := c.RevokeToken(ctx, connect.NewRequest(&buntingv1.RevokeTokenRequest{Name: "ops-anna"}))
	if err != nil || revoked.Msg.GetToken().GetRevokedAt() == nil {
		t.Fatal(revoked, err)
	}
	listed, err := c.ListTokens(ctx, connect.NewRequest(&buntingv1.ListTokensRequest{}))
	if err != nil || len(listed.Msg.GetTokens()) != 2 || listed.Msg.GetTokens()[1].GetRevokedAt() == nil {
		t.Error(listed, err)
	}
	if strings.Contains(listed.Msg.String(), token.Hash(made.Msg.GetSecret())) || strings.Contains(h.log.String(), made.Msg.GetSecret()) || strings.Contains(h.log.String(), h.admin) {
		t.Error("a secret or its hash is told")
	}
	// Another server on the same store knows the same tokens.
	other, err := New(ctx, Options{Store: h.store, Root: h.server.root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.authority.verify(ctx, "", token.Hash(h.admin), time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := other.authority.verify(ctx, "", token.Hash(made.Msg.GetSecret()), time.Now()); err == nil {
		t.Error("it takes a revoked token")
	}
}
