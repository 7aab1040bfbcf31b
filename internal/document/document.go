// Package document reads the flag document: a set of flags as people write it, in
// YAML or JSON. On top it has the field flags, a map of flags by key, whose fields
// are named as the attributes of bunting_flag are.
package document

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// MaxBytes bounds a document: some 50,000 flags with all that is known of them.
const MaxBytes = 16 << 20

// Document is a flag document that breaks no rule.
type Document struct {
	Flags []*flag.Flag // normalized, by key

	path  string
	lines map[flag.Key]int
}

// Place says where the flag is declared: path and line.
func (d *Document) Place(key flag.Key) string { return fmt.Sprintf("%s:%d", d.path, d.lines[key]) }

// DocumentErrors are all that is wrong with a document, each led by path and line.
type DocumentErrors []string

// Error tells one mistake in a line, several in a list.
func (m DocumentErrors) Error() string { return yamlfile.Told("the document of flags", m) }

// Read reads the file of the path. The error is of the type DocumentErrors where the
// file could be read, but holds no document.
func Read(path string) (*Document, error) {
	file := documentFile(path)
	content, err := file.Content()
	if err != nil {
		return nil, fmt.Errorf("read the document of flags: %w. Name a YAML or JSON file that can be read", err)
	}
	return Parse(path, content)
}

// Parse reads a document; the path names it in what is wrong, an error of the type
// DocumentErrors.
func Parse(path string, content []byte) (*Document, error) {
	r := &reader{File: documentFile(path), document: &Document{path: path, lines: map[flag.Key]int{}}}
	root, isJSON := fromJSON(content)
	if !isJSON {
		root = r.Root(content)
	}
	switch {
	case len(r.Problems) > 0:
	case root == nil:
		r.Wrongf(&yaml.Node{}, "the document is empty, but the field flags is expected, a map of flags by key. Write flags: {} if there are to be none")
	default:
		r.top(root)
	}
	if len(r.Problems) > 0 {
		return nil, DocumentErrors(r.Problems)
	}
	slices.SortFunc(r.document.Flags, func(a, b *flag.Flag) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return r.document, nil
}

func documentFile(path string) yamlfile.File {
	return yamlfile.File{Path: path, What: "the document of flags", Most: MaxBytes}
}

// reader is a document while it is read.
type reader struct {
	yamlfile.File

	document *Document
}

func (r *reader) top(root *yaml.Node) {
	if !r.is(root, "the document", yaml.MappingNode, "the field flags") {
		return
	}
	fields := r.fields(root, "the document", []string{"flags"})
	flags, ok := fields["flags"]
	switch {
	case !ok:
		if len(r.Problems) == 0 { // else it is a slip, and told
			r.Wrongf(root, "the document has no field flags, where flags are expected by key. Write flags: {} if there are to be none")
		}
	case r.is(flags, "flags", yaml.MappingNode, "a map of flags by key"):
		for m := range r.members(flags, "flags") {
			r.flag(m.name, m.value)
		}
	}
}

// The fields of a flag, in the order in which people are told of them.
var flagFields = []string{"default_value", "value", "type", "enabled", "layer", "allowed_values", "description", "owner", "tags"}

// flag reads a flag and checks every rule that it must keep by itself.
func (r *reader) flag(name, body *yaml.Node) {
	of := flag.FlagRef(flag.Key(flag.Shorten(name.Value))).Name()
	before := len(r.Problems)
	key, err := flag.ParseKey(name.Value)
	r.refuse(of, nil, name, err)
	if !r.is(body, of, yaml.MappingNode, "a map of its fields, default_value at least,") {
		return
	}
	d := declaration{r: r, of: of, name: name, fields: r.fields(body, of, flagFields)}
	f := flag.Flag{
		Key: key, State: flag.Enabled,
		Layer: d.text("layer"), Description: d.text("description"), Owner: d.text("owner"), Tags: d.texts("tags"),
	}
	if on, ok := d.scalar("enabled", yamlfile.Bool, "true or false, without quotes,"); ok && !strings.EqualFold(on, "true") {
		f.State = flag.Default
	}
	d.values(&f)
	if len(r.Problems) > before {
		return
	}
	f = f.Normalize()
	if err := f.Validate(); err != nil {
		r.refuse(of, d.fields, name, err)
		return
	}
	r.document.Flags = append(r.document.Flags, &f)
	r.document.lines[key] = max(1, name.Line)
}

// refuse notes the problem of a rule, at the field that it names, else at the
// flag's name.
func (r *reader) refuse(of string, fields map[string]*yaml.Node, name *yaml.Node, err error) {
	if err == nil {
		return
	}
	at := name
	if p, ok := errors.AsType[*flag.Problem](err); ok && fields[p.Field] != nil {
		at = fields[p.Field]
	}
	r.Wrongf(at, "%s: %s", of, strings.TrimSuffix(err.Error(), "."))
}
