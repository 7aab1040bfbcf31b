package provider

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ datasource.DataSourceWithConfigure      = &flagsDataSource{}
	_ datasource.DataSourceWithValidateConfig = &flagsDataSource{}
)

// flagsDataSource is the data source bunting_flags: the definitions of many
// flags, not what they evaluate to.
type flagsDataSource struct{ dataSourceBase }

// NewFlagsDataSource makes the data source bunting_flags.
func NewFlagsDataSource() datasource.DataSource { return &flagsDataSource{} }

// flagsModel is bunting_flags as configuration and state have it.
type flagsModel struct {
	Prefix          types.String  `tfsdk:"prefix"`
	Tags            types.Set     `tfsdk:"tags"`
	Owner           types.String  `tfsdk:"owner"`
	IncludeArchived types.Bool    `tfsdk:"include_archived"`
	Keys            types.List    `tfsdk:"keys"`
	Flags           types.Dynamic `tfsdk:"flags"`
}

// Metadata names the data source.
func (d *flagsDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "bunting_flags"
}

// Schema declares the data source.
func (d *flagsDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The definitions of all flags that are chosen by `prefix`, `tags` and `owner`, whoever manages them; with none of these set, of all that the token covers. For what flags evaluate to use `bunting_evaluations`.\n\n" +
			"Terraform takes some time for many objects: under 1 s for 1,000 flags, 4 s for 10,000. Choose what is needed.",
		Attributes: map[string]schema.Attribute{
			"prefix": schema.StringAttribute{
				MarkdownDescription: "Only flags under this prefix, by whole segments: `checkout` covers `checkout/new-cart`, not `checkouts`.",
				Optional:            true,
			},
			"tags": schema.SetAttribute{
				MarkdownDescription: "Only flags that have all of these tags.",
				ElementType:         types.StringType,
				Optional:            true,
			},
			"owner": schema.StringAttribute{
				MarkdownDescription: "Only flags for which these people answer; `\"\"` for flags for which nobody does.",
				Optional:            true,
			},
			"include_archived": schema.BoolAttribute{
				MarkdownDescription: "Whether archived flags are listed, too. `false` by default.",
				Optional:            true,
			},
			"keys": schema.ListAttribute{
				MarkdownDescription: "The keys of the flags, in order: `for_each = toset(data.bunting_flags.NAME.keys)`.",
				ElementType:         types.StringType,
				Computed:            true,
			},
			"flags": schema.DynamicAttribute{
				MarkdownDescription: "The flags in the order of their keys: a list of objects with the attributes of the data source `bunting_flag`.",
				Computed:            true,
			},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (d *flagsDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var config flagsModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if !resp.Diagnostics.HasError() {
		checkPrefix(config.Prefix, &resp.Diagnostics)
	}
}

// Read asks the server.
func (d *flagsDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m flagsModel
	resp.Diagnostics.Append(get(ctx, req.Config, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := d.list(ctx, &m); err != nil {
		operation{doing: "list flags"}.failed(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &m)...)
}

// list puts the flags that the model chooses into it.
func (d *flagsDataSource) list(ctx context.Context, m *flagsModel) error {
	var prefix *flag.Key
	if !m.Prefix.IsNull() {
		prefix = new(flag.Key(m.Prefix.ValueString()))
	}
	definitions, covered, err := d.session.definitions(ctx, prefix)
	if err != nil {
		return err
	}
	tags := known(m.Tags)
	var keys []string
	var flags []attr.Value
	var objects []attr.Type
	for f := range definitions.Flags(covered) {
		if f.Archived() && !m.IncludeArchived.ValueBool() || !hasTags(f, tags) || !m.Owner.IsNull() && f.Owner != m.Owner.ValueString() {
			continue
		}
		described, err := describe(ctx, f, slices.Collect(definitions.HoldsOf(f.Key)))
		if err != nil {
			return fmt.Errorf("the flag %q: %w", f.Key, err)
		}
		object := described.object(ctx)
		keys, flags, objects = append(keys, string(f.Key)), append(flags, object), append(objects, object.Type(ctx))
	}
	m.Keys = stringList(keys)
	m.Flags = types.DynamicValue(types.TupleValueMust(objects, flags))
	return nil
}

// object gives the definition as a value by itself, in which nothing is dynamic.
func (m *flagDataModel) object(ctx context.Context) types.Object {
	attributes, _ := attributesOf(m) // all its fields are framework values
	for name, v := range attributes {
		if dynamic, ok := v.(types.Dynamic); ok && !dynamic.IsNull() {
			attributes[name] = dynamic.UnderlyingValue()
		}
	}
	return types.ObjectValueMust(typesOf(ctx, attributes), attributes)
}
