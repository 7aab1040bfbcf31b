// Testreport runs `go test -json …` and tells of it in few words: a line for each package, all that a failed test
// printed, the name of every skipped test, and last the line "N passed, N failed, N skipped".
//
// Where CI=true a skip fails the run, unless allowed-skips.txt names it or it waits for make soak.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

//go:embed allowed-skips.txt
var allowedSkips string

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testreport go test -json ARGUMENTS...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	good, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

// run starts the command, follows it to its end and says whether all is well.
func run(ctx context.Context, command []string, out io.Writer) (bool, error) {
	allowed, err := parseAllowed(allowedSkips)
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // Running what it is given is its purpose.
	// Interrupted, go test tells which test was running.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}

	r := newReport(out)
	readErr := follow(stdout, r)
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, err
	}
	if readErr != nil {
		return false, readErr
	}
	return r.finish(rules{
		allowed:       allowed,
		strict:        os.Getenv("CI") == "true",
		soaking:       os.Getenv(soakVariable) == "1",
		commandFailed: err != nil,
	}), nil
}

// follow feeds each line to the report. What is not an event is passed on: it is somebody's word about a failure.
func follow(in io.Reader, r *report) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" { //nolint:musttag // The names of test2json are those of the fields.
				r.add(e)
			} else {
				fmt.Fprintf(r.out, "%s", line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tests' output: %w", err)
		}
	}
}
