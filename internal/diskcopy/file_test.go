package diskcopy

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestTheFileIsLoadedAsItWasWritten(t *testing.T) {
	t.Parallel()
	f := opened(t)
	if c, err := f.Load("test"); c != nil || err != nil {
		t.Errorf("before the first writing: %v, %v", c, err)
	}
	for number := range int64(3) {
		c := filled(10, number+1)
		if err := f.Write(c); err != nil {
			t.Fatal(err)
		}
		for _, environment := range []string{"test", ""} {
			if got, err := f.Load(environment); err != nil || sum(*got) != sum(c) {
				t.Fatalf("got %v, %v", got, err)
			}
		}
	}
	if all := names(files(t, f)); !slices.Equal(all, []string{"test-snapshot"}) {
		t.Errorf("the folder holds %v", all)
	}
	if info, err := os.Stat(f.Path()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("it is not private: %v, %v", info.Mode(), err)
	}
}

// A file that is refused is told by name, with the reason, and is kept beside: what
// is written next does not destroy it.
func TestARefusedFileIsSetAside(t *testing.T) {
	t.Parallel()
	good := string(written(t, filled(1, 9)))
	for name, c := range map[string]struct{ content, environment, says string }{
		"damaged":             {strings.Replace(good, "feature", "creature", 1), "test", "is damaged"},
		"another environment": {good, "production", `is of the environment "test"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := opened(t)
			if err := os.WriteFile(f.Path(), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := f.Load(c.environment)
			if got != nil || err == nil || !strings.Contains(err.Error(), f.Path()+" "+c.says) {
				t.Fatalf("got %v, %v", got, err)
			}
			if again, err := f.Load(c.environment); again != nil || err != nil {
				t.Errorf("after that: %v, %v", again, err)
			}
			if err := f.Write(filled(1, 10)); err != nil {
				t.Fatal(err)
			}
			kept := files(t, f)
			delete(kept, filepath.Base(f.Path()))
			if len(kept) != 1 {
				t.Fatalf("kept are %v", names(kept))
			}
			for aside, content := range kept {
				if content != c.content || !strings.Contains(err.Error(), aside) {
					t.Errorf("%s is another file than was there, or is not named in %v", aside, err)
				}
			}
		})
	}
}

func TestAFolderInItsPlaceIsNoFile(t *testing.T) {
	t.Parallel()
	f := opened(t)
	if err := os.Mkdir(f.Path(), 0o700); err != nil {
		t.Fatal(err)
	}
	if c, err := f.Load("test"); c != nil || err == nil || !strings.Contains(err.Error(), "is no file: the file was set aside") {
		t.Errorf("got %v, %v", c, err)
	}
}

// A failure at any point leaves the copy before, whole, and nothing half written.
func TestAFailedWriteLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	f := opened(t)
	c := filled(10, 1)
	if err := f.Write(c); err != nil {
		t.Fatal(err)
	}
	broken := filled(10, 2)
	at := broken.Snapshot.Revision
	broken.Snapshot = broken.Snapshot.With(at, slices.Values([]flag.Edit{{Ref: flag.FlagRef("team-9"), Object: &flag.Flag{Key: "team-9", Owner: "\xff"}}}))
	if err := f.Write(broken); err == nil || !strings.Contains(err.Error(), "write the last snapshot "+f.Path()) {
		t.Fatalf("got %v", err)
	}
	if all := names(files(t, f)); !slices.Equal(all, []string{"test-snapshot"}) {
		t.Errorf("the folder holds %v", all)
	}
	if got, err := f.Load("test"); err != nil || sum(*got) != sum(c) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A disk that is full fails at any byte: the error comes out.
func TestAFullDiskIsAnError(t *testing.T) {
	t.Parallel()
	c := filled(500, 1)
	size := len(written(t, c))
	for room := 0; room < size; room += 1 + size/200 {
		if err := write(&smallDisk{room: room}, c); !errors.Is(err, errFull) {
			t.Fatalf("with room for %d of %d bytes: %v", room, size, err)
		}
	}
	if err := write(&smallDisk{room: size}, c); err != nil {
		t.Error(err)
	}
}

var errFull = errors.New("no space left")

// smallDisk takes so many bytes and no more.
type smallDisk struct{ room int }

func (d *smallDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestTwoServersDoNotShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "made", "test-snapshot")
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another bunting server keeps its last snapshot in "+path) {
		t.Errorf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFolderThatCannotBeMadeIsSaid(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "test-snapshot")); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v", err)
	}
}

// The test binary runs itself again as another process, which this variable tells
// the file to write copies to until it is killed.
const childPath = "BUNTING_TEST_COPY"

// child writes copies, and prints the number of each that is written.
func child(path string) int {
	f, err := Open(path)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	begin := int64(0)
	if before, err := f.Load("test"); err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	} else if before != nil {
		begin = before.Snapshot.Revision.Number
	}
	c := filled(200, 0)
	for number := begin + 1; ; number++ {
		c.Snapshot = c.Snapshot.With(flag.Revision{StoreID: "s", Number: number}, slices.Values([]flag.Edit{}))
		if err := f.Write(c); err != nil {
			fmt.Fprintln(os.Stdout, err)
			return 1
		}
		fmt.Fprintln(os.Stdout, number)
	}
}

// A process that is killed while it writes, at any moment, leaves a copy that is
// whole, of what it had written last or was writing.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	rounds := 20
	if os.Getenv("BUNTING_SOAK") == "1" {
		rounds = 300
	}
	path := filepath.Join(t.TempDir(), "test-snapshot")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	last, cut := int64(0), 0
	for range rounds {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), childPath+"="+path)
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(output)
		for left := rand.IntN(5); lines.Scan(); left-- {
			if left == 0 {
				// Within the writing of the next one, which takes some milliseconds.
				for range rand.IntN(200_000) {
					runtime.Gosched()
				}
				_ = cmd.Process.Kill()
			}
			if n, _ := fmt.Sscan(lines.Text(), &last); n != 1 {
				t.Fatalf("the process said %q", lines.Text())
			}
		}
		_ = cmd.Wait() // it was killed
		if _, err := os.Stat(path + ".new"); err == nil {
			cut++
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := f.Load("test")
		if err != nil || c == nil || c.Snapshot.Revision.Number < last || c.Snapshot.Revision.Number > last+1 {
			t.Fatalf("%d was written, and loaded is %v, %v", last, c, err)
		}
		if flags, overrides, _ := c.Snapshot.Counts(); flags != 200 || overrides != 2000 {
			t.Errorf("it has %d flags and %d overrides", flags, overrides)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d copies were written, and %d of %d kills came within the writing of one", last, cut, rounds)
	if cut == 0 {
		t.Error("no kill came within a writing, so nothing was shown")
	}
}
