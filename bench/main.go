// Bench measures the provider as its users meet it: a real Terraform CLI, a real server, and between them a road that
// delays and counts. What the CLI and the plugin framework cost by themselves is told by a provider that does nothing,
// run in turn with ours. It prints a table with the aims; a figure that misses its aim is told there, and is no failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	plans := flag.Int("plans", 7, "how often each plan is timed")
	applies := flag.Int("applies", 3, "how often each apply is timed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *plans, *applies)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything and prints the table.
func run(ctx context.Context, plans, applies int) (err error) {
	if plans < 1 || applies < 1 {
		return errors.New("nothing can be told from less than one run: -plans and -applies are at least 1")
	}
	b := &bench{cli: os.Getenv("TF_ACC_TERRAFORM_PATH"), workspaces: map[string]*workspace{}}
	if b.cli == "" {
		return errors.New("TF_ACC_TERRAFORM_PATH names no Terraform CLI. Run this by make bench-cli, or through tools/with-terraform.sh")
	}
	if b.dir, err = os.MkdirTemp("", "bunting-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stopServer(), os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	var t table
	for _, measure := range []func() error{
		func() error { return b.applies(ctx, &t, applies) },
		func() error { return b.plans(ctx, &t, plans) },
		func() error { return b.refreshes(ctx, &t) },
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	t.addf("new connections of one command", "≤ 12", b.mostConnections <= 12, "%d", b.mostConnections)
	return t.print(os.Stdout)
}

// The two providers, and the folders that they are built into.
const (
	ours    = "ours"
	nothing = "nothing"
)

// bench is what the measurements share.
type bench struct {
	cli        string
	dir        string // everything is in here
	workspaces map[string]*workspace
	server     *server // the present one; nil before the first

	mostConnections int64 // of one command
}

// build makes the programs, and a workspace for each provider.
func (b *bench) build(ctx context.Context) error {
	for program, pkg := range map[string]string{
		"bunting":                               "./cmd/bunting",
		ours + "/terraform-provider-bunting":    ".",
		nothing + "/terraform-provider-bunting": "./bench/nothing",
	} {
		if err := b.buildProgram(ctx, program, pkg); err != nil {
			return err
		}
	}
	for _, provider := range []string{ours, nothing} {
		w, err := newWorkspace(b.dir, b.cli, filepath.Join(b.dir, provider))
		if err != nil {
			return err
		}
		b.workspaces[provider] = w
	}
	return nil
}

// buildProgram makes one program, in the folder.
func (b *bench) buildProgram(ctx context.Context, program, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(b.dir, program), pkg) //nolint:gosec // Our own names.
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// newServer stops the server and starts one that has nothing.
func (b *bench) newServer(ctx context.Context) error {
	if err := b.stopServer(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "server-")
	if err != nil {
		return err
	}
	b.server, err = startServer(ctx, filepath.Join(b.dir, "bunting"), dir)
	return err
}

func (b *bench) stopServer() error {
	s := b.server
	if s == nil {
		return nil
	}
	b.server = nil
	return s.stop()
}
