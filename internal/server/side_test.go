package server

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// onPublic are the calls that stay at listen, as the issue names them; all others
// are of the admin side.
var onPublic = []string{"Evaluate", "BulkEvaluate", "Health", "GetFlagState", "GetKilledFlags", "GetOverrides", "GetServer", "Get", "GetSnapshot", "WatchChanges"}

func nameOf(path string) string { return path[strings.LastIndex(path, "/")+1:] }

func isPublic(path string) bool { return slices.Contains(onPublic, nameOf(path)) }

func TestTheAdminSideHasAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, func(o *Options) { o.AdminListener = own })
	at := *h
	at.endpoint = "http://" + own.Addr().String()
	at.apply(t, flag.Put(boolean("pay")))
	for path, call := range calls {
		for protocol, option := range map[string]connect.ClientOption{"connect": connect.WithClientOptions(), "grpc": connect.WithGRPC()} {
			web := http1(t)
			if protocol == "grpc" {
				web = h2c(t)
			}
			if err := call(t.Context(), at.over(t, h.admin, web, option)); err != nil {
				t.Errorf("%s by %s at the admin side: %v", path, protocol, err)
			}
			err := call(t.Context(), h.over(t, h.admin, web, option))
			code, reason := told(err)
			if isPublic(path) && err != nil || !isPublic(path) && (code != connect.CodeUnimplemented || reason != "ADMIN_ELSEWHERE") {
				t.Errorf("%s by %s at listen: %v", path, protocol, err)
			}
			if err != nil && strings.Contains(err.Error(), own.Addr().String()) {
				t.Errorf("%s tells the address: %v", path, err)
			}
			// Whoever has no token is told nothing.
			if code, reason := told(call(t.Context(), h.over(t, "", web, option))); code != connect.CodeUnauthenticated || reason != "TOKEN_MISSING" {
				t.Errorf("%s by %s without a token: %v %s", path, protocol, code, reason)
			}
		}
	}
	for _, endpoint := range []string{h.endpoint, at.endpoint} {
		if response, body := raw(t, http.MethodGet, endpoint+"/readyz", ""); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", endpoint, response.Status, body)
		}
	}
	if err := h.drain(); err != nil {
		t.Error(err)
	}
	for _, endpoint := range []string{h.endpoint, at.endpoint} {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://")); err == nil {
			conn.Close()
			t.Errorf("%s is still listened on", endpoint)
		}
	}
}

func TestTheAdminSideOff(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *Options) { o.AdminOff = true })
	for path, call := range calls {
		err := call(t.Context(), h.as(t, h.admin))
		code, reason := told(err)
		if isPublic(path) && err != nil || !isPublic(path) && (code != connect.CodeUnimplemented || reason != "ADMIN_OFF") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A listener that fails ends the server, and frees the other one.
func TestAListenerThatFails(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	h := start(t, func(o *Options) { o.AdminListener = own })
	<-h.ended
	if err := h.drain(); err == nil || !strings.Contains(err.Error(), "serve on "+own.Addr().String()) {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(h.endpoint, "http://")); err == nil {
		conn.Close()
		t.Error("the other one is still listened on")
	}
}

func TestCallersWithoutATokenMayEvaluateWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *Options) { o.Anonymous = true })
	h.apply(t, flag.Put(boolean("pay")))
	unknown, _ := token.NewSecret()
	for path, call := range calls {
		code, reason := told(call(t.Context(), h.as(t, "")))
		if needs := procedures[path].scope; needs == token.Evaluate && code != 0 || needs != token.Evaluate && (code != connect.CodeUnauthenticated || reason != "TOKEN_MISSING") {
			t.Errorf("%s without a token: %v %s", path, code, reason)
		}
		if code, reason := told(call(t.Context(), h.as(t, unknown))); code != connect.CodeUnauthenticated || reason != "TOKEN_UNKNOWN" {
			t.Errorf("%s with a wrong token: %v %s", path, code, reason)
		}
	}
	for _, header := range []string{"Basic YTpi", "Bearer ", ""} {
		if response, body := raw(t, http.MethodPost, h.endpoint+evaluatePath, `{"flagId":"pay"}`, "Authorization", header); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("Authorization: %q is answered %s %s", header, response.Status, body)
		}
	}
	server, err := h.as(t, "").GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{}))
	if err != nil || server.Msg.GetActor() != "anonymous" || len(server.Msg.GetScopes()) != 1 || server.Msg.GetScopes()[0] != buntingv1.Scope_SCOPE_EVALUATE {
		t.Error(server, err)
	}
	if _, err := h.as(t, h.admin).Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("more")))}})); err != nil {
		t.Errorf("a token does less than before: %v", err)
	}
}

func TestCutEndsRunWithBothListeners(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, func(o *Options) { o.AdminListener = own })
	h.server.Cut()
	<-h.ended
	if conn, err := net.Dial("tcp", own.Addr().String()); err == nil {
		conn.Close()
		t.Error("the admin side is still listened on")
	}
}
