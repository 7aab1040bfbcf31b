package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/server"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
)

// serving is what bunting serve is told.
type serving struct {
	listen         string
	database       string
	environment    string
	tokenFile      string
	readyFile      string
	allowPlaintext bool
}

func newServeCommand(a *app) *cobra.Command {
	s := &serving{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a flag server",
		Long: `Run a flag server. Without any flag it listens on ` + defaultListen + `, keeps its
database in bunting.db in this folder, and on its first start writes the token
of an admin to ` + defaultTokenFile + `.

It logs JSON lines on stderr. SIGTERM and SIGINT end it once the requests under
way are answered; a second signal ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return s.run(c.Context(), a) },
	}
	c.Flags().StringVar(&s.listen, "listen", defaultListen, "host and port to listen on; port 0 takes a free one")
	c.Flags().StringVar(&s.database, "database", "sqlite:bunting.db", "where definitions are kept: sqlite:PATH, or memory: for as long as the server runs")
	c.Flags().StringVar(&s.environment, "environment", "default", "name of the environment that this server is")
	c.Flags().StringVar(&s.tokenFile, "token-file", defaultTokenFile, "file to which the first start writes the admin's token")
	c.Flags().StringVar(&s.readyFile, "ready-file", "", "file to write one JSON object to (endpoint, environment, pid, version) once requests are answered")
	c.Flags().BoolVar(&s.allowPlaintext, "allow-plaintext", false, "listen beyond this machine without TLS")
	return c
}

func (s *serving) run(ctx context.Context, a *app) (err error) {
	address, err := s.address()
	if err != nil {
		return err
	}
	open, err := s.opener()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(a.stderr, nil))

	// The port comes first: where it is taken, by this very server perhaps, no
	// file is made or touched.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address.String())
	if err != nil {
		hint := "Choose another address with --listen"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "Another program, or another bunting, listens there. Stop it, or choose another address with --listen (port 0 takes a free one)"
		}
		return fmt.Errorf("listen on %s: %w. %s", s.listen, cause(err), hint)
	}
	defer func() { _ = listener.Close() }() // for the roads that do not come as far as serving
	if s.readyFile != "" {
		if err := removeReady(s.readyFile); err != nil {
			return err
		}
	}
	definitions, err := open(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, definitions.Close()) }()
	adminToken, err := bootstrap(ctx, definitions, s.tokenFile, time.Now())
	if err != nil {
		return err
	}
	evaluating, err := evaluator.NewRoot(ctx, definitions, evaluator.Options{Log: log})
	if err != nil {
		return err
	}
	web, err := server.New(ctx, server.Options{Store: definitions, Root: evaluating, Version: version, Log: log})
	if err != nil {
		return err
	}

	endpoint := endpointOf(listener.Addr())
	log.Info("bunting listens", "endpoint", endpoint, "environment", s.environment, "database", s.database, "version", version)
	adminToken.tell(ctx, log)
	if !listensLocally(listener.Addr()) {
		log.Warn("tokens and values cross the network in plain text: --allow-plaintext is set")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- web.Run(ctx, listener) }()
	if s.readyFile != "" {
		// The port has been open since it was listened on, so requests are answered.
		if err := writeReady(s.readyFile, ready{Endpoint: endpoint, Environment: s.environment, PID: os.Getpid(), Version: version}); err != nil {
			stop()
			return errors.Join(fmt.Errorf("write the ready file: %w", err), <-done)
		}
		defer func() { _ = os.Remove(s.readyFile) }() // it may have been taken away
	}
	if err := <-done; err != nil {
		return err
	}
	log.Info("bunting has stopped")
	return nil
}

// address resolves --listen and refuses what would carry tokens over a network
// in plain text.
func (s *serving) address() (*net.TCPAddr, error) {
	address, err := net.ResolveTCPAddr("tcp", s.listen)
	if err != nil {
		return nil, usagef("--listen is %q: %v. Write a host and a port, like %s", s.listen, cause(err), defaultListen)
	}
	if !s.allowPlaintext && !listensLocally(address) {
		return nil, usagef("--listen is %q, which other machines can reach, and without TLS tokens would cross the network in plain text. "+
			"Listen on 127.0.0.1 and put a proxy with TLS before it, or, on a network that you trust, add --allow-plaintext", s.listen)
	}
	return address, nil
}

func listensLocally(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// opener reads --database.
func (s *serving) opener() (func(ctx context.Context, log *slog.Logger) (store.Store, error), error) {
	switch kind, path, _ := strings.Cut(s.database, ":"); {
	case s.database == "memory:":
		return func(ctx context.Context, log *slog.Logger) (store.Store, error) {
			return sqlite.OpenMemory(ctx, sqlite.Options{Environment: s.environment, Logger: log})
		}, nil
	case kind == "sqlite" && path != "":
		return func(ctx context.Context, log *slog.Logger) (store.Store, error) {
			return sqlite.Open(ctx, path, sqlite.Options{Environment: s.environment, Logger: log})
		}, nil
	}
	return nil, usagef("--database is %q. Write sqlite:PATH, like sqlite:bunting.db, or memory:", s.database)
}

// endpointOf gives the base URL by which this machine reaches the address.
func endpointOf(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return "http://" + address.String()
	}
	reachable := *tcp
	if reachable.IP.IsUnspecified() {
		reachable.IP = net.IPv4(127, 0, 0, 1)
	}
	return "http://" + reachable.String()
}

// cause leaves out what the net package says before the reason: the operation
// and the address, which our own words name.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}

// ready is the content of the ready file.
type ready struct {
	Endpoint    string `json:"endpoint"`
	Environment string `json:"environment"`
	PID         int    `json:"pid"`
	Version     string `json:"version"`
}

// removeReady removes the ready file of a server that was killed: it would tell
// that this one is ready. Any other file with something in it is left alone.
func removeReady(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // The user names the file.
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var old ready
	if err == nil && len(text) > 0 && (json.Unmarshal(text, &old) != nil || old.Endpoint == "") {
		return usagef("--ready-file is %s, a file that is there and is no ready file. Name one that may be overwritten", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("remove the old ready file: %w", err)
	}
	return nil
}

// writeReady writes the file aside and renames it, so that whoever waits for it
// never reads half of it.
func writeReady(path string, content ready) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	aside, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = aside.Write(append(text, '\n'))
	err = errors.Join(err, aside.Chmod(0o644), aside.Close())
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		_ = os.Remove(aside.Name()) // it is of no use
	}
	return err
}
