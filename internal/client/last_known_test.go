package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// saw is an answer for the flag "f" in a table.
type saw struct {
	entity   string
	revision int64
	source   flag.Source
	value    flag.Value
}

var (
	on, off, gone = flag.BoolValue(true), flag.BoolValue(false), flag.Value{}
	other         = flag.IntValue(1)
)

func (s saw) seen(store string) Seen {
	e := Evaluation{Revision: flag.Revision{StoreID: store, Number: s.revision}, Answer: flag.Answer{Key: "f", Type: s.value.Type(), Value: s.value, Source: s.source}}
	if s.value.IsZero() {
		e.Source, e.ErrorCode = flag.SourceDefault, flag.ErrorFlagNotFound
	}
	return Seen{Evaluation: e, Entity: s.entity, At: time.Unix(1e9+s.revision, 0)}
}

// What was last known goes by the state of the flag.
func TestLastKnownGoesByState(t *testing.T) {
	const d, g, o, k, a, n = flag.SourceDefault, flag.SourceGlobal, flag.SourceOverride, flag.SourceKilled, flag.SourceArchived, flag.Source(0)
	for name, row := range map[string]struct {
		saw    []saw
		value  flag.Value // zero: see source
		source flag.Source
		at     int64 // 0: nothing is known
	}{
		"nothing":                           {nil, gone, 0, 0},
		"its own":                           {[]saw{{"u", 5, g, on}}, on, flag.SourceCached, 5},
		"its later one":                     {[]saw{{"u", 7, d, off}, {"u", 5, g, on}}, off, flag.SourceCached, 7},
		"another's":                         {[]saw{{"v", 5, g, on}}, gone, 0, 0},
		"killed":                            {[]saw{{"u", 5, k, off}}, off, k, 5},
		"killed since, seen by another":     {[]saw{{"u", 5, g, on}, {"v", 7, k, off}}, off, k, 7},
		"killed since, with an override":    {[]saw{{"u", 5, o, on}, {"v", 7, k, off}}, off, k, 7},
		"killed, never seen by itself":      {[]saw{{"v", 7, k, off}}, off, k, 7},
		"killed before":                     {[]saw{{"u", 9, g, on}, {"v", 7, k, off}}, on, flag.SourceCached, 9},
		"killed, and lifted for another":    {[]saw{{"u", 5, k, off}, {"v", 7, g, on}}, off, k, 5},
		"lifted, seen by another":           {[]saw{{"u", 5, g, on}, {"v", 7, k, off}, {"w", 9, g, on}}, on, flag.SourceCached, 9},
		"turned off since":                  {[]saw{{"u", 5, g, on}, {"", 7, d, off}}, off, flag.SourceCached, 7},
		"another value since":               {[]saw{{"u", 5, g, off}, {"v", 7, g, on}}, on, flag.SourceCached, 7},
		"archived since":                    {[]saw{{"u", 5, g, off}, {"v", 7, a, on}}, on, flag.SourceCached, 7},
		"of the same revision":              {[]saw{{"u", 5, g, on}, {"v", 5, d, off}}, on, flag.SourceCached, 5},
		"an override":                       {[]saw{{"u", 5, o, off}, {"v", 7, g, on}}, off, flag.SourceCached, 5},
		"an override that was removed":      {[]saw{{"u", 5, o, off}, {"u", 7, g, on}}, on, flag.SourceCached, 7},
		"an override of another":            {[]saw{{"u", 5, g, on}, {"v", 7, o, off}}, on, flag.SourceCached, 5},
		"the default, and a value since":    {[]saw{{"u", 5, d, off}, {"v", 7, g, on}}, off, flag.SourceCached, 5},
		"of another type since":             {[]saw{{"u", 5, o, on}, {"v", 7, g, other}}, other, flag.SourceCached, 7},
		"of another type, by an override":   {[]saw{{"u", 5, g, on}, {"v", 7, o, other}}, gone, 0, 0},
		"gone":                              {[]saw{{"u", 5, g, on}, {"u", 7, n, gone}}, gone, d, 7},
		"gone since, seen by another":       {[]saw{{"u", 5, o, on}, {"v", 7, n, gone}}, gone, d, 7},
		"gone, and there again":             {[]saw{{"u", 5, n, gone}, {"v", 7, g, on}}, on, flag.SourceCached, 7},
		"gone, never seen by the entity":    {[]saw{{"v", 7, n, gone}}, gone, 0, 0},
		"gone for others before it is ours": {[]saw{{"v", 7, n, gone}, {"u", 9, o, on}}, on, flag.SourceCached, 9},
	} {
		known := newKnown("", "s")
		for _, s := range row.saw {
			known.take(s.seen("s"))
		}
		e, ok := known.Answer("f", "u")
		if ok != (row.at != 0) || ok && (e.Value != row.value || e.Source != row.source || e.At.Unix() != 1e9+row.at || !e.Stale) {
			t.Errorf("%s: %+v at %v, %t", name, e, e.At.Unix()-1e9, ok)
		}
	}
}

// A server without revisions is known by the times.
func TestLastKnownWithoutRevisions(t *testing.T) {
	known := newKnown("", "")
	at := time.Unix(1e9, 0)
	for i, s := range []saw{{"u", 0, flag.SourceGlobal, on}, {"v", 0, flag.SourceDefault, off}} {
		seen := s.seen("")
		seen.At = at.Add(time.Duration(i) * time.Minute)
		known.take(seen)
	}
	if e, ok := known.Answer("f", "u"); !ok || e.Value != off {
		t.Errorf("what was turned off for others is on: %+v, %t", e, ok)
	}
	killed := saw{"v", 0, flag.SourceKilled, off}.seen("")
	killed.At = at.Add(time.Hour)
	known.take(killed)
	if e, ok := known.Answer("f", "u"); !ok || e.Source != flag.SourceKilled || e.At != killed.At {
		t.Errorf("got %+v, %t", e, ok)
	}
}

// Whatever is seen in whatever order: it is known the same, no answer is made up,
// and the latest kill is never hidden.
func TestLastKnownProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entity := rapid.SampledFrom([]string{"", "u", "v"})
		source := rapid.SampledFrom([]flag.Source{flag.SourceDefault, flag.SourceGlobal, flag.SourceOverride, flag.SourceKilled, flag.SourceArchived})
		var all []Seen
		var last Seen
		for i := range rapid.IntRange(1, 8).Draw(t, "count") {
			s := saw{entity.Draw(t, "entity"), int64(i + 1), source.Draw(t, "source"), rapid.SampledFrom([]flag.Value{on, off, other, gone}).Draw(t, "value")}.seen("s")
			all = append(all, s)
			last = s
		}
		inOrder, shuffled := newKnown("", "s"), newKnown("", "s")
		for _, s := range all {
			inOrder.take(s)
		}
		for _, s := range rapid.Permutation(all).Draw(t, "order") {
			shuffled.take(s)
		}
		for _, entity := range []string{"", "u", "v"} {
			a, ok := inOrder.Answer("f", entity)
			b, ok2 := shuffled.Answer("f", entity)
			if a != b || ok != ok2 {
				t.Fatalf("%q: %+v, %+v", entity, a, b)
			}
			if !ok {
				continue
			}
			if last.Source == flag.SourceKilled && (a.Source != flag.SourceKilled || a.Value != last.Value) {
				t.Fatalf("%q: the kill is hidden by %+v", entity, a)
			}
			found := false
			for _, s := range all {
				found = found || s.Value == a.Value && s.At.Equal(a.At)
			}
			if !found || a.Source != flag.SourceCached && a.Source != flag.SourceKilled && a.ErrorCode == "" {
				t.Fatalf("%q: nobody ever saw %+v", entity, a)
			}
		}
	})
}

// A kill that was heard from a server which does not hear its source of truth is
// kept; nothing else that it says is.
func TestLastKnownOfAStaleServer(t *testing.T) {
	known := newKnown("", "s")
	known.take(saw{"u", 5, flag.SourceGlobal, on}.seen("s"))
	stale := saw{"u", 10, flag.SourceGlobal, off}.seen("s")
	stale.Stale = true
	known.take(stale)
	if e, ok := known.Answer("f", "u"); !ok || e.Value != on {
		t.Errorf("got %+v, %t", e, ok)
	}
	killed := saw{"u", 10, flag.SourceKilled, off}.seen("s")
	killed.Stale, killed.FreshSource = true, flag.SourceKilled
	known.take(killed)
	for _, entity := range []string{"u", "v"} {
		if e, ok := known.Answer("f", entity); !ok || e.Source != flag.SourceKilled || e.Value != off {
			t.Errorf("%s got %+v, %t", entity, e, ok)
		}
	}
}

// What a later sight of the same answers adds, and what it does not.
func TestWhatIsSeenAgainLacks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	of := func(at time.Time, revision int64, value flag.Value) *Known {
		k := newKnown("test", "s")
		k.take(Seen{Evaluation: answered("f", revision, value), Entity: "u", At: at})
		k.lists["all"] = seenList{keys: []flag.Key{"f"}, at: at, revision: revision}
		return k
	}
	for name, c := range map[string]struct {
		had, news *Known
		want      bool
	}{
		"nothing was known":      {nil, of(now, 5, on), true},
		"just now":               {of(now, 5, on), of(now.Add(seenAgain-time.Second), 5, on), false},
		"minutes later":          {of(now, 5, on), of(now.Add(seenAgain), 5, on), true},
		"before":                 {of(now, 5, on), of(now.Add(-time.Hour), 5, on), false},
		"before, something else": {of(now, 5, on), of(now.Add(-time.Hour), 4, off), false},
		"another value":          {of(now, 5, on), of(now.Add(1), 5, off), true},
		"a later revision":       {of(now, 5, on), of(now.Add(1), 6, on), true},
		"of a plain evaluator":   {of(now, 0, on), of(now.Add(1), 0, on), true}, // only the time tells which is later
	} {
		if got := c.had.lacks(c.news); got != c.want {
			t.Errorf("%s: %t; want %t", name, got, c.want)
		}
	}
}
