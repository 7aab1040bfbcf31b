package flag

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is the type of a flag's values.
type Type int32

// The types, with the numbers of pbflags.v1.FlagType.
const (
	Bool   Type = 1
	String Type = 2
	Int    Type = 3 // int64
	Double Type = 4 // float64, finite
	JSON   Type = 100
)

// Types lists the types in the order in which people are told of them.
var Types = []Type{Bool, String, Int, Double, JSON}

var typeNames = map[Type]string{Bool: "bool", String: "string", Int: "int", Double: "double", JSON: "json"}

// String gives the name used in documents and configurations; "unknown" for no type.
func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return "unknown"
}

// ParseType finds a type by its name.
func ParseType(name string) (Type, error) {
	for t, n := range typeNames {
		if n == name {
			return t, nil
		}
	}
	return 0, invalidf("type", "%q is not a flag type. Write \"bool\", \"string\", \"int\", \"double\" or \"json\".", name)
}

// MarshalText writes the type's name.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the type's name.
func (t *Type) UnmarshalText(text []byte) (err error) {
	*t, err = ParseType(string(text))
	return err
}

// MaxValueBytes is the largest a string or JSON value may be.
const MaxValueBytes = 1 << 20

// Value is a value of one of the types, or, as the zero Value, none. Values are
// kept in canonical form, so two are the same value exactly when they are ==:
// doubles have one zero, JSON is in the form of Canonical.
type Value struct {
	typ  Type
	bits uint64
	text string
}

// BoolValue makes a value of type Bool.
func BoolValue(b bool) Value {
	if b {
		return Value{typ: Bool, bits: 1}
	}
	return Value{typ: Bool}
}

// StringValue makes a value of type String. The error is a *Problem: the text
// is not UTF-8, holds a NUL, or is over MaxValueBytes.
func StringValue(s string) (Value, error) {
	switch {
	case len(s) > MaxValueBytes:
		return Value{}, invalidf("value", "has %d bytes, more than the %d that are allowed. Store large content elsewhere and put its name here.", len(s), MaxValueBytes)
	case !utf8.ValidString(s):
		return Value{}, Invalid("value", "is not valid UTF-8. Encode binary content, for example with base64.")
	}
	return Value{typ: String, text: s}, nil
}

// IntValue makes a value of type Int.
func IntValue(i int64) Value { return Value{typ: Int, bits: uint64(i)} } //nolint:gosec // The same 64 bits, read back by Int.

// DoubleValue makes a value of type Double. The error is a *Problem: the number
// is not finite.
func DoubleValue(d float64) (Value, error) {
	if math.IsNaN(d) || math.IsInf(d, 0) {
		return Value{}, invalidf("value", "is %v, not a finite number. A double is a finite 64-bit floating point number.", d)
	}
	if d == 0 {
		d = 0 // one zero: -0 and 0 are the same value
	}
	return Value{typ: Double, bits: math.Float64bits(d)}, nil
}

// JSONValue makes a value of type JSON from any JSON text.
func JSONValue(text string) (Value, error) {
	canonical, err := Canonical(text)
	if err != nil {
		return Value{}, err
	}
	return Value{typ: JSON, text: canonical}, nil
}

// Type gives the value's type, 0 for none.
func (v Value) Type() Type { return v.typ }

// IsZero reports whether there is no value.
func (v Value) IsZero() bool { return v.typ == 0 }

// Bool gives the value of type Bool.
func (v Value) Bool() bool { return v.bits == 1 }

// Int gives the value of type Int.
func (v Value) Int() int64 { return int64(v.bits) } //nolint:gosec // The same 64 bits that IntValue kept.

// Double gives the value of type Double.
func (v Value) Double() float64 { return math.Float64frombits(v.bits) }

// Text gives the value of type String, or the canonical text of type JSON.
func (v Value) Text() string { return v.text }

// JSON gives the value as JSON text in canonical form; "null" for none.
func (v Value) JSON() string {
	switch v.typ {
	case Bool:
		return strconv.FormatBool(v.Bool())
	case String:
		return string(appendCanonicalString(nil, v.text))
	case Int:
		return strconv.FormatInt(v.Int(), 10)
	case Double:
		return formatDouble(v.Double())
	case JSON:
		return v.text
	}
	return "null"
}

// String is the JSON text, for messages.
func (v Value) String() string { return v.JSON() }

// MarshalJSON writes the bare value.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(v.JSON()), nil }

// ParseValue reads JSON text as a value of the type: the one road by which
// values enter from configurations, documents and the command line. Numbers are
// read exactly; a double is the nearest float64. The error is a *Problem that
// names what was found and what to write.
func ParseValue(typ Type, text string) (Value, error) {
	if typ == JSON {
		return JSONValue(text)
	}
	canonical, err := Canonical(text)
	if err != nil {
		return Value{}, err
	}
	found := kindOf(canonical)
	switch {
	case typ == Bool && found == "bool":
		return BoolValue(canonical == "true"), nil
	case typ == String && found == "string":
		var s string
		if err := json.Unmarshal([]byte(canonical), &s); err != nil {
			return Value{}, invalidf("value", "%s cannot be read as a string: %v.", Shorten(canonical), err)
		}
		return StringValue(s)
	case typ == Int && found == "number":
		i, err := parseInt(canonical)
		if err != nil {
			return Value{}, err
		}
		return IntValue(i), nil
	case typ == Double && found == "number":
		d, err := strconv.ParseFloat(canonical, 64)
		if err != nil {
			return Value{}, invalidf("value", "is %s, outside what a double can hold (±1.8e308). Write a smaller number, or make the flag a string.", Shorten(canonical))
		}
		return DoubleValue(d)
	case typeNames[typ] == "":
		return Value{}, Invalid("value", "has no known type.")
	}
	what := "null"
	if found != "null" {
		what = fmt.Sprintf("%s (%s)", article(found), Shorten(canonical))
	}
	return Value{}, invalidf("value", "is %s, but the flag is of type %s. %s", what, typ, advice(typ, found, canonical))
}

func parseInt(canonical string) (int64, error) {
	if i, err := strconv.ParseInt(canonical, 10, 64); err == nil {
		return i, nil
	} else if errors.Is(err, strconv.ErrRange) {
		return 0, invalidf("value", "is %s, outside what an int can hold (-9223372036854775808 to 9223372036854775807). Write a smaller number, or set type = \"double\".", Shorten(canonical))
	}
	// Canonical form writes a whole number within 21 digits plainly, so what is
	// left has a fraction or is far out of range.
	return 0, invalidf("value", "is %s, not a whole number within -9223372036854775808 to 9223372036854775807. Write a whole number, or set type = \"double\".", Shorten(canonical))
}

// InferType finds the type of a flag that does not say it, from its default
// value and its value together, as JSON texts ("" for a value that is not
// there). All whole numbers within int64 are Int, any other numbers Double. A
// prior type (0 for none) stays while both fit it, so that 0.5 changed to 1
// remains a double. The error is a *Problem when the two do not go together.
func InferType(prior Type, defaultValue, value string) (Type, error) {
	texts := []struct{ field, text string }{{"default_value", defaultValue}, {"value", value}}
	texts = slices.DeleteFunc(texts, func(t struct{ field, text string }) bool { return t.text == "" })
	var kinds []string
	for _, t := range texts {
		canonical, err := Canonical(t.text)
		if err != nil {
			return 0, In(t.field, err)
		}
		kinds = append(kinds, kindOf(canonical))
	}
	if len(kinds) == 0 {
		kinds = append(kinds, "")
	}
	fits := func(typ Type) error {
		for _, t := range texts {
			if _, err := ParseValue(typ, t.text); err != nil {
				return In(t.field, err)
			}
		}
		return nil
	}
	if prior != 0 && fits(prior) == nil {
		return prior, nil
	}
	candidates := map[string][]Type{"bool": {Bool}, "string": {String}, "number": {Int, Double}}[kinds[0]]
	if candidates == nil {
		candidates = []Type{JSON}
	}
	var err error
	for _, t := range candidates {
		if err = fits(t); err == nil {
			return t, nil
		}
	}
	typ := candidates[len(candidates)-1]
	if kinds[0] != kinds[len(kinds)-1] { // told for the type that the default value has by itself
		i := slices.IndexFunc(candidates, func(t Type) bool { _, err := ParseValue(t, defaultValue); return err == nil })
		typ = candidates[max(i, 0)]
		err = fits(typ)
	}
	return 0, because(err, typ, defaultValue, value)
}

// because tells where an inferred type comes from, and how to have the value's.
func because(err error, typ Type, defaultValue, value string) error {
	var p *Problem
	if !errors.As(err, &p) || p.Field != "value" || defaultValue == "" {
		return err
	}
	told := *p
	told.Message = strings.Replace(p.Message, fmt.Sprintf("of type %s.", typ),
		fmt.Sprintf("of type %s, as its default_value %s says.", typ, Shorten(defaultValue)), 1)
	if meant, err := InferType(0, value, ""); err == nil {
		told.Message = strings.TrimSuffix(told.Message, ".") + fmt.Sprintf(", or set type = %q and %s as default_value.", meant, anyOf[meant])
	}
	return &told
}

// anyOf says in words what a value of the type is.
var anyOf = map[Type]string{Bool: "true or false", String: "a string", Int: "a whole number", Double: "a number", JSON: "a list or an object"}

// kindOf names the JSON kind of a canonical text, as people call it.
func kindOf(canonical string) string {
	switch canonical[0] {
	case 't', 'f':
		return "bool"
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "list"
	case 'n':
		return "null"
	}
	return "number"
}

func article(kind string) string {
	if kind == "object" {
		return "an object"
	}
	return "a " + kind
}

// advice says what to write instead.
func advice(typ Type, found, canonical string) string {
	switch {
	case typ == String && (found == "number" || found == "bool"):
		return fmt.Sprintf("Write %q.", canonical)
	case found == "null":
		return "Leave the value out instead of writing null."
	case typ == Bool:
		return "Write true or false."
	case typ == Int:
		return "Write a whole number."
	case typ == Double:
		return "Write a number."
	}
	return fmt.Sprintf("Write a %s, or change the flag's type.", typ)
}

// Shorten keeps messages readable when a value is long.
func Shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
