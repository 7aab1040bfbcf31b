package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRoad: figures are no better than what counts them.
func TestRoad(t *testing.T) {
	const delay, answer = 30 * time.Millisecond, "an answer"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
	defer server.Close()
	r, err := openRoad(t.Context(), server.URL, delay)
	if err != nil {
		t.Fatal(err)
	}
	const question = "a question"
	pool := &http.Transport{}
	user := &http.Client{Transport: pool}
	for _, path := range []string{"/service/Get", "/service/Get", "/service/Apply"} {
		got, err := user.Post(r.endpoint+path, "text/plain", strings.NewReader(question))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(got.Body)
		got.Body.Close()
		if err != nil || string(text) != answer {
			t.Errorf("got %q, %v", text, err)
		}
	}
	pool.CloseIdleConnections()
	passed, err := r.close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := passed.calls["Get"]; got.requests != 2 || got.spent < 2*delay || passed.calls["Apply"].requests != 1 || passed.requests() != 3 {
		t.Errorf("calls %v", passed.calls)
	}
	// Headers come with them, so more than the bodies.
	if passed.connections != 1 || passed.bytes <= 3*int64(len(question)+len(answer)) {
		t.Errorf("%d connections, %d bytes", passed.connections, passed.bytes)
	}
}
