package configuration

import "fmt"

// Origin is where a setting was written.
type Origin struct {
	name string // a file, a variable, a flag with its dashes; "" for a default
	line int    // in the file; 0 elsewhere
}

// IsDefault reports whether the setting was written nowhere.
func (o Origin) IsDefault() bool { return o.name == "" }

// String gives "default", "bunting.yaml:3", "BUNTING_SERVE_LISTEN" or "--listen".
func (o Origin) String() string {
	switch {
	case o.IsDefault():
		return "default"
	case o.line > 0:
		return fmt.Sprintf("%s:%d", o.name, o.line)
	}
	return o.name
}

// written is the text of a setting as it was written.
type written struct {
	text   string
	origin Origin
}

// Subject names a setting as whoever wrote it knows it.
func (s *Settings) Subject(key string) string {
	switch o := s.Origin(key); {
	case o.IsDefault():
		return key
	case o.line > 0:
		return o.String() + ": " + key
	default:
		return o.String()
	}
}
