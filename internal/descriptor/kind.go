package descriptor

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// kind is what a field of one of protobuf's types is as a flag.
type kind struct {
	typ         flag.Type
	least, most int64   // of an integer
	largest     float64 // of a floating point number, either way
}

const plainKinds = "type bool, string, int64 or double"

var (
	int32Kind  = kind{typ: flag.Int, least: math.MinInt32, most: math.MaxInt32}
	uint32Kind = kind{typ: flag.Int, most: math.MaxUint32}
	int64Kind  = kind{typ: flag.Int, least: math.MinInt64, most: math.MaxInt64}
	uint64Kind = kind{typ: flag.Int, most: math.MaxInt64} // a flag's integers end there
)

// kinds has the field types that a flag can have. What the others are is not
// told by one plain value.
var kinds = map[descriptorpb.FieldDescriptorProto_Type]kind{
	descriptorpb.FieldDescriptorProto_TYPE_BOOL:     {typ: flag.Bool},
	descriptorpb.FieldDescriptorProto_TYPE_STRING:   {typ: flag.String},
	descriptorpb.FieldDescriptorProto_TYPE_INT32:    int32Kind,
	descriptorpb.FieldDescriptorProto_TYPE_SINT32:   int32Kind,
	descriptorpb.FieldDescriptorProto_TYPE_SFIXED32: int32Kind,
	descriptorpb.FieldDescriptorProto_TYPE_UINT32:   uint32Kind,
	descriptorpb.FieldDescriptorProto_TYPE_FIXED32:  uint32Kind,
	descriptorpb.FieldDescriptorProto_TYPE_INT64:    int64Kind,
	descriptorpb.FieldDescriptorProto_TYPE_SINT64:   int64Kind,
	descriptorpb.FieldDescriptorProto_TYPE_SFIXED64: int64Kind,
	descriptorpb.FieldDescriptorProto_TYPE_UINT64:   uint64Kind,
	descriptorpb.FieldDescriptorProto_TYPE_FIXED64:  uint64Kind,
	descriptorpb.FieldDescriptorProto_TYPE_FLOAT:    {typ: flag.Double, largest: math.MaxFloat32},
	descriptorpb.FieldDescriptorProto_TYPE_DOUBLE:   {typ: flag.Double, largest: math.MaxFloat64},
}

// kindName names the type of a field that no flag can have.
func kindName(field *descriptorpb.FieldDescriptorProto) string {
	named := strings.TrimPrefix(field.GetTypeName(), ".")
	switch field.GetType() {
	case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
		return "of the enum " + quoted(named)
	case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_GROUP:
		return "of the message " + quoted(named)
	case descriptorpb.FieldDescriptorProto_TYPE_BYTES:
		return "of type bytes"
	default:
		return "of no known type" // not a compiler's work
	}
}

// integer checks that a number fits the field, which programs read it by.
func (k kind) integer(i int64) (flag.Value, error) {
	if i < k.least || i > k.most {
		return flag.Value{}, flag.Invalid("value", fmt.Sprintf("is %d, but the field holds %d to %d. Write a number within, or give the field another type.", i, k.least, k.most))
	}
	return flag.IntValue(i), nil
}

func (k kind) double(d float64) (flag.Value, error) {
	v, err := flag.DoubleValue(d)
	if err == nil && math.Abs(d) > k.largest {
		return v, flag.Invalid("value", fmt.Sprintf("is %s, but the field is a float, which holds ±3.4e38. Write a smaller number, or make the field a double.", v))
	}
	return v, err
}

// defaultValue gives the value of the option default, without it the one that a
// field of the type has when nobody sets it. One of another type is as good a
// value, which the rules for flags then refuse.
func (k kind) defaultValue(said *pbflags.FlagDefault) (v flag.Value, err error) {
	switch said := said.GetValue().(type) {
	case *pbflags.FlagDefault_BoolValue:
		return flag.BoolValue(said.BoolValue.GetValue()), nil
	case *pbflags.FlagDefault_StringValue:
		v, err = flag.StringValue(said.StringValue.GetValue())
	case *pbflags.FlagDefault_Int64Value:
		if k.typ != flag.Int {
			return flag.IntValue(said.Int64Value.GetValue()), nil
		}
		v, err = k.integer(said.Int64Value.GetValue())
	case *pbflags.FlagDefault_DoubleValue:
		if k.typ != flag.Double {
			return flag.DoubleValue(said.DoubleValue.GetValue())
		}
		v, err = k.double(said.DoubleValue.GetValue())
	default:
		v, err = k.zero()
	}
	return v, flag.In("default", err)
}

func (k kind) zero() (flag.Value, error) {
	switch k.typ {
	case flag.Bool:
		return flag.BoolValue(false), nil
	case flag.String:
		return flag.StringValue("")
	case flag.Int:
		return flag.IntValue(0), nil
	default:
		return flag.DoubleValue(0)
	}
}

// supported gives the values of the option supported_values.
func (k kind) supported(said *pbflags.SupportedValues) (values []flag.Value, err error) {
	add := func(v flag.Value, err error) error {
		values = append(values, v)
		return flag.In("supported_values", err)
	}
	lists := map[flag.Type]int{flag.String: len(said.GetStringValues()), flag.Int: len(said.GetInt64Values()), flag.Double: len(said.GetDoubleValues())}
	for _, typ := range []flag.Type{flag.String, flag.Int, flag.Double} {
		if typ != k.typ && lists[typ] > 0 {
			return nil, flag.Invalid("supported_values", fmt.Sprintf("lists values of type %s, but the flag is of type %s. %s", typ, k.typ, k.listAdvice()))
		}
	}
	if lists[k.typ] > flag.MaxAllowedValues { // told before each of them is looked at
		return nil, flag.Invalid("supported_values", fmt.Sprintf("has %d values, more than the %d that are allowed. Leave some out, or allow any value.", lists[k.typ], flag.MaxAllowedValues))
	}
	for _, s := range said.GetStringValues() {
		if err := add(flag.StringValue(s)); err != nil {
			return nil, err
		}
	}
	for _, i := range said.GetInt64Values() {
		if err := add(k.integer(i)); err != nil {
			return nil, err
		}
	}
	for _, d := range said.GetDoubleValues() {
		if err := add(k.double(d)); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// listAdvice says which list goes with the type.
func (k kind) listAdvice() string {
	list := map[flag.Type]string{flag.String: "string_values", flag.Int: "int64_values", flag.Double: "double_values"}[k.typ]
	if list == "" {
		return "Leave supported_values out: it has no list for this type."
	}
	return "List them under " + list + "."
}
