package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func evaluated(t *testing.T, w *Walk, key flag.Key, entity string) Evaluation {
	t.Helper()
	e, err := w.Evaluate(t.Context(), Question{Key: key, Caller: flag.Context{TargetingKey: entity}})
	if err != nil || e.Key != key {
		t.Errorf("%s for %q: %+v, %v", key, entity, e, err)
	}
	return e
}

// A thousand evaluations for three entities cost a request for each entity, and
// the handshake.
func TestEvaluationsOfAWalk(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 1000, 0)
	if _, err := c.Write(t.Context(), flag.Put(&flag.Override{FlagKey: "f/1", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(false)})); err != nil {
		t.Fatal(err)
	}
	g.calls()
	w := c.NewWalk()
	var wait sync.WaitGroup
	entities := []string{"", "u", "v"}
	for i := range 1000 {
		wait.Go(func() {
			entity, want := entities[i%3], flag.SourceGlobal
			if i == 1 {
				want = flag.SourceOverride
			}
			if e := evaluated(t, w, flag.Key(fmt.Sprintf("f/%d", i)), entity); e.Source != want {
				t.Errorf("f/%d for %q: %+v", i, entity, e)
			}
		})
	}
	wait.Wait()
	if e := evaluated(t, w, "missing", "u"); e.ErrorCode != flag.ErrorFlagNotFound || !e.Value.IsZero() || e.Revision.StoreID == "" {
		t.Errorf("got %+v", e)
	}
	// One for each entity, and one by name: it may have been made since.
	if got := g.calls(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"BulkEvaluate", "BulkEvaluate", "BulkEvaluate", "BulkEvaluate", "GetServer"}) {
		t.Errorf("requests %q", got)
	}
	if list, err := w.EvaluateUnder(t.Context(), "f/1", "u"); err != nil || len(list) != 1 || list[0].Source != flag.SourceOverride {
		t.Errorf("got %+v, %v", list, err)
	}
	if list, err := w.EvaluateUnder(t.Context(), "", "u"); err != nil || len(list) != 1000 || list[0].Key != "f/0" || list[999].Key != "f/999" {
		t.Errorf("got %d, %v", len(list), err)
	}
	if list, err := w.EvaluateUnder(t.Context(), "none", "u"); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if got := g.calls(); len(got) != 0 {
		t.Errorf("requests %q", got)
	}
}

// A known answer costs no memory.
func TestKnownEvaluationAllocatesNothing(t *testing.T) {
	server := startServer(t)
	c, _ := gated(t, server, server.AdminToken)
	fill(t, c, 3, 0)
	w := c.NewWalk()
	evaluated(t, w, "f/1", "u")
	ctx, q := t.Context(), Question{Key: "f/1", Caller: flag.Context{TargetingKey: "u"}}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.Evaluate(ctx, q); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An evaluation after an own write of its flag asks anew, and gets it; of other
// flags nothing is asked again. Many that each follow a write are not each
// answered for all flags.
func TestEvaluationAfterAnOwnWrite(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 200, 0)
	w := c.NewWalk()
	before := evaluated(t, w, "f/1", "u")
	written, err := c.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: "f/1", Holder: "admin", Reason: "r"}))
	if err != nil {
		t.Fatal(err)
	}
	g.calls()
	if e := evaluated(t, w, "f/2", "u"); e.Revision != before.Revision {
		t.Errorf("got %+v", e)
	}
	if got := g.calls(); len(got) != 0 {
		t.Errorf("requests %q", got)
	}
	if e := evaluated(t, w, "f/1", "u"); e.Source != flag.SourceKilled || e.Revision != written.Revision {
		t.Errorf("got %+v", e)
	}
	// What others change of what is known is not seen within the walk; what we
	// change is, and what anybody makes: another provider's process in an apply.
	other, _ := gated(t, server, server.AdminToken)
	if _, err := other.Write(t.Context(), flag.Put(newFlag("f/300"))); err != nil {
		t.Fatal(err)
	}
	if e := evaluated(t, w, "f/300", "u"); e.Source != flag.SourceGlobal {
		t.Errorf("got %+v", e)
	}
	if list, err := w.EvaluateUnder(t.Context(), "", "u"); err != nil || len(list) != 201 {
		t.Errorf("got %d, %v", len(list), err)
	}
	g.calls()
	for i := range 100 {
		key := flag.Key(fmt.Sprintf("new/%d", i))
		if _, err := c.Write(t.Context(), flag.Put(newFlag(key))); err != nil {
			t.Fatal(err)
		}
		if e := evaluated(t, w, key, "u"); e.Source != flag.SourceGlobal {
			t.Errorf("got %+v", e)
		}
	}
	all := 0
	for _, name := range g.calls() {
		if name == "BulkEvaluate" {
			all++
		}
	}
	if all != 100 {
		t.Errorf("%d requests", all)
	}
	if _, err := c.Write(t.Context(), flag.Change{Op: flag.DeleteFlag, Ref: flag.FlagRef("f/2")}); err != nil {
		t.Fatal(err)
	}
	if e := evaluated(t, w, "f/2", "u"); e.ErrorCode != flag.ErrorFlagNotFound {
		t.Errorf("got %+v", e)
	}
	minimum := evaluated(t, w, "f/2", "u").Revision
	if _, err := w.Evaluate(t.Context(), Question{Key: "f/3", Caller: flag.Context{TargetingKey: "u"}, Minimum: minimum}); err != nil {
		t.Error(err)
	}
	minimum.Number++
	if _, err := w.Evaluate(t.Context(), Question{Key: "f/3", Caller: flag.Context{TargetingKey: "u"}, Minimum: minimum}); !isKind(err, RevisionNotReached) {
		t.Errorf("got %v", err)
	}
}

// An answer for all flags that arrives after a newer one, or after a write, hides
// nothing.
func TestLateEvaluations(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 3, 0)
	w := c.NewWalk()
	release := g.holds("BulkEvaluate")
	var wait sync.WaitGroup
	wait.Go(func() { evaluated(t, w, "f/1", "u") })
	until(func() bool { return slices.Contains(g.calls(), "BulkEvaluate") })
	if _, err := c.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: "f/2", Holder: "admin", Reason: "r"})); err != nil {
		t.Fatal(err)
	}
	wait.Go(func() {
		if e := evaluated(t, w, "f/2", "u"); e.Source != flag.SourceKilled {
			t.Errorf("got %+v", e)
		}
	})
	a := w.answersFor("u")
	a.asking.waits(1)
	release()
	wait.Wait()
	kept := a.all
	a.take([]Evaluation{{Answer: flag.Answer{Key: "f/2"}, Revision: flag.Revision{StoreID: kept.StoreID, Number: 1}}}, true)
	if e := evaluated(t, w, "f/2", "u"); e.Source != flag.SourceKilled || a.all != kept {
		t.Errorf("an older answer replaced a newer one: %+v, %v", e, a.all)
	}
}

// What the token does not cover is refused to who asks for it, and to nobody else.
func TestEvaluationsWithinAPrefix(t *testing.T) {
	server := startServer(t)
	c, _ := gated(t, server, server.AdminToken)
	fill(t, c, 20, 0)
	if _, err := c.Write(t.Context(), flag.Put(newFlag("other"))); err != nil {
		t.Fatal(err)
	}
	c, g := gated(t, server, server.NamedToken(t, "team", "f", "evaluate"))
	w := c.NewWalk()
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() { evaluated(t, w, flag.Key(fmt.Sprintf("f/%d", i)), "u") })
		wait.Go(func() {
			if _, err := w.Evaluate(t.Context(), Question{Key: "other", Caller: flag.Context{TargetingKey: "u"}}); !isKind(err, Denied) {
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	if e := evaluated(t, w, "f/100", "u"); e.ErrorCode != flag.ErrorFlagNotFound {
		t.Errorf("got %+v", e)
	}
	if _, err := w.Evaluate(t.Context(), Question{}); !isKind(err, Invalid) {
		t.Errorf("got %v", err)
	}
	if n := len(slices.DeleteFunc(g.calls(), func(name string) bool { return name != "BulkEvaluate" })); n != 2 {
		t.Errorf("%d answers for all and by name", n)
	}
	if list, err := w.EvaluateUnder(t.Context(), "f", "u"); err != nil || len(list) != 20 {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := w.EvaluateUnder(t.Context(), "", "u"); !isKind(err, Denied) {
		t.Errorf("got %v", err)
	}
}

// bulk is a speaker that answers every question and counts what it was asked.
func bulk(flags int64) (s *speaker, asked func() [][]string) {
	var mu sync.Mutex
	var all [][]string
	s = &speaker{greeting: func(context.Context) (*buntingv1.GetServerResponse, error) {
		return &buntingv1.GetServerResponse{Protocol: wire.Protocol, OldestProtocol: wire.OldestProtocol, Flags: flags}, nil
	}}
	s.answers = func(q *pbflagsv1.BulkEvaluateRequest) (*pbflagsv1.BulkEvaluateResponse, error) {
		mu.Lock()
		all = append(all, q.GetFlagIds())
		mu.Unlock()
		m, ids := &pbflagsv1.BulkEvaluateResponse{}, q.GetFlagIds()
		if len(ids) == 0 {
			ids = []string{"f"}
		}
		for _, id := range ids {
			m.Evaluations = append(m.Evaluations, &pbflagsv1.EvaluateResponse{FlagId: id, Value: wire.FromValue(flag.BoolValue(true)), Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL, Revision: 7, StoreId: "s"})
		}
		return m, nil
	}
	return s, func() [][]string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// Of a server with more than 10,000 flags only what waits is asked for; the same
// question is asked once, however many ask it.
func TestEvaluationsOfALargeServer(t *testing.T) {
	s, asked := bulk(allFlagsAtMost + 1)
	w := s.start(t).NewWalk()
	var wait sync.WaitGroup
	for range 10_000 {
		wait.Go(func() { evaluated(t, w, "one", "u") })
	}
	wait.Wait()
	if got := asked(); len(got) != 1 || !slices.Equal(got[0], []string{"one"}) {
		t.Errorf("asked %q", got)
	}
	for i := range 2500 {
		wait.Go(func() { evaluated(t, w, flag.Key(fmt.Sprintf("f%d", i)), "u") })
	}
	wait.Wait()
	named := 0
	for _, keys := range asked() {
		if len(keys) > mostRefs {
			t.Errorf("%d in one question", len(keys))
		}
		named += len(keys)
	}
	if named != 2501 {
		t.Errorf("%d flags asked for", named)
	}
}

// Several flags cost as little as they do one by one.
func TestEvaluateFlags(t *testing.T) {
	s, asked := bulk(allFlagsAtMost + 1)
	var keys []flag.Key
	for i := range 2001 {
		keys = append(keys, flag.Key(fmt.Sprintf("f%d", i)))
	}
	got, err := s.start(t).NewWalk().EvaluateFlags(t.Context(), keys, "u")
	if err != nil || len(got) != len(keys) || got[2000].Key != "f2000" || len(asked()) != 4 {
		t.Errorf("%d answers in %d requests, %v", len(got), len(asked()), err)
	}

	server := startServer(t)
	c, _ := gated(t, server, server.AdminToken)
	fill(t, c, 20, 0)
	c, g := gated(t, server, server.NamedToken(t, "team", "f", "evaluate"))
	w := c.NewWalk()
	got, err = w.EvaluateFlags(t.Context(), []flag.Key{"f/3", "missing", "f/missing", "f/3"}, "u")
	if !isKind(err, Denied) || got != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = w.EvaluateFlags(t.Context(), []flag.Key{"f/3", "f/missing", "f/3"}, "u")
	if err != nil || len(got) != 3 || got[0].Source != flag.SourceGlobal || got[1].ErrorCode != flag.ErrorFlagNotFound || got[2] != got[0] {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := g.calls(); !slices.Equal(got, []string{"GetServer", "BulkEvaluate", "Evaluate", "BulkEvaluate"}) {
		t.Errorf("requests %q", got)
	}
	server.Stop()
	if _, err := w.EvaluateFlags(t.Context(), []flag.Key{"f/3"}, "v"); !isKind(err, Unavailable) {
		t.Errorf("got %v", err)
	}
}

// Many entities are not each answered for all flags.
func TestEvaluationsOfManyEntities(t *testing.T) {
	s, asked := bulk(allFlagsAtMost)
	w := s.start(t).NewWalk()
	for i := range 15 {
		evaluated(t, w, "f", fmt.Sprintf("u%d", i))
	}
	all := 0
	for _, keys := range asked() {
		if len(keys) == 0 {
			all++
		}
	}
	if all != mostAnswers/allFlagsAtMost {
		t.Errorf("%d answers for all", all)
	}
}

// A failure is told to all who asked, each in his own words, and not remembered.
func TestEvaluationsFail(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	fill(t, c, 5, 0)
	w := c.NewWalk()
	evaluated(t, w, "f/1", "")
	server.Stop()
	evaluated(t, w, "f/2", "")
	var wait sync.WaitGroup
	for i := range 5 {
		wait.Go(func() {
			_, err := w.Evaluate(t.Context(), Question{Key: flag.Key(fmt.Sprintf("f/%d", i)), Caller: flag.Context{TargetingKey: "u"}})
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unavailable || e.Op != fmt.Sprintf("evaluate \"f/%d\"", i) {
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	if _, err := w.EvaluateUnder(t.Context(), "f", "u"); !isKind(err, Unavailable) {
		t.Errorf("got %v", err)
	}
	server.Restart(t)
	g.pool.CloseIdleConnections()
	evaluated(t, w, "f/1", "u")
}
