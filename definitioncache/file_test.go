package definitioncache_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

func newFile(tb testing.TB, folder string) *definitioncache.File {
	tb.Helper()
	file, err := definitioncache.NewFile(folder, cachetest.Key, timing)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// move puts one's files in the other's place.
func move(tb testing.TB, from, to *definitioncache.File) {
	tb.Helper()
	fromCopy, fromBoard := from.Paths()
	toCopy, toBoard := to.Paths()
	if err := errors.Join(os.Rename(fromCopy, toCopy), os.Rename(fromBoard, toBoard)); err != nil {
		tb.Fatal(err)
	}
}

func TestATornReadIsRefused(t *testing.T) {
	t.Parallel()
	first, second := newFile(t, t.TempDir()), newFile(t, t.TempDir())
	for file, number := range map[*definitioncache.File]int64{first: 2, second: 1} {
		if err := file.DefinitionsReceived(t.Context(), cachetest.Definitions(number)); err != nil {
			t.Fatal(err)
		}
	}
	// A process ended between the board and the copy.
	copied, _ := first.Paths()
	old, _ := second.Paths()
	if err := os.Rename(old, copied); err != nil {
		t.Fatal(err)
	}
	if found, err := first.Definitions(t.Context(), definitioncache.Revision{}); !errors.Is(err, definitioncache.ErrUnusable) {
		t.Errorf("a copy of another revision than the board's is read: %+v, %v", found, err)
	}
	if err := first.DefinitionsReceived(t.Context(), cachetest.Definitions(1)); !errors.Is(err, definitioncache.ErrOlder) {
		t.Errorf("what the board knows as published was overwritten by something older: %v", err)
	}
	if err := first.DefinitionsReceived(t.Context(), cachetest.Definitions(2)); err != nil {
		t.Error(err)
	}
	if found, err := first.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found.Revision.Number != 2 {
		t.Errorf("it was not published anew: %+v, %v", found, err)
	}
}

func TestADamagedFileIsRefusedAndPublishedAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"cut":         func(b []byte) []byte { return b[:len(b)-3] },
		"empty":       func([]byte) []byte { return nil },
		"bit flipped": func(b []byte) []byte { b[len(b)-10] ^= 4; return b },
		"foreign":     func([]byte) []byte { return []byte("#!/bin/sh\n") },
		"newer":       func(b []byte) []byte { return bytes.Replace(b, []byte(" 1 "), []byte(" 2 "), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := newFile(t, t.TempDir())
			if err := file.DefinitionsReceived(t.Context(), cachetest.Definitions(3)); err != nil {
				t.Fatal(err)
			}
			copied, _ := file.Paths()
			content, err := os.ReadFile(copied)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(copied, damage(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if found, err := file.Definitions(t.Context(), definitioncache.Revision{}); !errors.Is(err, definitioncache.ErrUnusable) {
				t.Errorf("it is read: %+v, %v", found, err)
			}
			s := newServer(3)
			process := newProcess(t, file, s)
			process.bad(t, 3, definitioncache.ErrUnusable) // it says why it fetched everything
			if found, err := file.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found.Revision.Number != 3 {
				t.Errorf("it was not published anew: %+v, %v", found, err)
			}
		})
	}
}

func TestAHostileBoardCostsNothing(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"no JSON":          "?",
		"another type":     `[]`,
		"a lock for ever":  `{"lock": {"owner": "x", "until": "9999-01-01T00:00:00Z"}}`,
		"of the future":    `{"header": {"key": {"environment": "production", "scope": "read", "schema": 1}, "revision": {"store": "A", "number": 99}}, "confirmed": "9999-01-01T00:00:00Z"}`,
		"another's header": `{"header": {"revision": {"store": "A", "number": 99}}, "confirmed": "` + time.Now().UTC().Format(time.RFC3339) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := newFile(t, t.TempDir())
			_, board := file.Paths()
			if err := os.WriteFile(board, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			newProcess(t, file, newServer(3)).good(t, 3)
		})
	}
}

func TestTheFilesArePrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // there are no such modes
	}
	folder := filepath.Join(t.TempDir(), "a", "b")
	file := newFile(t, folder)
	if err := file.DefinitionsReceived(t.Context(), cachetest.Definitions(1)); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	newFile(t, folder)
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has the mode %s, %v", info.Mode(), err)
	}
}

// The clock of the machine does not matter: it is the disk's.
func TestTheDiskHasTheClock(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := newFile(t, folder)
	newProcess(t, file, newServer(3)).good(t, 3)
	found, err := newFile(t, folder).Definitions(t.Context(), definitioncache.Revision{})
	if err != nil || found == nil || found.Age < 0 || found.Age > timing.Copy/2 {
		t.Errorf("the copy is %+v, %v", found, err)
	}
	// Whenever a process ends, what it asked the disk with is not one file more.
	files := func() []string {
		t.Helper()
		left, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	before := files()
	for range 10 {
		if _, err := newFile(t, folder).Definitions(t.Context(), definitioncache.Revision{}); err != nil {
			t.Error(err)
		}
	}
	if after := files(); len(after) != len(before) || len(after) != 4 {
		t.Errorf("the folder has %v, and then %v; want the copy, the board, the lock and the clock", before, after)
	}
	_, board := file.Paths()
	clock := strings.TrimSuffix(board, ".json") + ".clock"
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(clock, past, past); err != nil {
		t.Fatal(err)
	}
	if found, err := file.Definitions(t.Context(), definitioncache.Revision{}); err != nil || found == nil || found.Age > timing.Copy/2 {
		t.Errorf("the copy is %+v, %v; want it to go by the disk's time", found, err)
	}
}
