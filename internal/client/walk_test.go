package client

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// gate stands on the road to a real server: it writes down what is asked, and
// holds back what a test wants held.
type gate struct {
	pool *http.Transport

	mu    sync.Mutex
	asked []string
	hold  map[string]chan struct{} // calls that wait until the channel is closed
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	name := path.Base(r.URL.Path)
	g.mu.Lock()
	g.asked = append(g.asked, name)
	held := g.hold[name]
	g.mu.Unlock()
	answer, err := g.pool.RoundTrip(r)
	if held != nil {
		<-held // the server has answered, and the answer is late
	}
	return answer, err
}

// holds keeps back the answers to a call from now on; the function lets them go.
func (g *gate) holds(name string) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.hold[name] = held
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.hold, name)
		close(held)
	}
}

// calls gives what was asked since the last time.
func (g *gate) calls() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := g.asked
	g.asked = nil
	return asked
}

func gated(t *testing.T, server *flagServer, token string) (*Client, *gate) {
	t.Helper()
	g := &gate{pool: newTransport(), hold: map[string]chan struct{}{}}
	t.Cleanup(g.pool.CloseIdleConnections)
	c, err := New(Options{Endpoint: server.Endpoint, Token: token, UserAgent: "test", Transport: g, Policy: &impatient})
	if err != nil {
		t.Fatal(err)
	}
	return c, g
}

// fill puts count flags "f/<n>" on the server, with so long a description each.
func fill(t *testing.T, c *Client, count, description int) {
	t.Helper()
	batch := Batch{Atomic: true}
	for i := range count {
		f := newFlag(flag.Key(fmt.Sprintf("f/%d", i)))
		f.Layer, f.Description = "user", strings.Repeat("x", description)
		batch.Changes = append(batch.Changes, flag.Put(f))
	}
	if _, err := c.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// until waits for what other goroutines are about to do.
func until(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}

// waits blocks until so many wait to travel together.
func (c *coalescer[Q, A]) waits(count int) {
	until(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == count
	})
}

// readAll reads the flags with so many numbers at once.
func readAll(t *testing.T, w *Walk, wait *sync.WaitGroup, numbers ...int) {
	t.Helper()
	for _, i := range numbers {
		wait.Go(func() {
			key := flag.Key(fmt.Sprintf("f/%d", i))
			if f, holds, err := w.Flag(t.Context(), key); err != nil || f == nil || f.Key != key || len(holds) != 0 {
				t.Errorf("%s: %+v, %v, %v", key, f, holds, err)
			}
		})
	}
}

func numbers(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

// A thousand flags, their overrides and holds cost two requests.
func TestWalkOfASmallServer(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 1000, 0)
	g.calls()
	w := c.NewWalk()
	var wait sync.WaitGroup
	readAll(t, w, &wait, numbers(0, 1000)...)
	wait.Go(func() {
		if o, err := w.Override(t.Context(), "f/7", "nobody"); err != nil || o != nil {
			t.Errorf("got %+v, %v", o, err)
		}
		if holds, err := w.Holds(t.Context(), "f/7"); err != nil || len(holds) != 0 {
			t.Errorf("got %+v, %v", holds, err)
		}
		if f, _, err := w.Flag(t.Context(), "nowhere"); err != nil || f != nil {
			t.Errorf("got %+v, %v", f, err)
		}
	})
	wait.Wait()
	if got := g.calls(); !slices.Equal(got, []string{"GetServer", "GetSnapshot"}) {
		t.Errorf("requests %q", got)
	}
	// Another operation reads again: nothing is kept from one to the next.
	if _, _, err := c.NewWalk().Flag(t.Context(), "f/1"); err != nil || !slices.Equal(g.calls(), []string{"GetSnapshot"}) {
		t.Errorf("the next walk: %v", err)
	}
}

// Of a large server a few are read by themselves, and then all at once.
func TestWalkOfALargeServer(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 1200, 4000)
	w := c.NewWalk()
	g.calls()
	release := g.holds("Get")
	var wait sync.WaitGroup
	readAll(t, w, &wait, numbers(0, 10)...)
	w.reads.waits(9)
	release()
	wait.Wait()
	if got := g.calls(); !slices.Equal(got, []string{"GetServer", "Get", "Get"}) {
		t.Errorf("ten flags cost %q", got)
	}
	readAll(t, w, &wait, numbers(10, 1200)...)
	wait.Wait()
	if got := g.calls(); !slices.Equal(got, []string{"GetSnapshot"}) {
		t.Errorf("the others cost %q", got)
	}
}

// A read after an own write sees it, also where everything was read before, or
// was on its way while the write was made.
func TestWalkSeesOwnWrites(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 3, 0)
	describe := func(key flag.Key, text string) {
		t.Helper()
		f := newFlag(key)
		f.Layer, f.Description = "user", text
		if _, err := c.Write(t.Context(), flag.Put(f)); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(w *Walk, key flag.Key, text string) {
		t.Helper()
		if f, _, err := w.Flag(t.Context(), key); err != nil || f == nil || f.Description != text {
			t.Errorf("%s: got %+v, %v, want %q", key, f, err, text)
		}
	}
	w := c.NewWalk()
	sees(w, "f/0", "")
	describe("f/0", "mine")
	g.calls()
	sees(w, "f/0", "mine")
	sees(w, "f/1", "")
	if got := g.calls(); !slices.Equal(got, []string{"Get"}) {
		t.Errorf("requests %q", got)
	}

	w = c.NewWalk()
	release := g.holds("GetSnapshot")
	var wait sync.WaitGroup
	wait.Go(func() { sees(w, "f/1", "") })
	until(func() bool { return len(g.calls()) > 0 }) // the snapshot has been asked for
	describe("f/2", "mine too")
	wait.Go(func() { sees(w, "f/2", "mine too") })
	w.reads.waits(1)
	release()
	wait.Wait()

	hold := flag.Put(&flag.Hold{FlagKey: "f/1", Holder: "admin", Reason: "r"})
	if _, err := c.Write(t.Context(), hold); err != nil {
		t.Fatal(err)
	}
	if holds, err := w.Holds(t.Context(), "f/1"); err != nil || len(holds) != 1 {
		t.Errorf("holds %v, %v", holds, err)
	}
}

// What the token does not cover is refused, not absent; what it covers is read
// as ever.
func TestWalkWithinAPrefix(t *testing.T) {
	server := startServer(t)
	c, _ := gated(t, server, server.AdminToken)
	fill(t, c, 20, 0)
	if _, err := c.Write(t.Context(), flag.Put(newFlag("other"))); err != nil {
		t.Fatal(err)
	}
	c, g := gated(t, server, server.NamedToken(t, "team", "f", "read"))
	w := c.NewWalk()
	var wait sync.WaitGroup
	readAll(t, w, &wait, numbers(0, 20)...)
	wait.Wait()
	for _, key := range []flag.Key{"other", "nowhere"} {
		_, _, err := w.Flag(t.Context(), key)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Denied || e.Op != readingFlag(key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := g.calls(); !slices.Equal(got, []string{"GetServer", "GetSnapshot", "Get", "Get"}) {
		t.Errorf("requests %q", got)
	}
}

// A failure is told to all who asked, each in his own words, and not remembered.
func TestWalkFails(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 5, 0)
	w := c.NewWalk()
	server.Stop()
	var wait sync.WaitGroup
	for i := range 5 {
		wait.Go(func() {
			key := flag.Key(fmt.Sprintf("f/%d", i))
			_, _, err := w.Flag(t.Context(), key)
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unavailable || e.Op != readingFlag(key) {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	wait.Wait()
	server.Restart(t)
	g.pool.CloseIdleConnections()
	readAll(t, w, &wait, numbers(0, 5)...)
	wait.Wait()
}
