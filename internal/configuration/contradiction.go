package configuration

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// condition says when a setting applies. To write one that does not is a
// contradiction: whoever wrote it expects something that will not happen.
type condition struct {
	cause string // the setting that decides
	holds func(*Settings) bool
	words string // why it does not apply and what to do, going on from "… is set, but"
}

var (
	withoutUpstream = &condition{"upstream", func(s *Settings) bool { return s.Upstream == "" },
		"with an upstream this server is a proxy, which has no database and no tokens of its own. Remove one of the two"}
	withUpstream = &condition{"upstream", func(s *Settings) bool { return s.Upstream != "" },
		"there is no upstream, so this server is no proxy. Set upstream, or remove it"}
	withPostgreSQL = &condition{"database", func(s *Settings) bool { return s.Upstream == "" && s.Database.Kind() == PostgreSQL },
		"the database is not PostgreSQL, and no other has a pool. Remove it, or, where this is no proxy, set database to postgres://…"}
	withoutMemory = &condition{"database", func(s *Settings) bool { return s.Upstream != "" || s.Database.Kind() != Memory },
		"a database in memory is another one after each start, so a snapshot of it would never be right. Remove it, or set database to sqlite:PATH"}
	withAdmin = &condition{"admin", func(s *Settings) bool { return s.Admin },
		"admin is off, so nothing would be answered there. Remove one of the two"}
	withRedis = &condition{"definition_cache.redis", func(s *Settings) bool { return s.DefinitionCache.Redis.IsSet() },
		"there is no Redis to share definitions in. Set definition_cache.redis, or remove it"}
	withSharing = &condition{"definition_cache.redis", func(s *Settings) bool { return s.DefinitionCache.IsSet() },
		"no definitions are shared. Set definition_cache.redis or definition_cache.directory, or remove it"}
	withDescriptors = &condition{"descriptors", func(s *Settings) bool { return s.Descriptors != "" },
		"there are no descriptors to look at. Set descriptors, or remove it"}
)

// applies reports whether the setting means anything beside the others.
func (s *Settings) applies(setting Setting) bool {
	return setting.only == nil || setting.only.holds(s)
}

// rule is a contradiction between settings.
type rule struct {
	keys   []string // what it is about; it is not asked when one of them cannot be read
	broken func(s *Settings) (problem string)
}

var rules = []rule{
	{[]string{"listen", "allow_plaintext"}, func(s *Settings) string { return s.exposed("listen", s.Listen) }},
	{[]string{"admin_listen", "allow_plaintext"}, func(s *Settings) string { return s.exposed("admin_listen", s.AdminListen) }},
	{[]string{"listen", "admin_listen"}, func(s *Settings) string {
		if !overlap(s.Listen, s.AdminListen) {
			return ""
		}
		return fmt.Sprintf("%s is %q, the same address as listen (%s). Choose another port, or remove it to have both at one address", s.Subject("admin_listen"), s.AdminListen, s.Listen)
	}},
	{[]string{"upstream", "listen", "admin_listen"}, func(s *Settings) string {
		for key, own := range map[string]Address{"listen": s.Listen, "admin_listen": s.AdminListen} {
			if leadsTo(s.Upstream, own) {
				return fmt.Sprintf("%s is %q, which is this server itself: it listens there (%s). Name the server that it is a proxy of", s.Subject("upstream"), s.Upstream, key)
			}
		}
		return ""
	}},
	{[]string{"definition_cache.redis", "definition_cache.directory"}, func(s *Settings) string {
		if !s.DefinitionCache.Redis.IsSet() || s.DefinitionCache.Directory == "" {
			return ""
		}
		return s.Subject("definition_cache.directory") + " is set, but definitions are shared in one place, and definition_cache.redis is set too. Remove one of the two"
	}},
	{[]string{"definition_cache.redis"}, func(s *Settings) string {
		if s.DefinitionCache.RedisPasswordFile == "" || !s.DefinitionCache.Redis.hasPassword() {
			return ""
		}
		return s.Subject("definition_cache.redis_password_file") + " is set, but there is a password in definition_cache.redis too. Remove one of the two"
	}},
	{[]string{"definition_cache.redis"}, func(s *Settings) string {
		if s.DefinitionCache.RedisCAFile == "" || !s.DefinitionCache.Redis.IsSet() || s.DefinitionCache.Redis.hasTLS() {
			return ""
		}
		return s.Subject("definition_cache.redis_ca_file") + " is set, but the Redis is asked without TLS. Write rediss:// in definition_cache.redis, or remove it"
	}},
	{[]string{"definition_cache.redis", "definition_cache.kill_ttl", "stale_after"}, func(s *Settings) string {
		if !s.DefinitionCache.IsSet() || s.DefinitionCache.KillTTL < s.StaleAfter {
			return ""
		}
		return fmt.Sprintf("%s is %s, but it has to be less than stale_after, %s, or every answer would be marked stale while the Redis is away. Lower the one, or raise the other",
			s.Subject("definition_cache.kill_ttl"), s.DefinitionCache.KillTTL, s.StaleAfter)
	}},
	{[]string{"database_pool.max_connections", "database_pool.min_connections"}, func(s *Settings) string {
		if s.DatabasePool.MinConnections <= s.DatabasePool.MaxConnections {
			return ""
		}
		return fmt.Sprintf("%s is %d, more than database_pool.max_connections, %d. Lower the one, or raise the other",
			s.Subject("database_pool.min_connections"), s.DatabasePool.MinConnections, s.DatabasePool.MaxConnections)
	}},
}

// contradictions finds what is right by itself, but not together. Settings in
// broken could not be read.
func (s *Settings) contradictions(broken map[string]bool) (problems []string) {
	for _, setting := range table {
		if s.written[setting.Key].text == "" || s.Origin(setting.Key).IsDefault() || broken[setting.Key] ||
			setting.only == nil || broken[setting.only.cause] || s.applies(setting) {
			continue
		}
		problem := fmt.Sprintf("%s is set, but %s", s.Subject(setting.Key), setting.only.words)
		if o := s.Origin(setting.only.cause); !o.IsDefault() {
			problem += fmt.Sprintf(" (%s comes from %s)", setting.only.cause, o)
		}
		problems = append(problems, problem)
	}
	for _, r := range rules {
		if slices.ContainsFunc(r.keys, func(key string) bool { return broken[key] }) {
			continue
		}
		if problem := r.broken(s); problem != "" {
			problems = append(problems, problem)
		}
	}
	return problems
}

// exposed tells of an address that would carry tokens over a network in plain text.
func (s *Settings) exposed(key string, a Address) string {
	if !a.IsSet() || a.IsLocal() || s.AllowPlaintext {
		return ""
	}
	return fmt.Sprintf("%s is %q, which other machines can reach, and without TLS tokens would cross the network in plain text. "+
		"Listen on 127.0.0.1 and put a proxy with TLS before it, or, on a network that you trust, add --allow-plaintext (allow_plaintext: true)", s.Subject(key), a)
}

// overlap reports whether two addresses cannot both be listened on.
func overlap(a, b Address) bool {
	if !a.IsSet() || !b.IsSet() || a.TCP.Port != b.TCP.Port || a.TCP.Port == 0 {
		return false
	}
	everywhere := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return a.TCP.IP.Equal(b.TCP.IP) || everywhere(a.TCP.IP) || everywhere(b.TCP.IP)
}

// leadsTo reports whether the URL is that of a port of this machine which the
// address has. What a name resolves to elsewhere is found out only by asking.
func leadsTo(endpoint string, own Address) bool {
	u, err := url.Parse(endpoint)
	if err != nil || !own.IsSet() || u.Port() != strconv.Itoa(own.TCP.Port) || u.Hostname() == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	loops := strings.EqualFold(u.Hostname(), "localhost") || ip.IsLoopback()
	return ip.Equal(own.TCP.IP) || loops && (own.IsLocal() || own.TCP.IP.IsUnspecified() || len(own.TCP.IP) == 0)
}
