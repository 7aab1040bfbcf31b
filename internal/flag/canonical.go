package flag

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxJSONDepth is how deep JSON values may nest.
const MaxJSONDepth = 64

// Canonical rewrites JSON text so that equal values have equal texts: members
// sorted by UTF-16 code units, no spaces, strings escaped as RFC 8785 section
// 3.2.2.2 says. Numbers differ from RFC 8785, which rounds them to float64 and
// would make 2^53 and 2^53+1 equal: they are kept as exact decimals, one text
// for each value (1, 1.0 and 10e-1 are "1"; -0 is "0"). Repeated members, more
// than MaxJSONDepth levels, invalid UTF-8 and texts over MaxValueBytes are
// refused with a *Problem.
func Canonical(text string) (string, error) {
	if len(text) > MaxValueBytes {
		return "", invalidf("value", "has %d bytes, more than the %d that are allowed. Store large content elsewhere and put its name here.", len(text), MaxValueBytes)
	}
	if !utf8.ValidString(text) {
		return "", Invalid("value", "is not valid UTF-8. Encode binary content, for example with base64.")
	}
	if out, ok := canonicalScalar(text); ok {
		return string(out), nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	out, err := appendCanonical(nil, dec, 0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = invalidf("value", "has something after its end, at byte %d.", dec.InputOffset())
		}
	}
	var problem *Problem
	if err != nil && !errors.As(err, &problem) {
		err = invalidf("value", "is not valid JSON (%s): %v at byte %d.", Shorten(text), err, dec.InputOffset())
	}
	return string(out), err
}

// canonicalScalar is Canonical for a text that is neither list nor object, as most
// values are: a decoder has a buffer of many times their size. What is not ok may
// still be right.
func canonicalScalar(text string) (out []byte, ok bool) {
	var token any
	switch {
	case text == "true", text == "false", text == "null":
		return []byte(text), true
	case strings.HasPrefix(text, `"`):
		token = new(string)
	case strings.HasPrefix(text, "-"), text != "" && text[0] >= '0' && text[0] <= '9':
		token = new(json.Number)
	default:
		return nil, false
	}
	if json.Unmarshal([]byte(text), token) != nil {
		return nil, false
	}
	switch t := token.(type) {
	case *string:
		return appendCanonicalString(nil, *t), true
	case *json.Number:
		out, err := appendCanonicalNumber(nil, t.String())
		return out, err == nil
	}
	return nil, false
}

func appendCanonical(out []byte, dec *json.Decoder, depth int) ([]byte, error) {
	token, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return strconv.AppendBool(out, t), nil
	case string:
		return appendCanonicalString(out, t), nil
	case json.Number:
		return appendCanonicalNumber(out, t.String())
	case json.Delim:
		if depth == MaxJSONDepth {
			return nil, invalidf("value", "nests deeper than %d levels. Flatten it.", MaxJSONDepth)
		}
		if t == '[' {
			return appendCanonicalList(out, dec, depth)
		}
		return appendCanonicalObject(out, dec, depth)
	}
	return nil, fmt.Errorf("unexpected %v", token)
}

func appendCanonicalList(out []byte, dec *json.Decoder, depth int) (_ []byte, err error) {
	out = append(out, '[')
	for first := true; dec.More(); first = false {
		if !first {
			out = append(out, ',')
		}
		if out, err = appendCanonical(out, dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token()
	return append(out, ']'), err
}

func appendCanonicalObject(out []byte, dec *json.Decoder, depth int) ([]byte, error) {
	type member struct {
		name  string
		order []uint16
		text  []byte
	}
	var members []member
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder gives nothing else for a name
		text, err := appendCanonical(nil, dec, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, utf16.Encode([]rune(name)), text})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	slices.SortFunc(members, func(a, b member) int { return slices.Compare(a.order, b.order) })
	out = append(out, '{')
	for i, m := range members {
		if i > 0 {
			if members[i-1].name == m.name {
				return nil, invalidf("value", "has the member %q twice. Keep one of them.", m.name)
			}
			out = append(out, ',')
		}
		out = appendCanonicalString(out, m.name)
		out = append(out, ':')
		out = append(out, m.text...)
	}
	return append(out, '}'), nil
}

// appendCanonicalString escapes as RFC 8785 section 3.2.2.2 says: the short
// escapes where JSON has them, other control characters as \u00xx in lower
// case, everything else as it is.
func appendCanonicalString(out []byte, s string) []byte {
	const short = "\b\t\n\f\r\"\\"
	out = append(out, '"')
	for i := range len(s) {
		c := s[i]
		switch j := strings.IndexByte(short, c); {
		case j >= 0:
			out = append(out, '\\', `btnfr"\`[j])
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// maxPlainDigits is how many digits a canonical number is written with before
// an exponent is used; 21 as in RFC 8785 (ECMAScript's Number::toString).
const maxPlainDigits = 21

// maxExponent bounds the decimal exponent of a number. Far beyond any use, and
// small enough that no arithmetic on it overflows.
const maxExponent = 1_000_000_000

// appendCanonicalNumber writes a JSON number as an exact decimal. The digits
// are never expanded by a large exponent, so a hostile 1e999999999 costs nothing.
func appendCanonicalNumber(out []byte, number string) ([]byte, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	unsigned := strings.TrimPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(unsigned, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	if significant == "" {
		return append(out, '0'), nil
	}
	exp := 0
	if exponent != "" {
		var err error
		if exp, err = strconv.Atoi(exponent); err != nil {
			exp = math.MaxInt32
		}
	}
	// The value is 0.<significant> × 10^point.
	point := exp + len(digits) - len(fraction)
	if exp > maxExponent || exp < -maxExponent || point > maxExponent || point < -maxExponent {
		return nil, invalidf("value", "is %s, whose exponent is beyond ±%d. Write a smaller number, or make it a string.", Shorten(number), maxExponent)
	}
	if unsigned != mantissa {
		out = append(out, '-')
	}
	switch {
	case point > 0 && point <= maxPlainDigits && point >= len(significant):
		out = append(out, significant...)
		return append(out, strings.Repeat("0", point-len(significant))...), nil
	case point > 0 && point <= maxPlainDigits:
		out = append(out, significant[:point]...)
		out = append(out, '.')
		return append(out, significant[point:]...), nil
	case point <= 0 && point > -6:
		out = append(out, "0."...)
		out = append(out, strings.Repeat("0", -point)...)
		return append(out, significant...), nil
	}
	out = append(out, significant[0])
	if len(significant) > 1 {
		out = append(out, '.')
		out = append(out, significant[1:]...)
	}
	out = append(out, 'e')
	if point > 1 {
		out = append(out, '+')
	}
	return strconv.AppendInt(out, int64(point-1), 10), nil
}

// formatDouble writes the shortest decimal that reads back as the same float64,
// in the form of appendCanonicalNumber.
func formatDouble(d float64) string {
	out, err := appendCanonicalNumber(nil, strconv.FormatFloat(d, 'e', -1, 64))
	if err != nil {
		return strconv.FormatFloat(d, 'g', -1, 64) // cannot be: a float64's exponent has three digits
	}
	return string(out)
}
