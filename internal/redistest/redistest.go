//go:build unix

// Package redistest runs real Redis servers for tests: on a socket in a folder of
// their own, gone with the test process however that ends.
package redistest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// urlVariable names a server that is there already. Tests that end or stop a
// server, or change its settings, start one of their own all the same.
const urlVariable = "BUNTING_TEST_REDIS"

// startTimeout is how long a server may take to answer.
const startTimeout = 20 * time.Second

// URL names the server that is there already, or one that starts with the test.
func URL(tb testing.TB) string {
	tb.Helper()
	if given := os.Getenv(urlVariable); given != "" {
		return given
	}
	return Start(tb).URL()
}

// Server is a server of a test.
type Server struct {
	tb       testing.TB
	dir      string
	settings []string
	process  *exec.Cmd
	ended    chan struct{}
	watchdog io.Closer // ends the server with this process
}

// Start starts a server with the settings ("--name", "value"), which ends with the
// test. It writes nothing to the disk unless told to.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Fatalf("Redis is not installed: there is no redis-server on the path. Install it (on Debian: apt-get install redis-server), or name one with %s", urlVariable)
	}
	dir, err := os.MkdirTemp("", "bunting-redis-") //nolint:usetesting // The name of a test's own may be too long for a socket's.
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: dir, settings: settings}
	// It waits for the end of this process, which closes its input.
	watchdog := exec.CommandContext(context.WithoutCancel(tb.Context()), "sh", "-c", `cat >/dev/null; pid=$(cat "$1/pid") && kill -KILL "$pid"; rm -rf "$1"`, "sh", dir) //nolint:gosec // Our own folder.
	watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                                                                                           // nor does it end with the terminal's ^C
	if s.watchdog, err = watchdog.StdinPipe(); err == nil {
		err = watchdog.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Kill()
		_ = s.watchdog.Close() // it takes the folder away
		_ = watchdog.Wait()    // that the server is gone already is no failure
	})
	s.Run()
	return s
}

func (s *Server) socket() string { return filepath.Join(s.dir, "socket") }

// URL names the server.
func (s *Server) URL() string { return "unix://" + s.socket() }

// Run starts the server (again) and waits until it answers.
func (s *Server) Run() {
	s.tb.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the server has it too
	arguments := append([]string{
		"--port", "0", "--unixsocket", s.socket(), "--unixsocketperm", "700", "--dir", s.dir, "--pidfile", filepath.Join(s.dir, "pid"),
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.settings...)
	s.process = exec.CommandContext(context.WithoutCancel(s.tb.Context()), "redis-server", arguments...) //nolint:gosec // A test names the settings.
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.process.Start(); err != nil {
		s.tb.Fatal(err)
	}
	process, ended := s.process, make(chan struct{})
	s.ended = ended
	go func() {
		_ = process.Wait() // how it ended does not matter
		close(ended)
	}()
	if err := s.answers(); err != nil {
		said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.tb.Fatalf("Redis does not answer: %v\n%s", err, said)
	}
}

// answers waits until the server answers.
func (s *Server) answers() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-s.ended:
			return errors.New("it ended")
		case <-tick.C:
		}
	}
}

// ping takes any answer, that a password is missing too, but for that it still
// reads what it kept.
func (s *Server) ping(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it was only looked at
	deadline, _ := ctx.Deadline()
	answer := make([]byte, len("-LOADING"))
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	n, err := conn.Read(answer)
	if err == nil && string(answer[:n]) == "-LOADING" {
		err = errors.New("it is starting")
	}
	return err
}

// Kill ends the server with -9.
func (s *Server) Kill() {
	_ = s.process.Process.Kill() // it may be gone
	<-s.ended
	_ = os.Remove(filepath.Join(s.dir, "pid")) // or the watchdog would kill whoever has the number next
}

// Freeze stops the server, so that it neither answers nor refuses, until the
// function is called.
func (s *Server) Freeze() (thaw func()) {
	s.tb.Helper()
	process := s.process.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		s.tb.Fatal(err)
	}
	thaw = sync.OnceFunc(func() { _ = process.Signal(syscall.SIGCONT) }) // it may be gone
	s.tb.Cleanup(thaw)
	return thaw
}
