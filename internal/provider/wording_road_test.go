package provider

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/zclconf/go-cty/cty"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// page answers with an HTML page.
func page(status int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		io.WriteString(w, "<html>no</html>")
	}
}

// anyBody answers with any body; a kind of "-" is none.
func anyBody(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if kind == "-" {
			w.Header()["Content-Type"] = nil
		} else {
			w.Header().Set("Content-Type", kind)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// garbled answers with what is not HTTP.
func garbled(w http.ResponseWriter, _ *http.Request) {
	if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
		io.WriteString(connection, "hello\r\n\r\n")
		connection.Close()
	}
}

// brokenPage breaks off an HTML page.
func brokenPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", "100")
	io.WriteString(w, "<html>")
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// answers gives every call the message for an answer.
func answers(m proto.Message) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, _ := proto.Marshal(m)
		w.Header().Set("Content-Type", "application/proto")
		w.Write(body)
	}
}

// refuses answers every call with an error of the Connect protocol.
func refuses(code connect.Code, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := connect.NewError(code, errors.New(message))
		if detail, e := connect.NewErrorDetail(&buntingv1.ErrorDetail{Reason: reason}); e == nil && reason != "" {
			err.AddDetail(detail)
		}
		connect.NewErrorWriter().Write(w, r, err)
	}
}

// vast answers as a server does that has too much to be read at once.
func vast(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/GetServer") {
			answers(&buntingv1.GetServerResponse{Protocol: wire.Protocol, OldestProtocol: wire.Protocol, Environment: "test", SnapshotBytes: 1 << 40})(w, r)
			return
		}
		answer(w, r)
	}
}

// lists answers with a stream of messages.
func lists(messages ...*buntingv1.GetSnapshotResponse) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/connect+proto")
		envelope := func(kind byte, body []byte) {
			w.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))), body...))
		}
		for _, m := range messages {
			body, _ := proto.Marshal(m)
			envelope(0, body)
		}
		envelope(2, []byte("{}"))
	}
}

// begins, objects and end make the messages of a list.
func begins(s *buntingv1.SnapshotStart) *buntingv1.GetSnapshotResponse {
	return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Start{Start: s}}
}

func objects(all ...*buntingv1.Object) *buntingv1.GetSnapshotResponse {
	return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Objects{Objects: &buntingv1.SnapshotObjects{Objects: all}}}
}

func end(count int64, checksum []byte) *buntingv1.GetSnapshotResponse {
	return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_End{End: &buntingv1.SnapshotEnd{Count: count, Checksum: checksum}}}
}

// What a server may send.
var (
	start     = begins(&buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL})
	changes   = begins(&buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_DELTA})
	otherPart = begins(&buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, Prefix: "other"})
	oneKind   = begins(&buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, Parts: []buntingv1.Part{buntingv1.Part_PART_FLAGS}})

	notJSON    = &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_JsonValue{JsonValue: "{"}}
	pay        = &buntingv1.Object{Object: &buntingv1.Object_Flag{Flag: &buntingv1.Flag{Key: "pay"}}}
	another    = &buntingv1.Object{Object: &buntingv1.Object_Flag{Flag: &buntingv1.Flag{Key: "other"}}}
	unreadable = &buntingv1.Object{Object: &buntingv1.Object_Flag{Flag: &buntingv1.Flag{Key: "pay", DefaultValue: notJSON}}}
)

// greeted makes a case in which something is wrong with the server when it is
// greeted.
func greeted(name string, faults ...http.HandlerFunc) wordingCase {
	return wordingCase{name, func(s *wordingScene) {
		proxy := s.proxy()
		for _, fault := range faults {
			proxy.fails("", fault)
			s.plans()
		}
	}}
}

// met makes a case in which something is wrong when the flag is read.
func met(name string, faults ...http.HandlerFunc) wordingCase {
	return wordingCase{name, func(s *wordingScene) {
		proxy := s.proxy()
		for _, fault := range faults {
			proxy.fails("GetServer", fault)
			s.reads("bunting_flag", `{"key": "pay"}`)
		}
	}}
}

var roadWording = []wordingCase{
	{"nobody listens", func(s *wordingScene) {
		s.server.Stop()
		s.plans()
	}},
	{"the server ends before anything is read", func(s *wordingScene) {
		s.ready(s.flag(""))
		proxy := s.proxy()
		proxy.fails("GetServer", proxy.named(s.T, "reset"))
		s.plans(s.flag(""), s.override("", "bunting_flag.f"), s.kill("", "bunting_flag.f"))
	}},
	{"every write fails", func(s *wordingScene) {
		s.ready(s.flag(`{"on_destroy": "delete"}`), s.override("", "bunting_flag.f"), s.kill(`{"release_on_destroy": true}`, "bunting_flag.f"))
		proxy := s.proxy()
		fault := func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/Apply") {
				page(http.StatusBadGateway, "")(w, r)
				return
			}
			proxy.road.ServeHTTP(w, r)
		}
		fails, passes := func() { proxy.fails("", fault) }, func() { proxy.fails("", nil) }
		for _, config := range [][]coreBlock{
			{s.flag(`{"on_destroy": "delete"}`), s.override("", "bunting_flag.f"), s.kill(`{"reason": "more", "release_on_destroy": true}`, "bunting_flag.f")},
			{s.flag(`{"on_destroy": "delete"}`), s.override("", "bunting_flag.f"), s.kill(`{"engaged": false, "release_on_destroy": true}`, "bunting_flag.f")},
			{s.flag(`{"on_destroy": "delete"}`), s.override(`{"value": true}`, "bunting_flag.f"), s.kill(`{"release_on_destroy": true}`, "bunting_flag.f")},
			{s.flag(`{"on_destroy": "delete", "description": "new"}`), s.override("", "bunting_flag.f"), s.kill(`{"release_on_destroy": true}`, "bunting_flag.f")},
			nil,
		} {
			s.between(fails, config...)
			passes()
		}
		held := s.told
		s.ready(s.flag(`{"on_destroy": "delete"}`))
		s.told = held
		s.between(fails)
		passes()
		s.ready(s.flag(""))
		s.told = append(held, s.told...)
		s.between(fails, s.flag(""), s.override(""), s.kill(""))
		passes()
		s.between(fails)
		passes()
		s.core.state = coreState{}
		other := s.flag(`{"key": "new"}`)
		s.between(fails, other)
	}},
	{"no token, an unknown one, a revoked one, an expired one", func(s *wordingScene) {
		s.provider("token", "")
		s.provider("token", "bunting_unknown")
		ended := make(map[string]string) // by what became of it
		var now atomic.Int64
		s.server = buntingtest.Start(s, buntingtest.Clock(func() time.Time { return time.Unix(4e9+now.Load(), 0) }))
		admin := newClient(s.T, s.server, s.server.AdminToken)
		for _, name := range []string{"ci-revoked", "ci-expired"} {
			_, secret, err := admin.CreateToken(s.Context(), token.Token{Name: name, Scopes: []token.Scope{token.Read}, ExpiresAt: time.Unix(4e9+60, 0)})
			if err != nil {
				s.Fatal(err)
			}
			ended[name] = secret
		}
		if _, err := admin.RevokeToken(s.Context(), "ci-revoked"); err != nil {
			s.Fatal(err)
		}
		now.Store(120)
		s.core.setting["endpoint"] = cty.StringVal(s.server.Endpoint)
		s.provider("token", ended["ci-revoked"])
		s.provider("token", ended["ci-expired"])
	}},
	{"a token that may not do this", func(s *wordingScene) {
		s.layered()
		s.core.setting["token"] = cty.StringVal(s.server.NamedToken(s, "ci", "", "evaluate"))
		s.reads("bunting_flag", `{"key": "pay"}`)
		s.core.setting["token"] = cty.StringVal(s.server.NamedToken(s, "ci-write", "", "write"))
		s.applies(s.kill(""))
		s.core.setting["token"] = cty.StringVal(s.server.NamedToken(s, "ci-billing", "billing", "write"))
		s.applies(s.flag(`{"key": "other"}`))
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
	}},
	greeted("a protocol that is too new, and one that is too old",
		answers(&buntingv1.GetServerResponse{Version: "9.0.0", Protocol: 7, OldestProtocol: 5}), answers(&buntingv1.GetServerResponse{Version: "0.0.1", Protocol: -1, OldestProtocol: -1}), answers(&buntingv1.GetServerResponse{}),
		answers(&buntingv1.GetServerResponse{Protocol: wire.Protocol, OldestProtocol: wire.Protocol, TokenExpiresAt: &timestamppb.Timestamp{Nanos: -1}})),
	{"a server that does not hear its database", func(s *wordingScene) {
		s.proxy().fails("", vast(answers(&buntingv1.GetResponse{Stale: true})))
		s.reads("bunting_flag", `{"key": "pay"}`)
	}},
	{"no answer in time", func(s *wordingScene) {
		proxy := s.proxy()
		proxy.fails("", proxy.named(s.T, "hanging"))
		s.provider("request_timeout", "50ms")
		told := s.told
		proxy.fails("", nil)
		s.ready(s.flag(`{"timeouts": {"create": null, "read": "200ms", "update": null, "delete": null}}`))
		s.told = told
		proxy.fails("GetServer", proxy.named(s.T, "hanging"))
		s.plans(s.flag(`{"timeouts": {"create": null, "read": "200ms", "update": null, "delete": null}}`))
	}},
	greeted("an HTML page, as of a login", page(http.StatusOK, "")),
	greeted("statuses of something that stands before the server", page(http.StatusUnauthorized, ""), page(http.StatusForbidden, ""), page(http.StatusNotFound, ""), page(http.StatusProxyAuthRequired, ""), page(http.StatusRequestEntityTooLarge, "")),
	greeted("what else may answer", anyBody(http.StatusInternalServerError, "", ""), anyBody(http.StatusInternalServerError, "text/plain", "no"), anyBody(http.StatusOK, "application/json", "{}"), anyBody(http.StatusTeapot, "application/proto", "no"),
		anyBody(http.StatusTeapot, "image/png", "no"), anyBody(599, "-", "no"), garbled, brokenPage, refuses(connect.CodeUnauthenticated, "", "who are you")),
	greeted("too many requests", page(http.StatusTooManyRequests, "7"), refuses(connect.CodeResourceExhausted, "", "too many requests")),
	greeted("a server that is away or failing", page(http.StatusInternalServerError, ""), page(http.StatusServiceUnavailable, "30"), refuses(connect.CodeUnavailable, "NOT_READY", "the server is draining")),
	{"an answer that breaks off, or is cut short", func(s *wordingScene) {
		s.layered()
		proxy := s.proxy()
		for _, fault := range []string{"cut off", "cut short"} {
			proxy.fails("GetServer", proxy.named(s.T, fault))
			s.reads("bunting_flag", `{"key": "pay"}`)
		}
	}},
	greeted("redirects", http.RedirectHandler("https://login.example.com/", http.StatusFound).ServeHTTP, redirectToTLS, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }),
	{"https to a server that speaks http, and the other way around", func(s *wordingScene) {
		s.provider("endpoint", strings.Replace(s.server.Endpoint, "http:", "https:", 1))
		proxy := s.proxy()
		proxy.fails("", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, "Client sent an HTTP request to an HTTPS server.\n")
		})
		s.plans()
	}},
	{"a database that does not answer", func(s *wordingScene) {
		muted := startMuted(s.T, 1)
		muted.mute(s.T, true)
		s.core.setting["endpoint"], s.core.setting["token"] = cty.StringVal(muted.Endpoint), cty.StringVal(muted.AdminToken)
		s.applies(s.flag(""))
	}},
	met("definitions that do not come", refuses(connect.CodeFailedPrecondition, "STORE_CHANGED", "the revision is of another store than the one that answers"), refuses(connect.CodeFailedPrecondition, "REVISION_NOT_REACHED", "the minimum revision has not been reached within a second"),
		refuses(connect.CodeUnimplemented, "", "no such call"), refuses(connect.CodeNotFound, "", "no such page"), refuses(connect.CodeInternal, "", ""), refuses(connect.CodeDeadlineExceeded, "", "the time for the call is up"), refuses(connect.CodeInvalidArgument, "", "refs[0] has an empty key")),
	{"a server that does not answer, however often it is asked", func(s *wordingScene) {
		s.proxy().fails("GetServer", page(http.StatusBadGateway, ""))
		s.core.setting["retry"] = attempts(5)
		s.reads("bunting_flag", `{"key": "pay"}`, `{"key": "ship"}`)
	}},
	{"a server that asks for a longer pause than there is time", func(s *wordingScene) {
		s.proxy().fails("GetServer", page(http.StatusTooManyRequests, "7200"))
		s.core.setting["retry"] = attempts(2)
		s.reads("bunting_flag", `{"key": "pay"}`)
	}},
	{"answers that do not fit the question", func(s *wordingScene) {
		proxy := s.proxy()
		for _, found := range [][]*buntingv1.Object{nil, {unreadable}} {
			proxy.fails("", vast(answers(&buntingv1.GetResponse{Objects: found})))
			s.reads("bunting_flag", `{"key": "pay"}`)
		}
	}},
	met("lists that are not whole", lists(start), lists(start, start), lists(changes), lists(otherPart), lists(oneKind), lists(objects(pay)), lists(start, objects(unreadable)),
		lists(start, objects(&buntingv1.Object{Object: &buntingv1.Object_Absent{Absent: wire.FromRef(flag.FlagRef("pay"))}})), lists(end(0, nil)), lists(start, end(1, nil)), lists(start, end(0, nil)),
		lists(start, end(0, sha256.New().Sum(nil)), start), lists(&buntingv1.GetSnapshotResponse{})),
	{"answers that do not tell what became of a write", func(s *wordingScene) {
		proxy := s.proxy()
		applied := buntingv1.ResultStatus_RESULT_STATUS_APPLIED
		for _, results := range [][]*buntingv1.Result{
			nil, {{}}, {{Status: applied}}, {{Status: buntingv1.ResultStatus_RESULT_STATUS_REFUSED}},
			{{Status: applied, Object: unreadable}}, {{Status: applied, Object: another}},
			{{Status: applied, Object: pay, Holds: []*buntingv1.Hold{{FlagKey: "other"}}}},
		} {
			s.between(func() {
				proxy.fails("GetServer", answers(&buntingv1.ApplyResponse{Results: results}))
			}, s.flag(""))
			proxy.fails("", nil)
		}
	}},
	{"an evaluation of another flag, and one that cannot be read", func(s *wordingScene) {
		proxy := s.proxy()
		for _, answer := range []*pbflagsv1.EvaluateResponse{{FlagId: "other"}, {FlagId: "pay", Value: notJSON}} {
			proxy.fails("GetServer", answers(&pbflagsv1.BulkEvaluateResponse{Evaluations: []*pbflagsv1.EvaluateResponse{answer}}))
			s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
		}
	}},
}

func redirectToTLS(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", "https://"+r.Host+r.URL.Path)
	w.WriteHeader(http.StatusMovedPermanently)
}
