package configuration

import (
	"strings"
	"testing"
)

func TestMistakesInAFileNameTheLine(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n":      "f:2: listen is set twice, first in line 1",
		"cache:\n  kill_ttl: 1s\n  kill_ttl: 2s\n":        "f:3: cache.kill_ttl is set twice, first in line 2",
		"cache:\n  kill_ttl: 1s\ncache:\n  flag_ttl: 2s":  "f:3: cache is set twice",
		"environment: a\nlisen: x\n":                      "f:2: there is no setting lisen. Did you mean listen?",
		"flag_ttl: 30s\n":                                 "f:1: there is no setting flag_ttl. Did you mean cache.flag_ttl?",
		"cache.kill_ttl: 30s\n":                           "f:1: cache.kill_ttl stands in one line. Write cache: and, indented in the line below it, kill_ttl:",
		"cache:\n  xyzzyfrotz: 1\n":                       "f:2: there is no setting cache.xyzzyfrotz",
		"listen:\n  host: x\n":                            "f:2: listen is a mapping, but one value is expected (host:port)",
		"data: [a, b]\n":                                  "f:1: data is a list, but one value is expected (path)",
		"cache: 5\n":                                      "f:1: cache is a number, but settings are expected",
		"environment: 5\n":                                "f:1: environment is a number, but a text is expected (name). If it is meant, write it in quotes",
		"environment: true\n":                             "f:1: environment is true or false",
		"environment: 2026-01-01\n":                       "f:1: environment is a date",
		"environment:\n":                                  "f:1: environment has no value",
		"environment: !secret x\n":                        "f:1: environment is a value of another type",
		"cache:\n  kill_ttl: 30\n":                        "f:2: cache.kill_ttl is a number without a unit. Write one behind it, like 30s",
		"cache:\n  jitter_percent: \"20\"\n":              "f:2: cache.jitter_percent is \"20\", but a whole number is expected, without quotes",
		"allow_plaintext: yes please\n":                   "f:1: allow_plaintext is \"yes please\", but true or false is expected",
		"cache:\n  jitter_percent: 1.5\n":                 "f:2: cache.jitter_percent is \"1.5\", but a whole number is expected",
		"anonymous: true\n":                               "f:1: anonymous is true, but off or evaluate is expected",
		"? [a]\n: b\n":                                    "f:1: the name of a setting is expected, but a list is found",
		"- listen\n":                                      "f:1: the configuration is a list, but settings are expected",
		"just words\n":                                    "f:1: the configuration is a text, but settings are expected",
		"listen: 127.0.0.1:1\n---\nenvironment: x\n":      "f:2: a second document begins",
		"listen: 127.0.0.1:1\n---\n\tx\n":                 "f:3: the line is indented with a tab",
		"cache:\n\tkill_ttl: 1s\n":                        "f:2: the line is indented with a tab. YAML wants spaces",
		"a: &a [x]\nb: [*a, *a]\n":                        "f:1: a has an anchor or an alias",
		"environment: &e x\n":                             "f:1: environment has an anchor or an alias",
		"environment: x\ndata: *e\n":                      "f:2: this is no YAML: unknown anchor 'e' referenced",
		"cache: &c\n  kill_ttl: 1s\ndatabase_pool: *c\n":  "f:1: cache has an anchor or an alias",
		"<<: {listen: x}\n":                               "f:1: there is no setting <<",
		"listen: 127.0.0.1:1\nenvironment: \xff\xfe\n":    "f:2: there are bytes that are no UTF-8",
		"\xff\xfel\x00i\x00":                              "f:1: there are bytes that are no UTF-8",
		"listen: 127.0.0.1:1\nenvironment: \x07\n":        "f:2: there is a control character",
		"environment: x\ndata: [1,2\nlisten: 3\n":         "f:2: this is no YAML: did not find expected ',' or ']'",
		"environment: x\ndata: y\n}\n":                    "f:3: this is no YAML: did not find expected key",
		"environment: x\n data: y\n":                      "f:2: this is no YAML: mapping values are not allowed",
		"environment: @x\n":                               "f:1: this is no YAML: found character that cannot start any token",
		"environment: x\ndata: \"never ends\n":            "f:2: this is no YAML: found unexpected end of stream",
		"x: 1\n" + strings.Repeat("[", 20_000) + "\n":     "this is no YAML",
		"\"a\\nb\": 1\n":                                  "f:1: there is no setting \"a\\nb\"",
		strings.Repeat("k", 500) + ": 1\n":                "f:1: there is no setting " + strings.Repeat("k", 60) + "…",
		strings.Repeat("environment: x\n", 100_000):       "more than 1048576 bytes",
		"database: {user: app, password: hunter2}\n":      "f:1: database is a mapping",
		"upstream_token_file: x\nupstream_tokn_file: y\n": "f:2: there is no setting upstream_tokn_file. Did you mean upstream_token_file?",
	} {
		_, problems := parse("f", []byte(content))
		shown := content[:min(len(content), 60)]
		if len(problems) == 0 || !strings.Contains(problems[0], want) {
			t.Errorf("%q: %q, want %q", shown, problems, want)
		}
		if strings.Contains(strings.Join(problems, ""), "hunter2") {
			t.Errorf("%q: a secret is told: %q", shown, problems)
		}
	}
}

func TestFilesThatAreRight(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]map[string]string{
		"":                                nil,
		"# nothing but a comment\n":       nil,
		"---\n":                           nil,
		"cache:\n  # kill_ttl: 1s\n":      nil,
		"\ufefflisten: 127.0.0.1:1\r\n":   {"listen": "127.0.0.1:1"},
		"admin: off\nanonymous: false\n":  {"admin": "off", "anonymous": "off"},
		"admin: true\n":                   {"admin": "on"},
		"data: \"\"\n":                    {"data": ""},
		"allow_plaintext: True\n":         {"allow_plaintext": "True"},
		"{cache: {flag_max_entries: 7}}":  {"cache.flag_max_entries": "7"},
		"environment: |-\n  a\n":          {"environment": "a"},
		"listen: :8980\t# tabs between\n": {"listen": ":8980"},
	} {
		found, problems := parse("f", []byte(content))
		if len(problems) > 0 || len(found) != len(want) {
			t.Errorf("%q: %v %q", content, found, problems)
		}
		for key, text := range want {
			if found[key].text != text {
				t.Errorf("%q: %s is %q", content, key, found[key].text)
			}
		}
	}
}

// Whatever a file holds is either read or refused with its line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"listen: 127.0.0.1:1\ncache:\n  kill_ttl: 30s\n", "a: &a [*a]\n", "? {}\n: x\n", "- 1\n", "x: !!binary aGk=\n", "---\n---\n", "\t", "{", "cache: {kill_ttl: 1s, <<: 2}",
		"admin: off", "\ufeff", "%YAML 1.1\n---\nlisten: x", "a: |\n  b\n c", "'", "\"\\u0000\": 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		found, problems := parse("f.yaml", content)
		for key, w := range found {
			if !strings.HasPrefix(w.origin.String(), "f.yaml:") {
				t.Errorf("%s comes from %s", key, w.origin)
			}
		}
		for _, p := range problems {
			if !strings.HasPrefix(p, "f.yaml:") || strings.Contains(p, "\n") {
				t.Errorf("a problem without its line, or of many: %q", p)
			}
		}
	})
}
