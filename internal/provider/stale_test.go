package provider

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/server"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// mutedStore is a store that does not answer while it is told so.
type mutedStore struct {
	store.Store

	muted atomic.Bool
}

func (s *mutedStore) error() error {
	if s.muted.Load() {
		return errors.New("the database is gone")
	}
	return nil
}

func (s *mutedStore) Head(ctx context.Context) (flag.Revision, error) {
	if err := s.error(); err != nil {
		return flag.Revision{}, err
	}
	return s.Store.Head(ctx)
}

func (s *mutedStore) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	if err := s.error(); err != nil {
		return store.Outcome{}, err
	}
	return s.Store.Apply(ctx, batch)
}

// mutedServer is a flag server whose store can be muted.
type mutedServer struct {
	Endpoint, AdminToken string

	store     *mutedStore
	evaluator *evaluator.Root
}

// startMuted starts one, whose answers are stale after so long a silence; 0 is
// as long as a server waits that people run.
func startMuted(t *testing.T, staleAfter time.Duration) *mutedServer {
	t.Helper()
	kept, err := sqlite.OpenMemory(t.Context(), sqlite.Options{Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s := &mutedServer{store: &mutedStore{Store: kept}}
	if s.evaluator, err = evaluator.NewRoot(t.Context(), s.store, evaluator.Options{StaleAfter: staleAfter}); err != nil {
		t.Fatal(err)
	}
	web, err := server.New(t.Context(), server.Options{Store: s.store, Root: s.evaluator, Version: "0.0.0-test"})
	if err != nil {
		t.Fatal(err)
	}
	secret, id := token.NewSecret()
	if err := web.AddToken(t.Context(), token.Token{ID: id, Name: "admin", Hash: token.Hash(secret), Scopes: []token.Scope{token.Admin}, CreatedAt: time.Now().UTC(), CreatedBy: "test"}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Endpoint, s.AdminToken = "http://"+listener.Addr().String(), secret
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { web.Run(ctx, listener) })
	t.Cleanup(func() {
		web.Cut()
		running.Wait()
		cancel()
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mute makes the store fall silent, or answer again, and waits until the server
// has noticed.
func (s *mutedServer) mute(t *testing.T, muted bool) {
	t.Helper()
	s.store.muted.Store(muted)
	limit, look := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for s.evaluator.Health().Stale != muted {
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("the server is %+v", s.evaluator.Health())
		}
	}
}

// A server that does not hear its store answers from what it knew last. That is
// an error naming allow_stale, or, where it is allowed, told by a warning; a kill
// stays a kill, and the default is never served instead of a stale answer.
func TestStaleAnswers(t *testing.T) {
	t.Parallel()
	s := startMuted(t, 0)
	c, err := client.New(client.Options{Endpoint: s.Endpoint, Token: s.AdminToken, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	anna := operator{t, c}
	layered, off := boolFlag("pay"), boolFlag("off")
	layered.Layer, off.State = "user", flag.Default
	anna.does(flag.Put(layered), flag.Put(off), flag.Put(boolFlag("held")), kill("held", "anna"),
		flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(false)}))

	const stale = "The server does not hear its source of truth and answered from what it knew last."
	evaluation := func(attributes string) string {
		return "data \"bunting_evaluation\" \"e\" {\n" + attributes + "\n}\noutput \"e\" {\n  value = [data.bunting_evaluation.e.value, data.bunting_evaluation.e.source, data.bunting_evaluation.e.stale]\n}\n"
	}
	rows := map[string]struct {
		key, attributes string
		fresh, stale    string // what the evaluation is, the latter with allow_stale = true
	}{
		"value":             {"pay", "", `[true,"GLOBAL",false]`, `[true,"CACHED",true]`},
		"override":          {"pay", `entity_id = "u"`, `[false,"OVERRIDE",false]`, `[false,"CACHED",true]`},
		"disabled":          {"off", "", `[false,"DEFAULT",false]`, `[false,"CACHED",true]`},
		"killed":            {"held", "", `[false,"KILLED",false]`, `[false,"KILLED",true]`},
		"default passed by": {"pay", "default = false", `[true,"GLOBAL",false]`, `[true,"CACHED",true]`},
		"default served":    {"missing", `default = "x"`, `["x","DEFAULT",false]`, `["x","DEFAULT",true]`},
	}
	is := func(name string, c *cli, want string) {
		t.Helper()
		if got := strings.TrimSpace(c.run("output", "-json", "e").must(t).text); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	all := map[string]*cli{}
	for name, row := range rows {
		c := newCLI(t, s.Endpoint, s.AdminToken)
		all[name] = c
		c.config(evaluation("flag_key = \"" + row.key + "\"\n" + row.attributes))
		if told := c.applies().must(t).of("warning"); len(told) > 0 {
			t.Errorf("%s: told %v", name, told)
		}
		is(name, c, row.fresh)
	}
	s.mute(t, true)
	for name, row := range rows {
		c := all[name]
		summary := `The answer for flag "` + row.key + `" is stale`
		for _, refused := range []string{"", "allow_stale = false"} {
			c.config(evaluation("flag_key = \"" + row.key + "\"\n" + row.attributes + "\n" + refused))
			got := c.applies().fails(t)
			if got.Summary != summary || got.Detail != stale+" Bring the server's database or upstream back, or set allow_stale = true to take such answers." || got.Address != "data.bunting_evaluation.e" {
				t.Errorf("%s: got %s", name, got)
			}
			is(name+", refused", c, row.fresh) // what was known before stays
		}
		c.config(evaluation("flag_key = \"" + row.key + "\"\n" + row.attributes + "\nallow_stale = true"))
		told := c.applies().must(t).of("warning")
		if len(told) != 1 || told[0].Summary != summary || told[0].Detail != stale+" It is taken, because allow_stale is true." {
			t.Errorf("%s: told %v", name, told)
		}
		is(name+", allowed", c, row.stale)
	}
	s.mute(t, false)
	for name, row := range rows {
		if told := all[name].applies().must(t).of("warning"); len(told) > 0 {
			t.Errorf("%s: the server hears its store again, and yet told %v", name, told)
		}
		is(name+", heard again", all[name], row.fresh)
	}
}

// A read or a write while the store is silent is an error in words, because a plan
// of what may be old is worse than none, and what is in the state stays there.
func TestWriteToASilentStore(t *testing.T) {
	t.Parallel()
	s := startMuted(t, 0)
	c := newCLI(t, s.Endpoint, s.AdminToken)
	config := func(value string) string {
		return "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = " + value + "\n}\n"
	}
	c.config(config("1"))
	c.applies().must(t)
	before := c.state()
	s.mute(t, true)
	c.config(config("2"))
	got := c.applies().fails(t)
	if got.Summary != `Cannot read the flag "f"` || !strings.Contains(got.Detail, s.Endpoint+" does not hear its database") {
		t.Errorf("got %s", got)
	}
	if got := c.applies("-refresh=false").fails(t); got.Summary != `Cannot change the flag "f"` || !strings.Contains(got.Detail, s.Endpoint) {
		t.Errorf("got %s", got)
	}
	s.mute(t, false)
	c.config(config("1"))
	c.unchanged()
	if !bytes.Equal(c.state(), before) {
		t.Error("the state changed")
	}
}
