//go:build unix

package postgrestest

import (
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// process stands for the test process: what is made for all its tests ends with
// End, not with the test that asked first.
type process struct {
	testing.TB

	cleanups []func()
}

func (p *process) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }
func (p *process) Failed() bool     { return false }

var (
	whole process

	mu     sync.Mutex // guards shared
	shared *Server    // nil: not started
)

// Database makes a database for the test, on the one server of the test process
// or the one that BUNTING_TEST_POSTGRES names, and gives its URL. It is gone
// after the test.
func Database(tb testing.TB) string {
	tb.Helper()
	name := "bunting_test_" + strings.ToLower(rand.Text())
	server := serverURL(tb)
	Exec(tb, in(tb, server, "postgres"), "CREATE DATABASE "+name+" ENCODING 'UTF8' TEMPLATE template0")
	tb.Cleanup(func() { Exec(tb, in(tb, server, "postgres"), "DROP DATABASE "+name+" WITH (FORCE)") })
	return in(tb, server, name)
}

// serverURL names the server that the tests of the process share.
func serverURL(tb testing.TB) string {
	tb.Helper()
	if given := os.Getenv(urlVariable); given != "" {
		return given
	}
	mu.Lock()
	defer mu.Unlock()
	if shared == nil {
		whole.TB = tb
		shared = Start(&whole)
	}
	return shared.URL("postgres")
}

// in names another database of the same server.
func in(tb testing.TB, server, database string) string {
	tb.Helper()
	address, err := url.Parse(server)
	if err != nil {
		tb.Fatalf("%s is no URL", urlVariable) // the URL may hold a password
	}
	address.Path = "/" + database
	return address.String()
}

// End ends the server that the tests shared; TestMain calls it after the tests.
func End() {
	mu.Lock()
	defer mu.Unlock()
	for _, cleanup := range whole.cleanups {
		cleanup()
	}
	whole.cleanups, shared = nil, nil
}

// Main runs the tests and ends what they shared. It gives the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	End()
	return code
}
