package document

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// line gives what a flag is, in one line of JSON without what is empty.
func line(tb testing.TB, f *flag.Flag) string {
	tb.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func TestFlagsThatAreRight(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"default_value: true":                                       `"type":"bool","default_value":true,"enabled":true`,
		"default_value: False\n    enabled: FALSE":                  `"type":"bool","default_value":false,"enabled":false`,
		"default_value: 1\n    value: 2":                            `"type":"int","default_value":1,"value":2,"enabled":true`,
		"default_value: 1\n    value: 0.5":                          `"type":"double","default_value":1,"value":0.5,"enabled":true`,
		"default_value: 1.0\n    value: 1e3":                        `"type":"int","default_value":1,"value":1000,"enabled":true`,
		"default_value: 9007199254740993":                           `"type":"int","default_value":9007199254740993,"enabled":true`,
		"default_value: {n: 9007199254740993, m: 1e400}":            `"type":"json","default_value":{"m":1e+400,"n":9007199254740993},"enabled":true`,
		"default_value: -9223372036854775808":                       `"type":"int","default_value":-9223372036854775808,"enabled":true`,
		"default_value: 9223372036854775808":                        `"type":"double","default_value":9223372036854776000,"enabled":true`,
		"default_value: 1\n    type: double":                        `"type":"double","default_value":1,"enabled":true`,
		"default_value: 'off'\n    value: \"1e400\"":                `"type":"string","default_value":"off","value":"1e400","enabled":true`,
		"default_value: |\n      two\n      lines":                  `"type":"string","default_value":"two\nlines\n","enabled":true`,
		"default_value: [1, null, {a: ~}]":                          `"type":"json","default_value":[1,null,{"a":null}],"enabled":true`,
		"default_value: x\n    value: null\n    owner:":             `"type":"string","default_value":"x","enabled":true`,
		"default_value: b\n    allowed_values: [b, a, b]":           `"type":"string","default_value":"b","enabled":true,"allowed_values":["a","b"]`,
		"default_value: x\n    tags: [z, y, z]\n    layer: tenant":  `"type":"string","default_value":"x","enabled":true,"layer":"tenant","tags":["y","z"]`,
		"default_value: x\n    description: '5'\n    owner: search": `"type":"string","default_value":"x","enabled":true,"description":"5","owner":"search"`,
	} {
		d, err := Parse("f", []byte("flags:\n  a/b:\n    "+body+"\n"))
		if err != nil || len(d.Flags) != 1 {
			t.Errorf("%q: %+v, %v", body, d, err)
			continue
		}
		var got, wanted map[string]any
		if err := errors.Join(exact(line(t, d.Flags[0]), &got), exact(`{"key":"a/b",`+want+`}`, &wanted)); err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(got, wanted, func(a, b any) bool { return text(a) == text(b) }) {
			t.Errorf("%q is\n%s, want\n%s", body, line(t, d.Flags[0]), want)
		}
	}
}

func exact(document string, to any) error {
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.UseNumber()
	return decoder.Decode(to)
}

func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// JSON is read by its own rules, where YAML has others.
func TestJSONIsRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 2000)
	d, err := Parse("f.json", []byte("\n{\n\t\"flags\":{\n\t\t\"b\":{\"default_value\":\"\\ud83d\\ude00\\/\"},\n\t\t\"a\":{\"default_value\":{\""+long+"\":9007199254740993},\"enabled\":false,\"value\":null}\n\t}\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if got := line(t, d.Flags[1]); got != `{"key":"b","type":"string","default_value":"😀/","enabled":true}` {
		t.Error(got)
	}
	if got := d.Flags[0].Default.JSON(); got != `{"`+long+`":9007199254740993}` || d.Flags[0].State != flag.Default {
		t.Error(got)
	}
	if a, b := d.Place("a"), d.Place("b"); a != "f.json:5" || b != "f.json:4" {
		t.Errorf("a stands at %s, b at %s", a, b)
	}
}

func TestNoFlags(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"flags: {}", `{"flags": {}}`} {
		if d, err := Parse("f", []byte(content)); err != nil || len(d.Flags) != 0 {
			t.Errorf("%q: %+v, %v", content, d, err)
		}
	}
}

func TestMistakesNameTheLine(t *testing.T) {
	t.Parallel()
	flags := "flags:\n  a:\n    default_value: "
	for content, want := range map[string]string{
		"":                                              "f:1: the document is empty, but the field flags is expected",
		"flags:\n":                                      "f:1: the document has no field flags",
		"{}":                                            "f:1: the document has no field flags",
		"- a\n":                                         "f:1: the document is a list, but the field flags is expected",
		"flag:\n  a: {default_value: 1}\n":              "f:1: the document has no field flag. Did you mean flags?",
		"flags: [a]\n":                                  "f:1: flags is a list, but a map of flags by key is expected",
		"flags: {}\nnote: x\n":                          "f:2: the document has no field note. Its fields: flags",
		"flags:\n  a: true\n":                           `f:2: flag "a" is true or false`,
		"flags:\n  a:\n":                                `f:2: flag "a" is nothing, but a map of its fields`,
		"flags:\n  a: {}\n":                             `f:2: flag "a": default_value is missing. Every flag needs one`,
		"flags:\n  a b: {default_value: 1}\n":           `f:2: flag "a b": key "a b" has ' ' at byte 2`,
		"flags:\n  7: {default_value: 1}\n":             "f:2: flags has the name 7, which is a number to YAML. Write it in quotes",
		"flags:\n  1e999: {default_value: 1}":           "f:2: flags has the name 1e999, which is a number to YAML",
		"flags:\n  [a]: {default_value: 1}\n":           "f:2: a name in flags is a list, but a text is expected",
		flags + "1\n  a: {default_value: 1}\n":          "f:4: flags has a twice, first in line 2. Remove one of the two",
		flags + "1\n    default_value: 2\n":             `f:4: flag "a" has default_value twice, first in line 3`,
		flags + "1\n    valeu: 2\n":                     `f:4: flag "a" has no field valeu. Did you mean value?`,
		flags + "1\n    deletion_protection: true\n":    `f:4: flag "a" has no field deletion_protection. Its fields: default_value, value,`,
		flags + "{x: 1,\n      x: 2}\n":                 `f:4: flag "a": default_value has x twice, first in line 3`,
		flags + "1e400\n":                               `f:3: flag "a": default_value is 1e+400, outside what a double can hold`,
		flags + "1\n    value: 1e400\n":                 `f:4: flag "a": value is 1e+400, outside what a double can hold`,
		flags + "0x1F\n":                                `f:3: flag "a": default_value is 0x1F, a number that JSON does not have`,
		flags + "010\n":                                 `default_value is 010, a number that JSON does not have`,
		flags + "1_000\n":                               `default_value is 1_000, a number that JSON does not have`,
		flags + ".inf\n":                                `default_value is .inf, a number that JSON does not have`,
		flags + "+.5e400\n":                             `default_value is +.5e400, a number that JSON does not have`,
		flags + "off\n":                                 `default_value is off, which some readers of YAML take for true or false`,
		flags + "2026-01-01\n":                          `default_value is a date, which no flag can hold. Write it in quotes`,
		flags + "!!binary aGk=\n":                       `f:3: default_value of flag "a" has a tag of YAML`,
		flags + "&x 1\n":                                `f:3: default_value of flag "a" has an anchor or an alias of YAML`,
		"flags:\n  a: &x {default_value: 1}\n  b: *x\n": "f:2: a of flags has an anchor or an alias",
		flags + "{<<: {a: 1}}\n":                        `f:3: flag "a": default_value has the name <<`,
		flags + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "\n":        `f:3: flag "a": default_value nests deeper than 64 levels`,
		flags + "3\n    type: string\n":                                         `f:3: flag "a": default_value is a number (3), but the flag is of type string. Write "3"`,
		flags + "blue\n    value: 3\n":                                          `f:4: flag "a": value is a number (3), but the flag is of type string, as its default_value "blue" says`,
		flags + "1\n    type: number\n":                                         `f:4: flag "a": type "number" is not a flag type`,
		flags + "1\n    type: [int]\n":                                          `f:4: flag "a": type is a list, but the name of a type is expected`,
		flags + "1\n    enabled: yes\n":                                         `f:4: flag "a": enabled is a text, but true or false, without quotes, is expected`,
		flags + "1\n    owner: 5\n":                                             `f:4: flag "a": owner is a number, but a text, in quotes, is expected`,
		flags + "1\n    layer: 'a b'\n":                                         `f:4: flag "a": layer is "a b", but a layer starts with a letter`,
		flags + "1\n    tags: x\n":                                              `f:4: flag "a": tags is a text, but a list of texts is expected`,
		flags + "1\n    tags:\n      - x\n      - 1\n":                          `f:6: flag "a": one of tags is a number, but a text, in quotes, is expected`,
		flags + "1\n    allowed_values: 1\n":                                    `f:4: flag "a": allowed_values is a number, but a list of values is expected`,
		flags + "1\n    allowed_values:\n      - 1\n      - x\n":                `f:6: flag "a": allowed_values is a string ("x"), but the flag is of type int`,
		flags + "1\n    allowed_values: [2]\n":                                  `f:3: flag "a": default_value is 1, which is not among the flag's allowed_values: 2`,
		"{\"flags\": {\"a\": {\n\"default_value\": 1,\n\"default_value\": 2}}}": `f:3: flag "a" has default_value twice, first in line 2`,
		"{\"flags\": {\"a\": \n{\"default_value\": 1e400}}}":                    `f:2: flag "a": default_value is 1e+400, outside`,
		"{\"flags\": {\"a\": {\"default_value\": \"\xff\"}}}":                   "f:1: there are bytes that are no UTF-8",
		"{\"flags\": {\n\"a\": {]}":                                             "this is no YAML",
		"flags: {}\n---\nflags: {}\n":                                           "f:2: a second document begins",
		"flags:\n\ta: {}\n":                                                     "f:2: the line is indented with a tab",
		strings.Repeat("#", MaxBytes+1):                                         "f: the document of flags has more than 16777216 bytes",
	} {
		d, err := Parse("f", []byte(content))
		mistakes, ok := errors.AsType[DocumentErrors](err)
		if !ok || d != nil || !strings.Contains(mistakes[0], want) {
			t.Errorf("%q:\n%q, want\n%q", content[:min(len(content), 80)], err, want)
		}
	}
}

func TestAllMistakesAreTold(t *testing.T) {
	t.Parallel()
	_, err := Parse("f", []byte("flags:\n  a: {default_value: 1, valeu: 2, owner: 5}\n  b c: {}\n  d: {default_value: off}\n"))
	want := []string{"f:2: ", "f:2: ", "f:3: ", "f:4: "}
	mistakes, _ := errors.AsType[DocumentErrors](err)
	if !slices.EqualFunc(mistakes, want, strings.HasPrefix) || !strings.HasPrefix(err.Error(), "the document of flags has 4 mistakes:\n  f:2: ") {
		t.Error(err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "flags.yaml")
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "read the document of flags: open "+path) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("flags:\n  a: {default_value: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Read(path); err != nil || len(d.Flags) != 1 || d.Place("a") != path+":2" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Whatever a document holds is either read, and reads the same once it is written
// again, or refused with its line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"flags:\n  a/b:\n    default_value: 1\n    value: 2.5\n    tags: [x]\n", `{"flags":{"a":{"default_value":"\ud83d\ude00","enabled":false}}}`,
		"flags: {a: {default_value: {n: 9007199254740993, l: [1e400, null]}, layer: user}}", "flags: {a: {default_value: b, allowed_values: [b, c], type: string}}",
		"flags: &a [*a]\n", "? {}\n: x\n", "flags: {<<: {}}", "---\n---\n", "\t", "{", "flags: {a: {default_value: !!str 5}}", "flags: {a: {default_value: off}}", "flags:\n  a: |\n    b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		d, err := Parse("f.yaml", content)
		if err != nil {
			mistakes, ok := errors.AsType[DocumentErrors](err)
			if !ok || len(mistakes) == 0 {
				t.Fatalf("%T", err)
			}
			for _, m := range mistakes {
				if !strings.HasPrefix(m, "f.yaml:") || strings.Contains(m, "\n") {
					t.Errorf("a problem without its line, or of many: %q", m)
				}
			}
			return
		}
		again := map[string]map[string]any{}
		for _, one := range d.Flags {
			if err := one.Validate(); err != nil {
				t.Errorf("%s: %v", one.Key, err)
			}
			fields := map[string]any{}
			if err := exact(line(t, one), &fields); err != nil {
				t.Fatal(err)
			}
			delete(fields, "key")
			again[string(one.Key)] = fields
		}
		second, err := Parse("again", []byte(text(map[string]any{"flags": again})))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(d.Flags, second.Flags, (*flag.Flag).SameDefinition) {
			t.Errorf("%q reads as something else once it is written", content)
		}
	})
}
