package document

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// declaration is what a document says of one flag.
type declaration struct {
	r      *reader
	of     string // the flag, for messages
	name   *yaml.Node
	fields map[string]*yaml.Node
}

// scalar gives the text of a field that is one value of the YAML type.
func (d declaration) scalar(field, tag, expected string) (text string, ok bool) {
	n, ok := d.fields[field]
	if !ok {
		return "", false
	}
	return d.one(n, field, tag, expected)
}

func (d declaration) one(n *yaml.Node, what, tag, expected string) (text string, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != tag || number(n) {
		d.r.Wrongf(n, "%s: %s is %s, but %s is expected", d.of, what, described(n), expected)
		return "", false
	}
	return n.Value, true
}

func (d declaration) text(field string) string {
	text, _ := d.scalar(field, yamlfile.String, "a text, in quotes,")
	return text
}

func (d declaration) texts(field string) (texts []string) {
	list, ok := d.fields[field]
	if !ok || !d.r.is(list, d.of+": "+field, yaml.SequenceNode, "a list of texts") {
		return nil
	}
	for _, n := range list.Content {
		if !d.r.plain(n, d.of+": "+field) {
			continue
		}
		if text, ok := d.one(n, "one of "+field, yamlfile.String, "a text, in quotes,"); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

// values reads the type, which follows from both values where it is not said, and
// the values.
func (d declaration) values(f *flag.Flag) {
	before := len(d.r.Problems)
	name, typed := d.scalar("type", yamlfile.String, "the name of a type")
	defaultValue, value := d.json("default_value"), d.json("value")
	if len(d.r.Problems) > before {
		return
	}
	var err error
	switch {
	case typed:
		f.Type, err = flag.ParseType(name)
	case defaultValue == "":
		f.Type = flag.Bool // any: the rule that is broken is that it has no default value
		return
	default:
		f.Type, err = flag.InferType(0, defaultValue, value)
	}
	if err != nil {
		d.refuse(err)
		return
	}
	for _, v := range []struct {
		field, text string
		to          *flag.Value
	}{{"default_value", defaultValue, &f.Default}, {"value", value, &f.Value}} {
		if v.text != "" {
			*v.to, err = flag.ParseValue(f.Type, v.text)
			d.refuse(flag.In(v.field, err))
		}
	}
	list, ok := d.fields["allowed_values"]
	if !ok || !d.r.is(list, d.of+": allowed_values", yaml.SequenceNode, "a list of values") {
		return
	}
	for _, n := range list.Content {
		if text := d.written(n, "allowed_values"); text != "" {
			v, err := flag.ParseValue(f.Type, text)
			if err = flag.In("allowed_values", err); err != nil {
				d.r.refuse(d.of, nil, n, err)
			}
			f.AllowedValues = append(f.AllowedValues, v)
		}
	}
}

func (d declaration) refuse(err error) { d.r.refuse(d.of, d.fields, d.name, err) }

// json gives the exact JSON text of a field; "" where nothing is said, or
// something is wrong and told.
func (d declaration) json(field string) string {
	n, ok := d.fields[field]
	if !ok {
		return ""
	}
	return d.written(n, field)
}

func (d declaration) written(n *yaml.Node, field string) string {
	before := len(d.r.Problems)
	var out strings.Builder
	d.write(&out, n, field, 0)
	if len(d.r.Problems) > before {
		return ""
	}
	return out.String()
}

// write writes a value as JSON. Numbers keep the text that they have in the
// document, or 2^53+1 would become another one.
func (d declaration) write(out *strings.Builder, n *yaml.Node, field string, depth int) {
	what := d.of + ": " + field
	if !d.r.plain(n, what) {
		return
	}
	if depth > flag.MaxJSONDepth {
		d.r.Wrongf(n, "%s nests deeper than %d levels. Flatten it", what, flag.MaxJSONDepth)
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, element := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			d.write(out, element, field, depth+1)
		}
		out.WriteByte(']')
	case yaml.MappingNode:
		out.WriteByte('{')
		first := true
		for m := range d.r.members(n, what) {
			if !first {
				out.WriteByte(',')
			}
			first = false
			writeString(out, m.name.Value)
			out.WriteByte(':')
			d.write(out, m.value, field, depth+1)
		}
		out.WriteByte('}')
	default:
		d.writeScalar(out, n, what)
	}
}

var (
	// numeric is what people write who mean a number, as YAML has it in decimal.
	numeric = regexp.MustCompile(`^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$`)
	// ofJSON is a number of JSON (RFC 8259 section 6).
	ofJSON = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$`)
	// formerBools are those of YAML 1.1, which are texts since.
	formerBools = []string{"yes", "no", "on", "off"}
)

// number reports whether the scalar is a number. YAML's reader takes those that
// it cannot hold, like 1e400, for texts.
func number(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Style != 0 {
		return false
	}
	tag := n.ShortTag()
	return tag == yamlfile.Int || tag == yamlfile.Float || numeric.MatchString(n.Value)
}

func (d declaration) writeScalar(out *strings.Builder, n *yaml.Node, what string) {
	tag := n.ShortTag()
	switch {
	case number(n) && ofJSON.MatchString(n.Value):
		out.WriteString(n.Value)
	case number(n):
		d.r.Wrongf(n, "%s is %s, a number that JSON does not have. Write it in decimal, like 0.5 or 10, or in quotes if it is a text", what, flag.Shorten(n.Value))
	case tag == yamlfile.Bool:
		out.WriteString(strings.ToLower(n.Value))
	case tag == yamlfile.Null:
		out.WriteString("null")
	case tag != yamlfile.String:
		d.r.Wrongf(n, "%s is %s, which no flag can hold. Write it in quotes", what, described(n))
	case n.Style == 0 && slices.Contains(formerBools, strings.ToLower(n.Value)):
		d.r.Wrongf(n, "%s is %s, which some readers of YAML take for true or false, and others for a text. Write true, false, or \"%s\"", what, n.Value, n.Value)
	default:
		writeString(out, n.Value)
	}
}

func writeString(out *strings.Builder, text string) {
	encoded, err := json.Marshal(text)
	if err != nil {
		encoded = []byte(`""`) // cannot be: every text is a JSON string
	}
	out.Write(encoded)
}
