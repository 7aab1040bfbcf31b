package provider

import (
	"context"
	"math/big"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// literal is a number as Terraform reads it from a configuration.
func literal(text string) types.Dynamic {
	n, _, err := big.ParseFloat(text, 10, numberPrecision, big.ToNearestEven)
	if err != nil {
		panic(err)
	}
	return types.DynamicValue(types.NumberValue(n))
}

func quotient(a, b int64) types.Dynamic {
	n := new(big.Float).SetPrec(numberPrecision).Quo(new(big.Float).SetInt64(a), new(big.Float).SetInt64(b))
	return types.DynamicValue(types.NumberValue(n))
}

func object(members map[string]attr.Value) types.Dynamic {
	memberTypes := map[string]attr.Type{}
	for name, v := range members {
		memberTypes[name] = v.Type(context.Background())
	}
	return types.DynamicValue(types.ObjectValueMust(memberTypes, members))
}

var (
	someStrings = types.DynamicValue(types.ListValueMust(types.StringType, []attr.Value{types.StringValue("a"), types.StringValue("b")}))
	someSet     = types.DynamicValue(types.SetValueMust(types.StringType, []attr.Value{types.StringValue("a"), types.StringValue("b")}))
	emptyTuple  = types.DynamicValue(types.TupleValueMust(nil, nil))
	emptyList   = types.DynamicValue(types.ListValueMust(types.StringType, nil))
	typedNull   = types.DynamicValue(types.ListNull(types.StringType))
)

func TestWrite(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		in   attr.Value
		want string // canonical; "" for nothing
	}{
		"true":             {types.DynamicValue(types.BoolValue(true)), "true"},
		"empty string":     {types.DynamicValue(types.StringValue("")), `""`},
		"text":             {types.DynamicValue(types.StringValue("a\n\"<b>\" & 🐦")), `"a\n\"<b>\" & 🐦"`},
		"zero":             {literal("0"), "0"},
		"minus zero":       {literal("-0"), "0"},
		"tenth":            {literal("0.1"), "0.1"},
		"binary fraction":  {types.DynamicValue(types.NumberValue(big.NewFloat(0.1))), "0.1"},
		"2^53+1":           {literal("9007199254740993"), "9007199254740993"},
		"2^63":             {types.DynamicValue(types.NumberValue(big.NewFloat(9223372036854775808))), "9223372036854775808"},
		"1e20":             {literal("1e20"), "100000000000000000000"},
		"1e308":            {literal("1e308"), "1e+308"},
		"30 digits":        {literal("123456789012345678901234567890"), "1.2345678901234567890123456789e+29"},
		"list":             {someStrings, `["a","b"]`},
		"set":              {someSet, `["a","b"]`},
		"empty tuple":      {emptyTuple, `[]`},
		"empty object":     {object(nil), `{}`},
		"null inside":      {object(map[string]attr.Value{"b": types.DynamicNull(), "a": types.StringNull()}), `{"a":null,"b":null}`},
		"null":             {types.DynamicNull(), ""},
		"typed null":       {typedNull, ""},
		"names in order":   {object(map[string]attr.Value{"z": types.BoolValue(true), "a": literal("1").UnderlyingValue()}), `{"a":1,"z":true}`},
		"map of numbers":   {types.DynamicValue(types.MapValueMust(types.NumberType, map[string]attr.Value{"x": literal("0.1").UnderlyingValue()})), `{"x":0.1}`},
		"nothing was read": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := write(t.Context(), row.in)
			if err != nil || w.unknown {
				t.Fatalf("write: %+v, %v", w, err)
			}
			got := w.text
			if got != "" {
				if got, err = flag.Canonical(got); err != nil {
					t.Fatal(err)
				}
			}
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestWriteUnknown(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]attr.Value{
		"unknown":              types.DynamicUnknown(),
		"unknown of a type":    types.DynamicValue(types.StringUnknown()),
		"unknown in an object": object(map[string]attr.Value{"a": types.StringUnknown(), "b": types.BoolValue(true)}),
	} {
		if w, err := write(t.Context(), v); err != nil || !w.unknown || w.absent() {
			t.Errorf("%s: got %+v, %v", name, w, err)
		}
	}
	if _, err := write(t.Context(), types.NumberValue(new(big.Float).SetInf(false))); err == nil {
		t.Error("an infinite number was written")
	}
}

func TestReadAsLiteralsDo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]types.Dynamic{
		"true":                      types.DynamicValue(types.BoolValue(true)),
		`"a"`:                       types.DynamicValue(types.StringValue("a")),
		"0.1":                       literal("0.1"),
		"9007199254740993":          literal("9007199254740993"),
		"1e+308":                    literal("1e308"),
		`[1,"a"]`:                   types.DynamicValue(types.TupleValueMust([]attr.Type{types.NumberType, types.StringType}, []attr.Value{literal("1").UnderlyingValue(), types.StringValue("a")})),
		`{"a":null,"b":{"c":true}}`: object(map[string]attr.Value{"a": types.DynamicNull(), "b": object(map[string]attr.Value{"c": types.BoolValue(true)}).UnderlyingValue()}),
		"null":                      types.DynamicNull(),
	} {
		got, err := read(t.Context(), text)
		if err != nil || !got.Equal(want) {
			t.Errorf("read(%s): got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"1e100000", "1e-100000", "1e999999999", "{"} {
		if got, err := read(t.Context(), text); err == nil {
			t.Errorf("read(%s): got %s, want an error", text, flag.Shorten(got.String()))
		}
	}
}

func must(v flag.Value, err error) flag.Value {
	if err != nil {
		panic(err)
	}
	return v
}

// A representation is kept where it says the same value, and only there.
func TestShowAndSettle(t *testing.T) {
	t.Parallel()
	third := must(flag.ParseValue(flag.Double, "0.3333333333333333"))
	for name, row := range map[string]struct {
		prior types.Dynamic
		value flag.Value
		keeps bool
	}{
		"tenth":              {literal("0.1"), must(flag.DoubleValue(0.1)), true},
		"third":              {quotient(1, 3), third, true},
		"minus zero":         {literal("-0"), must(flag.DoubleValue(0)), true},
		"whole double":       {literal("1"), must(flag.DoubleValue(1)), true},
		"another double":     {literal("0.1"), must(flag.DoubleValue(0.2)), false},
		"int":                {literal("9007199254740993"), flag.IntValue(9007199254740993), true},
		"another int":        {literal("9007199254740993"), flag.IntValue(9007199254740992), false},
		"json number":        {literal("9007199254740993"), must(flag.JSONValue("9007199254740992")), false},
		"list(string)":       {someStrings, must(flag.JSONValue(`["a", "b"]`)), true},
		"set(string)":        {someSet, must(flag.JSONValue(`["a","b"]`)), true},
		"another order":      {someStrings, must(flag.JSONValue(`["b","a"]`)), false},
		"typed null":         {typedNull, flag.Value{}, true},
		"null and a value":   {types.DynamicNull(), flag.BoolValue(true), false},
		"value and nothing":  {literal("1"), flag.Value{}, false},
		"empty list":         {emptyList, must(flag.JSONValue(`[]`)), true},
		"string of a number": {literal("1"), must(flag.StringValue("1")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := show(t.Context(), row.prior, row.value)
			if err != nil {
				t.Fatal(err)
			}
			if got.Equal(row.prior) != row.keeps {
				t.Errorf("show: got %s from the prior %s", got, row.prior)
			}
			if row.value.IsZero() {
				return
			}
			planned, err := read(t.Context(), row.value.JSON())
			if err != nil {
				t.Fatal(err)
			}
			want := planned
			if row.keeps {
				want = row.prior
			}
			if got := settle(t.Context(), row.value.Type(), row.prior, planned); !got.Equal(want) {
				t.Errorf("settle: got %s, want %s", got, want)
			}
		})
	}
}

func TestSettleLeavesUnknownAndNull(t *testing.T) {
	t.Parallel()
	for name, planned := range map[string]types.Dynamic{"unknown": types.DynamicUnknown(), "null": types.DynamicNull()} {
		if got := settle(t.Context(), flag.Bool, types.DynamicValue(types.BoolValue(true)), planned); !got.Equal(planned) {
			t.Errorf("%s: got %s", name, got)
		}
		if got := settle(t.Context(), flag.Bool, typedNull, planned); !got.Equal(planned) {
			t.Errorf("%s after a typed null: got %s", name, got)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	prior := types.DynamicValue(types.ListValueMust(types.StringType, []attr.Value{types.StringValue("b"), types.StringValue("a"), types.StringValue("b")}))
	a, b := must(flag.StringValue("a")), must(flag.StringValue("b"))
	if got, err := showList(t.Context(), prior, flag.String, []flag.Value{a, b}); err != nil || !got.Equal(prior) {
		t.Errorf("the same values: got %s, %v", got, err)
	}
	if got, err := showList(t.Context(), emptyList, flag.String, nil); err != nil || !got.Equal(emptyList) {
		t.Errorf("an empty list: got %s, %v", got, err)
	}
	if got, err := showList(t.Context(), prior, flag.String, nil); err != nil || !got.IsNull() {
		t.Errorf("none any more: got %s, %v", got, err)
	}
	want, _ := read(t.Context(), `["a"]`)
	if got, err := showList(t.Context(), prior, flag.String, []flag.Value{a}); err != nil || !got.Equal(want) {
		t.Errorf("one: got %s, %v", got, err)
	}
	planned, _ := read(t.Context(), `["a","b"]`)
	if got := settleList(t.Context(), flag.String, prior, planned); !got.Equal(prior) {
		t.Errorf("settleList: got %s", got)
	}
	w, _ := write(t.Context(), object(map[string]attr.Value{"a": types.BoolValue(true)}))
	if _, err := elements(w); err == nil || !strings.Contains(err.Error(), "not a list") {
		t.Errorf("an object as a list: %v", err)
	}
}
