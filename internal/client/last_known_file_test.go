package client

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// fileOf names the file.
func fileOf(l *LastKnown) string { return strings.TrimPrefix(l.Place(), "the file ") }

func TestLastKnownInAFile(t *testing.T) {
	t.Parallel()
	testLastKnown(t, func(tb testing.TB) keptPlace {
		tb.Helper()
		directory := tb.TempDir()
		return keptPlace{
			open: func(tb testing.TB, endpoint, token string) *LastKnown {
				tb.Helper()
				l, err := NewLastKnownIn(SharedPlace{Directory: directory}, endpoint, token)
				if err != nil {
					tb.Fatal(err)
				}
				return l
			},
			get: func(tb testing.TB, l *LastKnown) []byte {
				tb.Helper()
				text, err := os.ReadFile(fileOf(l))
				if err != nil {
					tb.Fatal(err)
				}
				return text
			},
			put: func(tb testing.TB, l *LastKnown, text []byte) {
				tb.Helper()
				if err := os.WriteFile(fileOf(l), text, 0o600); err != nil {
					tb.Fatal(err)
				}
			},
		}
	})
}

// What is written is this user's alone, and has no token.
func TestLastKnownFileModes(t *testing.T) {
	directory := t.TempDir()
	keeps(t, NewLastKnown(directory, "http://a", secret), testServer, "", "u", answered("f", 5, on))
	err := filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
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

// A directory where the file should be, a file where the folder should be, and a file
// that is far too large.
func TestLastKnownFileInTheWay(t *testing.T) {
	directory := t.TempDir()
	l := NewLastKnown(directory, "http://a", secret)
	if err := os.WriteFile(filepath.Dir(fileOf(l)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), testServer, "", "u", nil); err == nil || !strings.Contains(err.Error(), fileOf(l)+" cannot be written: ") {
		t.Errorf("got %v", err)
	}
	l = NewLastKnown(t.TempDir(), "http://a", secret)
	if err := os.MkdirAll(fileOf(l), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), testServer, "", "u", nil); err == nil {
		t.Error("a folder was written")
	}
	l = NewLastKnown(t.TempDir(), "http://a", secret)
	keeps(t, l, testServer, "", "u", answered("f", 5, on))
	if err := os.WriteFile(fileOf(l), make([]byte, lastKnownMost+2), 0o600); err != nil {
		t.Fatal(err)
	}
	if known, err := l.Read(); known != nil || err == nil || !strings.Contains(err.Error(), "has more than 32 MB") {
		t.Errorf("got %v, %v", known, err)
	}
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
	folder := filepath.Dir(fileOf(l))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, fileOf(l)+".new"); err != nil {
		t.Fatal(err)
	}
	keeps(t, l, testServer, "", "u", answered("f", 1, on))
	if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
		t.Errorf("the file of somebody else has %q, %v", text, err)
	}
	for path, want := range map[string]fs.FileMode{folder: fs.ModeDir | 0o700, fileOf(l): 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := os.Rename(fileOf(l), fileOf(l)+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fileOf(l)+".kept", fileOf(l)); err != nil {
		t.Fatal(err)
	}
	if known, err := NewLastKnown(directory, "http://a", secret).Read(); known != nil || err == nil || !strings.Contains(err.Error(), "it is not a file") {
		t.Errorf("got %v, %v", known, err)
	}
}
