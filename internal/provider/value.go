package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// numberPrecision is the precision in bits with which Terraform reads decimal
// numbers. A number made here with another one would not be equal to the same
// number in a configuration.
const numberPrecision = 512

// maxExponent is how large the decimal exponent of a number may be that is shown
// to Terraform: it writes numbers out in full.
const maxExponent = 5000

// writing is what a configuration or a state says of a value: JSON text, nothing
// at all, or something that is not known yet.
type writing struct {
	text    string // "" where nothing is written
	unknown bool   // something in it is not known until apply
}

// absent reports whether nothing is written: null, of whatever type.
func (w writing) absent() bool { return w.text == "" && !w.unknown }

// write gives the exact JSON text of a value. A null inside a structure is kept,
// a null by itself is nothing. The error is a *flag.Problem without a field.
func write(ctx context.Context, v attr.Value) (writing, error) {
	if v == nil {
		return writing{}, nil
	}
	raw, err := v.ToTerraformValue(ctx)
	if err != nil {
		return writing{}, flag.Invalid("", fmt.Sprintf("cannot be read: %v.", err))
	}
	if !raw.IsFullyKnown() {
		return writing{unknown: true}, nil
	}
	if raw.IsNull() {
		return writing{}, nil
	}
	var out strings.Builder
	if err := writeJSON(&out, raw); err != nil {
		return writing{}, flag.Invalid("", fmt.Sprintf("cannot be read: %v.", err))
	}
	return writing{text: out.String()}, nil
}

func writeJSON(out *strings.Builder, v tftypes.Value) error {
	if v.IsNull() {
		out.WriteString("null")
		return nil
	}
	typ := v.Type()
	switch {
	case typ.Is(tftypes.Bool):
		var b bool
		err := v.As(&b)
		fmt.Fprintf(out, "%t", b)
		return err
	case typ.Is(tftypes.String):
		var s string
		err := v.As(&s)
		return errors.Join(err, writeString(out, s))
	case typ.Is(tftypes.Number):
		var n big.Float
		err := v.As(&n)
		return errors.Join(err, writeNumber(out, &n))
	case typ.Is(tftypes.List{}), typ.Is(tftypes.Set{}), typ.Is(tftypes.Tuple{}):
		return writeList(out, v)
	case typ.Is(tftypes.Map{}), typ.Is(tftypes.Object{}):
		return writeObject(out, v)
	}
	return fmt.Errorf("it has a part of the type %s, which no flag can hold", typ)
}

// writeString writes a JSON string without the escapes that are for HTML.
func writeString(out *strings.Builder, s string) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(s)
	out.Write(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return err
}

// writeNumber writes the number exactly: a whole one with all its digits, any
// other, and one larger than Terraform holds exactly, with the fewest that mean
// the same number. Terraform hands fractions on with the precision with which
// they were made, and 0.1 must stay 0.1.
func writeNumber(out *strings.Builder, n *big.Float) error {
	if n.IsInf() {
		return errors.New("it has an infinite number")
	}
	if n.IsInt() && n.MantExp(nil) <= numberPrecision {
		whole, _ := n.Int(nil)
		out.WriteString(whole.String())
		return nil
	}
	out.WriteString(n.Text('g', -1))
	return nil
}

func writeList(out *strings.Builder, v tftypes.Value) error {
	var elements []tftypes.Value
	if err := v.As(&elements); err != nil {
		return err
	}
	out.WriteByte('[')
	for i, element := range elements {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeJSON(out, element); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

func writeObject(out *strings.Builder, v tftypes.Value) error {
	var members map[string]tftypes.Value
	if err := v.As(&members); err != nil {
		return err
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	out.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeString(out, name); err != nil {
			return err
		}
		out.WriteByte(':')
		if err := writeJSON(out, members[name]); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

// read gives JSON text as Terraform's literals would: objects and tuples, numbers
// as exact as Terraform has them.
func read(ctx context.Context, text string) (types.Dynamic, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return types.DynamicNull(), fmt.Errorf("the server has a value that is not JSON: %w. Compare the versions of both sides", err)
	}
	v, err := readJSON(ctx, document)
	if err != nil {
		return types.DynamicNull(), err
	}
	if dynamic, ok := v.(types.Dynamic); ok {
		return dynamic, nil // a JSON null by itself
	}
	return types.DynamicValue(v), nil
}

func readJSON(ctx context.Context, document any) (attr.Value, error) {
	switch d := document.(type) {
	case bool:
		return types.BoolValue(d), nil
	case string:
		return types.StringValue(d), nil
	case json.Number:
		return readNumber(d.String())
	case []any:
		elements, elementTypes := make([]attr.Value, len(d)), make([]attr.Type, len(d))
		for i, element := range d {
			v, err := readJSON(ctx, element)
			if err != nil {
				return nil, err
			}
			elements[i], elementTypes[i] = v, v.Type(ctx)
		}
		return types.TupleValueMust(elementTypes, elements), nil
	case map[string]any:
		members, memberTypes := make(map[string]attr.Value, len(d)), make(map[string]attr.Type, len(d))
		for name, member := range d {
			v, err := readJSON(ctx, member)
			if err != nil {
				return nil, err
			}
			members[name], memberTypes[name] = v, v.Type(ctx)
		}
		return types.ObjectValueMust(memberTypes, members), nil
	}
	return types.DynamicNull(), nil
}

func readNumber(text string) (attr.Value, error) {
	n, _, err := big.ParseFloat(text, 10, numberPrecision, big.ToNearestEven)
	if err != nil {
		return nil, fmt.Errorf("read the number %s of the server: %w", text, err)
	}
	// 10 has a little over 3.3 bits.
	if exponent := n.MantExp(nil); n.IsInf() || exponent > maxExponent*10/3 || exponent < -maxExponent*10/3 {
		return nil, fmt.Errorf("the server has the number %s, which Terraform cannot hold: its exponent is beyond ±%d. Change it on the server, or make it a string there", text, maxExponent)
	}
	return types.NumberValue(n), nil
}

// show gives the server's value as state has it: the prior representation where
// it says the same value of the same type, else the value as it is. Without
// this, 0.1, 1/3, list(string) and map(number) would differ for ever.
func show(ctx context.Context, prior types.Dynamic, v flag.Value) (types.Dynamic, error) {
	w, err := write(ctx, prior)
	if err != nil {
		w = writing{} // what the state cannot say is shown anew
	}
	switch {
	case v.IsZero() && w.absent():
		return prior, nil
	case v.IsZero():
		return types.DynamicNull(), nil
	case says(w, v):
		return prior, nil
	}
	return read(ctx, v.JSON())
}

// says reports whether what is written is the value.
func says(w writing, v flag.Value) bool {
	if w.text == "" {
		return false
	}
	parsed, err := flag.ParseValue(v.Type(), w.text)
	return err == nil && parsed == v
}

// fits reports whether what is written is a value of the type.
func fits(typ flag.Type, w writing) bool {
	_, err := flag.ParseValue(typ, w.text)
	return err == nil
}

// same reports whether two writings are one value of the type. With no type
// known, they are when they are the same JSON.
func same(typ flag.Type, a, b writing) bool {
	switch {
	case a.unknown || b.unknown:
		return false
	case a.text == "" || b.text == "":
		return a.text == b.text
	case typ == 0:
		typ = flag.JSON
	}
	v, err := flag.ParseValue(typ, a.text)
	return err == nil && says(b, v)
}

// settle gives the planned representation: the prior one where both say the same
// value of the type, so that nothing is planned for a difference that is none.
func settle(ctx context.Context, typ flag.Type, prior, planned types.Dynamic) types.Dynamic {
	a, errA := write(ctx, prior)
	b, errB := write(ctx, planned)
	// Core takes the prior value for a configured one, and null only for null.
	if errA == nil && errB == nil && a.text != "" && same(typ, a, b) {
		return prior
	}
	return planned
}

// plain gives a null of any type as the one null, which is what an import gives.
// The attribute has to be computed, too: core keeps other providers to the null
// that is configured.
func plain(v types.Dynamic) types.Dynamic {
	if v.IsNull() || v.IsUnderlyingValueNull() {
		return types.DynamicNull()
	}
	return v
}

// elements gives the JSON texts of the elements of a list, tuple or set; none
// where nothing is written. The error is a *flag.Problem without a field.
func elements(w writing) ([]string, error) {
	if w.text == "" {
		return nil, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal([]byte(w.text), &raw); err != nil {
		return nil, flag.Invalid("", fmt.Sprintf("is %s, not a list. Write the values in brackets, like [%s].", flag.Shorten(w.text), flag.Shorten(w.text)))
	}
	texts := make([]string, len(raw))
	for i, text := range raw {
		texts[i] = string(text)
	}
	return texts, nil
}

// showList gives the server's list as state has it, like show: the order and
// repetitions of the prior one are kept where it says the same set of values.
func showList(ctx context.Context, prior types.Dynamic, typ flag.Type, values []flag.Value) (types.Dynamic, error) {
	w, err := write(ctx, prior)
	if err != nil {
		w = writing{}
	}
	if listed, err := parseList(typ, w); err == nil && !w.unknown && slices.Equal(listed, normalList(values)) {
		return prior, nil
	}
	if len(values) == 0 {
		return types.DynamicNull(), nil
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.JSON()
	}
	return read(ctx, "["+strings.Join(texts, ",")+"]")
}

// settleList is settle for a list.
func settleList(ctx context.Context, typ flag.Type, prior, planned types.Dynamic) types.Dynamic {
	a, errA := write(ctx, prior)
	b, errB := write(ctx, planned)
	if errA != nil || errB != nil || typ == 0 || a.text == "" || b.text == "" {
		return planned
	}
	was, errA := parseList(typ, a)
	is, errB := parseList(typ, b)
	if errA == nil && errB == nil && slices.Equal(was, is) {
		return prior
	}
	return planned
}

// parseList reads a list of values of the type, in the one order that Normalize
// gives. The error is a *flag.Problem.
func parseList(typ flag.Type, w writing) ([]flag.Value, error) {
	texts, err := elements(w)
	if err != nil {
		return nil, err
	}
	var values []flag.Value
	for _, text := range texts {
		v, err := flag.ParseValue(typ, text)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return normalList(values), nil
}

// normalList gives values in the order, and without the repetitions, in which a
// flag keeps them.
func normalList(values []flag.Value) []flag.Value {
	list := flag.Flag{AllowedValues: values}
	return list.Normalize().AllowedValues
}

// stringSet gives texts as a set.
func stringSet(texts []string) types.Set {
	values := make([]attr.Value, len(texts))
	for i, text := range texts {
		values[i] = types.StringValue(text)
	}
	return types.SetValueMust(types.StringType, values)
}

// stringList gives texts as a list.
func stringList(texts []string) types.List {
	values := make([]attr.Value, len(texts))
	for i, text := range texts {
		values[i] = types.StringValue(text)
	}
	return types.ListValueMust(types.StringType, values)
}
