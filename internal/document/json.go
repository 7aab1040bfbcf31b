package document

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// fromJSON gives a document in JSON as the nodes that it is in YAML. JSON is nearly
// a part of YAML, but YAML has neither its pairs of escapes (\ud83d\ude00) nor its
// tabs between values, and bounds the length of names. ok is false for what is no
// JSON: YAML's reader says why.
func fromJSON(content []byte) (root *yaml.Node, ok bool) {
	if len(content) > MaxBytes || !bytes.HasPrefix(bytes.TrimLeft(content, " \t\r\n"), []byte("{")) || !utf8.Valid(content) || !json.Valid(content) {
		return nil, false
	}
	n := nodes{content: content, decoder: json.NewDecoder(bytes.NewReader(content)), line: 1}
	n.decoder.UseNumber()
	root = n.next()
	return root, root != nil
}

// nodes reads valid JSON as nodes of YAML.
type nodes struct {
	content []byte
	decoder *json.Decoder
	counted int // bytes whose lines are counted
	line    int
}

// next gives the next value; nil at the end of the list or object around it.
func (n *nodes) next() *yaml.Node {
	token, err := n.decoder.Token()
	if err != nil {
		return nil // cannot be: it is valid
	}
	to := int(n.decoder.InputOffset())
	n.line += bytes.Count(n.content[n.counted:to], []byte("\n"))
	n.counted = to
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: n.line}
	switch t := token.(type) {
	case json.Delim:
		switch t {
		case '{':
			node.Kind = yaml.MappingNode
		case '[':
			node.Kind = yaml.SequenceNode
		default:
			return nil
		}
		for child := n.next(); child != nil; child = n.next() {
			node.Content = append(node.Content, child)
		}
	case string:
		node.Tag, node.Style, node.Value = yamlfile.String, yaml.DoubleQuotedStyle, t
	case json.Number:
		node.Value = t.String()
	case bool:
		node.Tag, node.Value = yamlfile.Bool, map[bool]string{true: "true", false: "false"}[t]
	default:
		node.Tag, node.Value = yamlfile.Null, "null"
	}
	return node
}
