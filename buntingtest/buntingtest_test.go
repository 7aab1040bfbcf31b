package buntingtest_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// post calls a procedure as curl does and gives the status and the body without
// white space, which JSON of protobuf has at random.
func post(t *testing.T, server *buntingtest.Server, token, procedure, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.Endpoint+procedure, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.Join(strings.Fields(string(text)), "")
}

const (
	evaluate  = "/pbflags.v1.FlagEvaluatorService/Evaluate"
	apply     = "/bunting.v1.FlagAdminService/Apply"
	handshake = "/bunting.v1.FlagAdminService/GetServer"
	putPay    = `{"changes":[{"putFlag":{"key":"pay","type":"FLAG_TYPE_BOOL","defaultValue":{"boolValue":false},"value":{"boolValue":true}}}]}`
)

func TestAServerThroughAnOutage(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]buntingtest.Option{
		"in memory": nil, "in a file": {buntingtest.Database(t.TempDir() + "/flags.db")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t, options...)
			reader := server.Token(t, "evaluate")
			if status, body := post(t, server, server.AdminToken, apply, putPay); status != http.StatusOK || !strings.Contains(body, "RESULT_STATUS_APPLIED") {
				t.Fatal(status, body)
			}
			before := server.Endpoint
			server.Stop()
			server.Stop()
			if status, body := post(t, server, reader, evaluate, `{"flagId":"pay"}`); status != 0 {
				t.Fatal("a stopped server answered", status, body)
			}
			late := server.NamedToken(t, "late", "", "evaluate") // while it is down
			server.Restart(t)
			if server.Endpoint != before {
				t.Errorf("it was at %s and is at %s", before, server.Endpoint)
			}
			for _, token := range []string{reader, late} {
				if status, body := post(t, server, token, evaluate, `{"flagId":"pay"}`); status != http.StatusOK || !strings.Contains(body, `"source":"EVALUATION_SOURCE_GLOBAL"`) {
					t.Error(status, body)
				}
			}
		})
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t, buntingtest.Environment("staging"), buntingtest.Version("9.9.9"))
	limited := server.NamedToken(t, "ops-anna", "team-a", "evaluate", "kill")
	status, body := post(t, server, limited, handshake, `{}`)
	for _, want := range []string{`"environment":"staging"`, `"version":"9.9.9"`, `"actor":"ops-anna"`, `"scopes":["SCOPE_EVALUATE","SCOPE_KILL"]`, `"prefix":"team-a"`} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %s: %s", status, want, body)
		}
	}
	if status, body := post(t, server, limited, evaluate, `{"flagId":"pay"}`); status != http.StatusForbidden || !strings.Contains(body, "PREFIX_DENIED") {
		t.Error(status, body)
	}
}

func TestClockAndLog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var log bytes.Buffer
	server := buntingtest.Start(t, buntingtest.Clock(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}), buntingtest.Log(&log))
	if status, body := post(t, server, server.AdminToken, apply, putPay); status != http.StatusOK || !strings.Contains(body, "2030-01-02T03:04:05Z") {
		t.Fatal(status, body)
	}
	place := `{"changes":[{"placeHold":{"flagKey":"pay","holder":"ops","reason":"it burns","expiresAt":"2030-01-02T03:10:00Z"}}]}`
	if status, body := post(t, server, server.AdminToken, apply, place); status != http.StatusOK {
		t.Fatal(status, body)
	}
	if _, body := post(t, server, server.AdminToken, evaluate, `{"flagId":"pay"}`); !strings.Contains(body, "EVALUATION_SOURCE_KILLED") {
		t.Error(body)
	}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	if _, body := post(t, server, server.AdminToken, evaluate, `{"flagId":"pay"}`); !strings.Contains(body, "EVALUATION_SOURCE_GLOBAL") || strings.Contains(body, "stale") {
		t.Error(body)
	}
	server.Stop()
	if !strings.Contains(log.String(), `"path":"`+evaluate+`"`) || strings.Contains(log.String(), server.AdminToken) {
		t.Errorf("log: %s", &log)
	}
}
