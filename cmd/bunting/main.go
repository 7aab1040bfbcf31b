// Bunting is the flag server and the operator's command line: bunting serve
// runs the server, the other commands ask one.
//
// One file a command. Each has a constructor
//
//	func newKillCommand(a *app) *cobra.Command
//
// that is named in app.commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=1.2.3).
var version = "0.0.0-dev"

// The exit codes; scripts rely on them.
const (
	exitOK        = 0
	exitError     = 1 // it did not work
	exitUsage     = 2 // the command line is wrong; nothing was tried
	exitNotFound  = 3 // what was named does not exist
	exitRefused   = 4 // the server refused: not allowed, not yours, changed meanwhile
	exitKilled    = 5 // done, but the flag is still killed: others' holds stand
	exitDifferent = 6 // the two sides compared differ
)

// exit is an error with an exit code. Any other error of a command is exitError.
type exit struct {
	code int
	err  error // told on stderr; nil: everything has been said
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// usagef makes the error of a wrong command line.
func usagef(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

// app is the program without the process around it, so that tests run it in
// their own.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(name string) string // "" for a variable that is not set
	environ        func() []string          // all variables, as name=value; nil: there are none
}

// commands names every command, in the order of the help.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(a),
		newKillCommand(a),
		newReleaseCommand(a),
		newEvalCommand(a),
		newFlagsCommand(a),
		newAuditCommand(a),
		newTokenCommand(a),
		newResyncCommand(a),
		newSyncCommand(a),
		newLintCommand(a),
		newMigrateCommand(a),
		newVersionCommand(a),
	}
}

// run runs one command line and gives the exit code. It returns when the
// command is done, or, after the end of the context, as soon as the command has
// cleaned up.
func (a *app) run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:   "bunting",
		Short: "Feature flags as infrastructure: the flag server and its operator's commands",
		Long: `Feature flags as infrastructure: the flag server and its operator's commands.

"bunting serve" runs the server; the other commands ask the one at --endpoint,
else BUNTING_ENDPOINT, else http://127.0.0.1:8980.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 not found, 4 refused by the
server, 5 done, but the flag is still killed by the holds of others, 6 what is
compared differs.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetArgs(args)
	root.SetVersionTemplate("bunting {{.Version}}\n")
	root.AddCommand(a.commands()...) //nolint:contextcheck // cobra hands the context to the command that runs
	started := false
	for _, c := range root.Commands() {
		prepare(c, &started)
	}

	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitError
	if e, ok := errors.AsType[*exit](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	} else if !started {
		code = exitUsage // the flags, the arguments, or the command itself
	}
	fmt.Fprintf(a.stderr, "bunting: %v\n", err)
	if code == exitUsage {
		fmt.Fprintln(a.stderr, "Run the command with --help to see how it is used.")
	}
	return code
}

// prepare makes a command and those below it note when they start, which tells
// wrong usage from failed work, and has groups of commands refuse a command
// that they do not know (cobra would print the help and report success).
func prepare(c *cobra.Command, started *bool) {
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], c.CommandPath())
			}
			return c.Help()
		}
	}
	if work := c.RunE; work != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*started = true
			return work(c, args)
		}
	}
	for _, below := range c.Commands() {
		prepare(below, started)
	}
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(a.stdout, "bunting %s\n", version)
			return nil
		},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks; a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, environ: os.Environ}
	os.Exit(a.run(ctx, os.Args[1:]))
}
