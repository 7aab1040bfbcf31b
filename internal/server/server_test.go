package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

const evaluatePath = pbflagsv1connect.FlagEvaluatorServiceEvaluateProcedure

func TestPathsThatAreNoProcedure(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, row := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/healthz", 200, "alive\n"},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, "only GET\n"},
		{"GET", "/readyz", 200, "ready\n"},
		{"GET", "/", 404, "This is a Bunting flag server. There is nothing at this path.\n"},
		{"POST", "/bunting.v1.FlagAdminService/Nothing", 404, "This is a Bunting flag server. There is nothing at this path.\n"},
		{"POST", "/" + evaluatePath, 404, "This is a Bunting flag server. There is nothing at this path.\n"},
		{"POST", evaluatePath + "/", 404, "This is a Bunting flag server. There is nothing at this path.\n"},
		{"POST", "/x/.." + evaluatePath, 404, "This is a Bunting flag server. There is nothing at this path.\n"},
		{"DELETE", buntingv1connect.FlagAdminServiceApplyProcedure, 405, ""},
		{"GET", buntingv1connect.FlagAdminServiceApplyProcedure, 405, ""},
	} {
		response, body := raw(t, row.method, h.endpoint+row.path, "", "Authorization", "Bearer "+h.admin)
		if response.StatusCode != row.status || body != row.body || response.Header.Get(requestIDHeader) == "" {
			t.Errorf("%s %s: %s %q", row.method, row.path, response.Status, body)
		}
	}
}

// limitedRecorder notes the deadlines that are set on the connection.
type limitedRecorder struct {
	*httptest.ResponseRecorder

	read, write time.Time
}

func (l *limitedRecorder) SetReadDeadline(at time.Time) error  { l.read = at; return nil }
func (l *limitedRecorder) SetWriteDeadline(at time.Time) error { l.write = at; return nil }

// Whoever sends the head of a request and never its body must not keep a
// connection, wherever the request goes and without a token too.
func TestEveryRequestHasADeadline(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, path := range []string{"/", "/nothing", "/healthz", "/readyz", evaluatePath} {
		answer := &limitedRecorder{ResponseRecorder: httptest.NewRecorder()}
		h.server.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("{}")))
		for _, deadline := range []time.Time{answer.read, answer.write} {
			if left := time.Until(deadline); deadline.IsZero() || left > callLimit+deadlineGrace {
				t.Errorf("%s: the deadline is %v", path, deadline)
			}
		}
	}
}

func TestNotReadyIsNever200(t *testing.T) {
	t.Parallel()
	h := start(t)
	// One of its own, because a server that drains takes no new connections.
	draining, err := New(t.Context(), Options{Store: h.store, Root: h.server.root})
	if err != nil {
		t.Fatal(err)
	}
	close(draining.draining)
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK} {
		answer := httptest.NewRecorder()
		draining.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if answer.Code != want {
			t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
}

func TestBodiesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	h := start(t)
	large := `{"flagId":"` + strings.Repeat("x", smallBody) + `"}`
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	io.WriteString(zip, `{"flagId":"`+strings.Repeat("x", 50*smallBody)+`"}`)
	zip.Close()
	for name, row := range map[string]struct {
		body     io.Reader
		length   int64
		encoding string
	}{
		"told":      {strings.NewReader(large), int64(len(large)), ""},
		"not told":  {strings.NewReader(large), -1, ""},
		"gzip bomb": {bytes.NewReader(bomb.Bytes()), int64(bomb.Len()), "gzip"},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, h.endpoint+evaluatePath, row.body)
		request.ContentLength = row.length
		request.Header.Set("Authorization", "Bearer "+h.admin)
		request.Header.Set("Content-Type", "application/json")
		if row.encoding != "" {
			request.Header.Set("Content-Encoding", row.encoding)
		}
		response, err := http1(t).Do(request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge || !json.Valid(body) {
			t.Errorf("%s: %s %s", name, response.Status, body)
		}
	}
	// A write takes far more.
	many := &buntingv1.ApplyRequest{DryRun: true}
	big, _ := flag.StringValue(strings.Repeat("y", flag.MaxValueBytes))
	for range 2 {
		many.Changes = append(many.Changes, wire.FromChange(flag.Put(&flag.Flag{Key: "big", Type: flag.String, Default: big, State: flag.Enabled})))
	}
	if response, err := h.as(t, h.admin).Apply(t.Context(), connect.NewRequest(many)); err != nil || len(response.Msg.GetResults()) != 2 {
		t.Error(err)
	}
}

func TestHeadersThatAreTooLarge(t *testing.T) {
	t.Parallel()
	h := start(t)
	response, _ := raw(t, http.MethodGet, h.endpoint+"/healthz", "", "X-Large", strings.Repeat("x", 2*maxHeaderBytes))
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%s", response.Status)
	}
}

// What a request leaves in the log, and what never.
func TestTheRequestLog(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.apply(t, flag.Put(boolean("pay")))
	url := h.endpoint + evaluatePath
	response, _ := raw(t, http.MethodPost, url+"?entity=secret-entity", `{"flagId":"pay","entityId":"secret-entity","context":{"user":"secret-entity"}}`,
		"Authorization", "Bearer "+h.admin, "X-Request-ID", "mine-1")
	if response.Header.Get("X-Request-ID") != "mine-1" {
		t.Errorf("the request id is %q", response.Header.Get("X-Request-ID"))
	}
	raw(t, http.MethodGet, url+`?connect=v1&encoding=json&message={"flagId":"pay","entityId":"secret-entity"}`, "", "Authorization", "Bearer "+h.admin)
	if response, _ := raw(t, http.MethodPost, url, `{}`, "Authorization", "Bearer secret-entity", "X-Request-ID", "two\tparts"); strings.ContainsAny(response.Header.Get("X-Request-ID"), "\t") {
		t.Error("a bad request id was taken over")
	}
	raw(t, http.MethodGet, h.endpoint+"/"+strings.Repeat("p", 4*maxPathBytes), "")
	lines := requestLines(t, h)
	byID := map[string]map[string]any{}
	for _, line := range lines {
		byID[line["request_id"].(string)] = line
		if len(line["path"].(string)) > maxPathBytes+5 {
			t.Errorf("a path of %d bytes", len(line["path"].(string)))
		}
	}
	mine := byID["mine-1"]
	if mine["method"] != "POST" || mine["path"] != evaluatePath || mine["status"] != 200.0 || mine["actor"] != "admin" || mine["ms"] == nil {
		t.Errorf("%v", mine)
	}
	for _, secret := range []string{"secret-entity", h.admin, "entity="} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, h.log)
		}
	}
	found := false
	for _, line := range lines {
		found = found || line["code"] == "unauthenticated" && line["status"] == 401.0 && line["actor"] == ""
	}
	if !found {
		t.Errorf("no line tells of the refused token:\n%s", h.log)
	}
}

// Evaluations come by the thousand: they are told only when that is asked for, or
// when something was wrong with them.
func TestWhichRequestsAreTold(t *testing.T) {
	t.Parallel()
	for name, all := range map[string]bool{"those worth it": false, "all": true} {
		h := start(t, func(o *Options) { o.LogRequests = all })
		h.apply(t, flag.Put(boolean("pay")))
		ask := func(path, secret string) {
			raw(t, http.MethodPost, h.endpoint+path, `{"flagId":"pay"}`, "Authorization", "Bearer "+secret, "X-Request-ID", "id"+nameOf(path)+secret[:1])
		}
		ask(evaluatePath, h.admin)
		ask(evaluatePath, "unknown")
		ask(buntingv1connect.FlagAdminServiceListTokensProcedure, h.admin)
		levels := map[string]any{}
		for _, line := range requestLines(t, h) {
			levels[line["request_id"].(string)] = line["level"]
		}
		quiet := map[bool]string{true: "INFO", false: "DEBUG"}[all]
		for id, want := range map[string]string{"idEvaluateb": quiet, "idEvaluateu": "WARN", "idListTokensb": quiet} {
			if levels[id] != want {
				t.Errorf("%s: %s is told at %v, want %s", name, id, levels[id], want)
			}
		}
	}
}

func requestLines(t *testing.T, h *harness) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(h.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if m["msg"] == "request" {
			lines = append(lines, m)
		}
	}
	return lines
}

func TestPanicsAreCaught(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.store.set(func(method string) error {
		if method == "Audit" {
			panic("a bug with a secret-entity in it")
		}
		return nil
	})
	for name, c := range map[string]clients{
		"connect": h.as(t, h.admin), "json": h.as(t, h.admin, connect.WithProtoJSON()), "grpc": h.over(t, h.admin, h2c(t), connect.WithGRPC()),
	} {
		_, err := c.GetAuditLog(t.Context(), connect.NewRequest(&buntingv1.GetAuditLogRequest{}))
		if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "secret-entity") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.GetServer(t.Context(), connect.NewRequest(&buntingv1.GetServerRequest{})); err != nil {
			t.Errorf("%s: the server does not go on: %v", name, err)
		}
	}
	if !strings.Contains(h.log.String(), "a handler panicked") {
		t.Error("nothing is in the log")
	}
}

// Half an answer must not look like a whole one.
func TestAPanicInTheMiddleOfAnAnswerCutsIt(t *testing.T) {
	t.Parallel()
	h := start(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.server.recorded(w, r, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("half ", 10_000))
			panic("Panic")
		})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: handler}
	go web.Serve(listener)
	defer web.Close()
	response, err := http1(t).Get("http://" + listener.Addr().String())
	if err == nil {
		defer response.Body.Close()
		_, err = io.ReadAll(response.Body)
	}
	if err == nil {
		t.Error("the answer seems whole")
	}
}

func TestConnectionsThatSayNothingAreClosedWithoutHarm(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, said := range []string{"", "GET", "\x16\x03\x01\x00\xa5\x01\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"POST " + evaluatePath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nAuthorization: Bearer " + h.admin + "\r\n\r\n{"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.endpoint, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, said)
		conn.Close()
	}
	if _, err := h.as(t, h.admin).Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "x"})); err != nil {
		t.Error(err)
	}
}

// Watchers that vanish leave nothing behind: goleak looks, and the drain ends.
func TestWatchersThatVanish(t *testing.T) {
	t.Parallel()
	h := start(t)
	for range 20 {
		stream := watch(t, h.as(t, h.admin), flag.Revision{})
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	began := time.Now()
	if err := h.drain(); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
