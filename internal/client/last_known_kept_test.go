package client

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// keptPlace is where last known answers are kept in a test: a file or a Redis.
type keptPlace struct {
	open func(tb testing.TB, endpoint, token string) *LastKnown
	get  func(tb testing.TB, l *LastKnown) []byte // as they lie there
	put  func(tb testing.TB, l *LastKnown, text []byte)
}

// testLastKnown is what holds wherever they are kept; each test has a place of its own.
func testLastKnown(t *testing.T, start func(tb testing.TB) keptPlace) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, keptPlace){
		"read again": lastKnownIsReadAgain, "kept apart": lastKnownIsKeptApart, "damage": lastKnownDamage,
		"many writers": lastKnownOfManyWriters, "seen again": lastKnownSeenAgain, "bounded": lastKnownIsBounded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

var testServer = Server{Environment: "test", Revision: flag.Revision{StoreID: "s", Number: 1}}

func answered(key flag.Key, revision int64, v flag.Value) Evaluation {
	return Evaluation{Answer: flag.Answer{Key: key, Type: v.Type(), Value: v, Source: flag.SourceGlobal}, Revision: flag.Revision{StoreID: "s", Number: revision}}
}

func keeps(t *testing.T, l *LastKnown, server Server, choice, entity string, answers ...Evaluation) {
	t.Helper()
	if err := l.Keep(t.Context(), server, choice, entity, answers); err != nil {
		t.Error(err)
	}
}

func reads(t *testing.T, l *LastKnown) *Known {
	t.Helper()
	known, err := l.Read()
	if err != nil || known == nil {
		t.Fatalf("got %v, %v", known, err)
	}
	return known
}

// What was kept is read again, by another process, exactly, and without the token.
func lastKnownIsReadAgain(t *testing.T, place keptPlace) {
	t.Helper()
	l := place.open(t, "http://a", secret)
	if known, err := l.Read(); known != nil || err != nil {
		t.Errorf("got %v, %v", known, err)
	}
	text, err := flag.StringValue("a\n\"ü\"")
	json, err2 := flag.JSONValue(`{"n":[9007199254740993,null,1e400]}`)
	double, err3 := flag.DoubleValue(0.1)
	if err != nil || err2 != nil || err3 != nil {
		t.Fatal(err, err2, err3)
	}
	values := []flag.Value{on, text, json, double, flag.IntValue(9007199254740993)}
	var answers []Evaluation
	for i, v := range values {
		answers = append(answers, answered(flag.Key(fmt.Sprintf("p/%d", i)), 5, v))
	}
	stale := answered("stale", 5, on)
	stale.Answer = stale.Aged()
	broken := answered("broken", 5, on)
	broken.ErrorCode = "PARSE_ERROR"
	keeps(t, l, testServer, "prefix p", "u", append(answers, stale, broken)...)
	keeps(t, l, testServer, "", "v", answered("p/0", 6, off))

	known := reads(t, place.open(t, "http://a", secret))
	for i, v := range values {
		e, ok := known.Answer(flag.Key(fmt.Sprintf("p/%d", i)), "u")
		if want := v; i == 0 {
			want = off // what another entity got since
			if e.Value != want {
				t.Errorf("got %+v", e)
			}
		} else if !ok || e.Value != want || e.Type != v.Type() || e.FreshSource != flag.SourceGlobal || e.At.IsZero() || e.Revision != (flag.Revision{StoreID: "s", Number: 5}) {
			t.Errorf("got %+v at %v, want %v", e, e.At, v)
		}
	}
	for _, key := range []flag.Key{"stale", "broken", "never"} {
		if e, ok := known.Answer(key, "u"); ok {
			t.Errorf("got %+v", e)
		}
	}
	if got, ok := known.Flags(Choice{Name: "prefix p"}); !ok || len(got.Keys) != 7 || got.At.IsZero() || got.Shared {
		t.Errorf("got %+v, %t", got, ok)
	}
	if _, ok := known.Flags(Choice{Name: "prefix q"}); ok || known.Environment != "test" || known.StoreID != "s" {
		t.Errorf("got %+v", known)
	}
	if text := place.get(t, l); !bytes.HasPrefix(text, []byte(lastKnownHead)) || bytes.Contains(text, []byte(secret)) || strings.Contains(l.Place(), secret) {
		t.Errorf("in %s is %.200q", l.Place(), text)
	}
}

// Other endpoints, tokens, stores and environments are kept apart.
func lastKnownIsKeptApart(t *testing.T, place keptPlace) {
	t.Helper()
	l := place.open(t, "http://a", secret)
	keeps(t, l, testServer, "all", "u", answered("f", 5, on))
	for name, o := range map[string]*LastKnown{
		"another token": place.open(t, "http://a", "other"), "no token": place.open(t, "http://a", ""),
		"another endpoint": place.open(t, "http://b", secret),
	} {
		if known, err := o.Read(); known != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, known, err)
		}
		// Nor may what one has be put in the place of another's.
		place.put(t, o, place.get(t, l))
		if known, err := o.Read(); known != nil || err == nil || !strings.HasPrefix(err.Error(), o.Place()+" ") {
			t.Errorf("%s: got %v, %v", name, known, err)
		}
	}
	keeps(t, l, Server{Environment: "other", Revision: testServer.Revision}, "", "u", answered("g", 5, on))
	known := reads(t, l)
	if _, ok := known.Answer("f", "u"); ok || known.Environment != "other" {
		t.Errorf("what another environment said stayed: %+v", known)
	}
	restored := answered("h", 1, on)
	restored.Revision.StoreID = "restored"
	keeps(t, l, Server{Environment: "other"}, "", "u", restored)
	known = reads(t, l)
	if _, ok := known.Answer("g", "u"); ok || known.StoreID != "restored" {
		t.Errorf("what another store said stayed: %+v", known)
	}
}

// What is not as we wrote it is not used; the next that is kept is.
func lastKnownDamage(t *testing.T, place keptPlace) {
	t.Helper()
	for name, damage := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"cut off":           func(text []byte) []byte { return text[:len(text)/2] },
		"a bit":             func(text []byte) []byte { text[len(text)-20] ^= 1; return text },
		"of another format": func(text []byte) []byte { return bytes.Replace(text, []byte("known 1"), []byte("known 2"), 1) },
		"foreign":           func([]byte) []byte { return []byte("hello\n") },
	} {
		t.Run(name, func(t *testing.T) {
			l := place.open(t, "http://a", secret+name)
			keeps(t, l, testServer, "", "u", answered("f", 5, on))
			place.put(t, l, damage(place.get(t, l)))
			if known, err := l.Read(); known != nil || err == nil || !strings.HasPrefix(err.Error(), l.Place()+" ") {
				t.Errorf("got %v, %v", known, err)
			}
			l = place.open(t, "http://a", secret+name) // another process
			if err := l.Keep(t.Context(), testServer, "", "u", []Evaluation{answered("g", 5, on)}); err == nil || !strings.Contains(err.Error(), "It was written anew") {
				t.Errorf("got %v", err)
			}
			if _, ok := reads(t, l).Answer("g", "u"); !ok {
				t.Error("nothing was kept")
			}
		})
	}
}

// What is seen again just after is not written again: many plans that are all alike
// do not wait for each other.
func lastKnownSeenAgain(t *testing.T, place keptPlace) {
	t.Helper()
	l := place.open(t, "http://a", secret)
	answers := []Evaluation{answered("f", 5, on), answered("g", 5, off)}
	gone := answered("gone", 5, on)
	gone.Answer = flag.Answer{Key: "gone", Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound}
	answers = append(answers, gone)
	keeps(t, l, testServer, "all", "u", answers...)
	before := place.get(t, l)
	for _, again := range []*LastKnown{l, place.open(t, "http://a", secret)} {
		keeps(t, again, testServer, "all", "u", answers...)
		keeps(t, again, testServer, "", "u", answers[1])
		if !bytes.Equal(place.get(t, l), before) {
			t.Error("what was known already is written again")
		}
	}
	for name, keep := range map[string]func(l *LastKnown){
		"another value":    func(l *LastKnown) { keeps(t, l, testServer, "all", "u", answered("f", 5, off), answers[1], gone) },
		"a later revision": func(l *LastKnown) { keeps(t, l, testServer, "", "u", answered("f", 6, off)) },
		"another entity":   func(l *LastKnown) { keeps(t, l, testServer, "", "v", answers[0]) },
		"another choice":   func(l *LastKnown) { keeps(t, l, testServer, "some", "u", answers[0]) },
		"fewer chosen":     func(l *LastKnown) { keeps(t, l, testServer, "all", "u", answers[0]) },
		"another store":    func(l *LastKnown) { keeps(t, l, Server{Environment: "other"}, "", "u", answers[0]) },
	} {
		before := place.get(t, l)
		keep(l)
		if bytes.Equal(place.get(t, l), before) {
			t.Errorf("%s is not written", name)
		}
	}
}

// Many writers at once, as of several processes, lose nothing of each other, and
// who reads meanwhile reads something whole.
func lastKnownOfManyWriters(t *testing.T, place keptPlace) {
	t.Helper()
	var wait sync.WaitGroup
	const each = 20
	for i := range 8 {
		l := place.open(t, "http://a", secret) // as another process has it
		for n := range each {
			wait.Go(func() { keeps(t, l, testServer, "", "u", answered(flag.Key(fmt.Sprintf("f/%d/%d", i, n)), 5, on)) })
			wait.Go(func() {
				if _, err := l.Read(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	known := reads(t, place.open(t, "http://a", secret))
	if n := len(slices.Collect(known.all())); n != 8*each {
		t.Errorf("%d answers, want %d", n, 8*each)
	}
}

// It does not grow without end: the newest stay.
func lastKnownIsBounded(t *testing.T, place keptPlace) {
	t.Helper()
	l := place.open(t, "http://a", secret)
	var answers []Evaluation
	for i := range mostSeen {
		answers = append(answers, answered(flag.Key(fmt.Sprintf("f/%d", i)), 5, on))
	}
	keeps(t, l, testServer, "", "u", answers...)
	keeps(t, l, testServer, "", "u", answered("last", 5, on))
	many := newKnown("test", "s")
	for i := range mostLists + 10 {
		many.lists[fmt.Sprintf("list %d", i)] = seenList{}
	}
	if _, err := l.write(t.Context(), []*Known{many}); err != nil {
		t.Error(err)
	}
	known := reads(t, l)
	if _, ok := known.Answer("last", "u"); !ok || len(slices.Collect(known.all())) != mostSeen || len(known.lists) != mostLists {
		t.Errorf("%d answers, %d lists, the last: %t", len(slices.Collect(known.all())), len(known.lists), ok)
	}
	large, err := flag.StringValue(strings.Repeat("\"", 500_000)) // twice as long as JSON
	if err != nil {
		t.Fatal(err)
	}
	answers = nil
	for i := range 300 {
		answers = append(answers, answered(flag.Key(fmt.Sprintf("large/%d", i)), 5, large))
	}
	keeps(t, l, testServer, "", "u", answers...)
	if text := place.get(t, l); len(text) > lastKnownMost {
		t.Errorf("%d bytes", len(text))
	}
	reads(t, l)
}
