package flag

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// State says what a flag or an override serves. "Killed" is no state: it
// follows from holds.
type State int32

// The states, with the numbers of pbflags.v1.State.
const (
	Enabled State = 1 // the value is served
	Default State = 2 // the default value is served
)

// String gives ENABLED, DEFAULT, or UNSPECIFIED.
func (s State) String() string {
	switch s {
	case Enabled:
		return "ENABLED"
	case Default:
		return "DEFAULT"
	}
	return "UNSPECIFIED"
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's name.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Enabled, Default} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return invalidf("state", "is %q, not a state. Write \"ENABLED\" or \"DEFAULT\".", text)
}

// Bounds of a flag's parts. They keep one flag well under the size of one
// request and a plan readable.
const (
	MaxDescriptionBytes = 4096
	MaxOwnerBytes       = 256
	MaxTags             = 64
	MaxTagBytes         = 128
	MaxAllowedValues    = 256
	MaxLayerBytes       = 64
	MaxOwnerIDBytes     = 256
)

// Flag is a definition. A *Flag handed out by a Snapshot or a Store is shared
// and never changed; copy before changing.
type Flag struct {
	Key           Key
	Type          Type
	Default       Value // served when nothing else applies, and always when killed
	Value         Value // served while enabled; zero: none
	State         State
	Layer         string  // the kind of entity that may have overrides; "" or "global": none may
	AllowedValues []Value // empty: any value of the type
	Description   string
	Owner         string   // the people who answer for it; not OwnerID
	Tags          []string // sorted, without repetition

	// ArchivedState is 0 for a living flag. For an archived one it says what it
	// served when it was archived: its value (Enabled) or the default (Default).
	ArchivedState State

	OwnerID string // the Terraform owner, or a synced set; "": none
	Changed Stamp
}

// Archived reports whether the flag is archived.
func (f *Flag) Archived() bool { return f.ArchivedState != 0 }

// HasLayer reports whether entities may have overrides.
func (f *Flag) HasLayer() bool { return f.Layer != "" && f.Layer != "global" }

// Serves gives what the flag serves to everybody while no hold stands and no
// override applies.
func (f *Flag) Serves() Value {
	state := f.State
	if f.Archived() {
		state = f.ArchivedState
	}
	if state == Enabled && !f.Value.IsZero() {
		return f.Value
	}
	return f.Default
}

// SameDefinition reports whether two flags are declared alike: everything but
// what the server sets.
func (f *Flag) SameDefinition(o *Flag) bool {
	return f.Key == o.Key && f.Type == o.Type && f.Default == o.Default && f.Value == o.Value &&
		f.State == o.State && f.Layer == o.Layer && slices.Equal(f.AllowedValues, o.AllowedValues) &&
		f.Description == o.Description && f.Owner == o.Owner && slices.Equal(f.Tags, o.Tags)
}

// Normalize gives the flag in the one form in which equal declarations are
// equal: tags and allowed values sorted and without repetition, and no state
// taken for the state that the value implies (Enabled).
func (f *Flag) Normalize() Flag {
	n := *f
	n.Tags = slices.Compact(slices.Sorted(slices.Values(f.Tags)))
	n.AllowedValues = slices.Clone(f.AllowedValues)
	slices.SortFunc(n.AllowedValues, func(a, b Value) int { return strings.Compare(a.JSON(), b.JSON()) })
	n.AllowedValues = slices.Compact(n.AllowedValues)
	if n.State == 0 {
		n.State = Enabled
	}
	return n
}

// Validate checks every rule that a flag must keep by itself. The error is a
// *Problem that names the field.
func (f *Flag) Validate() error {
	if _, err := ParseKey(string(f.Key)); err != nil {
		return err
	}
	if _, ok := typeNames[f.Type]; !ok {
		return Invalid("type", "is missing. Write \"bool\", \"string\", \"int\", \"double\" or \"json\".")
	}
	if f.Default.IsZero() {
		return Invalid("default_value", "is missing. Every flag needs one: it is served when nothing else applies, and whenever the flag is killed.")
	}
	if f.State != Enabled && f.State != Default {
		return Invalid("enabled", "is neither true nor false.")
	}
	if err := f.validateRest(); err != nil {
		return err
	}
	if err := f.checkValue("default_value", f.Default); err != nil || f.Value.IsZero() {
		return err
	}
	return f.checkValue("value", f.Value)
}

func (f *Flag) validateRest() error {
	if err := validateLayer(f.Layer); err != nil {
		return err
	}
	if len(f.AllowedValues) > MaxAllowedValues {
		return invalidf("allowed_values", "has %d values, more than the %d that are allowed. Leave some out, or allow any value.", len(f.AllowedValues), MaxAllowedValues)
	}
	for _, v := range f.AllowedValues {
		if v.Type() != f.Type {
			return invalidf("allowed_values", "has %s of type %s, but the flag is of type %s.", Shorten(v.JSON()), v.Type(), f.Type)
		}
	}
	if err := CheckText("description", f.Description, MaxDescriptionBytes); err != nil {
		return err
	}
	if err := CheckText("owner", f.Owner, MaxOwnerBytes); err != nil {
		return err
	}
	if len(f.Tags) > MaxTags {
		return invalidf("tags", "has %d tags, more than the %d that are allowed. Leave some out.", len(f.Tags), MaxTags)
	}
	for _, tag := range f.Tags {
		if tag == "" {
			return Invalid("tags", "has an empty tag. Leave it out.")
		}
		if err := CheckText("tags", tag, MaxTagBytes); err != nil {
			return err
		}
	}
	return nil
}

// checkValue checks a value of this flag or of one of its overrides.
func (f *Flag) checkValue(field string, v Value) error {
	if v.Type() == JSON && v.Text() == "null" {
		// A configuration has no word for it: there null means that nothing is said.
		return Invalid(field, "is null. Leave the value out instead of writing null; inside a list or an object null is fine.")
	}
	if v.Type() != f.Type {
		return invalidf(field, "is %s (%s), but the flag is of type %s. Write a value of that type, or change the flag's type.", v.Type(), Shorten(v.JSON()), f.Type)
	}
	if len(f.AllowedValues) > 0 && !slices.Contains(f.AllowedValues, v) {
		allowed := make([]string, len(f.AllowedValues))
		for i, a := range f.AllowedValues {
			allowed[i] = a.JSON()
		}
		return invalidf(field, "is %s, which is not among the flag's allowed_values: %s. Write one of them, or add it to allowed_values.", Shorten(v.JSON()), Shorten(strings.Join(allowed, ", ")))
	}
	return nil
}

func validateLayer(layer string) error {
	if len(layer) > MaxLayerBytes {
		return invalidf("layer", "has %d bytes, more than the %d that are allowed. Shorten it.", len(layer), MaxLayerBytes)
	}
	for i, r := range layer {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		inside := i > 0 && (r >= '0' && r <= '9' || r == '_' || r == '-')
		if !letter && !inside {
			return invalidf("layer", "is %q, but a layer starts with a letter and goes on with letters, digits, \"_\" and \"-\". Write a kind of entity like \"user\" or \"tenant\".", layer)
		}
	}
	return nil
}

// CheckText checks a text for people: at most so many bytes of UTF-8, and no
// control characters but line ends and tabs.
func CheckText(field, text string, most int) error {
	switch {
	case len(text) > most:
		return invalidf(field, "has %d bytes, more than the %d that are allowed. Shorten it.", len(text), most)
	case !utf8.ValidString(text):
		return Invalid(field, "is not valid UTF-8. Write text.")
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
		return Invalid(field, "has a control character. Remove it.")
	}
	return nil
}

// flagJSON is a flag as JSON: the fields of the flag document, and below them
// what the server adds.
type flagJSON struct {
	Key           Key               `json:"key"`
	Type          Type              `json:"type"`
	DefaultValue  json.RawMessage   `json:"default_value"`
	Value         json.RawMessage   `json:"value,omitempty"`
	Enabled       bool              `json:"enabled"`
	Layer         string            `json:"layer,omitempty"`
	AllowedValues []json.RawMessage `json:"allowed_values,omitempty"`
	Description   string            `json:"description,omitempty"`
	Owner         string            `json:"owner,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	ArchivedState State             `json:"archived_state,omitempty"`
	OwnerID       string            `json:"owner_id,omitempty"`
	Changed       *Stamp            `json:"changed,omitempty"`
}

// MarshalJSON writes the flag with the field names of the flag document.
func (f *Flag) MarshalJSON() ([]byte, error) {
	doc := flagJSON{
		Key: f.Key, Type: f.Type, DefaultValue: json.RawMessage(f.Default.JSON()), Enabled: f.State == Enabled,
		Layer: f.Layer, Description: f.Description, Owner: f.Owner, Tags: f.Tags,
		ArchivedState: f.ArchivedState, OwnerID: f.OwnerID, Changed: stampJSON(f.Changed),
	}
	if !f.Value.IsZero() {
		doc.Value = json.RawMessage(f.Value.JSON())
	}
	for _, v := range f.AllowedValues {
		doc.AllowedValues = append(doc.AllowedValues, json.RawMessage(v.JSON()))
	}
	return json.Marshal(doc)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Flag) UnmarshalJSON(text []byte) error {
	var doc flagJSON
	if err := json.Unmarshal(text, &doc); err != nil {
		return err
	}
	*f = Flag{
		Key: doc.Key, Type: doc.Type, State: Default, Layer: doc.Layer, Description: doc.Description, Owner: doc.Owner,
		Tags: doc.Tags, ArchivedState: doc.ArchivedState, OwnerID: doc.OwnerID,
	}
	if doc.Enabled {
		f.State = Enabled
	}
	if doc.Changed != nil {
		f.Changed = *doc.Changed
	}
	var err error
	if f.Default, err = ParseValue(doc.Type, string(doc.DefaultValue)); err != nil {
		return In("default_value", err)
	}
	if doc.Value != nil {
		if f.Value, err = ParseValue(doc.Type, string(doc.Value)); err != nil {
			return err
		}
	}
	for _, raw := range doc.AllowedValues {
		v, err := ParseValue(doc.Type, string(raw))
		if err != nil {
			return In("allowed_values", err)
		}
		f.AllowedValues = append(f.AllowedValues, v)
	}
	return nil
}

func stampJSON(s Stamp) *Stamp {
	if s == (Stamp{}) {
		return nil
	}
	return &s
}

// OwnerName says in words who an owner id is: "workspace \"payments\"", "the set
// \"default\" of bunting sync", or a configuration that has not named itself.
func OwnerName(ownerID string) string {
	if name, ok := strings.CutPrefix(ownerID, WorkspaceOwner("")); ok {
		return fmt.Sprintf("workspace %q", name)
	}
	if name, ok := strings.CutPrefix(ownerID, SyncOwner("")); ok {
		return fmt.Sprintf("the set %q of bunting sync", name)
	}
	return "a Terraform configuration without a workspace name"
}

// WorkspaceOwner is the owner id of the provider setting workspace.
func WorkspaceOwner(workspace string) string { return "workspace:" + workspace }

// IsWorkspaceOwner reports whether the owner id is that of a workspace.
func IsWorkspaceOwner(ownerID string) bool { return strings.HasPrefix(ownerID, WorkspaceOwner("")) }

// SyncOwner is the owner id of a set of descriptors that bunting sync keeps in
// the store.
func SyncOwner(set string) string { return "sync:" + set }

// ObjectOwner is the owner id of one object of a configuration that has not
// named itself; random tells it from all others.
func ObjectOwner(random string) string { return "object:" + random }

// IsObjectOwner reports whether the owner id is that of one object.
func IsObjectOwner(ownerID string) bool { return strings.HasPrefix(ownerID, ObjectOwner("")) }

// ValidateOwnerID checks the bounds of an owner id.
func ValidateOwnerID(ownerID string) error {
	return CheckText("owner_id", ownerID, MaxOwnerIDBytes)
}
