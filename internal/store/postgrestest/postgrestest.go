//go:build unix

// Package postgrestest runs real PostgreSQL servers for tests: on a socket in a
// folder of their own, as another user where the tests run as root, gone with the
// test process however that ends.
package postgrestest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// urlVariable names a server that is there already, as a URL of a user who may
// make databases. Tests that end or stop a server start one of their own all the
// same.
const urlVariable = "BUNTING_TEST_POSTGRES"

// administrator is the user of the servers that Start starts.
const administrator = "bunting"

// startTimeout is how long a server may take to answer; after a crash it reads
// its log first.
const startTimeout = time.Minute

// Server is a server of a test.
type Server struct {
	tb        testing.TB
	dir       string // its socket, and its data below
	settings  []string
	process   *exec.Cmd
	ended     chan error
	watchdog  interface{ Close() error } // ends the server with this process
	unwatched func() error               // waits for the watchdog's end
}

// Start starts a server with the settings ("name=value" of postgresql.conf),
// which ends with the test. It does not sync: what is written outlives the
// server's crash, not the machine's.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s := initialise(tb, settings)
	s.command("initdb", "-D", s.Data(), "-U", administrator, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.Run()
	tb.Cleanup(s.remove)
	return s
}

// StartStandby starts a standby of the server, which streams from it.
func StartStandby(tb testing.TB, primary *Server, settings ...string) *Server {
	tb.Helper()
	s := initialise(tb, append([]string{"hot_standby=on"}, settings...))
	s.command("pg_basebackup", "-h", primary.dir, "-U", administrator, "-D", s.Data(), "-R", "-c", "fast", "-X", "stream", "--no-sync")
	s.Run()
	tb.Cleanup(s.remove)
	return s
}

func initialise(tb testing.TB, settings []string) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "bunting-pg-") //nolint:usetesting // The name of a test's own may be too long for a socket's.
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: dir, settings: settings}
	if who := credential(tb); who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	// It waits for the end of this process, which closes its input.
	watchdog := exec.CommandContext(context.WithoutCancel(tb.Context()), "sh", "-c", `cat >/dev/null; pid=$(head -n 1 "$1/data/postmaster.pid") && kill -QUIT "$pid" && kill -CONT "$pid" && sleep 6; rm -rf "$1"`, "sh", dir) //nolint:gosec // Our own folder.
	if s.watchdog, err = watchdog.StdinPipe(); err == nil {
		watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nor does it end with the terminal's ^C
		err = watchdog.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	s.unwatched = watchdog.Wait
	return s
}

// Data is the folder of the server's data.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }

// URL names one of the server's databases.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s", administrator, database, url.QueryEscape(s.dir))
}

// Database makes a database and gives its URL.
func (s *Server) Database(options string) string {
	s.tb.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	Exec(s.tb, s.URL("postgres"), "CREATE DATABASE "+name+" "+options)
	return s.URL(name)
}

// Run starts the server (again) and waits until it answers.
func (s *Server) Run() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), startTimeout)
	defer cancel()
	for {
		s.launch()
		if s.answers(ctx) {
			return
		}
		// After a crash the processes that are left keep a new server away for a moment.
		if ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.tb.Fatalf("PostgreSQL does not answer: %v\n%s", ctx.Err(), log)
		}
	}
}

func (s *Server) launch() {
	s.tb.Helper()
	settings := append([]string{"unix_socket_directories=" + s.dir, "listen_addresses=", "fsync=off"}, s.settings...)
	args := make([]string, 0, 2+2*len(settings))
	args = append(args, "-D", s.Data())
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // The server's own user reads it.
	if err != nil {
		s.tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()                                                                         // the server has it too
	s.process = exec.CommandContext(context.WithoutCancel(s.tb.Context()), program(s.tb, "postgres"), args...) //nolint:gosec // A test names the settings.
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.dir, log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(s.tb)}
	if err := s.process.Start(); err != nil {
		s.tb.Fatal(err)
	}
	process, ended := s.process, make(chan error, 1)
	s.ended = ended
	go func() { ended <- process.Wait() }()
}

// answers waits until the server answers; false when it ended, or the context.
func (s *Server) answers(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx) == nil
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// Stop ends the server as an operator does who restarts it: what is under way is
// broken off.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends every process of the server with -9.
func (s *Server) Kill() {
	children := s.children()
	s.end(syscall.SIGKILL)
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
	}
}

func (s *Server) end(signal syscall.Signal) {
	s.tb.Helper()
	if err := s.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Fatal(err)
	}
	err := <-s.ended
	s.ended <- err
}

// Freeze stops every process of the server, so that it neither answers nor
// refuses, until the function is called.
func (s *Server) Freeze() (thaw func()) {
	s.tb.Helper()
	processes := append([]int{s.process.Process.Pid}, s.children()...)
	all := func(signal syscall.Signal) {
		for _, pid := range processes {
			_ = syscall.Kill(pid, signal) // some end by themselves
		}
	}
	all(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { all(syscall.SIGCONT) })
	s.tb.Cleanup(thaw)
	return thaw
}

// children gives the server's processes but the first.
func (s *Server) children() []int {
	s.tb.Helper()
	ctx := context.WithoutCancel(s.tb.Context())
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		s.tb.Fatal(err)
	}
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
	if err != nil {
		s.tb.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		s.tb.Fatal(err)
	}
	return pids
}

// remove ends the server and takes its folder away.
func (s *Server) remove() {
	s.end(syscall.SIGQUIT)
	if s.tb.Failed() {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		const most = 4000
		s.tb.Logf("the end of PostgreSQL's log:\n%s", log[max(0, len(log)-most):])
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Error(err)
	}
	_ = s.watchdog.Close() // it finds nothing to do
	_ = s.unwatched()      // nor does it matter how that ended
}

// command runs one of PostgreSQL's programs as the server's user.
func (s *Server) command(name string, args ...string) {
	s.tb.Helper()
	command := exec.CommandContext(s.tb.Context(), program(s.tb, name), args...) //nolint:gosec // A test names them.
	command.Dir = s.dir
	command.SysProcAttr = &syscall.SysProcAttr{Credential: credential(s.tb)}
	if out, err := command.CombinedOutput(); err != nil {
		s.tb.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Promote makes a standby the primary, on another timeline.
func (s *Server) Promote() {
	s.tb.Helper()
	Exec(s.tb, s.URL("postgres"), "SELECT pg_promote()")
}

// program finds one of PostgreSQL's programs: on the path, or, newest first,
// where Debian keeps them.
func program(tb testing.TB, name string) string {
	tb.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is a good one
	if len(paths) == 0 {
		tb.Fatalf("PostgreSQL is not installed: there is no %s on the path or in /usr/lib/postgresql. Install it (on Debian: apt-get install postgresql); its version may be 13 or newer", name)
	}
	return slices.MaxFunc(paths, func(a, b string) int { return major(a) - major(b) })
}

func major(path string) int {
	number, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0: an odd one, the last to be taken
	return number
}

// credential is whom the server runs as: PostgreSQL refuses root. Nil: who runs
// the test.
func credential(tb testing.TB) *syscall.Credential {
	tb.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		who, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			tb.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	tb.Fatal("PostgreSQL does not run as root, and there is no user postgres or nobody. Run the tests as another user")
	return nil
}

// Exec runs statements in the database.
func Exec(tb testing.TB, address string, statements ...string) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context()) // cleaning up may need it
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to fail
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}
