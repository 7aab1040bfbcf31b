package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// keepalives let the database find out within half a minute that a root's machine
// is gone, and free what it held. Seconds, and how many may be lost.
var keepalives = map[string]string{"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}

// parse reads a database's URL into the settings of a pool, with the options
// over what the URL says. Nothing that it gives or tells shows a password.
func parse(address string, options Options) (*pgxpool.Config, error) {
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		return nil, errors.New("a PostgreSQL database is named by a URL. Write postgres://USER@HOST:PORT/DATABASE, and give the password in PGPASSWORD or a password file")
	}
	_, rest, _ := strings.Cut(address, "://")
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.ContainsAny(tail, "@#") || strings.Count(authority, "@") > 1 {
		// Most likely a password that would be cut in two, and its end be told as a host's or a database's name.
		return nil, errors.New(`the database's URL has an "@" or "#" where none can be. Percent-encode what has a meaning in URLs in the user's name and password: @ is %40, # is %23, / is %2F, ? is %3F, % is %25`)
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the database's URL cannot be read: %s. Write postgres://USER@HOST:PORT/DATABASE", reason(err, secrets(authority, tail)))
	}
	parameters := queryOf(tail)
	connection := config.ConnConfig
	if options.ConnectTimeout > 0 || !parameters.Has("connect_timeout") {
		connection.ConnectTimeout = orDefault(options.ConnectTimeout, defaultConnectTimeout)
	}
	config.PingTimeout = connection.ConnectTimeout
	if options.MaxConnections > 0 {
		config.MaxConns = options.MaxConnections
	}
	if options.MinConnections > 0 {
		config.MinConns = min(options.MinConnections, config.MaxConns)
	}
	if !parameters.Has("target_session_attrs") {
		// A standby may lag behind for any time: it is no source of truth.
		connection.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if connection.RuntimeParams["application_name"] == "" {
		connection.RuntimeParams["application_name"] = "bunting"
	}
	timeout := orDefault(options.StatementTimeout, defaultStatementTimeout)
	for name, limit := range map[string]time.Duration{
		"statement_timeout": timeout,
		// Shorter than the statement's, so that the reason is told.
		"lock_timeout": timeout * 9 / 10,
		// Shorter than both, so that a root which froze within a transaction loses
		// it before those who wait for it give up.
		"idle_in_transaction_session_timeout": timeout / 2,
	} {
		connection.RuntimeParams[name] = strconv.FormatInt(limit.Milliseconds(), 10)
	}
	maps.Copy(connection.RuntimeParams, keepalives)
	return config, nil
}

func orDefault(set, otherwise time.Duration) time.Duration {
	if set > 0 {
		return set
	}
	return otherwise
}

// queryOf gives the parameters of the URL's end, as far as they can be read.
func queryOf(tail string) url.Values {
	_, query, _ := strings.Cut(tail, "?")
	parameters, _ := url.ParseQuery(query) // pgx has refused what is wrong with it
	return parameters
}

// secrets gives what must not be told of a URL.
func secrets(authority, tail string) []string {
	parameters := queryOf(tail)
	found := []string{parameters.Get("password"), parameters.Get("sslpassword")}
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		_, password, _ := strings.Cut(authority[:i], ":")
		found = append(found, password)
		if plain, err := url.PathUnescape(password); err == nil {
			found = append(found, plain)
		}
	}
	return slices.DeleteFunc(found, func(s string) bool { return s == "" })
}

// reason tells why the URL was refused, without the URL and the secrets.
func reason(err error, secrets []string) string {
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 { // behind the URL, which pgx puts first
		text = text[i+len("`: "):]
	}
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	return strings.Join(strings.Fields(text), " ")
}

// nameOf gives the database's URL without user, password and parameters, for
// people.
func nameOf(config *pgconn.Config) string {
	hosts := []string{place(config.Host, config.Port)}
	for _, f := range config.Fallbacks {
		if host := place(f.Host, f.Port); !slices.Contains(hosts, host) { // once with TLS, once without
			hosts = append(hosts, host)
		}
	}
	database := config.Database
	if database == "" {
		database = config.User // PostgreSQL's rule
	}
	if strings.HasPrefix(hosts[0], "/") { // a socket's folder
		return "postgres:///" + database + "?host=" + strings.Join(hosts, ",")
	}
	return "postgres://" + strings.Join(hosts, ",") + "/" + database
}

func place(host string, port uint16) string {
	if strings.HasPrefix(host, "/") {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
