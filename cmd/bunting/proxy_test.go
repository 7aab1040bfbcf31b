package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
)

// serveProxy starts bunting serve as a proxy and waits until it is ready.
func serveProxy(t *testing.T, token string, flags ...string) (is ready, stop func() (code int, log string)) {
	t.Helper()
	var log bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &log, env: func(name string) string {
		if name == "BUNTING_TOKEN" {
			return token
		}
		return ""
	}}
	file := filepath.Join(t.TempDir(), "ready.json")
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- a.run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0", "--ready-file", file}, flags...))
	}()
	stop = func() (int, string) {
		cancel()
		return <-code, log.String()
	}
	for limit := time.After(20 * time.Second); ; {
		if text, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(text, &is); err != nil {
				t.Fatal(err)
			}
			return is, stop
		}
		select {
		case ended := <-code:
			t.Fatalf("it ended with %d:\n%s", ended, &log)
		case <-limit:
			t.Fatal("it is not ready")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func readSecret(t *testing.T, folder string) string {
	t.Helper()
	secret, err := readToken(filepath.Join(folder, "bunting.token"))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestServeAProxy(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	root := serve(t, folder, "--database", "memory:", "--environment", "staging")
	secret := readSecret(t, folder)
	for name, row := range map[string]struct {
		token string
		flags []string
	}{
		"a file":   {"", []string{"--upstream-token-file", filepath.Join(folder, "bunting.token")}},
		"variable": {secret, nil},
	} {
		is, stop := serveProxy(t, row.token, append([]string{"--upstream", root.ready.Endpoint}, row.flags...)...)
		if is.Environment != "staging" || is.Endpoint == root.ready.Endpoint {
			t.Errorf("%s: ready is %+v", name, is)
		}
		proxy := served{t: t, ready: is}
		if status := proxy.asked(secret); status != http.StatusOK {
			t.Errorf("%s: an admin gets %d", name, status)
		}
		if status := proxy.asked("bunting_wrong"); status != http.StatusUnauthorized {
			t.Errorf("%s: a wrong token gets %d", name, status)
		}
		code, log := stop()
		if code != 0 || strings.Contains(log, secret) || !strings.Contains(log, `"mode":"proxy","upstream":"`+root.ready.Endpoint+`"`) {
			t.Errorf("%s: it ended with %d:\n%s", name, code, log)
		}
	}
}

// somebodyElse is an evaluator service that is not ours.
type somebodyElse struct {
	pbflagsv1connect.UnimplementedFlagEvaluatorServiceHandler
}

func (somebodyElse) Health(context.Context, *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	return connect.NewResponse(&pbflagsv1.HealthResponse{}), nil
}

func (somebodyElse) Evaluate(_ context.Context, r *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	return connect.NewResponse(&pbflagsv1.EvaluateResponse{
		FlagId: r.Msg.GetFlagId(), Value: &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_StringValue{StringValue: "theirs"}}, Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL,
	}), nil
}

func TestServeAProxyOfAPlainService(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(somebodyElse{}))
	plain := httptest.NewServer(mux)
	t.Cleanup(plain.Close)
	code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--upstream", plain.URL)
	if code != exitError || !strings.Contains(stderr, "judges no token") || !strings.Contains(stderr, "set anonymous to evaluate") {
		t.Errorf("%d %s", code, stderr)
	}
	code, _, stderr = run(t, "serve", "--listen", "127.0.0.1:0", "--upstream", plain.URL, "--anonymous", "evaluate", "--definition-cache-directory", t.TempDir())
	if code != exitError || !strings.Contains(stderr, "has no definitions to share, but definition_cache is set") {
		t.Errorf("%d %s", code, stderr)
	}
	is, stop := serveProxy(t, "", "--upstream", plain.URL, "--anonymous", "evaluate")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := pbflagsv1connect.NewFlagEvaluatorServiceClient(&http.Client{Transport: transport}, is.Endpoint)
	answer, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "x"}))
	if err != nil || answer.Msg.GetValue().GetStringValue() != "theirs" || answer.Msg.GetStale() {
		t.Error(answer, err)
	}
	if code, log := stop(); code != 0 {
		t.Errorf("%d\n%s", code, log)
	}
}

// A proxy that begins with compiled flags, because a plain service is away, ends
// once that answers: started anew, it asks it on demand.
func TestServeAProxyBeforeItsPlainService(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	started := filepath.Join(folder, "ready.json")
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(somebodyElse{}))
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(started); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(plain.Close)
	file := declares(t, filepath.Join(folder, "flags.binpb"), `bool cart = 1 [(pbflags.flag) = {description: "New cart"}];`)
	code, _, stderr := run(t, "serve", "--listen", "127.0.0.1:0", "--ready-file", started, "--upstream", plain.URL, "--anonymous", "evaluate", "--descriptors", file)
	if code != exitError || !strings.Contains(stderr, "serving what was last known") || !strings.Contains(stderr, "has only FlagEvaluatorService, which has no snapshot to follow. Start this server anew") {
		t.Errorf("it ended with %d:\n%s", code, stderr)
	}
}

func TestServeRefusesAnUpstream(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	root, right := serve(t, folder, "--database", "memory:"), filepath.Join(folder, "bunting.token")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>hello</html>"))
	}))
	t.Cleanup(page.Close)
	file := filepath.Join(t.TempDir(), "upstream.token")
	write(t, file, "bunting_wrong\n")
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "\n")
	for name, row := range map[string]struct {
		flags []string
		want  string
	}{
		"HTML":                  {[]string{"--upstream", page.URL}, "an HTML page"},
		"nobody":                {[]string{"--upstream", "http://127.0.0.1:1"}, "refused the connection"},
		"no token":              {[]string{"--upstream", root.ready.Endpoint}, "wants a token, and none is set"},
		"a wrong token":         {[]string{"--upstream", root.ready.Endpoint, "--upstream-token-file", file}, "does not know the token"},
		"no file":               {[]string{"--upstream", root.ready.Endpoint, "--upstream-token-file", file + "x"}, "no such file"},
		"no password's file":    {[]string{"--upstream", root.ready.Endpoint, "--definition-cache-redis", "redis://h", "--definition-cache-redis-password-file", file + "x"}, "--definition-cache-redis-password-file is \"" + file + "x\", which cannot be used: open " + file + "x: no such file or directory. Name a file with the password"},
		"no password":           {[]string{"--upstream", root.ready.Endpoint, "--definition-cache-redis", "redis://h", "--definition-cache-redis-password-file", empty}, "--definition-cache-redis-password-file is \"" + empty + "\", which cannot be used: it is empty. Name a file with the password"},
		"no authorities":        {[]string{"--upstream", root.ready.Endpoint, "--upstream-token-file", right, "--definition-cache-redis", "rediss://h", "--definition-cache-redis-ca-file", file}, "--definition-cache-redis-ca-file is \"" + file + "\", which cannot be used: the certificates of whom to trust for the Redis cannot be read. They are in PEM form, and begin with -----BEGIN CERTIFICATE-----"},
		"a file for the folder": {[]string{"--upstream", root.ready.Endpoint, "--upstream-token-file", right, "--definition-cache-directory", file}, "definition_cache: "},
		"a wrong token, shared": {[]string{"--upstream", root.ready.Endpoint, "--upstream-token-file", file, "--definition-cache-directory", t.TempDir()}, "does not know the token"},
		"no flag server's":      {[]string{"--upstream", "https://" + strings.TrimPrefix(root.ready.Endpoint, "http://")}, "speaks plain HTTP"},
	} {
		code, stdout, stderr := run(t, append([]string{"serve", "--listen", "127.0.0.1:0"}, row.flags...)...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, row.want) || strings.Contains(stderr, "bunting_wrong") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
}
