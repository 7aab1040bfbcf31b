package configuration

import (
	"errors"
	"net/url"
	"strings"
)

// DatabaseKind is a kind of store.
type DatabaseKind string

// The kinds.
const (
	Memory     DatabaseKind = "memory"
	SQLite     DatabaseKind = "sqlite"
	PostgreSQL DatabaseKind = "postgres"
)

// Database says where definitions are kept. Printed, it shows no password.
type Database struct {
	kind   DatabaseKind
	source string
}

// Kind gives the kind of store.
func (d Database) Kind() DatabaseKind { return d.kind }

// Source gives the path of SQLite's file, or PostgreSQL's URL with its password:
// for the store alone, not for logs.
func (d Database) Source() string { return d.source }

// String gives the database as it was written, without its password.
func (d Database) String() string {
	switch d.kind {
	case SQLite:
		return "sqlite:" + d.source
	case PostgreSQL:
		return redacted(d.source)
	default:
		return string(d.kind) + ":"
	}
}

// GoString keeps the password out of %#v.
func (d Database) GoString() string { return d.String() }

// MarshalText keeps the password out of JSON.
func (d Database) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

var errDatabase = errors.New("which is no database. Write sqlite:PATH, like sqlite:bunting.db, or memory:, or postgres://USER:PASSWORD@HOST/DATABASE")

// parseDatabase reads the setting database.
func parseDatabase(text string) (Database, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "memory:":
		return Database{kind: Memory}, nil
	case scheme == "sqlite" && rest != "":
		return Database{kind: SQLite, source: rest}, nil
	case (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		u, err := url.Parse(text)
		// The error repeats the URL, with the password; an "@" without a user is
		// behind a password with a "/" in it.
		if err != nil || u.User == nil && strings.Contains(rest, "@") {
			return Database{}, errors.New("a URL that cannot be read. Write postgres://USER:PASSWORD@HOST/DATABASE, and characters of the password that are not letters or digits as %XX")
		}
		if u.Fragment != "" {
			return Database{}, errors.New("a URL with \"#\" in it. Write it as %23")
		}
		return Database{kind: PostgreSQL, source: text}, nil
	}
	return Database{}, errDatabase
}

// mask stands where a secret is left out.
const mask = "xxxxx"

// hidesPassword tells of an "@" behind the host, which ends a password that is not
// escaped.
func hidesPassword(u *url.URL) bool {
	return strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment()+u.Opaque, "@")
}

// redacted gives a URL without its password, for messages. What is no URL, but
// may hold a password all the same, is left out whole.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil && u.Host == "" && !strings.Contains(text, ":///") || hidesPassword(u) {
		if strings.ContainsAny(text, "@=") {
			return mask
		}
		return text
	}
	_, secret := u.User.Password()
	query := u.Query()
	for name := range query {
		if lower := strings.ToLower(name); strings.Contains(lower, "pass") || strings.Contains(lower, "token") || strings.Contains(lower, "secret") {
			query.Set(name, mask)
			u.RawQuery, secret = query.Encode(), true
		}
	}
	if !secret {
		return text
	}
	return u.Redacted()
}

// shownDatabase is redacted for what may be a database's setting: a path is no
// secret.
func shownDatabase(text string) string {
	if d, err := parseDatabase(text); err == nil {
		return d.String()
	}
	return redacted(text)
}
