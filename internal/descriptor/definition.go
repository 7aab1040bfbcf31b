// Package descriptor reads the flags that programs have compiled in: those that
// protobuf messages declare with the options of pbflags/options.proto, as a
// FileDescriptorSet tells of them.
package descriptor

import (
	"fmt"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Definition is one flag as it is compiled in. It is shared and never changed.
type Definition struct {
	// Flag has the key, type, default value, allowed values, layer ("" for none),
	// description and owner. It is enabled and has no value, so what it serves is
	// the default.
	Flag    *flag.Flag `json:"flag"`
	Name    string     `json:"name"` // of the field
	Feature Feature    `json:"feature"`
}

// Feature is the message in which a flag is declared.
type Feature struct {
	ID          string `json:"id"`   // the first part of the keys of its flags
	Name        string `json:"name"` // of the message, with its package
	Description string `json:"description,omitempty"`
	Owner       string `json:"owner,omitempty"`
	File        string `json:"file"` // the .proto file
}

// Title names the flag as the source does: Notifications.email.
func (d Definition) Title() string {
	message := d.Feature.Name
	return message[strings.LastIndexByte(message, '.')+1:] + "." + d.Name
}

// Place says where the flag is declared, to people:
// field "email" of message "shop.Notifications" (shop.proto).
func (d Definition) Place() string {
	return fmt.Sprintf("field %s of message %s (%s)", quoted(d.Name), quoted(d.Feature.Name), bare(d.Feature.File))
}

// Set is all flags of a FileDescriptorSet: immutable, safe to share.
type Set struct {
	hash        string
	definitions []Definition // by key
	keys        []flag.Key   // of definitions
	places      map[flag.Key]int
}

// Hash tells apart the contents that sets were read from: the SHA-256 of the
// bytes, in hexadecimal.
func (s *Set) Hash() string { return s.hash }

// Len gives how many flags there are.
func (s *Set) Len() int { return len(s.definitions) }

// Keys gives the keys of all flags in order (by bytes). Not to be changed.
func (s *Set) Keys() []flag.Key { return s.keys }

// Definitions gives all flags in the order of their keys. Not to be changed.
func (s *Set) Definitions() []Definition { return s.definitions }

// Flag finds a flag; nil when there is none.
func (s *Set) Flag(key flag.Key) *flag.Flag {
	if i, ok := s.places[key]; ok {
		return s.definitions[i].Flag
	}
	return nil
}

// quoted makes foreign text fit for a message: short, on one line, printable.
func quoted(text string) string { return fmt.Sprintf("%q", flag.Shorten(text)) }

// bare is quoted without the quotes, for what people know at a glance.
func bare(text string) string { return strings.Trim(quoted(text), `"`) }
