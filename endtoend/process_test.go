package endtoend

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandDeadline is how long one command may take: many times what it needs on a busy machine with two cores.
const commandDeadline = 90 * time.Second

// output is what a command printed and how it ended.
type output struct {
	text   string // stdout, and after it stderr: which came between what, two pipes do not tell
	stdout string
	code   int
}

// says fails the test unless the output has every text.
func (o output) says(t *testing.T, texts ...string) {
	t.Helper()
	// Terraform breaks lines and draws a border, wherever a text has its spaces.
	flat := flatten(o.text)
	for _, text := range texts {
		if !strings.Contains(flat, flatten(text)) {
			t.Errorf("the output does not say %q:\n%s", text, o.text)
		}
	}
}

// flatten gives the words of a text, without line breaks and Terraform's borders.
func flatten(text string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(text)), " ")
}

// command makes a command in a folder, with nothing of our own environment but what every program needs.
func command(tb testing.TB, dir string, env map[string]string, name string, args ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), commandDeadline)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	// Interrupted, Terraform ends its plugins.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir()}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// finish runs a command to its end.
func finish(tb testing.TB, cmd *exec.Cmd) output {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		tb.Fatalf("run %s: %v", strings.Join(cmd.Args, " "), err)
	}
	if !cmd.ProcessState.Exited() {
		tb.Fatalf("%s did not end within %s:\n%s", strings.Join(cmd.Args, " "), commandDeadline, stdout.String()+stderr.String())
	}
	return output{text: stdout.String() + stderr.String(), stdout: stdout.String(), code: cmd.ProcessState.ExitCode()}
}
