package configuration

import (
	"log/slog"
	"net"
	"path/filepath"
	"time"
)

// Settings are what a server is told, resolved and checked.
type Settings struct {
	Listen         Address // of requests
	AdminListen    Address // of the admin side; not set: Listen
	Admin          bool    // writes, the audit log, tokens and metrics are answered
	Anonymous      bool    // callers without a token may evaluate
	AllowPlaintext bool
	ReadyFile      string // "": none

	Database         Database
	DatabasePool     DatabasePool
	Environment      string // "" on a proxy that takes its upstream's
	EnvironmentColor string // "#rrggbb", a name of the table, or "" for none
	Data             string // folder of the snapshot on disk; "": none is kept
	TokenFile        string
	Load             string // document of flags; "": none

	Upstream          string // base URL; "": this is a root
	UpstreamTokenFile string // "": the token is in BUNTING_TOKEN, if there is one
	UpstreamPoll      time.Duration
	DefinitionCache   DefinitionCache
	Cache             Cache

	Descriptors    string // file; "": none
	DescriptorPoll time.Duration

	StaleAfter time.Duration

	LogLevel          slog.Level
	LogRequests       bool // each at INFO
	MetricsFlagLabels bool // metrics name flags

	written map[string]written
}

// DatabasePool bounds what a server asks of PostgreSQL.
type DatabasePool struct {
	MaxConnections   int
	MinConnections   int
	ConnectTimeout   time.Duration
	StatementTimeout time.Duration
}

// DefinitionCache is where the proxies of a fleet share the definitions of their
// upstream (DESIGN §6.8): in a Redis or in a folder. With neither it is not in use.
type DefinitionCache struct {
	Redis             Redis
	RedisPasswordFile string // "": no password, or that of the URL
	RedisCAFile       string // of whom to trust; "": the system's authorities
	RedisPrefix       string // of all keys
	Directory         string
	KillTTL           time.Duration // how long ago the upstream may have confirmed what is shared
}

// IsSet reports whether definitions are shared.
func (d DefinitionCache) IsSet() bool { return d.Redis.IsSet() || d.Directory != "" }

// Cache is the on-demand cache of a proxy before a plain evaluator service
// (DESIGN §6.6).
type Cache struct {
	KillTTL            time.Duration
	FlagTTL            time.Duration
	FlagMaxEntries     int
	OverrideTTL        time.Duration
	OverrideMaxEntries int
	JitterPercent      int
	FetchTimeout       time.Duration
}

// Address is a host and a port to listen on.
type Address struct {
	Text string // as it was written; "": not set
	TCP  *net.TCPAddr
}

// String gives the address as it was written.
func (a Address) String() string { return a.Text }

// IsSet reports whether there is an address.
func (a Address) IsSet() bool { return a.TCP != nil }

// IsLocal reports whether only this machine reaches the address.
func (a Address) IsLocal() bool { return a.TCP != nil && a.TCP.IP.IsLoopback() }

// Mode is what a server is (DESIGN §8).
type Mode string

// The modes.
const (
	Combined Mode = "combined" // a root that answers the admin side too
	Root     Mode = "root"     // owns a store
	Proxy    Mode = "proxy"    // has an upstream
)

// Mode follows from the settings upstream and admin.
func (s *Settings) Mode() Mode {
	switch {
	case s.Upstream != "":
		return Proxy
	case !s.Admin:
		return Root
	}
	return Combined
}

// Origin tells where a setting of the table was written.
func (s *Settings) Origin(key string) Origin { return s.written[key].origin }

// follow fills in the defaults that follow from other settings.
func (s *Settings) follow() {
	if s.Origin("environment").IsDefault() && s.Mode() == Proxy {
		s.Environment = ""
		s.written["environment"] = written{}
	}
	if s.Origin("data").IsDefault() && s.Mode() != Proxy && s.Database.Kind() == SQLite {
		s.Data = filepath.Dir(s.Database.Source())
		s.written["data"] = written{text: s.Data}
	}
}
