//go:build unix

package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// outage is a server that shared its definitions of one revision, and the operation
// of a token that comes when it is down.
type outage struct {
	server Server // as it was greeted last
	kept   *LastKnown
	walk   *Walk
}

// dies puts flags in every state on a server, has them shared, and stops it.
func dies(t *testing.T, place SharedPlace) (o outage, keys []flag.Key, fresh map[string][]Evaluation) {
	t.Helper()
	server := startServer(t)
	operator, _ := gated(t, server, server.AdminToken)
	keys = states(t, operator)
	first := begins(t, server, server.AdminToken, place, 0, nil)
	first.walk.Share(t.Context())
	fresh = map[string][]Evaluation{}
	for _, entity := range []string{"", "u", "v"} {
		fresh[entity] = must(first.walk.EvaluateFlags(t.Context(), keys, entity))
	}
	o.server = must(first.Server(t.Context()))
	if got := first.gate.calls(); !slices.Equal(got, []string{"GetServer", "GetSnapshot"}) {
		t.Errorf("requests %q", got)
	}
	o.kept = must(NewLastKnownIn(place, server.Endpoint, server.AdminToken))
	t.Cleanup(o.kept.Close)
	server.Stop()
	c, err := New(Options{Endpoint: server.Endpoint, Token: server.AdminToken, UserAgent: "test", Policy: &impatient, Shared: place})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	o.walk = c.NewWalk()
	return o, keys, fresh
}

// keeps has an answer kept of a revision that is so much later than the greeted one.
func (o *outage) keeps(t *testing.T, key flag.Key, entity string, later int64, source flag.Source, value flag.Value) {
	t.Helper()
	e := answered(key, o.server.Revision.Number+later, value)
	e.Revision.StoreID, e.Source = o.server.Revision.StoreID, source
	keeps(t, o.kept, o.server, "", entity, e)
}

func (o *outage) recalls(t *testing.T) *Known {
	t.Helper()
	return o.walk.Recall(t.Context(), reads(t, o.kept))
}

// Of one kept answer the shared definitions answer any other question as the server
// would have, marked stale; the newer of the two counts.
func TestSharedDefinitionsWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, keys, fresh := dies(t, place)
			o.keeps(t, "kept", "u", 0, flag.SourceGlobal, on)
			known := o.recalls(t)
			for entity, want := range fresh {
				for i, key := range keys {
					got, ok := known.Answer(key, entity)
					if !ok || got.Answer != want[i].Aged() || !got.Shared || got.Revision != o.server.Revision || time.Since(got.At) > time.Minute {
						t.Errorf("%s for %q: got %+v, %t, want %+v", key, entity, got, ok, want[i].Aged())
					}
				}
			}
			if got, ok := known.Answer("s/gone", "u"); !ok || got.ErrorCode != flag.ErrorFlagNotFound || !got.Stale || !got.Shared {
				t.Errorf("got %+v, %t", got, ok)
			}
			if got, ok := known.Answer("kept", "u"); !ok || got.Value != on || got.Shared {
				t.Errorf("got %+v, %t", got, ok)
			}
			if got, ok := known.Flags(Choice{Name: "prefix s", Prefix: "s"}); !ok || !slices.Equal(got.Keys, keys) || got.At.IsZero() || !got.Shared {
				t.Errorf("got %+v, %t", got, ok)
			}
			choice := Choice{Name: "some", Has: func(f *flag.Flag) bool { return strings.HasPrefix(string(f.Key), "s/archived") }}
			if got, ok := known.Flags(choice); !ok || !slices.Equal(got.Keys, []flag.Key{"s/archived", "s/archived-default"}) {
				t.Errorf("got %+v, %t", got, ok)
			}
		})
	}
}

// What was kept and what is shared go by the revisions.
func TestTheNewerOfKeptAndShared(t *testing.T) {
	t.Parallel()
	o, _, _ := dies(t, SharedPlace{Directory: t.TempDir()})
	const d, g, k = flag.SourceDefault, flag.SourceGlobal, flag.SourceKilled
	for _, kept := range []struct {
		key    flag.Key
		entity string
		later  int64
		source flag.Source
		value  flag.Value
	}{
		{"s/killed", "u", -1, g, on}, // since then it was killed
		{"s/enabled", "u", -1, k, off},
		{"s/enabled", "v", -1, d, off},
		{"s/overridden", "u", -1, g, on},
		{"s/defaulted", "v", 1, g, off}, // changed since
		{"s/default", "v", 0, g, on},    // of the same revision the server's word
		{"s/archived", "v", 1, k, off},  // killed since, for everybody
		{"s/expiring", "v", 1, d, off},  // turned off since, for who has no override
	} {
		o.keeps(t, kept.key, kept.entity, kept.later, kept.source, kept.value)
	}
	for _, row := range []struct {
		key    flag.Key
		entity string
		value  flag.Value
		source flag.Source
		shared bool
	}{
		{"s/killed", "u", off, k, true},
		{"s/enabled", "u", on, flag.SourceCached, true},
		{"s/enabled", "v", on, flag.SourceCached, true},
		{"s/overridden", "u", off, flag.SourceCached, true},
		{"s/defaulted", "v", off, flag.SourceCached, false},
		{"s/default", "v", on, flag.SourceCached, false},
		{"s/archived", "v", off, k, false},
		{"s/archived", "u", off, k, false},
		{"s/expiring", "u", off, flag.SourceCached, false},
	} {
		if got, ok := o.recalls(t).Answer(row.key, row.entity); !ok || got.Value != row.value || got.Source != row.source || got.Shared != row.shared {
			t.Errorf("%s for %q: got %+v, %t, want %+v", row.key, row.entity, got, ok, row)
		}
	}
	newer := o.server
	newer.Revision.Number++
	keeps(t, o.kept, newer, "prefix s", "u")
	if got, ok := o.recalls(t).Flags(Choice{Name: "prefix s", Prefix: "s"}); !ok || len(got.Keys) > 0 || got.Shared {
		t.Errorf("got %+v, %t", got, ok)
	}
}

// Where the shared definitions cannot tell, or are not for the token, only what was
// kept is known.
func TestSharedDefinitionsThatTellNothing(t *testing.T) {
	t.Parallel()
	o, _, _ := dies(t, SharedPlace{Directory: t.TempDir()})
	for name, row := range map[string]struct {
		alter       func(*Server, *Walk)
		flag, other bool // whether one that the definitions have, and one that they lack, is known
	}{
		"all":                    {func(*Server, *Walk) {}, true, true},
		"flags of no definition": {func(s *Server, _ *Walk) { s.CompiledFlags = 1 }, true, false},
		"a token to evaluate":    {func(s *Server, _ *Walk) { s.Actor.Scopes = s.Actor.Scopes[:0] }, false, false},
		"another prefix":         {func(s *Server, _ *Walk) { s.Actor.Prefix = "s" }, false, false}, // nobody has shared those
		"an evaluator service":   {func(s *Server, _ *Walk) { s.EvaluatorOnly = true }, false, false},
		"another store":          {func(s *Server, _ *Walk) { s.Revision.StoreID = "other" }, false, false},
		"another environment":    {func(s *Server, _ *Walk) { s.Environment = "other" }, false, false},
		"nothing is shared":      {func(_ *Server, w *Walk) { w.client.place = SharedPlace{} }, false, false},
		"the walk knows better": {func(s *Server, w *Walk) {
			w.show(flag.Revision{StoreID: s.Revision.StoreID, Number: s.Revision.Number + 1})
		}, false, false},
		"it has written": {func(s *Server, w *Walk) {
			w.client.wrote["x"] = flag.Revision{StoreID: s.Revision.StoreID, Number: s.Revision.Number + 1}
		}, false, false},
	} {
		server, c := o.server, must(New(Options{Endpoint: o.walk.client.endpoint, UserAgent: "test", Shared: o.walk.client.place}))
		t.Cleanup(c.Close)
		walk := c.NewWalk()
		row.alter(&server, walk)
		kept := must(NewLastKnownIn(SharedPlace{Directory: t.TempDir()}, "http://a", secret))
		keeps(t, kept, server, "", "")
		known := walk.Recall(t.Context(), reads(t, kept))
		_, has := known.Answer("s/enabled", "u")
		_, lacks := known.Answer("none", "u")
		_, lists := known.Flags(Choice{Name: "prefix s", Prefix: "s"})
		if has != row.flag || lacks != row.other || lists != row.other {
			t.Errorf("%s: %t, %t, %t", name, has, lacks, lists)
		}
	}
	if w := o.walk; w.Recall(t.Context(), nil) != nil {
		t.Error("something was known")
	}
}

// What was kept before a write of ours says nothing of the flag any more, nor of what
// a choice has; what was kept after it does, and so does all of the other flags.
func TestKeptBeforeOurOwnWrite(t *testing.T) {
	t.Parallel()
	server := Server{Environment: "prod", Revision: flag.Revision{StoreID: "s", Number: 7}}
	kept := must(NewLastKnownIn(SharedPlace{Directory: t.TempDir()}, "http://a", secret))
	at := func(key flag.Key, number int64) Evaluation {
		e := answered(key, number, on)
		e.Revision.StoreID = "s"
		return e
	}
	keeps(t, kept, server, "list", "u", at("before", 6), at("after", 9), at("other", 6), at("unsure", 9))
	for name, row := range map[string]struct {
		wrote map[flag.Key]flag.Revision
		known string
	}{
		"nothing":   {nil, "before after other unsure list"},
		"once":      {map[flag.Key]flag.Revision{"before": {StoreID: "s", Number: 8}, "after": {StoreID: "s", Number: 9}}, "after other unsure"},
		"not sure":  {map[flag.Key]flag.Revision{"unsure": {}}, "before after other"},
		"elsewhere": {map[flag.Key]flag.Revision{"other": {StoreID: "another", Number: 1}}, "before after unsure"},
	} {
		c := must(New(Options{Endpoint: "http://a", UserAgent: "test"}))
		t.Cleanup(c.Close)
		maps.Copy(c.wrote, row.wrote)
		known := c.NewWalk().Recall(t.Context(), reads(t, kept))
		var got []string
		for _, key := range []flag.Key{"before", "after", "other", "unsure"} {
			if _, ok := known.Answer(key, "u"); ok {
				got = append(got, string(key))
			}
		}
		if _, ok := known.Flags(Choice{Name: "list"}); ok {
			got = append(got, "list")
		}
		if got := strings.Join(got, " "); got != row.known {
			t.Errorf("%s: known are %s, want %s", name, got, row.known)
		}
	}
}

// What is kept by a version that knew nothing of shared definitions is of use.
func TestKeptBeforeDefinitionsWereShared(t *testing.T) {
	t.Parallel()
	o, _, _ := dies(t, SharedPlace{Directory: t.TempDir()})
	known := newKnown("prod", o.server.Revision.StoreID)
	if got := o.walk.Recall(t.Context(), known); got.copied.Snapshot != nil {
		t.Errorf("got %+v", got)
	}
}

func TestPlaceNames(t *testing.T) {
	t.Parallel()
	for want, place := range map[string]SharedPlace{
		"the folder /a/b":       {Directory: "/a/b"},
		"the Redis at a:6379":   {RedisURL: "rediss://ci:" + secret + "@a:6379/1"},
		"the Redis at /run/r":   {RedisURL: "unix://ci:" + secret + "@/run/r?db=1"},
		"the Redis at unix/rel": {RedisURL: "unix/rel"},
		"the Redis":             {RedisURL: "redis://%zz" + secret},
	} {
		if got := place.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Sharing for an outage costs no more requests than the answers do, and answers
// nothing that the server has not just said.
func TestSharingForAnOutage(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	operator, _ := gated(t, server, server.AdminToken)
	fill(t, operator, 3, 0)
	place := SharedPlace{Directory: t.TempDir()}
	write := func(c *Client) {
		if _, err := c.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: "f/1", Holder: "admin", Reason: "r"})); err != nil {
			t.Error(err)
		}
	}
	for name, row := range map[string]struct {
		place  SharedPlace
		scopes []string
		before func(*operation) // what happens between sharing and asking
		source flag.Source
		want   []string
	}{
		"nowhere":        {SharedPlace{}, []string{"read"}, func(*operation) {}, flag.SourceGlobal, []string{"GetServer", "BulkEvaluate"}},
		"it may not":     {place, []string{"evaluate"}, func(*operation) {}, flag.SourceGlobal, []string{"GetServer", "BulkEvaluate"}},
		"it has written": {place, []string{"admin"}, func(o *operation) { write(o.Client) }, flag.SourceKilled, []string{"GetServer", "GetSnapshot", "Apply", "BulkEvaluate"}},
		"a while ago": {place, []string{"admin"}, func(o *operation) {
			o.walk.whole.mu.Lock()
			o.walk.whole.value.at = time.Now().Add(-handshakeLife)
			o.walk.whole.mu.Unlock()
			write(operator)
		}, flag.SourceKilled, []string{"GetServer", "GetSnapshot", "BulkEvaluate"}},
	} {
		token := server.Token(t, row.scopes...)
		o := begins(t, server, token, row.place, 0, nil)
		o.walk.Share(t.Context())
		row.before(o)
		if e := evaluated(t, o.walk, "f/1", "u"); e.Source != row.source {
			t.Errorf("%s: got %+v", name, e)
		}
		if got := o.gate.calls(); !slices.Equal(got, row.want) {
			t.Errorf("%s: requests %q, want %q", name, got, row.want)
		}
		if row.source != flag.SourceKilled {
			continue
		}
		if _, err := operator.Write(t.Context(), flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("f/1", "admin")}); err != nil {
			t.Fatal(err)
		}
	}
	// What fails once is not tried for each data source.
	fails := begins(t, server, server.AdminToken, SharedPlace{Directory: t.TempDir()}, 0, nil)
	fails.walk.whole.fetch = func(context.Context) (coverage, error) {
		fails.mu.Lock()
		defer fails.mu.Unlock()
		fails.warns = append(fails.warns, "asked")
		return coverage{}, errors.New("away")
	}
	for range 3 {
		fails.walk.Share(t.Context())
	}
	fails.warned(t, "asked")
	if e := evaluated(t, fails.walk, "f/1", "u"); e.Source != flag.SourceGlobal {
		t.Errorf("got %+v", e)
	}
}
