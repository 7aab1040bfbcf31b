package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// stateFile is where the CLI keeps the state.
const stateFile = "terraform.tfstate"

// workspace is a folder with a configuration and its state, and the provider that the CLI uses in it.
type workspace struct {
	dir      string
	cli      string // the program
	settings string // its configuration file, which names the provider's folder
}

// newWorkspace makes a workspace under a folder.
func newWorkspace(under, cli, providerDir string) (*workspace, error) {
	dir, err := os.MkdirTemp(under, "workspace-")
	if err != nil {
		return nil, err
	}
	w := &workspace{dir: dir, cli: cli, settings: filepath.Join(dir, "cli.tfrc")}
	return w, os.WriteFile(w.settings, fmt.Appendf(nil, `provider_installation {
  dev_overrides {
    "registry.terraform.io/bunting-flags/bunting" = %[1]q
    "registry.opentofu.org/bunting-flags/bunting" = %[1]q
  }
  direct {}
}
`, filepath.ToSlash(providerDir)), 0o600)
}

// name gives the resource name of a flag, and keyOf its key. No name is part of another.
func name(i int) string { return fmt.Sprintf("f%06d", i) }

func keyOf(i int) string { return "bench/" + name(i) }

// description is what each declared flag is described by, as people do: what is read has a size.
const description = "Shows the new page to those who have asked for it"

// declare writes a configuration of so many flags, a block each: for_each has costs of its own.
func (w *workspace) declare(count int) error {
	var text strings.Builder
	text.WriteString(`terraform {
  required_providers {
    bunting = {
      source = "bunting-flags/bunting"
    }
  }
}
`)
	for i := range count {
		fmt.Fprintf(&text, `
resource "bunting_flag" %q {
  key           = %q
  default_value = false
  value         = true
  description   = %q
}
`, name(i), keyOf(i), description)
	}
	return os.WriteFile(filepath.Join(w.dir, "main.tf"), []byte(text.String()), 0o600)
}

// resize makes the state one of so many flags, and declares them: each is a copy of the first. To apply them would
// take the CLI a time that grows with their square.
func (w *workspace) resize(count int) error {
	file := filepath.Join(w.dir, stateFile)
	text, err := os.ReadFile(file) //nolint:gosec // The file is in a folder of ours.
	if err != nil {
		return err
	}
	var state map[string]json.RawMessage
	var resources []json.RawMessage
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if err := json.Unmarshal(state["resources"], &resources); err != nil || len(resources) == 0 {
		return fmt.Errorf("read the state's %d resources: %w", len(resources), err)
	}
	first := resources[0]
	resources = make([]json.RawMessage, count)
	for i := range resources {
		resources[i] = bytes.ReplaceAll(first, []byte(name(0)), []byte(name(i)))
	}
	if state["resources"], err = json.Marshal(resources); err != nil {
		return err
	}
	if text, err = json.Marshal(state); err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return w.declare(count)
}

// forget takes the state away, and what the CLI keeps of the one before.
func (w *workspace) forget() error {
	for _, name := range []string{stateFile, stateFile + ".backup"} {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// spent is what a command took, the plugins that it started included.
type spent struct{ wall, cpu time.Duration }

// run runs the CLI and tells what it took. It must go well, and a plan with -detailed-exitcode must be empty.
func (w *workspace) run(ctx context.Context, endpoint, token, command string, args ...string) (spent, error) {
	cmd := exec.CommandContext(ctx, w.cli, append([]string{command, "-input=false", "-no-color"}, args...)...) //nolint:gosec // The CLI is the user's own.
	// Interrupted, the CLI ends its plugins.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = w.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + os.TempDir(),
		"TF_CLI_CONFIG_FILE=" + w.settings, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"BUNTING_ENDPOINT=" + endpoint, "BUNTING_TOKEN=" + token,
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	err := cmd.Run()
	took := spent{wall: time.Since(begin)}
	if cmd.ProcessState != nil {
		took.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		return took, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, ending(out.Bytes()))
	}
	return took, nil
}

// ending gives as much of an output as people read. Errors come last.
func ending(out []byte) []byte {
	const most = 4000
	return out[max(0, len(out)-most):]
}
