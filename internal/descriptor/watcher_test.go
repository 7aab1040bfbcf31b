package descriptor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor/settest"
)

// flags builds a set of boolean flags, one for each description.
func flags(tb testing.TB, descriptions ...string) []byte {
	tb.Helper()
	var fields strings.Builder
	for i, d := range descriptions {
		fmt.Fprintf(&fields, "bool f%d = %d [(pbflags.flag) = {description: %q}];", i+1, i+1, d)
	}
	return settest.Flags(tb, `message M { option (pbflags.feature) = {id: "m"}; `+fields.String()+` }`)
}

func write(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// journal keeps what is logged, and tells each line.
type journal struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines <- string(line)
	return j.text.Write(line)
}

func newJournal(folder string) (*journal, *slog.Logger) {
	j := &journal{lines: make(chan string, 1000)}
	return j, slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return slog.Any(a.Key, strings.ReplaceAll(a.Value.String(), folder+string(filepath.Separator), ""))
	}}))
}

// take gives all that was logged since it was asked last.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.text.Reset()
	return j.text.String()
}

// running is a watcher at work on a file of its own.
type running struct {
	*Watcher

	path string
	log  *journal
}

// watching watches a file in the way given until the test ends.
func watching(t *testing.T, path string, poll time.Duration, run func(context.Context, *Watcher)) running {
	t.Helper()
	j, log := newJournal(filepath.Dir(path))
	w, err := Watch(WatchOptions{Path: path, Poll: poll, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { run(ctx, w) })
	t.Cleanup(func() { stop(); done.Wait() })
	return running{w, path, j}
}

// says fails the test unless exactly this was logged since it was asked last.
func (r running) says(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := r.log.take(); got != want {
		t.Errorf("logged\n%swant\n%s", got, want)
	}
}

// By the clock: what is read when, and what is taken up.
func TestPollingAndAsking(t *testing.T) {
	first, second, third := flags(t, "one"), flags(t, "one", "two"), flags(t, "one", "two", "three")
	otherType := settest.Flags(t, `message M { option (pbflags.feature) = {id: "m"}; string f1 = 1 [(pbflags.flag) = {}]; int64 f2 = 2 [(pbflags.flag) = {}]; }`)
	many := make([]string, 24)
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(folder, "flags.binpb")
		write(t, path, first)
		told := make(chan struct{})
		r := watching(t, path, 30*time.Second, func(ctx context.Context, w *Watcher) {
			w.run(ctx, source{told: told, follow: func() {}})
		})
		r.says(t, "")

		write(t, path, second)
		time.Sleep(29 * time.Second)
		r.says(t, "")
		time.Sleep(time.Second)
		r.says(t, `level=INFO msg="the descriptors have changed" file=flags.binpb flags=2 added=1 removed=0 changed=0
level=INFO msg="flags are added to the descriptors" flags="[m/2 (M.f2)]" more=0
`)
		if r.Flag("m/2") == nil || len(r.Keys()) != 2 {
			t.Errorf("the keys are %v", r.Keys())
		}

		// A change that the directory tells of is given time to become whole.
		write(t, path, third[:len(third)/2])
		told <- struct{}{}
		time.Sleep(settle / 2)
		told <- struct{}{}
		write(t, path, third)
		time.Sleep(settle/2 - 1)
		r.says(t, "")
		time.Sleep(time.Nanosecond)
		r.says(t, `level=INFO msg="the descriptors have changed" file=flags.binpb flags=3 added=1 removed=0 changed=0
level=INFO msg="flags are added to the descriptors" flags="[m/3 (M.f3)]" more=0
`)

		// What is bad is told once, until it is something else.
		for _, bad := range []struct {
			content []byte
			reason  string
		}{
			{nil, `"it is empty, but a FileDescriptorSet was expected. Build it anew, for example with: buf build -o flags.binpb"`},
			{settest.Compile(t, map[string]string{"a.proto": `syntax = "proto3"; message A {}`}), `"it declares no flag: no field has the option (pbflags.flag). Build the files that declare flags, with their options"`},
			{otherType, `"the flag \"m/1\" (M.f1) changes its type from bool to string (one of 2 flags that do): programs that run would read a value of the wrong type. Give the field a new number; or, where none reads it any more, start the server anew"`},
		} {
			write(t, path, bad.content)
			told := `level=ERROR msg="the descriptors are refused, the last good ones stay in force" file=flags.binpb reason=` + bad.reason + " flags=3\n"
			time.Sleep(time.Minute)
			r.says(t, told)
			r.Reload() // who asks wants to know
			r.says(t, told)
			time.Sleep(time.Minute)
			r.says(t, "")
		}
		if r.Present().Len() != 3 {
			t.Errorf("there are %d flags", r.Present().Len())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.says(t, `level=ERROR msg="the descriptors are refused, the last good ones stay in force" file=flags.binpb reason="no such file or directory" flags=3`+"\n")
		write(t, path, third)
		time.Sleep(time.Minute)
		r.says(t, `level=INFO msg="the file of the descriptors is again what is in force" file=flags.binpb`+"\n")

		write(t, path, flags(t, many...))
		r.Reload()
		r.says(t, `level=INFO msg="the descriptors have changed" file=flags.binpb flags=24 added=21 removed=0 changed=3
level=INFO msg="flags are added to the descriptors" flags="[m/10 (M.f10) m/11 (M.f11) m/12 (M.f12) m/13 (M.f13) m/14 (M.f14) m/15 (M.f15) m/16 (M.f16) m/17 (M.f17) m/18 (M.f18) m/19 (M.f19) m/20 (M.f20) m/21 (M.f21) m/22 (M.f22) m/23 (M.f23) m/24 (M.f24) m/4 (M.f4) m/5 (M.f5) m/6 (M.f6) m/7 (M.f7) m/8 (M.f8)]" more=1
`)
		r.Reload()
		r.says(t, "level=INFO msg=\"the descriptors are unchanged\" file=flags.binpb flags=24\n")
		write(t, path, first)
		r.Reload()
		synctest.Wait()
		if told := r.log.take(); !strings.Contains(told, `msg="flags are removed from the descriptors"`) || r.Present().Len() != 1 {
			t.Errorf("removed: %s", told)
		}
	})
}

// Most that happens in a directory is no matter of the file, and costs a look at
// its size and time; what that cannot see, the poll reads.
func TestWhatIsNotReadAgain(t *testing.T) {
	before, after := flags(t, "one"), flags(t, "two")
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(folder, "flags.binpb")
		write(t, path, before)
		old, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan struct{})
		r := watching(t, path, 0, func(ctx context.Context, w *Watcher) {
			w.run(ctx, source{told: told, follow: func() {}})
		})
		r.says(t, "")
		write(t, path, after)
		if err := os.Chtimes(path, old.ModTime(), old.ModTime()); err != nil {
			t.Fatal(err)
		}
		told <- struct{}{}
		time.Sleep(DefaultPoll - time.Second)
		r.says(t, "")
		time.Sleep(time.Second)
		r.says(t, `level=INFO msg="the descriptors have changed" file=flags.binpb flags=1 added=0 removed=0 changed=1`+"\n")
	})
}

// next waits for a line of the log.
func (r running) next(t *testing.T, want string) {
	t.Helper()
	for {
		select {
		case line := <-r.log.lines:
			if strings.Contains(line, want) {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("within 20 s nothing like %q was logged: %s", want, r.log.take())
		}
	}
}

// With what the system tells of directories; polling is an hour away.
func TestFilesAsTheyAreReplaced(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	start := func(t *testing.T, path string) running {
		t.Helper()
		return watching(t, path, time.Hour, func(ctx context.Context, w *Watcher) { w.Run(ctx) })
	}
	one, two := flags(t, "one"), flags(t, "one", "two")
	const added, removed = "flags=2 added=1", "flags=1 added=0 removed=1"

	t.Run("renamed over", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "flags.binpb")
		write(t, path, one)
		r := start(t, path)
		for range 3 {
			write(t, filepath.Join(dir, "new"), two)
			must(os.Rename(filepath.Join(dir, "new"), path))
			r.next(t, added)
			write(t, filepath.Join(dir, "new"), one)
			must(os.Rename(filepath.Join(dir, "new"), path))
			r.next(t, removed)
		}
	})
	t.Run("written in place", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "flags.binpb")
		write(t, path, one)
		r := start(t, path)
		write(t, path, two)
		r.next(t, added)
		write(t, path, two[:len(two)-1])
		r.next(t, "reason=\"it is no FileDescriptorSet, or its end is missing")
		write(t, path, one)
		r.next(t, removed)
	})
	t.Run("removed and back", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "flags.binpb")
		write(t, path, one)
		r := start(t, path)
		must(os.Remove(path))
		r.next(t, "reason=\"no such file or directory\"")
		must(os.Mkdir(path, 0o700))
		r.Reload()
		r.next(t, "reason=\"it is a folder, but a FileDescriptorSet was expected. Name the file\"")
		must(os.Remove(path))
		r.Reload()
		r.next(t, "reason=\"no such file or directory\"")
		write(t, path, two)
		r.next(t, added)
	})
	t.Run("with its directory", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "flags")
		must(os.Mkdir(dir, 0o700))
		path := filepath.Join(dir, "flags.binpb")
		write(t, path, one)
		r := start(t, path)
		must(os.Rename(dir, dir+".old"))
		r.next(t, "reason=\"no such file or directory\"")
		must(os.Mkdir(dir, 0o700))
		write(t, path, two)
		r.Reload() // a directory that comes is nowhere told of
		r.next(t, added)
		write(t, path, one)
		r.next(t, removed)
	})
	t.Run("as Kubernetes does", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		publish := func(version string, content []byte) {
			must(os.Mkdir(filepath.Join(dir, version), 0o700))
			write(t, filepath.Join(dir, version, "flags.binpb"), content)
			must(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
			must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		publish("..1", one)
		path := filepath.Join(dir, "flags.binpb")
		must(os.Symlink(filepath.Join("..data", "flags.binpb"), path))
		r := start(t, path)
		publish("..2", two)
		r.next(t, added)
		must(os.RemoveAll(filepath.Join(dir, "..1")))
		publish("..3", one)
		r.next(t, removed)
		write(t, filepath.Join(dir, "..3", "flags.binpb"), two) // the directory that it leads to now
		r.next(t, added)
	})
	t.Run("by a link further up", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for name, content := range map[string][]byte{"1": one, "2": two} {
			must(os.MkdirAll(filepath.Join(dir, "releases", name), 0o700))
			write(t, filepath.Join(dir, "releases", name, "flags.binpb"), content)
		}
		current := filepath.Join(dir, "current")
		must(os.Symlink(filepath.Join("releases", "1"), current))
		r := start(t, filepath.Join(current, "flags.binpb"))
		must(os.Symlink(filepath.Join("releases", "2"), current+".new"))
		must(os.Rename(current+".new", current))
		r.next(t, added)
		write(t, filepath.Join(dir, "releases", "2", "flags.binpb"), one)
		r.next(t, removed)
	})
}

// What stops the start.
func TestFilesThatCannotBeWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	write(t, large, nil)
	if err := os.Truncate(large, 100<<20); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "empty"), nil)
	write(t, filepath.Join(dir, "none"), settest.Compile(t, map[string]string{"a.proto": `syntax = "proto3"; message A {}`}))
	for name, want := range map[string]string{
		"absent":  "no such file or directory",
		"":        "it is a folder, but a FileDescriptorSet was expected. Name the file",
		"large":   "it has more than the 16777216 bytes that are allowed. Build only the files that declare flags (buf build --path …), without comments (--exclude-source-info)",
		"empty":   "it is empty, but a FileDescriptorSet was expected. Build it anew, for example with: buf build -o flags.binpb",
		"none":    "it declares no flag: no field has the option (pbflags.flag). Build the files that declare flags, with their options",
		"empty/x": "not a directory",
	} {
		path := filepath.Join(dir, name)
		want = "the descriptors in " + path + " cannot be used: " + want
		if _, err := Watch(WatchOptions{Path: path}); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
		if name == "none" {
			continue // for those who only read it, a set without flags is one
		}
		if _, err := Load(path); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
}
