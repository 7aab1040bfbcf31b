package endtoend

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRefreshAgainstBrokenServers: whatever a server or something in between answers, Terraform reports an error and
// keeps its state as it was. Each fault meets the handshake, and, a second time, the reads after it.
func TestRefreshAgainstBrokenServers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := newWorkspace(t, s, `
provider "bunting" {}

resource "bunting_flag" "theme" {
  key           = "shop/theme"
  default_value = "classic"
  layer         = "tenant"
}

resource "bunting_override" "acme" {
  flag_key  = bunting_flag.theme.key
  entity_id = "acme"
  value     = "dark"
}

resource "bunting_kill_switch" "theme" {
  flag_key = bunting_flag.theme.key
  reason   = "for now"
}

data "bunting_evaluation" "theme" {
  flag_key   = bunting_flag.theme.id
  depends_on = [bunting_kill_switch.theme]
}
`)
	w.must(t, "apply")
	state := w.state(t)

	answer := func(status int, contentType, body string) stepIn {
		return func(rw http.ResponseWriter, _ *http.Request, _ string, _ http.Handler) {
			rw.Header().Set("Content-Type", contentType)
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, body)
		}
	}
	const page = "<!doctype html><title>Welcome</title><p>Please sign in."
	faults := map[string]struct {
		serve stepIn
		says  string // so that another fault is not taken for this one
	}{
		"reset": {func(rw http.ResponseWriter, _ *http.Request, _ string, _ http.Handler) {
			connection, _, err := rw.(http.Hijacker).Hijack()
			if err == nil {
				_ = connection.(*net.TCPConn).SetLinger(0)
				_ = connection.Close()
			}
		}, "closed the connection"},
		"hanging": {func(_ http.ResponseWriter, r *http.Request, _ string, _ http.Handler) {
			_, _ = io.Copy(io.Discard, r.Body) // only then is the client's leaving noticed
			<-r.Context().Done()
		}, "within 1s"},
		"html": {answer(http.StatusOK, "text/html", page), "HTML"},
		"cut off": {func(rw http.ResponseWriter, r *http.Request, _ string, pass http.Handler) {
			whole := httptest.NewRecorder()
			pass.ServeHTTP(whole, r)
			maps.Copy(rw.Header(), whole.Header())
			body := whole.Body.Bytes()
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			rw.WriteHeader(whole.Code)
			_, _ = rw.Write(body[:len(body)/2])
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}, "broke off its answer"},
		"429": {answer(http.StatusTooManyRequests, "text/plain", "slow down"), "429"},
		"500": {answer(http.StatusInternalServerError, "text/plain", "oops"), "500"},
		"503": {answer(http.StatusServiceUnavailable, "text/html", page), "503"},
	}

	const patience, hanging = "60s", "1s" // only what hangs is to be given up soon
	check := func(t *testing.T, endpoint, says, timeout string) {
		t.Helper()
		broken := emptyWorkspace(t)
		broken.env["BUNTING_ENDPOINT"], broken.env["BUNTING_TOKEN"] = endpoint, s.token
		broken.env["BUNTING_REQUEST_TIMEOUT"], broken.env["BUNTING_RETRY_ATTEMPTS"] = timeout, "1"
		for _, name := range []string{"requirements.tf", "main.tf"} {
			broken.write(t, name, readFile(t, w.dir+"/"+name))
		}
		broken.write(t, "terraform.tfstate", state)

		out := broken.run(t, "apply", "-refresh-only")
		if out.code != 1 {
			t.Errorf("refreshing ended with %d, expected 1:\n%s", out.code, out.text)
		}
		out.says(t, "Error: ", says)
		for _, word := range []string{"panic", "goroutine ", "did not respond", "crashed"} {
			if strings.Contains(out.text, word) {
				t.Errorf("the output says %q:\n%s", word, out.text)
			}
		}
		if broken.state(t) != state {
			t.Error("the state file has changed")
		}
		if strings.Contains(out.text, s.token) {
			t.Error("the output has the token")
		}
	}
	// Refreshing writes nothing to the server, least of all because of a fault.
	onlyReads := func(t *testing.T, p *proxy) {
		t.Helper()
		calls := p.recorded()
		if len(calls) == 0 || slices.Contains(calls, "Apply") {
			t.Errorf("the calls were %q, expected some and no Apply", calls)
		}
	}

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		check(t, "http://127.0.0.1:1", "refused", patience)
	})
	t.Run("refused after the handshake", func(t *testing.T) {
		t.Parallel()
		var p *proxy
		p = startProxy(t, s.endpoint, func(rw http.ResponseWriter, r *http.Request, _ string, pass http.Handler) {
			_ = p.listener.Listener.Close()
			rw.Header().Set("Connection", "close")
			pass.ServeHTTP(rw, r)
		})
		check(t, p.endpoint, "refused", patience)
		onlyReads(t, p)
	})
	for name, fault := range faults {
		timeout := patience
		if name == "hanging" {
			timeout = hanging
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, s.endpoint, fault.serve)
			check(t, p.endpoint, fault.says, timeout)
			onlyReads(t, p)
		})
		t.Run(name+" after the handshake", func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, s.endpoint, func(rw http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
				if call == handshake {
					pass.ServeHTTP(rw, r)
					return
				}
				fault.serve(rw, r, call, pass)
			})
			check(t, p.endpoint, fault.says, timeout)
			onlyReads(t, p)
		})
	}
}
