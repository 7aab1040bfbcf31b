package configuration

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file writes a configuration file and gives its path.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bunting.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// nested writes a setting as the file has it.
func nested(key, scalar string) string {
	if above, below, ok := strings.Cut(key, "."); ok {
		return above + ":\n  " + below + ": " + scalar + "\n"
	}
	return key + ": " + scalar + "\n"
}

// samples are three values of each kind that are not its default, and what else
// has to be set for a setting to apply.
func samples(t *testing.T, s Setting) (file, environment, flag string, besides map[string]string) {
	t.Helper()
	of := map[string][3]string{
		"host:port": {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, "off|evaluate": {"evaluate", "off", "evaluate"}, "bool": {"true", "false", "true"},
		"path": {"a", "b", "c"}, "name": {"a", "b", "c"}, "number": {"3", "4", "5"}, "duration": {"7s", "8s", "9s"}, "colour": {"red", `#abc`, "blue"},
		"database": {"memory:", "sqlite:x.db", "postgres://u@h/d"}, "url": {"http://a:1", "http://b:1", "http://c:1"}, "on|off": {"off", "on", "off"},
		"debug|info|warn|error": {"debug", "warn", "error"}, "redis": {"redis://a", "rediss://b:1", "unix:///c"},
	}[s.Kind]
	if of[0] == "" {
		t.Fatalf("%s is of the kind %q, of which there is no sample", s.Key, s.Kind)
	}
	besides = map[string]string{}
	if s.only != nil {
		switch s.only.cause {
		case "upstream":
			if s.only == withUpstream {
				besides["upstream"] = "http://far:1"
			}
		case "database":
			besides["database"] = "postgres://u@h/d"
		case "definition_cache.redis":
			besides["upstream"], besides["definition_cache.redis"], besides["stale_after"] = "http://far:1", "rediss://h", "1m"
		case "descriptors":
			besides["descriptors"] = "d.binpb"
		}
	}
	return of[0], of[1], of[2], besides
}

func TestEverySettingIsReachedByAllThreeRoads(t *testing.T) {
	t.Parallel()
	variables, flags := map[string]bool{fileVariable: true}, map[string]bool{FileFlag: true}
	for _, s := range Table() {
		if s.Help == "" || s.Group == "" || variables[s.Variable()] || flags[s.Flag()] {
			t.Errorf("%s has no help or group, or names of another: %s, %s", s.Key, s.Variable(), s.Flag())
		}
		variables[s.Variable()], flags[s.Flag()] = true, true

		inFile, inEnvironment, onLine, besides := samples(t, s)
		scalar := inFile
		if s.yaml == yamlfile.String {
			scalar = fmt.Sprintf("%q", inFile)
		}
		path := file(t, nested(s.Key, scalar))
		roads := Roads{File: path, Flags: besides}
		check := func(want, origin string) {
			t.Helper()
			got, err := Read(roads)
			if err != nil {
				t.Errorf("%s: %v", s.Key, err)
				return
			}
			if w := got.written[s.Key]; w.text != want || got.Origin(s.Key).String() != origin {
				t.Errorf("%s is %q from %s, want %q from %s", s.Key, w.text, w.origin, want, origin)
			}
			plain, err := Read(Roads{Flags: besides})
			if err != nil {
				t.Fatal(err)
			}
			plain.written, got.written = nil, nil
			if want != s.Default && reflect.DeepEqual(plain, got) {
				t.Errorf("%s = %q changes nothing", s.Key, want)
			}
		}
		line := 1 + strings.Count(s.Key, ".")
		check(inFile, fmt.Sprintf("%s:%d", path, line))
		roads.Environment = []string{"PATH=/bin", s.Variable() + "=" + inEnvironment}
		check(inEnvironment, s.Variable())
		roads.Flags = maps.Clone(besides)
		roads.Flags[s.Key] = onLine
		check(onLine, "--"+s.Flag())
		// An empty variable is as none.
		roads = Roads{File: path, Flags: besides, Environment: []string{s.Variable() + "="}}
		check(inFile, fmt.Sprintf("%s:%d", path, line))
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, err := Read(Roads{})
	if err != nil {
		t.Fatal(err)
	}
	want := Cache{KillTTL: 30 * time.Second, FlagTTL: 5 * time.Minute, FlagMaxEntries: 10000, OverrideTTL: 5 * time.Minute, OverrideMaxEntries: 10000, JitterPercent: 20, FetchTimeout: 500 * time.Millisecond}
	if s.Cache != want {
		t.Errorf("%+v", s.Cache)
	}
	if shared := (DefinitionCache{RedisPrefix: "bunting", KillTTL: 2 * time.Second}); s.DefinitionCache != shared || shared.IsSet() {
		t.Errorf("%+v", s.DefinitionCache)
	}
	if s.Mode() != Combined || s.Listen.String() != "127.0.0.1:8980" || s.AdminListen.IsSet() || s.Anonymous || s.Database.String() != "sqlite:bunting.db" ||
		s.Environment != "default" || s.Data != "." || s.TokenFile != "bunting.token" || s.StaleAfter != 3*time.Second || s.DescriptorPoll != 30*time.Second {
		t.Errorf("%+v", s)
	}
	for name, row := range map[string]struct {
		flags             map[string]string
		mode              Mode
		data, environment string
	}{
		"beside the database": {map[string]string{"database": "sqlite:/var/lib/bunting/flags.db"}, Combined, "/var/lib/bunting", "default"},
		"in memory":           {map[string]string{"database": "memory:"}, Combined, "", "default"},
		"PostgreSQL":          {map[string]string{"database": "postgres://h/d", "data": "here"}, Combined, "here", "default"},
		"a root":              {map[string]string{"admin": "off"}, Root, ".", "default"},
		"a proxy":             {map[string]string{"upstream": "http://far:1"}, Proxy, "", ""},
		"a proxy that checks": {map[string]string{"upstream": "http://far:1", "environment": "default", "data": "x"}, Proxy, "x", "default"},
	} {
		s, err := Read(Roads{Flags: row.flags})
		if err != nil || s.Mode() != row.mode || s.Data != row.data || s.Environment != row.environment {
			t.Errorf("%s: %v %v", name, s, err)
		}
	}
}

func TestTheFileIsNamedInTheEnvironmentToo(t *testing.T) {
	t.Parallel()
	there, other := file(t, "environment: there\n"), file(t, "environment: other\n")
	s, err := Read(Roads{Environment: []string{"BUNTING_SERVE_CONFIG=" + there}})
	if err != nil || s.Environment != "there" {
		t.Error(s, err)
	}
	if s, err = Read(Roads{File: other, Environment: []string{"BUNTING_SERVE_CONFIG=" + there}}); err != nil || s.Environment != "other" {
		t.Error(s, err)
	}
}

func problemsOf(t *testing.T, roads Roads) SettingErrors {
	t.Helper()
	_, err := Read(roads)
	var problems SettingErrors
	if err != nil && !errors.As(err, &problems) {
		t.Fatalf("%T: %v", err, err)
	}
	return problems
}

func TestEveryProblemIsToldAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t, "listen: nowhere\ncache:\n  kill_ttl: 0s\n  kil_ttl: 1s\ndatabase_pool:\n  max_connections: 3\n")
	problems := problemsOf(t, Roads{File: path, Environment: []string{"BUNTING_SERVE_LISTN=x", "BUNTING_SERVE_ADMIN=maybe"}, Flags: map[string]string{"cache.jitter_percent": "101", "descriptor_poll": "5s"}})
	for i, want := range []string{
		path + ":4: there is no setting cache.kil_ttl. Did you mean cache.kill_ttl?",
		"BUNTING_SERVE_LISTN is set in the environment, but there is no such setting. Did you mean BUNTING_SERVE_LISTEN?",
		path + `:1: listen is "nowhere", where nothing can listen: missing port in address. Write a host and a port, like 127.0.0.1:8980`,
		`BUNTING_SERVE_ADMIN is "maybe", but on or off is expected`,
		path + `:3: cache.kill_ttl is "0s", but it has to be 1ms at least`,
		`--cache-jitter-percent is "101", but a whole number from 0 to 100 is expected`,
		path + ":6: database_pool.max_connections is set, but the database is not PostgreSQL, and no other has a pool. Remove it, or, where this is no proxy, set database to postgres://…",
		"--descriptor-poll is set, but there are no descriptors to look at. Set descriptors, or remove it",
	} {
		if i >= len(problems) || problems[i] != want {
			t.Errorf("%d: want %s\ngot:\n%s", i, want, strings.Join(problems, "\n"))
		}
	}
	if text := problems.Error(); len(problems) != 8 || !strings.HasPrefix(text, "the configuration has 8 mistakes:\n  "+path+":4: ") {
		t.Error(text)
	}
}

func TestAThousandMistakesAreNotAllTold(t *testing.T) {
	t.Parallel()
	text := problemsOf(t, Roads{File: file(t, strings.Repeat("x: 1\n", 1000))}).Error()
	if strings.Count(text, "\n") != yamlfile.MaxTold+1 || !strings.HasSuffix(text, "\n  … and 970 more") {
		t.Error(text)
	}
}

func TestContradictions(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		flags map[string]string
		want  string // "": none
	}{
		"a proxy with a database":          {map[string]string{"upstream": "http://far:1", "database": "memory:"}, "--database is set, but with an upstream this server is a proxy, which has no database and no tokens of its own. Remove one of the two (upstream comes from --upstream)"},
		"a proxy with a token file":        {map[string]string{"upstream": "http://far:1", "token_file": "x"}, "--token-file is set, but with an upstream"},
		"a proxy that loads":               {map[string]string{"upstream": "http://far:1", "load": "x"}, "--load is set, but with an upstream"},
		"a proxy with a pool":              {map[string]string{"upstream": "http://far:1", "database_pool.max_connections": "3"}, "--database-pool-max-connections is set, but"},
		"an upstream's token without":      {map[string]string{"upstream_token_file": "x"}, "--upstream-token-file is set, but there is no upstream"},
		"an upstream's poll without":       {map[string]string{"upstream_poll": "2s"}, "--upstream-poll is set, but there is no upstream"},
		"an upstream taken back":           {map[string]string{"upstream": "", "upstream_token_file": "", "database": "memory:"}, ""},
		"no admin, but its address":        {map[string]string{"admin": "off", "admin_listen": "127.0.0.1:1"}, "--admin-listen is set, but admin is off"},
		"two listeners at one address":     {map[string]string{"listen": "127.0.0.1:1", "admin_listen": "127.0.0.1:1"}, "the same address as listen (127.0.0.1:1). Choose another port"},
		"one of them everywhere":           {map[string]string{"listen": "0.0.0.0:1", "admin_listen": "127.0.0.1:1", "allow_plaintext": "true"}, "the same address as listen"},
		"two free ports":                   {map[string]string{"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}, ""},
		"one port of two addresses":        {map[string]string{"listen": "127.0.0.1:1", "admin_listen": "127.0.0.2:1"}, ""},
		"beyond this machine":              {map[string]string{"listen": "0.0.0.0:1"}, "--listen is \"0.0.0.0:1\", which other machines can reach"},
		"the admin side beyond":            {map[string]string{"admin_listen": ":1"}, "--admin-listen is \":1\", which other machines can reach"},
		"both told to":                     {map[string]string{"listen": "0.0.0.0:1", "admin_listen": ":2", "allow_plaintext": "true"}, ""},
		"descriptors' poll without":        {map[string]string{"descriptor_poll": "5s"}, "--descriptor-poll is set, but there are no descriptors"},
		"more at least than at most":       {map[string]string{"database": "postgres://h/d", "database_pool.min_connections": "11"}, "more than database_pool.max_connections, 10"},
		"a loop":                           {map[string]string{"upstream": "http://localhost:8980"}, "which is this server itself"},
		"a loop by the other address":      {map[string]string{"upstream": "http://127.0.0.1:9", "admin_listen": "127.0.0.1:9"}, "which is this server itself"},
		"another port of this machine":     {map[string]string{"upstream": "http://localhost:8981"}, ""},
		"the cache of a root":              {map[string]string{"cache.kill_ttl": "5s"}, ""},
		"sharing without an upstream":      {map[string]string{"definition_cache.redis": "redis://h"}, "--definition-cache-redis is set, but there is no upstream"},
		"sharing a folder without one":     {map[string]string{"definition_cache.directory": "x"}, "--definition-cache-directory is set, but there is no upstream"},
		"two places to share in":           {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.directory": "x"}, "definitions are shared in one place"},
		"a folder that is shared":          {map[string]string{"upstream": "http://far:1", "definition_cache.directory": "x", "definition_cache.kill_ttl": "1s"}, ""},
		"no Redis":                         {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "http://h"}, "the URL is of no Redis"},
		"a Redis of no host":               {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://"}, "the URL is of no Redis"},
		"a Redis of no port":               {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h:99999"}, "--definition-cache-redis is \"redis://h:99999\", which cannot be used: the port"},
		"a Redis of no database":           {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h/notadb"}, "The database is a number"},
		"a Redis of no parameter":          {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "unix:///x?foo=bar"}, "The database is a number"},
		"a prefix of spaces":               {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.redis_prefix": "  "}, "cannot begin or end with a space"},
		"a prefix without a Redis":         {map[string]string{"upstream": "http://far:1", "definition_cache.directory": "x", "definition_cache.redis_prefix": "y"}, "--definition-cache-redis-prefix is set, but there is no Redis"},
		"a prefix with braces":             {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.redis_prefix": "{y}"}, "cannot have braces"},
		"two passwords":                    {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://:x@h", "definition_cache.redis_password_file": "y"}, "there is a password in definition_cache.redis too"},
		"a user whose password is a file":  {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://bunting@h", "definition_cache.redis_password_file": "y"}, ""},
		"authorities without TLS":          {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.redis_ca_file": "y"}, "asked without TLS"},
		"a limit of nothing shared":        {map[string]string{"upstream": "http://far:1", "definition_cache.kill_ttl": "1s"}, "--definition-cache-kill-ttl is set, but no definitions are shared"},
		"a limit that makes all stale":     {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.kill_ttl": "3s"}, "has to be less than stale_after, 3s"},
		"a lower staleness":                {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "stale_after": "2s"}, "definition_cache.kill_ttl is 2s, but"},
		"a limit that nobody can keep":     {map[string]string{"upstream": "http://far:1", "definition_cache.redis": "redis://h", "definition_cache.kill_ttl": "300ms"}, "400ms at least"},
		"what cannot be read beside it":    {map[string]string{"upstream": "://", "database": "memory:"}, "--upstream is"},
		"no colour":                        {map[string]string{"environment_color": "#12"}, "which is no colour"},
		"an environment of no name":        {map[string]string{"environment": ""}, "it cannot be empty"},
		"a line break":                     {map[string]string{"data": "a\nb"}, "a line break"},
		"a duration without a unit":        {map[string]string{"cache.flag_ttl": "30"}, "which has no unit. Write one behind it, like 30s"},
		"a duration below nought":          {map[string]string{"cache.flag_ttl": "-5s"}, "it has to be 1ms at least"},
		"a duration of a century":          {map[string]string{"cache.flag_ttl": "876000h"}, "a year at most"},
		"staleness before the first beats": {map[string]string{"stale_after": "500ms"}, "it has to be 2s at least"},
		"no entries":                       {map[string]string{"cache.override_max_entries": "0"}, "a whole number from 1"},
	} {
		problems := problemsOf(t, Roads{Flags: row.flags})
		if row.want == "" && len(problems) > 0 || row.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], row.want)) {
			t.Errorf("%s: %q, want %q", name, problems, row.want)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"BUNTING_SERVE_CACHE_KILLTTL=1s":                    "Did you mean BUNTING_SERVE_CACHE_KILL_TTL?",
		"BUNTING_SERVE_listen=x":                            "Did you mean BUNTING_SERVE_LISTEN?",
		"BUNTING_SERVE_=x":                                  "there is no such setting",
		"BUNTING_SERVE_XYZZY_FROTZ=x":                       "there is no such setting",
		"BUNTING_SERVE_SERVICE_HOST=10.0.0.1":               "set enableServiceLinks: false",
		"BUNTING_SERVE_PORT=tcp://10.0.0.1:8980":            "set enableServiceLinks: false",
		"BUNTING_SERVE_PORT_8980_TCP_ADDR=10.0.0.1":         "set enableServiceLinks: false",
		"BUNTING_SERVE_PORT=8980":                           "there is no such setting",
		"BUNTING_SERVER_LISTEN=x":                           "",
		"BUNTING_ENDPOINT=x":                                "",
		"BUNTING_SERVE_DATABASE=postgres://a:hunter2@[h/db": "a URL that cannot be read",
	} {
		problems := problemsOf(t, Roads{Environment: []string{entry}})
		if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.Contains(problems[0], want) || strings.Contains(problems[0], "hunter2")) {
			t.Errorf("%s: %q", entry, problems)
		}
	}
}

func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, text := range []string{
		"postgres://app:hunter2@db/flags", "postgres://app@db/flags?password=hunter2", "postgres:///flags?host=/run&sslpassword=hunter2",
		"postgres://app:hunter2@[db/flags", "postgres://app:hunter2#x@db", "postgres:/app:hunter2@db", "app:hunter2@db", "host=db password=hunter2",
		"mysql://root:hunter2@db", "postgresql://app:hunter2@db:5432/flags?sslmode=require",
	} {
		s, err := Read(Roads{Flags: map[string]string{"database": text}})
		said := fmt.Sprint(err)
		if err == nil {
			var out strings.Builder
			if err := s.Print(&out); err != nil {
				t.Fatal(err)
			}
			json, _ := s.Database.MarshalText()
			said = out.String() + fmt.Sprintf("%v %+v %#v", s.Database, s.Database, s.Database) + string(json)
			if !strings.Contains(said, mask) || s.Database.Source() != text {
				t.Errorf("%s: %s", text, said)
			}
		}
		if strings.Contains(said, secret) {
			t.Errorf("%s is told: %s", text, said)
		}
	}
	for _, text := range []string{"redis://:hunter2@h", "rediss://app:hunter2@h:1/2", "unix://app:hunter2@/run/redis", "redis://:hunter2@[h", "redis:hunter2@h", "redis://h/hunter2@x", "redis://ci:47#hunter2@x", "redis://ci:47@hunter2#11@x", "redis://ci:47@hunter2/11@x", "unix://ci:47@hunter2/11@/run/redis", "http://app:hunter2@h", "app:hunter2@h"} {
		s, err := Read(Roads{Flags: map[string]string{"upstream": "http://far:1", "definition_cache.redis": text}})
		said := fmt.Sprint(err)
		if err == nil {
			json, _ := s.DefinitionCache.Redis.MarshalText()
			said = printed(t, s) + fmt.Sprintf("%v %+v %#v", s.DefinitionCache, s.DefinitionCache, s.DefinitionCache.Redis) + string(json)
			if !strings.Contains(said, mask) || s.DefinitionCache.Redis.URL() != text {
				t.Errorf("%s: %s", text, said)
			}
		}
		if strings.Contains(said, secret) {
			t.Errorf("%s is told: %s", text, said)
		}
	}
	for _, text := range []string{"http://app:hunter2@far:1", "http://hunter2@far:1", "app:hunter2@far", "http://far?token=hunter2"} {
		if problems := problemsOf(t, Roads{Flags: map[string]string{"upstream": text}}); len(problems) != 1 || strings.Contains(problems[0], secret) {
			t.Errorf("%s: %q", text, problems)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	large := filepath.Join(folder, "large.yaml")
	if err := os.WriteFile(large, slices.Repeat([]byte("# a line\n"), maxFileBytes/8), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "no.yaml"): "read the configuration: open " + folder,
		folder:                           "is a directory. Name a YAML file that can be read with --config",
		large:                            "more than 1048576 bytes",
	} {
		if problems := problemsOf(t, Roads{File: path}); len(problems) != 1 || !strings.Contains(problems[0], want) {
			t.Errorf("%s: %q", path, problems)
		}
	}
}
