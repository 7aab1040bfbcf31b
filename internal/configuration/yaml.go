package configuration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parse reads a configuration file: a mapping of settings, some of them below a
// section. What it finds wrong names the line. An empty file sets nothing.
func parse(path string, content []byte) (map[string]written, []string) {
	d := &document{path: path, found: map[string]written{}}
	root := d.read(content)
	if root == nil {
		return nil, d.problems
	}
	if root.Kind != yaml.MappingNode {
		d.wrongf(root, "the configuration is %s, but settings are expected, like listen: %s", described(root), DefaultListen)
		return nil, d.problems
	}
	d.mapping(root, "")
	return d.found, d.problems
}

// document is a configuration file while it is read.
type document struct {
	path     string
	found    map[string]written
	problems []string
}

func (d *document) wrongf(at *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, fmt.Sprintf("%s:%d: ", d.path, max(1, at.Line))+fmt.Sprintf(format, args...))
}

// read gives what the one document holds; nil when there is nothing, or nothing
// that can be read.
func (d *document) read(content []byte) *yaml.Node {
	if len(content) > maxFileBytes {
		d.problems = append(d.problems, fmt.Sprintf("%s: the configuration has more than %d bytes. Is it the right file?", d.path, maxFileBytes))
		return nil
	}
	for i, line := range bytes.Split(content, []byte("\n")) {
		at := &yaml.Node{Line: i + 1}
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		switch {
		case !utf8.Valid(line):
			d.wrongf(at, "there are bytes that are no UTF-8. Save the file as UTF-8")
		case bytes.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\r' }):
			d.wrongf(at, "there is a control character. Remove it")
		case bytes.ContainsRune(indent, '\t') && len(indent) < len(line):
			d.wrongf(at, "the line is indented with a tab. YAML wants spaces")
		}
	}
	if len(d.problems) > 0 {
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first, second yaml.Node
	if err := decoder.Decode(&first); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err, content)
		}
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		d.wrongf(&second, "a second document begins. Write all settings in one")
	case !errors.Is(err, io.EOF):
		d.syntax(err, content)
	}
	if len(first.Content) == 0 || first.Content[0].Tag == yamlNull {
		return nil
	}
	return first.Content[0]
}

var (
	yamlLine     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAlias = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntax tells what the YAML reader says. It counts its lines in two ways: the
// errors of its scanner from one, those of its parser from nought; on the first
// line it names none.
func (d *document) syntax(err error, content []byte) {
	line, reason := 1, err.Error()
	if m := yamlLine.FindStringSubmatch(reason); m != nil {
		reason = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
			if strings.HasPrefix(reason, "did not find expected") {
				line++
			}
		}
	}
	if m := unknownAlias.FindStringSubmatch(reason); m != nil {
		if i := bytes.Index(content, []byte("*"+m[1])); i >= 0 {
			line = 1 + bytes.Count(content[:i], []byte("\n"))
		}
	}
	d.wrongf(&yaml.Node{Line: line}, "this is no YAML: %s", reason)
}

// mapping reads settings, or those of a section, whose name with its dot is the
// prefix.
func (d *document) mapping(node *yaml.Node, prefix string) {
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Anchor != "" {
			d.wrongf(name, "the name of a setting is expected, but %s is found", described(name))
			continue
		}
		key := prefix + name.Value
		if before, twice := lines[key]; twice {
			d.wrongf(name, "%s is set twice, first in line %d. Remove one of the two", shownKey(key), before)
			continue
		}
		lines[key] = name.Line
		d.entry(name, key, prefix, value)
	}
}

func (d *document) entry(name *yaml.Node, key, prefix string, value *yaml.Node) {
	at := slices.IndexFunc(table, func(s Setting) bool { return s.Key == key })
	section := prefix == "" && !strings.Contains(key, ".") && slices.ContainsFunc(table, func(s Setting) bool { return strings.HasPrefix(s.Key, key+".") })
	switch {
	case value.Kind == yaml.AliasNode || value.Anchor != "":
		d.wrongf(value, "%s has an anchor or an alias of YAML. Write the value itself", shownKey(key))
	case at >= 0 && prefix == "" && strings.Contains(key, "."):
		above, below, _ := strings.Cut(key, ".")
		d.wrongf(name, "%s stands in one line. Write %s: and, indented in the line below it, %s:", key, above, below)
	case at >= 0:
		d.setting(table[at], value)
	case section && value.Kind == yaml.MappingNode:
		d.mapping(value, key+".")
	case section && value.Tag == yamlNull: // all of it is commented out
	case section:
		d.wrongf(value, "%s is %s, but settings are expected, indented in the lines below it", key, described(value))
	default:
		d.wrongf(name, "there is no setting %s%s", shownKey(key), nearestKey(key, name.Value))
	}
}

func (d *document) setting(s Setting, value *yaml.Node) {
	text := value.Value
	tag := value.ShortTag()
	switch {
	case value.Kind != yaml.ScalarNode:
		d.wrongf(value, "%s is %s, but one value is expected (%s)", s.Key, described(value), s.Kind)
		return
	case tag == yamlNull:
		d.wrongf(value, "%s has no value. Write one (%s), or remove the line", s.Key, s.Kind)
		return
	case tag == s.yaml:
	case tag == yamlBool && strings.Contains(s.Kind, "off"):
		// Many writers of YAML take a bare off for false.
		on, _ := strconv.ParseBool(strings.ToLower(text)) // the tag says that it is one
		text = map[bool]string{true: "on", false: "off"}[on]
	case s.yaml == yamlString && s.Kind == "duration":
		d.wrongf(value, "%s is %s without a unit. Write one behind it, like 30s", s.Key, described(value))
		return
	case s.yaml == yamlString:
		d.wrongf(value, "%s is %s, but %s is expected. If it is meant, write it in quotes", s.Key, described(value), s.Kind)
		return
	default:
		d.wrongf(value, "%s is %s, but a %s is expected, without quotes", s.Key, described(value), s.Kind)
		return
	}
	d.found[s.Key] = written{text, Origin{d.path, max(1, value.Line)}}
}

// described says what a node is. A text is not repeated: it may be a secret.
func described(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	default:
	}
	switch tag := n.ShortTag(); tag {
	case yamlNull:
		return "nothing"
	case yamlInt, "!!float":
		return "a number"
	case yamlBool:
		return "true or false"
	case yamlString:
		return "a text"
	case "!!timestamp":
		return "a date"
	default:
		return "a value of another type"
	}
}

// maxShownKey bounds how much of what stands where a key should be is repeated.
const maxShownKey = 60

func shownKey(key string) string {
	if len(key) > maxShownKey {
		key = strings.ToValidUTF8(key[:maxShownKey], "") + "…"
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return strconv.Quote(key)
	}
	return key
}

// nearestKey suggests what was meant by a key that there is not: the setting of
// another section with that name, else the most similar one.
func nearestKey(key, name string) string {
	keys := make([]string, len(table))
	for i, s := range table {
		keys[i] = s.Key
		if strings.HasSuffix(s.Key, "."+name) {
			return ". Did you mean " + s.Key + "?"
		}
	}
	return didYouMean(key, keys)
}
