package client

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

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

// What was kept is read again, by another process, exactly; privately, and
// without the token.
func TestLastKnownFile(t *testing.T) {
	directory := t.TempDir()
	l := NewLastKnown(directory, "http://a", secret)
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

	known := reads(t, NewLastKnown(directory, "http://a", secret))
	for i, v := range values {
		e, at, ok := known.Answer(flag.Key(fmt.Sprintf("p/%d", i)), "u")
		if want := v; i == 0 {
			want = off // what another entity got since
			if e.Value != want {
				t.Errorf("got %+v", e)
			}
		} else if !ok || e.Value != want || e.Type != v.Type() || e.FreshSource != flag.SourceGlobal || at.IsZero() || e.Revision != (flag.Revision{StoreID: "s", Number: 5}) {
			t.Errorf("got %+v at %v, want %v", e, at, v)
		}
	}
	for _, key := range []flag.Key{"stale", "broken", "never"} {
		if e, _, ok := known.Answer(key, "u"); ok {
			t.Errorf("got %+v", e)
		}
	}
	if keys, at, ok := known.Flags("prefix p"); !ok || len(keys) != 7 || at.IsZero() {
		t.Errorf("got %v at %v, %t", keys, at, ok)
	}
	if _, _, ok := known.Flags("prefix q"); ok || known.Environment != "test" || known.StoreID != "s" {
		t.Errorf("got %+v", known)
	}

	err = filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == directory {
			return err
		}
		info, err := d.Info()
		if want := fs.FileMode(0o600); err == nil && runtime.GOOS != "windows" && info.Mode().Perm() != want && !d.IsDir() || d.IsDir() && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) || strings.Contains(path, secret) {
			t.Errorf("%s tells the token", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Other endpoints, tokens, stores and environments are kept apart.
func TestLastKnownIsKeptApart(t *testing.T) {
	directory := t.TempDir()
	l := NewLastKnown(directory, "http://a", secret)
	keeps(t, l, testServer, "all", "u", answered("f", 5, on))
	for name, o := range map[string]*LastKnown{
		"another token": NewLastKnown(directory, "http://a", "other"), "no token": NewLastKnown(directory, "http://a", ""),
		"another endpoint": NewLastKnown(directory, "http://b", secret),
	} {
		if known, err := o.Read(); known != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, known, err)
		}
		// Nor may the file of one be put in the place of another's.
		text, err := os.ReadFile(l.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if known, err := o.Read(); known != nil || err == nil {
			t.Errorf("%s: got %v, %v", name, known, err)
		}
	}
	keeps(t, l, Server{Environment: "other", Revision: testServer.Revision}, "", "u", answered("g", 5, on))
	known := reads(t, l)
	if _, _, ok := known.Answer("f", "u"); ok || known.Environment != "other" {
		t.Errorf("what another environment said stayed: %+v", known)
	}
	restored := answered("h", 1, on)
	restored.Revision.StoreID = "restored"
	keeps(t, l, Server{Environment: "other"}, "", "u", restored)
	known = reads(t, l)
	if _, _, ok := known.Answer("g", "u"); ok || known.StoreID != "restored" {
		t.Errorf("what another store said stayed: %+v", known)
	}
}

// A file that is not as we wrote it is not used; the next that is kept is.
func TestLastKnownDamage(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"cut off":           func(text []byte) []byte { return text[:len(text)/2] },
		"a bit":             func(text []byte) []byte { text[len(text)-20] ^= 1; return text },
		"of another format": func(text []byte) []byte { return bytes.Replace(text, []byte("known 1"), []byte("known 2"), 1) },
		"foreign":           func([]byte) []byte { return []byte("hello\n") },
		"far too large":     func([]byte) []byte { return make([]byte, lastKnownMost+2) },
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLastKnown(t.TempDir(), "http://a", secret)
			keeps(t, l, testServer, "", "u", answered("f", 5, on))
			text, err := os.ReadFile(l.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(l.path, damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if known, err := l.Read(); known != nil || err == nil {
				t.Errorf("got %v, %v", known, err)
			}
			l = NewLastKnown(filepath.Dir(filepath.Dir(l.path)), "http://a", secret) // another process
			if err := l.Keep(t.Context(), testServer, "", "u", []Evaluation{answered("g", 5, on)}); err == nil || !strings.Contains(err.Error(), "It was written anew") {
				t.Errorf("got %v", err)
			}
			if _, _, ok := reads(t, l).Answer("g", "u"); !ok {
				t.Error("nothing was kept")
			}
		})
	}
	// A directory where the file or the folder should be.
	directory := t.TempDir()
	l := NewLastKnown(directory, "http://a", secret)
	if err := os.WriteFile(filepath.Dir(l.path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), testServer, "", "u", nil); err == nil || !strings.HasPrefix(err.Error(), "cannot be written: ") {
		t.Errorf("got %v", err)
	}
	l = NewLastKnown(t.TempDir(), "http://a", secret)
	if err := os.MkdirAll(l.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), testServer, "", "u", nil); err == nil {
		t.Error("a folder was written")
	}
}

// Many writers at once, as of several processes, lose nothing of each other, and
// who reads meanwhile reads something whole.
func TestLastKnownOfManyWriters(t *testing.T) {
	directory := t.TempDir()
	var wait sync.WaitGroup
	const each = 20
	for i := range 8 {
		l := NewLastKnown(directory, "http://a", secret) // as another process has it
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
	known := reads(t, NewLastKnown(directory, "http://a", secret))
	if n := len(slices.Collect(known.all())); n != 8*each {
		t.Errorf("%d answers, want %d", n, 8*each)
	}
}

// The file does not grow without end: the newest stay.
func TestLastKnownIsBounded(t *testing.T) {
	l := NewLastKnown(t.TempDir(), "http://a", secret)
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
	if _, _, ok := known.Answer("last", "u"); !ok || len(slices.Collect(known.all())) != mostSeen || len(known.lists) != mostLists {
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
	if info, err := os.Stat(l.path); err != nil || info.Size() > lastKnownMost {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	reads(t, l)
}

// A thousand answers, each kept by itself, ten at a time, as Terraform reads.
func BenchmarkLastKnown(b *testing.B) {
	for b.Loop() {
		l := NewLastKnown(b.TempDir(), "http://a", secret)
		var wait sync.WaitGroup
		for i := range 10 {
			wait.Go(func() {
				for n := range 100 {
					if err := l.Keep(b.Context(), testServer, "", "u", []Evaluation{answered(flag.Key(fmt.Sprintf("f/%d", i*100+n)), 5, on)}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wait.Wait()
	}
}

// Where others could write, too, nothing of theirs is followed, waited for or left
// open: the folder is taken for oneself.
func TestLastKnownIsPrivate(t *testing.T) {
	directory := t.TempDir()
	l := NewLastKnown(directory, "http://a", secret)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(l.Path())
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, l.Path()+".new"); err != nil {
		t.Fatal(err)
	}
	keeps(t, l, testServer, "", "u", answered("f", 1, on))
	if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
		t.Errorf("the file of somebody else has %q, %v", text, err)
	}
	for path, want := range map[string]fs.FileMode{folder: fs.ModeDir | 0o700, l.Path(): 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := os.Rename(l.Path(), l.Path()+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(l.Path()+".kept", l.Path()); err != nil {
		t.Fatal(err)
	}
	if known, err := NewLastKnown(directory, "http://a", secret).Read(); known != nil || err == nil || !strings.Contains(err.Error(), "it is not a file") {
		t.Errorf("got %v, %v", known, err)
	}
}
