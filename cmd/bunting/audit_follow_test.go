package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Whoever follows the audit log sees each entry once and in order, over a restart
// of the server too, and ends with the interruption.
func TestFollowTheAuditLog(t *testing.T) {
	o := newOperator(t)
	c, err := client.New(client.Options{Endpoint: o.server.Endpoint, Token: o.server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	puts := func(key flag.Key) {
		t.Helper()
		if _, err := c.Write(t.Context(), flag.Put(&flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), State: flag.Default})); err != nil {
			t.Fatal(err)
		}
	}
	puts("one")
	puts("two")

	out, printed := io.Pipe()
	var stderr strings.Builder
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		a := &app{stdin: strings.NewReader(""), stdout: printed, stderr: &stderr, env: func(name string) string { return o.env[name] }}
		code <- a.run(ctx, []string{"audit", "--follow", "--limit", "1", "--json"})
		printed.Close()
	}()
	lines := bufio.NewScanner(out)
	sees := func(want string) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("it ended before %s: %s", want, &stderr)
		}
		var entry struct {
			Object string         `json:"object"`
			After  map[string]any `json:"after"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || entry.Object != want || entry.After["key"] != want {
			t.Fatalf("it shows %s (%v), want %s", lines.Text(), err, want)
		}
	}
	sees("two")
	puts("three")
	sees("three")
	o.server.Restart(t)
	puts("four")
	puts("five")
	sees("four")
	sees("five")
	interrupt()
	if lines.Scan() {
		t.Errorf("after the interruption it shows %s", lines.Text())
	}
	if got := <-code; got != exitOK {
		t.Errorf("it ended with %d: %s", got, &stderr)
	}
}

func TestFollowingWhatMayNotBeRead(t *testing.T) {
	o := newOperator(t)
	if code, _, stderr := o.as("app", "", "evaluate").run("audit", "-f"); code != exitRefused || !strings.Contains(stderr, "needs read") {
		t.Errorf("%d %s", code, stderr)
	}
}
