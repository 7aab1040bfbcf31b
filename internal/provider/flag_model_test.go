package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func text(s string) types.Dynamic { return types.DynamicValue(types.StringValue(s)) }

// The type follows from what is known; what is not known never forces another.
func TestDeclareType(t *testing.T) {
	t.Parallel()
	unknown := types.DynamicUnknown()
	for name, row := range map[string]struct {
		model flagModel
		prior flag.Type
		want  flag.Type // 0: not known
		anew  bool
	}{
		"from the default":            {flagModel{DefaultValue: literal("1")}, 0, flag.Int, false},
		"from both":                   {flagModel{DefaultValue: literal("1"), Value: literal("0.5")}, 0, flag.Double, false},
		"prior stays":                 {flagModel{DefaultValue: literal("1")}, flag.Double, flag.Double, false},
		"another":                     {flagModel{DefaultValue: text("a")}, flag.Double, flag.String, true},
		"said":                        {flagModel{DefaultValue: literal("1"), Type: types.StringValue("double")}, flag.Int, flag.Double, true},
		"said and unknown":            {flagModel{DefaultValue: literal("1"), Type: types.StringUnknown()}, flag.Int, 0, false},
		"unknown, new":                {flagModel{DefaultValue: unknown}, 0, 0, false},
		"unknown, prior stays":        {flagModel{DefaultValue: unknown}, flag.Int, flag.Int, false},
		"half unknown, fits":          {flagModel{DefaultValue: literal("2"), Value: unknown}, flag.Int, flag.Int, false},
		"half unknown, does not fit":  {flagModel{DefaultValue: text("a"), Value: unknown}, flag.Int, 0, true},
		"unknown and said":            {flagModel{DefaultValue: unknown, Type: types.StringValue("string")}, flag.Int, flag.String, true},
		"typed null beside a default": {flagModel{DefaultValue: literal("2"), Value: typedNull}, 0, flag.Int, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row.model.Key = types.StringValue("k")
			d, problems := row.model.declare(t.Context(), row.prior)
			if len(problems) > 0 || d.flag.Type != row.want || d.newType != row.anew {
				t.Errorf("got %s, %t, %v; want %s, %t", d.flag.Type, d.newType, problems, row.want, row.anew)
			}
		})
	}
}

// What is not known is no reason to complain, and no reason not to complain of
// what is.
func TestDeclareProblems(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		model flagModel
		field string // "": fine
	}{
		"all unknown":            {flagModel{Key: types.StringUnknown(), DefaultValue: types.DynamicUnknown(), Value: types.DynamicUnknown(), Layer: types.StringUnknown(), Type: types.StringUnknown(), Tags: types.SetUnknown(types.StringType), AllowedValues: types.DynamicUnknown()}, ""},
		"bad key":                {flagModel{Key: types.StringValue("/"), DefaultValue: types.DynamicUnknown()}, "key"},
		"bad layer":              {flagModel{Key: types.StringUnknown(), DefaultValue: types.DynamicUnknown(), Layer: types.StringValue("1")}, "layer"},
		"value beside unknown":   {flagModel{Key: types.StringValue("k"), Type: types.StringValue("bool"), DefaultValue: types.DynamicUnknown(), Value: text("x")}, "value"},
		"not allowed":            {flagModel{Key: types.StringValue("k"), DefaultValue: types.DynamicUnknown(), Type: types.StringValue("string"), Value: text("x"), AllowedValues: emptyTupleOf("y")}, "value"},
		"unknown allowed":        {flagModel{Key: types.StringValue("k"), DefaultValue: text("x"), AllowedValues: types.DynamicUnknown()}, ""},
		"allowed of other types": {flagModel{Key: types.StringValue("k"), DefaultValue: literal("1"), AllowedValues: emptyTupleOf("y")}, "allowed_values"},
		"allowed is no list":     {flagModel{Key: types.StringValue("k"), DefaultValue: literal("1"), AllowedValues: literal("1")}, "allowed_values"},
		"an empty tag":           {flagModel{Key: types.StringValue("k"), DefaultValue: literal("1"), Tags: stringSet([]string{""})}, "tags"},
		"on_destroy":             {flagModel{Key: types.StringValue("k"), DefaultValue: literal("1"), OnDestroy: types.StringValue("x")}, "on_destroy"},
		"no default":             {flagModel{Key: types.StringValue("k"), DefaultValue: typedNull}, "default_value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := row.model.declare(t.Context(), 0)
			got := ""
			if len(problems) > 0 {
				got = asProblem(problems[0]).Field
			}
			if got != row.field || len(problems) > 1 {
				t.Errorf("got %v, want one at %q", problems, row.field)
			}
		})
	}
}

func emptyTupleOf(texts ...string) types.Dynamic { return types.DynamicValue(stringList(texts)) }

func TestRulesOfOverrides(t *testing.T) {
	t.Parallel()
	layered := flag.Flag{Key: "f", Type: flag.Bool, Layer: "user"}
	o := flag.Override{FlagKey: "f", EntityID: "u"}
	known := declaration{flag: layered, layerKnown: true, allowedKnown: true}
	bare := known
	bare.flag.Layer = ""
	for name, row := range map[string]struct {
		d       declaration
		planned bool
		value   writing
		want    diag.Severity // 0: nothing is told
	}{
		"fine":                    {known, true, writing{text: "true"}, 0},
		"the default":             {known, true, writing{}, 0},
		"unknown value":           {known, true, writing{unknown: true}, 0},
		"wrong type":              {known, true, writing{text: "1"}, diag.SeverityError},
		"no layer":                {bare, true, writing{text: "true"}, diag.SeverityError},
		"no layer, nor a value":   {bare, true, writing{}, diag.SeverityError},
		"the flag is not planned": {bare, false, writing{}, 0},
	} {
		for _, changing := range []bool{false, true} {
			s := newSession()
			if row.planned {
				row.d.changing = changing
				s.plan(row.d)
			}
			want := row.want
			if want == diag.SeverityError && changing {
				want = diag.SeverityWarning
			}
			var diags diag.Diagnostics
			s.checkOverride(t.Context(), &diags, o, row.value, true)
			var got diag.Severity
			if len(diags) > 0 {
				got = diags[0].Severity()
			}
			if got != want || len(diags) > 1 {
				t.Errorf("%s, changing %t: got %v", name, changing, diags)
			}
		}
	}
	var none *session
	var diags diag.Diagnostics
	none.checkOverride(t.Context(), &diags, o, writing{text: "1"}, true)
	if len(diags) > 0 {
		t.Errorf("without a provider: %v", diags)
	}
}
