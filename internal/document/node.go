package document

import (
	"iter"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// member is a name of a mapping and what stands behind it.
type member struct{ name, value *yaml.Node }

// members gives those of a mapping that are right by themselves: the name is a
// text and stands there once, and nothing is an anchor, an alias or has a tag of
// YAML, which a reader of JSON would not know.
func (r *reader) members(of *yaml.Node, what string) iter.Seq[member] {
	return func(yield func(member) bool) {
		lines := map[string]int{}
		for i := 0; i+1 < len(of.Content); i += 2 {
			name, value := of.Content[i], of.Content[i+1]
			shown := yamlfile.Shown(name.Value)
			before, twice := lines[name.Value]
			switch {
			case !r.plain(name, "a name in "+what) || !r.is(name, "a name in "+what, yaml.ScalarNode, "a text"):
				continue
			case name.ShortTag() != yamlfile.String || number(name):
				r.Wrongf(name, "%s has the name %s, which is %s to YAML. Write it in quotes", what, shown, described(name))
				continue
			case twice:
				r.Wrongf(name, "%s has %s twice, first in line %d. Remove one of the two", what, shown, before)
				continue
			}
			lines[name.Value] = max(1, name.Line)
			if r.plain(value, shown+" of "+what) && !yield(member{name, value}) {
				return
			}
		}
	}
}

// fields gives what is said of the known fields: null says nothing, as it does in
// a configuration. Others are refused.
func (r *reader) fields(of *yaml.Node, what string, known []string) map[string]*yaml.Node {
	found := map[string]*yaml.Node{}
	for m := range r.members(of, what) {
		field := ""
		for _, k := range known {
			if m.name.Value == k {
				field = k
			}
		}
		switch {
		case field == "":
			r.Wrongf(m.name, "%s has no field %s%s", what, yamlfile.Shown(m.name.Value), meant(m.name.Value, known))
		case m.value.ShortTag() != yamlfile.Null:
			found[field] = m.value
		}
	}
	return found
}

// meant is the end of a sentence: the field that was meant, else all there are.
func meant(name string, known []string) string {
	if near := yamlfile.DidYouMean(name, known); near != "" {
		return near
	}
	return ". Its fields: " + strings.Join(known, ", ")
}

func (r *reader) plain(n *yaml.Node, what string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.Wrongf(n, "%s has an anchor or an alias of YAML. Write the value itself", what)
	case n.Style&yaml.TaggedStyle != 0:
		r.Wrongf(n, "%s has a tag of YAML. Write the value without it", what)
	default:
		return true
	}
	return false
}

func (r *reader) is(n *yaml.Node, what string, kind yaml.Kind, expected string) bool {
	if n.Kind != kind {
		r.Wrongf(n, "%s is %s, but %s is expected", what, described(n), expected)
	}
	return n.Kind == kind
}

// described is yamlfile.Described, but for numbers that its reader cannot hold.
func described(n *yaml.Node) string {
	if number(n) {
		return "a number"
	}
	return yamlfile.Described(n)
}
