package flag

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxEntityBytes is the longest an entity id may be.
const MaxEntityBytes = 512

// Override is what one entity gets: Enabled with a value, or Default without.
// Shared like *Flag.
type Override struct {
	FlagKey  Key
	EntityID string
	State    State
	Value    Value
	OwnerID  string
	Changed  Stamp
}

// Validate checks every rule that an override must keep by itself.
func (o *Override) Validate() error {
	if _, err := ParseKey(string(o.FlagKey)); err != nil {
		return In("flag_key", err)
	}
	switch {
	case o.EntityID == "":
		return Invalid("entity_id", "is empty. Write the id of the entity, like \"user-42\".")
	case len(o.EntityID) > MaxEntityBytes:
		return invalidf("entity_id", "has %d bytes, more than the %d that are allowed. Use a shorter id of the entity.", len(o.EntityID), MaxEntityBytes)
	case !utf8.ValidString(o.EntityID), strings.ContainsFunc(o.EntityID, unicode.IsControl):
		return Invalid("entity_id", "has a control character or is not valid UTF-8. Remove it.")
	case o.State != Enabled && o.State != Default:
		return Invalid("state", "is missing. An override is ENABLED with a value, or DEFAULT.")
	case o.State == Enabled && o.Value.IsZero():
		return Invalid("value", "is missing. Give the value that this entity gets, or leave value out to serve it the default.")
	case o.State == Default && !o.Value.IsZero():
		return Invalid("value", "is given, but the override serves the default. Leave one of the two out.")
	}
	return nil
}

// ValidateFor checks the override against its flag: layer, type, allowed values.
func (o *Override) ValidateFor(f *Flag) error {
	if !f.HasLayer() {
		return invalidf("flag_key", "is %q, a flag without a layer, so no entity may have an override of it. Set layer on the flag, like layer = \"user\".", f.Key)
	}
	if o.State == Enabled {
		return f.checkValue("value", o.Value)
	}
	return nil
}

// AppliesTo reports whether the override says anything about the flag as it is
// now: one of another type is inert until it is set again.
func (o *Override) AppliesTo(f *Flag) bool {
	return f.HasLayer() && (o.State == Default || o.Value.Type() == f.Type)
}

// SameDefinition reports whether two overrides say the same.
func (o *Override) SameDefinition(p *Override) bool {
	return o.FlagKey == p.FlagKey && o.EntityID == p.EntityID && o.State == p.State && o.Value == p.Value
}

type overrideJSON struct {
	FlagKey  Key             `json:"flag_key"`
	EntityID string          `json:"entity_id"`
	State    State           `json:"state"`
	Type     *Type           `json:"type,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
	OwnerID  string          `json:"owner_id,omitempty"`
	Changed  *Stamp          `json:"changed,omitempty"`
}

// MarshalJSON writes the override with the value's type beside it.
func (o *Override) MarshalJSON() ([]byte, error) {
	doc := overrideJSON{FlagKey: o.FlagKey, EntityID: o.EntityID, State: o.State, OwnerID: o.OwnerID, Changed: stampJSON(o.Changed)}
	if !o.Value.IsZero() {
		t := o.Value.Type()
		doc.Type, doc.Value = &t, json.RawMessage(o.Value.JSON())
	}
	return json.Marshal(doc)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Override) UnmarshalJSON(text []byte) (err error) {
	var doc overrideJSON
	if err := json.Unmarshal(text, &doc); err != nil {
		return err
	}
	*o = Override{FlagKey: doc.FlagKey, EntityID: doc.EntityID, State: doc.State, OwnerID: doc.OwnerID}
	if doc.Changed != nil {
		o.Changed = *doc.Changed
	}
	if doc.Type != nil {
		o.Value, err = ParseValue(*doc.Type, string(doc.Value))
	}
	return err
}
