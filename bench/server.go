package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// readyDeadline is how long a server may take to answer its first request: many times what it needs.
const readyDeadline = 30 * time.Second

// server is a running `bunting serve` with a database in a folder of its own: durable, as its users have it.
type server struct {
	endpoint string
	token    string // the admin's

	cmd *exec.Cmd
	log bytes.Buffer // read it only after the server's end
}

// startServer starts the program on a free port, with an empty database in the folder.
func startServer(ctx context.Context, program, dir string) (*server, error) {
	ready := filepath.Join(dir, "ready.json")
	s := &server{cmd: exec.CommandContext(ctx, program, "serve", "--listen", "127.0.0.1:0", "--ready-file", ready)} //nolint:gosec // The program was built for this.
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, &s.log, &s.log
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a flag server: %w", err)
	}
	if err := s.ready(ctx, ready, filepath.Join(dir, "bunting.token")); err != nil {
		return nil, errors.Join(fmt.Errorf("start a flag server: %w", err), s.stop())
	}
	return s, nil
}

// ready waits until the server has written its ready file.
func (s *server) ready(ctx context.Context, readyFile, tokenFile string) error {
	ctx, cancel := context.WithTimeout(ctx, readyDeadline)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		if text, err := os.ReadFile(readyFile); err == nil { //nolint:gosec // The file was named here.
			var told struct {
				Endpoint string `json:"endpoint"`
			}
			if err := json.Unmarshal(text, &told); err != nil {
				return fmt.Errorf("read its ready file: %w", err)
			}
			token, err := os.ReadFile(tokenFile) //nolint:gosec // The file was named here.
			s.endpoint, s.token = told.Endpoint, strings.TrimSpace(string(token))
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("it did not get ready within %s: %w", readyDeadline, ctx.Err())
		}
	}
}

// stop ends the server.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended by itself, which Wait tells
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("stop the flag server: %w\n%s", err, &s.log)
	}
	return nil
}

// fillBatch is how many flags one request writes: far from what a server takes at most.
const fillBatch = 10_000

// fill puts flags on a server, as declare declares them when the description is its own.
func fill(ctx context.Context, endpoint, token string, count int, description string) error {
	c, err := client.New(client.Options{Endpoint: endpoint, Token: token, UserAgent: "bench", RequestTimeout: 2 * time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	for from := 0; from < count; from += fillBatch {
		batch := client.Batch{Atomic: true}
		for i := from; i < min(count, from+fillBatch); i++ {
			batch.Changes = append(batch.Changes, flag.Put(&flag.Flag{
				Key: flag.Key(keyOf(i)), Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled,
				Description: description,
			}))
		}
		if _, err := c.Apply(ctx, batch); err != nil {
			return fmt.Errorf("put flags on the server: %w", err)
		}
	}
	return nil
}
