package provider

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ datasource.DataSourceWithConfigure      = &evaluationsDataSource{}
	_ datasource.DataSourceWithValidateConfig = &evaluationsDataSource{}
)

// evaluationsDataSource is the data source bunting_evaluations.
type evaluationsDataSource struct{ dataSourceBase }

// NewEvaluationsDataSource makes the data source bunting_evaluations.
func NewEvaluationsDataSource() datasource.DataSource { return &evaluationsDataSource{} }

// evaluationsModel is bunting_evaluations as configuration and state have it.
type evaluationsModel struct {
	FlagKeys   types.Set     `tfsdk:"flag_keys"`
	Prefix     types.String  `tfsdk:"prefix"`
	Tags       types.Set     `tfsdk:"tags"`
	EntityID   types.String  `tfsdk:"entity_id"`
	AllowStale types.Bool    `tfsdk:"allow_stale"`
	Values     types.Dynamic `tfsdk:"values"`
	Sources    types.Map     `tfsdk:"sources"`
	Stale      types.Bool    `tfsdk:"stale"`
}

// Metadata names the data source.
func (d *evaluationsDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "bunting_evaluations"
}

// Schema declares the data source.
func (d *evaluationsDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "What many flags are now, for an entity or for everybody: the same answers that applications get. Set one of `flag_keys`, `prefix` and `tags`.\n\n" +
			"For flags that the same configuration manages, write `flag_keys = [bunting_flag.NAME.id]`; by prefix or tags they are not found before they are made, so add `depends_on`.",
		Attributes: map[string]schema.Attribute{
			"flag_keys": schema.SetAttribute{
				MarkdownDescription: "Keys of the flags, each of which must exist; `bunting_flag.NAME.id` for one of the same configuration.",
				ElementType:         types.StringType,
				Optional:            true,
			},
			"prefix": schema.StringAttribute{
				MarkdownDescription: "Evaluates all flags under this prefix, by whole segments: `checkout` covers `checkout/new-cart`, not `checkouts`. Archived flags, which still serve what they served, belong to them. An empty prefix covers every flag; none under it is no error.",
				Optional:            true,
			},
			"tags": schema.SetAttribute{
				MarkdownDescription: "Evaluates all flags that have all of these tags, archived ones too. Tags belong to the definitions, so the token needs the scope `read`; for the others `evaluate` is enough.",
				ElementType:         types.StringType,
				Optional:            true,
			},
			"entity_id": schema.StringAttribute{
				MarkdownDescription: "Id of the entity that asks, of the kind that the flags' `layer` names. Without it overrides do not apply.",
				Optional:            true,
			},
			"allow_stale": schema.BoolAttribute{
				MarkdownDescription: allowStaleDescription,
				Optional:            true,
			},
			"values": schema.DynamicAttribute{
				MarkdownDescription: "The values that are served, an object by flag key: `data.bunting_evaluations.NAME.values[\"checkout/new-cart\"]`.",
				Computed:            true,
			},
			"sources": schema.MapAttribute{
				MarkdownDescription: "By flag key the rule that gave each value: `DEFAULT`, `GLOBAL` (the flag's value), `OVERRIDE`, `KILLED`, `ARCHIVED`, or `CACHED` for a stale answer.",
				ElementType:         types.StringType,
				Computed:            true,
			},
			"stale": schema.BoolAttribute{
				MarkdownDescription: "Whether one of the answers at least is what was known last.",
				Computed:            true,
			},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (d *evaluationsDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var config evaluationsModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	var set []string
	unknown := false
	for _, way := range []struct {
		name  string
		value attr.Value
	}{{"flag_keys", config.FlagKeys}, {"prefix", config.Prefix}, {"tags", config.Tags}} {
		if !isNothing(way.value) {
			set = append(set, way.name)
		}
		unknown = unknown || way.value.IsUnknown()
	}
	const one = "Set one of flag_keys, prefix and tags."
	switch {
	case len(set) == 0 && !unknown:
		resp.Diagnostics.AddError("Invalid configuration", "Neither flag_keys nor prefix nor tags says which flags are to be evaluated. "+one)
	case len(set) > 1:
		resp.Diagnostics.AddAttributeError(path.Root(set[1]), "Invalid "+set[1], fmt.Sprintf("%s is set, but so is %s, and each chooses the flags by itself. %s", set[1], set[0], one))
	}
	for _, key := range known(config.FlagKeys) {
		if _, err := flag.ParseKey(key); err != nil {
			invalid(&resp.Diagnostics, flag.In("flag_keys", err))
		}
	}
	checkPrefix(config.Prefix, &resp.Diagnostics)
	if !isNothing(config.Tags) && len(config.Tags.Elements()) == 0 {
		resp.Diagnostics.AddAttributeError(path.Root("tags"), "Invalid tags", "tags is empty, so it chooses nothing. Write one tag at least, or prefix = \"\" for every flag.")
	}
}

// checkPrefix refuses what is no prefix of keys. An empty one covers every flag.
func checkPrefix(prefix types.String, diags *diag.Diagnostics) {
	if prefix.ValueString() == "" {
		return
	}
	if _, err := flag.ParseKey(prefix.ValueString()); err != nil {
		invalid(diags, flag.In("prefix", err))
	}
}

// known gives those of the texts that are known, in order. A null is an empty one.
func known(set types.Set) []string {
	var texts []string
	for _, element := range set.Elements() {
		if text, ok := element.(types.String); ok && !text.IsUnknown() {
			texts = append(texts, text.ValueString())
		}
	}
	slices.Sort(texts)
	return texts
}

// Read asks the server.
func (d *evaluationsDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m evaluationsModel
	resp.Diagnostics.Append(get(ctx, req.Config, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	of := choice{Choice: m.choice(), entity: m.EntityID.ValueString(), allowStale: m.AllowStale.ValueBool()}
	for _, key := range known(m.FlagKeys) {
		of.keys = append(of.keys, flag.Key(key))
	}
	answers, from, err := d.session.evaluated(ctx, &resp.Diagnostics, of, func() ([]client.Evaluation, error) { return d.ask(ctx, m, of) })
	if err != nil {
		m.operation().failed(&resp.Diagnostics, err)
		return
	}
	stale := from != nil || slices.ContainsFunc(answers, func(e client.Evaluation) bool { return e.Stale })
	if stale {
		tellStale(&resp.Diagnostics, "The answers for "+m.flags()+" are stale", of.allowStale, from)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	m.Stale = types.BoolValue(stale)
	m.take(ctx, answers, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &m)...)
}

// flags names the flags that are asked for.
func (m *evaluationsModel) flags() string {
	switch {
	case !m.Tags.IsNull():
		return "the flags with " + tagged(known(m.Tags))
	case len(m.FlagKeys.Elements()) == 1:
		return "the flag " + quotedList(known(m.FlagKeys))
	case !m.FlagKeys.IsNull():
		return fmt.Sprintf("%d flags", len(m.FlagKeys.Elements()))
	case m.Prefix.ValueString() == "":
		return "all flags"
	}
	return fmt.Sprintf("the flags under %q", m.Prefix.ValueString())
}

func tagged(tags []string) string {
	if len(tags) == 1 {
		return "the tag " + quotedList(tags)
	}
	return "the tags " + quotedList(tags)
}

func quotedList[T ~string](texts []T) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(quoted, ", ")
}

func (m *evaluationsModel) operation() operation { return operation{doing: "evaluate " + m.flags()} }

// choice says which flags are not chosen by key.
func (m *evaluationsModel) choice() client.Choice {
	switch {
	case !m.Prefix.IsNull():
		return client.Choice{Name: "prefix " + m.Prefix.ValueString(), Prefix: flag.Key(m.Prefix.ValueString())}
	case !m.Tags.IsNull():
		tags := known(m.Tags)
		return client.Choice{Name: tagged(tags), Has: func(f *flag.Flag) bool { return hasTags(f, tags) }}
	}
	return client.Choice{}
}

// ask asks for what the model chooses.
func (d *evaluationsDataSource) ask(ctx context.Context, m evaluationsModel, of choice) ([]client.Evaluation, error) {
	if !m.Prefix.IsNull() {
		return d.session.evaluateUnder(ctx, flag.Key(m.Prefix.ValueString()), of.entity)
	}
	keys := of.keys
	if !m.Tags.IsNull() {
		definitions, covered, err := d.session.definitions(ctx, nil)
		if err != nil {
			return nil, err
		}
		for f := range definitions.Flags(covered) {
			if of.Has(f) {
				keys = append(keys, f.Key)
			}
		}
	}
	answers, err := d.session.evaluateFlags(ctx, keys, of.entity)
	if !m.Tags.IsNull() { // what is gone by now has no tags
		answers = slices.DeleteFunc(answers, func(e client.Evaluation) bool { return e.ErrorCode == flag.ErrorFlagNotFound })
	}
	return answers, err
}

// hasTags reports whether the flag has all of the tags.
func hasTags(f *flag.Flag, tags []string) bool {
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(f.Tags, tag) })
}

// take puts the answers into the model, or says which are none.
func (m *evaluationsModel) take(ctx context.Context, answers []client.Evaluation, diags *diag.Diagnostics) {
	var missing []flag.Key
	sources := make(map[string]attr.Value, len(answers))
	var text strings.Builder // the values, as JSON
	for _, e := range answers {
		switch {
		case e.ErrorCode == flag.ErrorFlagNotFound:
			missing = append(missing, e.Key)
			continue
		case e.ErrorCode != "" || e.Value.IsZero():
			tellNoValue(diags, e.Answer)
			continue
		}
		sources[string(e.Key)] = types.StringValue(e.Source.String())
		fmt.Fprintf(&text, ",%q:%s", e.Key, e.Value.JSON())
	}
	if len(missing) > 0 {
		tellMissing(diags, missing)
	}
	if diags.HasError() {
		return
	}
	values, err := read(ctx, "{"+strings.TrimPrefix(text.String(), ",")+"}")
	if err != nil {
		m.operation().failed(diags, err)
		return
	}
	m.Values, m.Sources = values, types.MapValueMust(types.StringType, sources)
}

// tellMissing tells of flags that are named and not there.
func tellMissing(diags *diag.Diagnostics, keys []flag.Key) {
	summary, found := "There are no flags "+quotedList(keys), "the server has no such flags"
	if len(keys) == 1 {
		summary, found = fmt.Sprintf("There is no flag %q", keys[0]), "the server has no such flag"
	}
	diags.AddAttributeError(path.Root("flag_keys"), summary, fmt.Sprintf(
		"flag_keys has %s, but %s. If this configuration makes them: Terraform reads data while planning, before they are there. Write bunting_flag.NAME.id, which is not known until the flag is made, or add depends_on. "+
			"For flags that may be missing use prefix or tags.", quotedList(keys), found))
}
