//go:build unix

package postgres

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
)

const secret = "hunter2-do-not-tell"

// wantRefusal wants an error that waiting does not mend, in these words.
func wantRefusal(t *testing.T, err error, says ...string) {
	t.Helper()
	if errors.Is(err, store.ErrUnreachable) {
		t.Errorf("waiting is said to help: %v", err)
	}
	wantWords(t, err, says...)
}

// wantUnreachable wants an error that may pass by itself, in these words.
func wantUnreachable(t *testing.T, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("waiting is not said to help: %v", err)
	}
	wantWords(t, err, says...)
}

func wantWords(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error shows the password, or takes several lines: %q", err.Error())
	}
	t.Log(err)
}

// prepared makes the store and closes it.
func prepared(t *testing.T, address string) {
	t.Helper()
	s := open(t, address, Options{})
	if err := errors.Join(s.Prepare(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRefusals opens what must not be used, or cannot be: the reason is told.
func TestRefusals(t *testing.T) {
	server := postgrestest.Start(t)
	admin := server.URL("postgres")
	postgrestest.Exec(t, admin, "CREATE ROLE limited LOGIN", "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0", "CREATE ROLE known LOGIN PASSWORD '"+secret+"'",
		"CREATE ROLE outsider LOGIN")
	// Passwords are asked of some, and one is let in nowhere.
	rules := "local all known scram-sha-256\nlocal all outsider reject\nlocal all bunting,limited,crowded,nobody trust\n"
	if err := os.WriteFile(filepath.Join(server.Data(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	postgrestest.Exec(t, admin, "SELECT pg_reload_conf()")
	by := func(address, user, password string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, password)
		return u.String()
	}
	changed := func(t *testing.T, statements ...string) string {
		t.Helper()
		address := server.Database("")
		prepared(t, address)
		postgrestest.Exec(t, address, statements...)
		return address
	}
	for _, c := range []struct {
		name    string
		address func(t *testing.T) string
		passes  bool // by itself, perhaps
		says    []string
	}{
		{"no such database", func(*testing.T) string { return server.URL("nothing") }, false, []string{"postgres:///nothing?host=/", "the database does not exist", "CREATE DATABASE"}},
		{"another encoding", func(t *testing.T) string {
			t.Helper()
			return server.Database("ENCODING 'SQL_ASCII' TEMPLATE template0")
		}, false, []string{"its encoding is SQL_ASCII, but bunting needs UTF8"}},
		{"a schema of another program", func(t *testing.T) string {
			t.Helper()
			address := server.Database("")
			postgrestest.Exec(t, address, "CREATE SCHEMA bunting", "CREATE TABLE bunting.birds (name text)")
			return address
		}, false, []string{`its schema "bunting" is of another program`}},
		{"a newer schema", func(t *testing.T) string {
			t.Helper()
			return changed(t, "INSERT INTO "+versions+" (version_id, is_applied) VALUES (9999, true)", "UPDATE bunting.meta SET minimum_version = '9.8.7'")
		}, false, []string{"written by a newer version of bunting (schema 9999, this program knows 1)", "Use at least bunting 9.8.7"}},
		{"a newer schema that is told otherwise", func(t *testing.T) string {
			t.Helper()
			return changed(t, "INSERT INTO "+versions+" (version_id, is_applied) VALUES (9999, true)", "DROP TABLE bunting.meta")
		}, false, []string{"written by a newer version of bunting", "Use a newer bunting"}},
		{"another environment", func(t *testing.T) string {
			t.Helper()
			return changed(t, "UPDATE bunting.meta SET environment = 'production'")
		}, false, []string{`it holds the environment "production", but "test" was expected`, "--environment production"}},
		{"a missing table", func(t *testing.T) string { t.Helper(); return changed(t, "DROP TABLE bunting.meta") }, false, []string{"a table of bunting is missing"}},
		{"no right to make a schema", func(t *testing.T) string { t.Helper(); return by(server.Database(""), "limited", secret) }, false, []string{"this user may not do that", "CREATE on the database", "bunting migrate"}},
		{"no right to the schema", func(t *testing.T) string { t.Helper(); return by(changed(t), "limited", secret) }, false, []string{"this user may not do that"}},
		{"a new database that is read-only", func(t *testing.T) string {
			t.Helper()
			address := server.Database("")
			postgrestest.Exec(t, address, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_read_only = on'; END $$`)
			return address
		}, false, []string{"the database is read-only"}},
		{"a wrong password", func(*testing.T) string { return by(admin, "known", "wrong-"+secret) }, false, []string{"does not let this user in", "password authentication failed"}},
		{"no password", func(*testing.T) string { return by(admin, "known", "") }, false, []string{"does not let this user in"}},
		{"an unknown user", func(*testing.T) string { return by(admin, "nobody", secret) }, false, []string{"does not let this user in"}},
		{"a user who is kept out", func(*testing.T) string { return by(admin, "outsider", secret) }, false, []string{"pg_hba.conf"}},
		{"too many connections", func(*testing.T) string { return by(admin, "crowded", secret) }, true, []string{"no connection to spare", "max_connections"}},
		{"TLS that is not there", func(t *testing.T) string {
			t.Helper()
			return "postgres://known:" + secret + "@" + noTLS(t) + "/x?sslmode=require"
		}, false, []string{"refusal of TLS", "sslmode"}},
		{"nobody at the port", func(*testing.T) string { return "postgres://known:" + secret + "@127.0.0.1:1/x" }, true, []string{"postgres://127.0.0.1:1/x: ", "no connection could be made", "refused"}},
		{"no socket", func(t *testing.T) string { t.Helper(); return "postgres://known:" + secret + "@/x?host=" + t.TempDir() }, true, []string{"no connection could be made"}},
		{"several hosts", func(*testing.T) string { return "postgres://known:" + secret + "@127.0.0.1:1,127.0.0.1:2/x" }, true, []string{"postgres://127.0.0.1:1,127.0.0.1:2/x: ", "no connection could be made"}},
		{"a host that never answers", func(t *testing.T) string {
			t.Helper()
			return "postgres://known:" + secret + "@" + silent(t) + "/x?connect_timeout=1"
		}, true, []string{"did not answer in time"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			s := open(t, c.address(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			err := s.Prepare(t.Context())
			_, again := s.Snapshot(t.Context())
			for _, err := range []error{err, again} {
				if c.passes {
					wantUnreachable(t, err, c.says...)
				} else {
					wantRefusal(t, err, c.says...)
				}
			}
			if err := s.Close(); err != nil || strings.Contains(log.String(), secret) {
				t.Errorf("closed with %v, the log: %s", err, &log)
			}
		})
	}
}

// noTLS answers the question for TLS with no, as a server without it does.
func noTLS(t *testing.T) string {
	t.Helper()
	return listener(t, func(conn net.Conn) {
		question := make([]byte, 8)
		_, err := conn.Read(question)
		if err == nil {
			_, err = conn.Write([]byte("N"))
		}
		_ = errors.Join(err, conn.Close()) // the other side may have gone
	})
}

// silent takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	return listener(t, func(conn net.Conn) { t.Cleanup(func() { _ = conn.Close() }) })
}

// listener handles each connection, one after another.
func listener(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// TestURLs reads addresses, the wrong ones too: no password is told.
func TestURLs(t *testing.T) {
	for _, c := range []struct{ address, says string }{
		{"mysql://root:" + secret + "@h/d", "named by a URL"},
		{"host=h password=" + secret, "named by a URL"},
		{"postgres://u:" + secret + "@h:port/d", "cannot be read: invalid port"},
		{"postgres://u:" + secret + "@h/d?sslmode=perhaps", "cannot be read: failed to configure TLS (sslmode is invalid)"},
		{"postgres://u:" + secret + "@h/d?connect_timeout=soon", "cannot be read: invalid connect_timeout"},
		{"postgres://u@h/d?password=" + secret + "&sslmode=perhaps", "cannot be read"},
		{"postgres://u:a%zz" + secret + "@h/d", "cannot be read"},
		{"postgres://u:a@" + secret + "@h/d", "Percent-encode"},
		{"postgres://u:a/" + secret + "@h/d", "Percent-encode"},
		{"postgres://u:5432/" + secret + "@h/d", "Percent-encode"},
		{"postgres://u:a#" + secret + "@h/d", "Percent-encode"},
		{"postgres://u:a?" + secret + "@h/d", "Percent-encode"},
		{"postgres://u:" + secret + "@h/d#x", "Percent-encode"},
		{"postgres://u:" + secret + "@h/d?pool_max_conns=many", "cannot be read"},
	} {
		_, err := Open(t.Context(), c.address, Options{Environment: "test"})
		wantRefusal(t, err, c.says)
	}
	s := open(t, "postgresql://u:p%40%2F%23@h1:1,h2:2/d?connect_timeout=7&pool_max_conns=3", Options{StatementTimeout: 20 * time.Second})
	config := s.pool.Config()
	if s.name != "postgres://h1:1,h2:2/d" || config.ConnConfig.Password != "p@/#" || config.MaxConns != 3 || config.ConnConfig.ConnectTimeout != 7*time.Second ||
		config.ConnConfig.RuntimeParams["statement_timeout"] != "20000" || config.ConnConfig.RuntimeParams["lock_timeout"] != "18000" {
		t.Errorf("read as %s: %+v", s.name, config.ConnConfig.RuntimeParams)
	}
	s = open(t, "postgres://u@h/", Options{MaxConnections: 9, ConnectTimeout: time.Second})
	if config := s.pool.Config(); config.MaxConns != 9 || config.ConnConfig.ConnectTimeout != time.Second || s.name != "postgres://h:5432/u" {
		t.Errorf("read as %s with %d connections", s.name, config.MaxConns)
	}
}

// FuzzURL hides a password in any surroundings.
func FuzzURL(f *testing.F) {
	f.Add("", "", "h:1/d?sslmode=disable")
	f.Add("a@", "/", "h")
	f.Add("%zz", ":", "h:x,/d")
	f.Fuzz(func(t *testing.T, before, after, rest string) {
		if strings.Contains(rest, secret) {
			return
		}
		config, err := parse("postgres://u:"+before+secret+after+"@"+rest, Options{})
		switch {
		case err != nil && strings.Contains(err.Error(), secret):
			t.Errorf("told: %v", err)
		case err == nil && strings.Contains(nameOf(&config.ConnConfig.Config), secret):
			t.Errorf("named: %s", nameOf(&config.ConnConfig.Config))
		}
	})
}

// TestMeanings puts what PostgreSQL may answer into words. A full disk is among
// them: none is filled here.
func TestMeanings(t *testing.T) {
	for code, c := range map[string]struct {
		says   string
		passes bool
	}{
		"53100": {"the database server's disk is full, nothing was written", false},
		"53200": {"out of memory", true},
		"53300": {"no connection to spare", true},
		"53400": {"lacks something", true},
		"25006": {"read-only", false},
		"55000": {"a standby", true},
		"28P01": {"does not let this user in", false},
		"3D000": {"does not exist", false},
		"42501": {"may not do that", false},
		"57P01": {"shutting down", true},
		"57P03": {"starting up", true},
		"57014": {"statement timeout", true},
		"55P03": {"kept the revision locked", true},
		"08006": {"connection", true},
		"58030": {"its system", false},
		"XX001": {"damaged", false},
	} {
		err := explain(&pgconn.PgError{Code: code, Message: "as PostgreSQL says"})
		wantWords(t, err, c.says, "as PostgreSQL says", code)
		if errors.Is(err, store.ErrUnreachable) != c.passes {
			t.Errorf("%s: said to pass: %t, want %t", code, !c.passes, c.passes)
		}
	}
	unknown := &pgconn.PgError{Code: "99999", Message: "new"}
	if err := explain(unknown); !errors.Is(err, unknown) {
		t.Errorf("an unknown state became %v", err)
	}
}

// TestReadOnly reads on while nothing can be written, and works when it can be.
func TestReadOnly(t *testing.T) {
	address := postgrestest.Database(t)
	prepared(t, address)
	set := func(value string) {
		t.Helper()
		postgrestest.Exec(t, address, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_read_only = `+value+`'; END $$`)
	}
	set("on")
	s := open(t, address, Options{}) // starts, because it has nothing to write
	if snapshot, err := s.Snapshot(t.Context()); err != nil || snapshot.Revision.Number != 0 {
		t.Errorf("read %v, %v", snapshot, err)
	}
	_, err := s.Apply(t.Context(), batchOf(flag.Put(numberedFlag("a", 1))))
	wantRefusal(t, err, "the database is read-only, nothing was written")
	postgrestest.Exec(t, address, "SET default_transaction_read_only = off", `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' RESET default_transaction_read_only'; END $$`)
	s.pool.Reset() // what a restart or the connections' age does
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	storetest.WantComplete(t.Context(), t, s)
}
