package configuration

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// parse reads a configuration file: a mapping of settings, some of them below a
// section. What it finds wrong names the line. An empty file sets nothing.
func parse(path string, content []byte) (map[string]written, []string) {
	d := &document{File: configurationFile(path), found: map[string]written{}}
	root := d.Root(content)
	if root == nil {
		return nil, d.Problems
	}
	if root.Kind != yaml.MappingNode {
		d.Wrongf(root, "the configuration is %s, but settings are expected, like listen: %s", yamlfile.Described(root), DefaultListen)
		return nil, d.Problems
	}
	d.mapping(root, "")
	return d.found, d.Problems
}

// document is a configuration file while it is read.
type document struct {
	yamlfile.File

	found map[string]written
}

func configurationFile(path string) yamlfile.File {
	return yamlfile.File{Path: path, What: "the configuration", Most: maxFileBytes}
}

// mapping reads settings, or those of a section, whose name with its dot is the
// prefix.
func (d *document) mapping(node *yaml.Node, prefix string) {
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Anchor != "" {
			d.Wrongf(name, "the name of a setting is expected, but %s is found", yamlfile.Described(name))
			continue
		}
		key := prefix + name.Value
		if before, twice := lines[key]; twice {
			d.Wrongf(name, "%s is set twice, first in line %d. Remove one of the two", yamlfile.Shown(key), before)
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
		d.Wrongf(value, "%s has an anchor or an alias of YAML. Write the value itself", yamlfile.Shown(key))
	case at >= 0 && prefix == "" && strings.Contains(key, "."):
		above, below, _ := strings.Cut(key, ".")
		d.Wrongf(name, "%s stands in one line. Write %s: and, indented in the line below it, %s:", key, above, below)
	case at >= 0:
		d.setting(table[at], value)
	case section && value.Kind == yaml.MappingNode:
		d.mapping(value, key+".")
	case section && value.Tag == yamlfile.Null: // all of it is commented out
	case section:
		d.Wrongf(value, "%s is %s, but settings are expected, indented in the lines below it", key, yamlfile.Described(value))
	default:
		d.Wrongf(name, "there is no setting %s%s", yamlfile.Shown(key), nearestKey(key, name.Value))
	}
}

func (d *document) setting(s Setting, value *yaml.Node) {
	text := value.Value
	tag := value.ShortTag()
	switch {
	case value.Kind != yaml.ScalarNode:
		d.Wrongf(value, "%s is %s, but one value is expected (%s)", s.Key, yamlfile.Described(value), s.Kind)
		return
	case tag == yamlfile.Null:
		d.Wrongf(value, "%s has no value. Write one (%s), or remove the line", s.Key, s.Kind)
		return
	case tag == s.yaml:
	case tag == yamlfile.Bool && slices.Contains(strings.Split(s.Kind, "|"), switched(text)):
		text = switched(text)
	case tag == yamlfile.Bool && strings.Contains(s.Kind, "|"):
		d.Wrongf(value, "%s is %s, but %s is expected", s.Key, text, strings.ReplaceAll(s.Kind, "|", " or "))
		return
	case s.yaml == yamlfile.String && s.Kind == "duration":
		d.Wrongf(value, "%s is %s without a unit. Write one behind it, like 30s", s.Key, yamlfile.Described(value))
		return
	case s.yaml == yamlfile.String:
		d.Wrongf(value, "%s is %s, but a text is expected (%s). If it is meant, write it in quotes", s.Key, yamlfile.Described(value), s.Kind)
		return
	default:
		wanted, quoted := "a whole number", ""
		if s.yaml == yamlfile.Bool {
			wanted = "true or false"
		}
		if value.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			quoted = ", without quotes"
		}
		d.Wrongf(value, "%s is %q, but %s is expected%s", s.Key, text, wanted, quoted)
		return
	}
	d.found[s.Key] = written{text, Origin{d.Path, max(1, value.Line)}}
}

// switched gives the word for a boolean: many writers of YAML take a bare off for
// false.
func switched(boolean string) string {
	if on, _ := strconv.ParseBool(strings.ToLower(boolean)); on { // its tag says that it is one
		return "on"
	}
	return "off"
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
	return yamlfile.DidYouMean(key, keys)
}
