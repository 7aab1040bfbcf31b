package configuration

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// DefaultListen and DefaultTokenFile are where a server stands and its admin's
// token lies when nothing is said; the operator's commands look there.
const (
	DefaultListen    = "127.0.0.1:8980"
	DefaultTokenFile = "bunting.token"
)

// Setting is a row of the table.
type Setting struct {
	Group   string // the heading under which the help and the documentation list it
	Key     string // in the file; "cache.kill_ttl" is kill_ttl below cache
	Kind    string // what is written: "duration", "host:port", "on|off"
	Default string // "" where there is none
	Help    string // one line

	yaml string
	show func(text string) string
	read func(s *Settings, text string) error
	only *condition // nil: it always applies
}

// Variable gives the environment's name of the setting: BUNTING_SERVE_CACHE_KILL_TTL.
func (s Setting) Variable() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Flag gives the command line's name of the setting, without its dashes: cache-kill-ttl.
func (s Setting) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.Key) }

// IsBool reports whether the setting may be given as a flag without a value.
func (s Setting) IsBool() bool { return s.yaml == yamlfile.Bool }

// Table gives every setting there is, in the order of the help.
func Table() []Setting { return slices.Clone(table) }

// row makes a setting of a kind, kept in a field.
func row[T any](group, key, fallback string, k kind[T], field func(*Settings) *T, only *condition, help string) Setting {
	s := Setting{Group: group, Key: key, Kind: k.name, Default: fallback, Help: help, yaml: k.yaml, show: k.show, only: only}
	if s.show == nil {
		s.show = func(text string) string { return text }
	}
	s.read = func(to *Settings, text string) error {
		value, err := k.parse(text)
		if err == nil {
			*field(to) = value
		}
		return err
	}
	return s
}

// The groups.
const (
	listening   = "Listening"
	definitions = "Definitions"
	proxy       = "A proxy"
	sharing     = "Definitions that proxies share"
	onDemand    = "The cache of a proxy before a plain evaluator service"
	descriptors = "Descriptors"
	telling     = "What it tells"
)

var table = []Setting{
	row(listening, "listen", DefaultListen, address, func(s *Settings) *Address { return &s.Listen }, nil,
		"where requests are answered; port 0 takes a free one"),
	row(listening, "admin_listen", "", optionalAddress, func(s *Settings) *Address { return &s.AdminListen }, withAdmin,
		"an address of its own for writes, the audit log, tokens and metrics, which answers everything else too (default: they are answered at listen)"),
	row(listening, "admin", "on", choice(option[bool]{"on", true}, option[bool]{"off", false}), func(s *Settings) *bool { return &s.Admin }, nil,
		"whether writes, the audit log, tokens and metrics are answered at all"),
	row(listening, "anonymous", "off", choice(option[bool]{"off", false}, option[bool]{"evaluate", true}), func(s *Settings) *bool { return &s.Anonymous }, nil,
		"what callers without a token may do: nothing, or evaluate and use the state calls"),
	row(listening, "allow_plaintext", "false", boolean, func(s *Settings) *bool { return &s.AllowPlaintext }, nil,
		"listen beyond this machine without TLS"),
	row(listening, "ready_file", "", optionalPath, func(s *Settings) *string { return &s.ReadyFile }, nil,
		"file to write one JSON object to (endpoint, environment, pid, version) once requests are answered"),

	row(definitions, "database", "sqlite:bunting.db", database, func(s *Settings) *Database { return &s.Database }, withoutUpstream,
		"where definitions are kept: sqlite:PATH, memory: for as long as the server runs, or postgres://USER:PASSWORD@HOST/DATABASE for many servers at once"),
	row(definitions, "database_pool.max_connections", "10", integer(1, 10_000), func(s *Settings) *int { return &s.DatabasePool.MaxConnections }, withPostgreSQL,
		"connections to PostgreSQL at most"),
	row(definitions, "database_pool.min_connections", "0", integer(0, 10_000), func(s *Settings) *int { return &s.DatabasePool.MinConnections }, withPostgreSQL,
		"connections to PostgreSQL that are kept open"),
	row(definitions, "database_pool.connect_timeout", "5s", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.DatabasePool.ConnectTimeout }, withPostgreSQL,
		"how long a connection to PostgreSQL may take"),
	row(definitions, "database_pool.statement_timeout", "10s", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.DatabasePool.StatementTimeout }, withPostgreSQL,
		"how long one statement in PostgreSQL may take"),
	row(definitions, "environment", "default", name, func(s *Settings) *string { return &s.Environment }, nil,
		"name of the environment that this server is; a proxy takes its upstream's, and with this refuses another"),
	row(definitions, "environment_color", "", color, func(s *Settings) *string { return &s.EnvironmentColor }, nil,
		"colour by which people tell the environment: \"#rrggbb\", \"#rgb\" or a name"),
	row(definitions, "data", "", optionalPath, func(s *Settings) *string { return &s.Data }, withoutMemory,
		"folder of the snapshot on disk, from which the server starts while its source is away (default: that of SQLite's database, else none is kept)"),
	row(definitions, "token_file", DefaultTokenFile, path, func(s *Settings) *string { return &s.TokenFile }, withoutUpstream,
		"file to which the first start writes the admin's token"),
	row(definitions, "load", "", optionalPath, func(s *Settings) *string { return &s.Load }, withoutUpstream,
		"document of flags, YAML or JSON: those that the database does not have are made at start"),
	row(definitions, "stale_after", "3s", duration(2*time.Second), func(s *Settings) *time.Duration { return &s.StaleAfter }, nil,
		"silence of the source after which answers are marked stale"),

	row(proxy, "upstream", "", upstream, func(s *Settings) *string { return &s.Upstream }, nil,
		"base URL of the server that this one is a proxy of"),
	row(proxy, "upstream_token_file", "", optionalPath, func(s *Settings) *string { return &s.UpstreamTokenFile }, withUpstream,
		"file with the token for the upstream (default: the token in BUNTING_TOKEN)"),
	row(proxy, "upstream_poll", "1s", duration(100*time.Millisecond), func(s *Settings) *time.Duration { return &s.UpstreamPoll }, withUpstream,
		"how often the upstream is asked for changes while its stream is away"),

	row(sharing, "definition_cache.redis", "", redis, func(s *Settings) *Redis { return &s.DefinitionCache.Redis }, withUpstream,
		"Redis in which proxies of one upstream share its definitions, so that one of them fetches: redis://, rediss:// or unix://"),
	row(sharing, "definition_cache.redis_password_file", "", optionalPath, func(s *Settings) *string { return &s.DefinitionCache.RedisPasswordFile }, withRedis,
		"file with the password for the Redis"),
	row(sharing, "definition_cache.redis_ca_file", "", optionalPath, func(s *Settings) *string { return &s.DefinitionCache.RedisCAFile }, withRedis,
		"PEM file of the authorities to trust for rediss:// (default: the system's)"),
	row(sharing, "definition_cache.redis_prefix", "bunting", keyPrefix, func(s *Settings) *string { return &s.DefinitionCache.RedisPrefix }, withRedis,
		"how the keys in the Redis begin"),
	row(sharing, "definition_cache.directory", "", optionalPath, func(s *Settings) *string { return &s.DefinitionCache.Directory }, withUpstream,
		"folder, on a disk of this machine, in which its proxies share the definitions, in place of a Redis"),
	row(sharing, "definition_cache.kill_ttl", "2s", duration(400*time.Millisecond), func(s *Settings) *time.Duration { return &s.DefinitionCache.KillTTL }, withSharing,
		"within what time a kill reaches every proxy: where the shared copy is older, the upstream is asked; it is looked at four times as often"),

	row(onDemand, "cache.kill_ttl", "30s", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.Cache.KillTTL }, nil,
		"how often the killed flags are asked for; after failures 2, 4 and 8 times as long"),
	row(onDemand, "cache.flag_ttl", "5m", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.Cache.FlagTTL }, nil,
		"how long a flag is remembered"),
	row(onDemand, "cache.flag_max_entries", "10000", integer(1, 100_000_000), func(s *Settings) *int { return &s.Cache.FlagMaxEntries }, nil,
		"how many flags are remembered"),
	row(onDemand, "cache.override_ttl", "5m", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.Cache.OverrideTTL }, nil,
		"how long an override, or that there is none, is remembered"),
	row(onDemand, "cache.override_max_entries", "10000", integer(1, 100_000_000), func(s *Settings) *int { return &s.Cache.OverrideMaxEntries }, nil,
		"how many overrides are remembered"),
	row(onDemand, "cache.jitter_percent", "20", integer(0, 100), func(s *Settings) *int { return &s.Cache.JitterPercent }, nil,
		"by how much these times vary, so that servers do not ask in step"),
	row(onDemand, "cache.fetch_timeout", "500ms", duration(time.Millisecond), func(s *Settings) *time.Duration { return &s.Cache.FetchTimeout }, nil,
		"how long a question to the upstream may take"),

	row(descriptors, "descriptors", "", optionalPath, func(s *Settings) *string { return &s.Descriptors }, nil,
		"file with a FileDescriptorSet that gives flags with compiled defaults"),
	row(descriptors, "descriptor_poll", "30s", duration(time.Second), func(s *Settings) *time.Duration { return &s.DescriptorPoll }, withDescriptors,
		"how often the file is looked at, besides being watched"),

	row(telling, "log_level", "info", logLevel, func(s *Settings) *slog.Level { return &s.LogLevel }, nil,
		"the least that is logged"),
	row(telling, "log_requests", "false", boolean, func(s *Settings) *bool { return &s.LogRequests }, nil,
		"log each request; without, evaluations and reads that went well and fast are logged at debug only"),
	row(telling, "metrics_flag_labels", "false", boolean, func(s *Settings) *bool { return &s.MetricsFlagLabels }, nil,
		"name the flags in the metrics of evaluations; as many series as flags"),
}
