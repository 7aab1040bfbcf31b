package configuration

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func printed(t interface{ Fatal(args ...any) }, s *Settings) string {
	var out strings.Builder
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrint(t *testing.T) {
	t.Parallel()
	path := file(t, "cache:\n  kill_ttl: 10s\nallow_plaintext: true\n")
	s, err := Read(Roads{File: path, Environment: []string{"BUNTING_SERVE_ENVIRONMENT=true"}, Flags: map[string]string{"database": "postgres://app:hunter2@db/flags", "environment_color": "#abc"}})
	if err != nil {
		t.Fatal(err)
	}
	text := printed(t, s)
	for _, want := range []string{
		"# mode: combined\n", "\nlisten: 127.0.0.1:8980  # default\n", "\n# admin_listen: \"\"  # default: none\n", "\nallow_plaintext: true  # " + path + ":3\n",
		"\n# database: postgres://app:xxxxx@db/flags  # --database; holds a secret, which is left out\n", "\ndatabase_pool:\n  # max_connections: 10  # default; goes with database\n",
		"\nenvironment: \"true\"  # BUNTING_SERVE_ENVIRONMENT\n", "\nenvironment_color: '#abc'  # --environment-color\n", "\ncache:\n  kill_ttl: 10s  # " + path + ":2\n",
		"\n# descriptor_poll: 30s  # does not apply\n", "\nadmin: on  # default\n", "\n# data: \"\"  # default: none\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if _, err := Read(Roads{File: file(t, text)}); err != nil {
		t.Errorf("what was printed is refused: %v", err)
	}
	for _, setting := range Table() {
		_, name, ok := strings.Cut(setting.Key, ".")
		if !ok {
			name = setting.Key
		}
		if !strings.Contains(text, name+": ") {
			t.Errorf("%s is missing", setting.Key)
		}
	}
}

// What is printed is read again as the same settings, but for secrets.
func TestWhatIsPrintedCanBeRead(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	texts := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9 #:'"\-\[\]{}&*!|>%@~,?]{1,12}`), rapid.SampledFrom([]string{"true", "null", "~", "5", "0x1", "1e3", "- a", "a: b", "off", "", "é ü", "2026-01-01", "=", "<<"}))
	rapid.Check(t, func(t *rapid.T) {
		flags := map[string]string{}
		for _, s := range table {
			if rapid.Bool().Draw(t, s.Key+" is set") {
				switch s.Kind {
				case "path", "name":
					flags[s.Key] = texts.Draw(t, s.Key)
				case "bool":
					flags[s.Key] = rapid.SampledFrom([]string{"1", "t", "true", "FALSE"}).Draw(t, s.Key)
				case "number":
					flags[s.Key] = strconv.Itoa(rapid.IntRange(1, 10).Draw(t, s.Key))
				case "duration":
					flags[s.Key] = rapid.SampledFrom([]string{"2s", "0m30s", "1.5h"}).Draw(t, s.Key)
				case "database":
					flags[s.Key] = rapid.SampledFrom([]string{"memory:", "sqlite:x y.db", "postgres://u@h/d?a=b"}).Draw(t, s.Key)
				case "redis":
					flags[s.Key] = rapid.SampledFrom([]string{"redis://h", "rediss://:x@h", "unix:///run/redis"}).Draw(t, s.Key)
				case "url":
					flags[s.Key] = rapid.SampledFrom([]string{"far", "http://far:1/path/", "https://[::1]:7"}).Draw(t, s.Key)
				case "host:port":
					flags[s.Key] = rapid.SampledFrom([]string{"127.0.0.1:0", "[::1]:0"}).Draw(t, s.Key)
				case "colour":
					flags[s.Key] = rapid.SampledFrom([]string{"#123456", "#abc", "red"}).Draw(t, s.Key)
				default: // a choice
					flags[s.Key] = rapid.SampledFrom(strings.Split(s.Kind, "|")).Draw(t, s.Key)
				}
			}
		}
		before, err := Read(Roads{Flags: flags})
		if err != nil {
			return // a contradiction, or a value that is refused
		}
		path := filepath.Join(folder, "printed.yaml")
		if err := os.WriteFile(path, []byte(printed(t, before)), 0o600); err != nil {
			t.Fatal(err)
		}
		after, err := Read(Roads{File: path})
		if err != nil {
			t.Fatalf("%v\n%s", err, printed(t, before))
		}
		before.written, after.written = nil, nil
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%+v\n%+v", *before, *after)
		}
	})
}
