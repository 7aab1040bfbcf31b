package configuration

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes what is in force and where each setting comes from, as a file
// that could be read again. Secrets are left out: such a setting is a comment, as
// are those that are not set and those that do not apply.
func (s *Settings) Print(to io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "# mode: %s\n", s.Mode())
	group, section := "", ""
	for _, setting := range table {
		if setting.Group != group {
			group = setting.Group
			fmt.Fprintf(&text, "\n# %s\n", group)
		}
		above, name, nested := strings.Cut(setting.Key, ".")
		if !nested {
			above, name = "", setting.Key
		}
		if above != section && above != "" {
			fmt.Fprintf(&text, "%s:\n", above)
		}
		section = above
		if nested {
			text.WriteString("  ")
		}
		value, comment := s.printed(setting)
		if comment {
			text.WriteString("# ")
		}
		fmt.Fprintf(&text, "%s: %s  # %s\n", name, value, s.provenance(setting))
	}
	_, err := io.WriteString(to, text.String())
	return err
}

// printed gives the setting as a scalar of YAML, and whether it has to be a
// comment.
func (s *Settings) printed(setting Setting) (value string, comment bool) {
	text := s.written[setting.Key].text
	shown := setting.show(text)
	if b, err := strconv.ParseBool(text); err == nil && setting.IsBool() {
		shown = strconv.FormatBool(b) // 1 and t are written too
	}
	scalar, err := yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: setting.yaml, Value: shown})
	if err != nil {
		scalar = []byte(strconv.Quote(shown))
	}
	return strings.TrimSpace(string(scalar)), text == "" || setting.show(text) != text || !s.applies(setting) || s.rests(setting)
}

// rests reports whether the setting applies because of one whose secret is left
// out: read back without that, it would be a contradiction.
func (s *Settings) rests(setting Setting) bool {
	if setting.only == nil || setting.only == withoutUpstream || setting.only == withoutMemory {
		return false
	}
	i := slices.IndexFunc(table, func(other Setting) bool { return other.Key == setting.only.cause })
	text := s.written[setting.only.cause].text
	return table[i].show(text) != text || s.rests(table[i])
}

// provenance says where a setting comes from, and why it is a comment.
func (s *Settings) provenance(setting Setting) string {
	text := s.written[setting.Key].text
	from := s.Origin(setting.Key).String()
	switch {
	case !s.applies(setting):
		return "does not apply"
	case s.rests(setting):
		return from + "; goes with " + setting.only.cause
	case setting.show(text) != text:
		return from + "; holds a secret, which is left out"
	case text == "":
		return from + ": none"
	}
	return from
}
