// Package yamlfile reads a file that people write in YAML, whose mistakes are told
// all together, each with its line.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The types of YAML's scalars, as yaml.Node.ShortTag gives them.
const (
	String = "!!str"
	Int    = "!!int"
	Float  = "!!float"
	Bool   = "!!bool"
	Null   = "!!null"
)

// File is a file while it is read.
type File struct {
	Path     string
	What     string   // what it is to people: "the configuration"
	Most     int      // bytes
	Problems []string // what is wrong with it, each led by path and line
}

// Content reads the file, no more than a byte over the most that it may have.
func (f *File) Content() ([]byte, error) {
	opened, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(opened, int64(f.Most)+1))
}

// Wrongf notes a problem at the node.
func (f *File) Wrongf(at *yaml.Node, format string, args ...any) {
	f.Problems = append(f.Problems, fmt.Sprintf("%s:%d: ", f.Path, max(1, at.Line))+fmt.Sprintf(format, args...))
}

// Root gives what the one document holds; nil when there is nothing, or nothing
// that can be read.
func (f *File) Root(content []byte) *yaml.Node {
	if len(content) > f.Most {
		f.Problems = append(f.Problems, fmt.Sprintf("%s: %s has more than %d bytes. Is it the right file?", f.Path, f.What, f.Most))
		return nil
	}
	for i, line := range bytes.Split(content, []byte("\n")) {
		at := &yaml.Node{Line: i + 1}
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		switch {
		case !utf8.Valid(line):
			f.Wrongf(at, "there are bytes that are no UTF-8. Save the file as UTF-8")
		case bytes.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\r' }):
			f.Wrongf(at, "there is a control character. Remove it")
		case bytes.ContainsRune(indent, '\t') && len(indent) < len(line):
			f.Wrongf(at, "the line is indented with a tab. YAML wants spaces")
		}
	}
	if len(f.Problems) > 0 {
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first, second yaml.Node
	if err := decoder.Decode(&first); err != nil {
		if !errors.Is(err, io.EOF) {
			f.syntax(err, content)
		}
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		f.Wrongf(&second, "a second document begins. Write everything in one")
	case !errors.Is(err, io.EOF):
		f.syntax(err, content)
	}
	if len(first.Content) == 0 || first.Content[0].Tag == Null {
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
func (f *File) syntax(err error, content []byte) {
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
	f.Wrongf(&yaml.Node{Line: line}, "this is no YAML: %s", reason)
}

// Described says what a node is. A text is not repeated: it may be a secret.
func Described(n *yaml.Node) string {
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
	case Null:
		return "nothing"
	case Int, Float:
		return "a number"
	case Bool:
		return "true or false"
	case String:
		return "a text"
	case "!!timestamp":
		return "a date"
	default:
		return "a value of another type"
	}
}

// maxShown bounds how much of what stands where a key should be is repeated.
const maxShown = 60

// Shown gives what stands where a key should be for a message: in quotes where it is
// odd, and cut where it is long.
func Shown(key string) string {
	if len(key) > maxShown {
		key = strings.ToValidUTF8(key[:maxShown], "") + "…"
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return strconv.Quote(key)
	}
	return key
}
