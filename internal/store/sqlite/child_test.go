package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
)

// The test binary runs itself again as another process, which this variable
// tells what to do: "write" to apply changes until it is killed, "open" to open
// the database once. childPath is the database.
const (
	childEnv  = "BUNTING_TEST_CHILD"
	childPath = "BUNTING_TEST_CHILD_PATH"
)

// childWriters is how many goroutines of the child write at once.
const childWriters = 4

// child is the other process. What is acknowledged, and only that, it prints:
// "writer step revision".
func child() int {
	ctx := context.Background()
	s, err := Open(ctx, os.Getenv(childPath), Options{Environment: "test"})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "open")
	var group sync.WaitGroup
	for writer := range childWriters {
		group.Go(func() {
			for step := int64(0); os.Getenv(childEnv) == "write"; step++ {
				outcome, err := s.Apply(ctx, batchOf(
					flag.Put(numberedFlag(flag.Key(fmt.Sprintf("last/%d", writer)), time.Now().UnixNano())),
					flag.Put(numberedFlag(flag.Key(fmt.Sprintf("acknowledged/%d/%d/%d", os.Getpid(), writer, step)), step)),
				))
				if err != nil {
					fmt.Fprintln(os.Stdout, err)
					os.Exit(1)
				}
				fmt.Fprintln(os.Stdout, "acknowledged", fmt.Sprintf("acknowledged/%d/%d/%d", os.Getpid(), writer, step), outcome.Revision.Number)
			}
		})
	}
	group.Wait()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	return 0
}

// itself is the test binary.
func itself(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// startChild starts the other process; it is killed when ctx ends.
func startChild(ctx context.Context, program, task, path string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), childEnv+"="+task, childPath+"="+path)
	return cmd
}

// TestKilledWhileWriting kills the writing process again and again: what was
// acknowledged is there, the lock is free, and the audit log is complete.
func TestKilledWhileWriting(t *testing.T) {
	path := newPath(t)
	rounds := 4
	if os.Getenv("BUNTING_SOAK") == "1" {
		rounds = 25
	}
	acknowledged := map[flag.Key]int64{}
	for range rounds {
		cmd := startChild(t.Context(), itself(t), "write", path)
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(output)
		for left := 1 + rand.IntN(60); lines.Scan(); left-- {
			if left == 0 {
				if _, err := Open(t.Context(), path, Options{Environment: "test"}); err == nil || !strings.Contains(err.Error(), "another bunting server has it open") {
					t.Errorf("opened while another process serves it: %v", err)
				}
				_ = cmd.Process.Kill()
			}
			var key flag.Key
			var revision int64
			if n, _ := fmt.Sscanf(lines.Text(), "acknowledged %s %d", &key, &revision); n == 2 {
				acknowledged[key] = revision
			} else if lines.Text() != "open" {
				t.Log(lines.Text()) // cut off by the kill
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("the process was to be killed, but ended with %v", err)
		}

		s := open(t, path, "test")
		snapshot, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, revision := range acknowledged {
			if f := snapshot.Flag(key); f == nil || f.Changed.Revision != revision {
				t.Errorf("%s was acknowledged at revision %d, but is not there", key, revision)
			}
		}
		storetest.WantComplete(t.Context(), t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d commits were acknowledged in %d rounds", len(acknowledged), rounds)
}

// TestKilledWhileOpening kills the process at any moment of making a database:
// the next one makes it or goes on with it.
func TestKilledWhileOpening(t *testing.T) {
	rounds := 10
	if os.Getenv("BUNTING_SOAK") == "1" {
		rounds = 60
	}
	cut := 0
	for range rounds {
		path := newPath(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20_000))*time.Microsecond)
		if output, err := startChild(ctx, itself(t), "open", path).CombinedOutput(); err != nil {
			cut++
			if text := strings.TrimSpace(string(output)); text != "" && text != "open" {
				t.Errorf("the process said %q", text)
			}
		}
		cancel()
		s := open(t, path, "test")
		apply(t, s, flag.Put(numberedFlag("a", 1)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d were killed before they were done", cut, rounds)
}
