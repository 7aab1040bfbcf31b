package provider

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What becomes of a flag when its resource is destroyed.
const (
	destroyArchive = "archive"
	destroyDelete  = "delete"
	destroyKeep    = "keep"
)

// flagModel is bunting_flag as configuration, plan and state have it.
type flagModel struct {
	ID                 types.String   `tfsdk:"id"`
	Key                types.String   `tfsdk:"key"`
	Type               types.String   `tfsdk:"type"`
	DefaultValue       types.Dynamic  `tfsdk:"default_value"`
	Value              types.Dynamic  `tfsdk:"value"`
	Enabled            types.Bool     `tfsdk:"enabled"`
	Layer              types.String   `tfsdk:"layer"`
	AllowedValues      types.Dynamic  `tfsdk:"allowed_values"`
	Description        types.String   `tfsdk:"description"`
	Owner              types.String   `tfsdk:"owner"`
	Tags               types.Set      `tfsdk:"tags"`
	OnDestroy          types.String   `tfsdk:"on_destroy"`
	DeletionProtection types.Bool     `tfsdk:"deletion_protection"`
	Killed             types.Bool     `tfsdk:"killed"`
	Timeouts           timeouts.Value `tfsdk:"timeouts"`
}

// declaration is a flag as far as a configuration says it.
type declaration struct {
	flag flag.Flag // unknown parts are zero; Type is 0 when it is not known
	// Whether those parts are known on which the rules of other objects rest.
	layerKnown, allowedKnown bool
	// newType says that what is known does not fit the prior type, even where
	// the new one is not known yet.
	newType bool
	// changing says that the plan writes the flag.
	changing bool
}

// declare reads what the model says of the flag. The prior type (0 for none)
// stays when none is set and the values fit it. The errors are *flag.Problem,
// each at its attribute.
func (m *flagModel) declare(ctx context.Context, prior flag.Type) (declaration, []error) {
	d := declaration{layerKnown: !m.Layer.IsUnknown(), allowedKnown: true}
	d.flag = flag.Flag{
		Key: flag.Key(m.Key.ValueString()), Layer: m.Layer.ValueString(), Description: m.Description.ValueString(),
		Owner: m.Owner.ValueString(), State: flag.Enabled,
	}
	if !m.Enabled.IsNull() && !m.Enabled.IsUnknown() && !m.Enabled.ValueBool() {
		d.flag.State = flag.Default
	}
	for _, tag := range m.Tags.Elements() {
		if text, ok := tag.(types.String); ok && !text.IsUnknown() {
			d.flag.Tags = append(d.flag.Tags, text.ValueString())
		}
	}

	defaultValue, err := write(ctx, m.DefaultValue)
	value, err2 := write(ctx, m.Value)
	allowed, err3 := write(ctx, m.AllowedValues)
	problems := problemsIn(flag.In("default_value", err), flag.In("value", err2), flag.In("allowed_values", err3))
	if len(problems) > 0 {
		return d, problems
	}
	d.allowedKnown = !allowed.unknown
	if d.flag.Type, d.newType, err = m.typeOf(prior, defaultValue, value, allowed); err != nil {
		return d, append(problems, err)
	}
	if d.flag.Type == 0 {
		return d, append(problems, m.checkRest(d, defaultValue, value)...)
	}
	if defaultValue.text != "" {
		d.flag.Default, err = flag.ParseValue(d.flag.Type, defaultValue.text)
		problems = append(problems, problemsIn(flag.In("default_value", err))...)
	}
	if value.text != "" {
		d.flag.Value, err = flag.ParseValue(d.flag.Type, value.text)
		problems = append(problems, problemsIn(flag.In("value", err))...)
	}
	d.flag.AllowedValues, err = parseList(d.flag.Type, allowed)
	problems = append(problems, problemsIn(flag.In("allowed_values", err))...)
	if len(problems) == 0 {
		problems = m.checkRest(d, defaultValue, value)
	}
	return d, problems
}

// typeOf finds the flag's type: the one that is set, else what the values say
// together; 0 while it is not known. anew says that the values which are known,
// the allowed ones too, do not fit the prior type.
func (m *flagModel) typeOf(prior flag.Type, defaultValue, value, allowed writing) (typ flag.Type, anew bool, err error) {
	switch {
	case m.Type.IsUnknown():
		return 0, false, nil
	case !m.Type.IsNull():
		typ, err = flag.ParseType(m.Type.ValueString())
		return typ, err == nil && prior != 0 && typ != prior, err
	case !defaultValue.unknown && !value.unknown:
		if defaultValue.absent() {
			return 0, false, nil // the error is that it is missing
		}
		typ, err = flag.InferType(prior, defaultValue.text, value.text)
		return typ, err == nil && prior != 0 && typ != prior, err
	case prior == 0:
		return 0, false, nil
	}
	for _, w := range []writing{defaultValue, value} {
		if w.text != "" && !fits(prior, w) {
			return 0, true, nil
		}
	}
	if _, misfit := parseList(prior, allowed); misfit != nil {
		return 0, true, nil //nolint:nilerr // Not to fit is what was asked.
	}
	return prior, false, nil
}

// checkRest checks the rules that a flag keeps by itself, with something valid
// in the place of what is not known.
func (m *flagModel) checkRest(d declaration, defaultValue, value writing) []error {
	f := d.flag.Normalize()
	if m.Key.IsUnknown() {
		f.Key = "unknown"
	}
	if f.Type == 0 {
		f.Type, f.Value, f.AllowedValues = flag.Bool, flag.Value{}, nil
		if !defaultValue.absent() {
			f.Default = flag.BoolValue(true)
		}
	}
	if defaultValue.unknown {
		f.Default = anyValue(f)
	}
	if value.unknown {
		f.Value = flag.Value{}
	}
	err := f.Validate()
	if err == nil {
		switch m.OnDestroy.ValueString() {
		case "", destroyArchive, destroyDelete, destroyKeep:
		default:
			err = flag.Invalid("on_destroy", fmt.Sprintf("is %q. Write \"archive\", \"delete\" or \"keep\".", m.OnDestroy.ValueString()))
		}
	}
	return problemsIn(err)
}

// anyValue gives a value that the flag may have.
func anyValue(f flag.Flag) flag.Value {
	if len(f.AllowedValues) > 0 {
		return f.AllowedValues[0]
	}
	text := map[flag.Type]string{flag.Bool: "true", flag.String: `""`, flag.Int: "0", flag.Double: "0", flag.JSON: "{}"}[f.Type]
	v, err := flag.ParseValue(f.Type, text)
	if err != nil {
		return flag.Value{} // cannot be: each text is of its type
	}
	return v
}

// problemsIn leaves out what is no error.
func problemsIn(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// show puts what the server has into the model, in the representation that the
// model had. What the server does not know it leaves, or sets to its default
// after an import.
func (m *flagModel) show(ctx context.Context, f *flag.Flag, holds []*flag.Hold) error {
	var errs [3]error
	m.DefaultValue, errs[0] = show(ctx, m.DefaultValue, f.Default)
	m.Value, errs[1] = show(ctx, m.Value, f.Value)
	m.AllowedValues, errs[2] = showList(ctx, m.AllowedValues, f.Type, f.AllowedValues)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	m.ID, m.Key, m.Type = types.StringValue(string(f.Key)), types.StringValue(string(f.Key)), types.StringValue(f.Type.String())
	m.Enabled, m.Killed = types.BoolValue(f.State == flag.Enabled), types.BoolValue(standing(holds))
	m.Layer = showText(m.Layer, f.Layer)
	m.Description = showText(m.Description, f.Description)
	m.Owner = showText(m.Owner, f.Owner)
	m.Tags = showTags(m.Tags, f.Tags)
	if m.OnDestroy.IsNull() {
		m.OnDestroy = types.StringValue(destroyArchive)
	}
	if m.DeletionProtection.IsNull() {
		m.DeletionProtection = types.BoolValue(false)
	}
	return nil
}

// showText gives a text as state has it: none of it is null, or empty where it
// was written so.
func showText(prior types.String, text string) types.String {
	if text == "" && prior.ValueString() == "" && !prior.IsUnknown() {
		return prior
	}
	if text == "" {
		return types.StringNull()
	}
	return types.StringValue(text)
}

// showTags is showText for tags.
func showTags(prior types.Set, tags []string) types.Set {
	if len(tags) == 0 {
		if !prior.IsUnknown() && len(prior.Elements()) == 0 && !prior.IsNull() {
			return prior
		}
		return types.SetNull(types.StringType)
	}
	return stringSet(tags)
}
