package client

import (
	"slices"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Definitions are read once for everybody, with what is read by name; after a
// write of ours they are read again.
func TestDefinitionsOfAWalk(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 20, 0)
	w := c.NewWalk()
	g.calls()
	count := func(prefix flag.Key, want int) {
		t.Helper()
		s, err := w.Definitions(t.Context(), prefix)
		if err != nil {
			t.Error(err)
			return
		}
		if got := len(slices.Collect(s.Flags(prefix))); got != want {
			t.Errorf("%d flags under %q, want %d", got, prefix, want)
		}
	}
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() { count("f", 20) })
		wait.Go(func() { count("", 20) })
		wait.Go(func() { count("f/1", 1) })
	}
	readAll(t, w, &wait, numbers(0, 20)...)
	wait.Wait()
	if got := g.calls(); !slices.Equal(got, []string{"GetServer", "GetSnapshot"}) {
		t.Errorf("requests %q", got)
	}
	if _, err := c.Write(t.Context(), flag.Put(newFlag("f/x"))); err != nil {
		t.Fatal(err)
	}
	count("f", 21)
	count("", 21)
	if got := g.calls(); !slices.Equal(got, []string{"Apply", "GetSnapshot", "GetSnapshot"}) {
		t.Errorf("requests %q", got)
	}
}

// A token sees what it covers; what it does not is an error, not nothing.
func TestDefinitionsWithinAPrefix(t *testing.T) {
	server := startServer(t)
	c, _ := gated(t, server, server.AdminToken)
	fill(t, c, 3, 0)
	c, _ = gated(t, server, server.NamedToken(t, "team", "f", "read"))
	w := c.NewWalk()
	if s, err := w.Definitions(t.Context(), "f"); err != nil || s.Flag("f/1") == nil {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err := w.Definitions(t.Context(), ""); !isKind(err, Denied) {
		t.Errorf("got %v", err)
	}
	c, _ = gated(t, server, server.Token(t, "evaluate"))
	if _, err := c.NewWalk().Definitions(t.Context(), ""); !isKind(err, Denied) {
		t.Errorf("got %v", err)
	}
}
