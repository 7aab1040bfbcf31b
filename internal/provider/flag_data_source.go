package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ datasource.DataSourceWithConfigure      = &flagDataSource{}
	_ datasource.DataSourceWithValidateConfig = &flagDataSource{}
)

// flagDataSource is the data source bunting_flag: a definition, not what it
// evaluates to.
type flagDataSource struct{ dataSourceBase }

// NewFlagDataSource makes the data source bunting_flag.
func NewFlagDataSource() datasource.DataSource { return &flagDataSource{} }

// flagDataModel is the data source bunting_flag as configuration and state have it.
type flagDataModel struct {
	Key           types.String  `tfsdk:"key"`
	ID            types.String  `tfsdk:"id"`
	Type          types.String  `tfsdk:"type"`
	DefaultValue  types.Dynamic `tfsdk:"default_value"`
	Value         types.Dynamic `tfsdk:"value"`
	Enabled       types.Bool    `tfsdk:"enabled"`
	Layer         types.String  `tfsdk:"layer"`
	AllowedValues types.Dynamic `tfsdk:"allowed_values"`
	Description   types.String  `tfsdk:"description"`
	Owner         types.String  `tfsdk:"owner"`
	Tags          types.Set     `tfsdk:"tags"`
	Archived      types.Bool    `tfsdk:"archived"`
	Killed        types.Bool    `tfsdk:"killed"`
	Holders       types.List    `tfsdk:"holders"`
	Revision      types.Int64   `tfsdk:"revision"`
	ChangedBy     types.String  `tfsdk:"changed_by"`
	ChangedAt     types.String  `tfsdk:"changed_at"`
}

// Metadata names the data source.
func (d *flagDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "bunting_flag"
}

// Schema declares the data source.
func (d *flagDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The definition of a flag that something else manages. For what a flag evaluates to use `bunting_evaluation`.",
		Attributes: map[string]schema.Attribute{
			"key":            schema.StringAttribute{MarkdownDescription: "The flag's key.", Required: true},
			"id":             schema.StringAttribute{MarkdownDescription: "The key.", Computed: true},
			"type":           schema.StringAttribute{MarkdownDescription: "`bool`, `string`, `int`, `double` or `json`.", Computed: true},
			"default_value":  schema.DynamicAttribute{MarkdownDescription: "What is served when nothing else applies, and always while the flag is killed.", Computed: true},
			"value":          schema.DynamicAttribute{MarkdownDescription: "What is served while the flag is enabled; null when it has none.", Computed: true},
			"enabled":        schema.BoolAttribute{MarkdownDescription: "Whether the value is served or the default value.", Computed: true},
			"layer":          schema.StringAttribute{MarkdownDescription: "The kind of entity that may have overrides; null when none may.", Computed: true},
			"allowed_values": schema.DynamicAttribute{MarkdownDescription: "The only values that the flag and its overrides may have; null for any.", Computed: true},
			"description":    schema.StringAttribute{MarkdownDescription: "What the flag is for.", Computed: true},
			"owner":          schema.StringAttribute{MarkdownDescription: "The people who answer for the flag.", Computed: true},
			"tags":           schema.SetAttribute{MarkdownDescription: "Words to find the flag by.", ElementType: types.StringType, Computed: true},
			"archived":       schema.BoolAttribute{MarkdownDescription: "Whether the flag is archived: declared by nobody, and still serving what it served then.", Computed: true},
			"killed":         schema.BoolAttribute{MarkdownDescription: "Whether a hold stands, so that the default value is served to everybody.", Computed: true},
			"holders":        schema.ListAttribute{MarkdownDescription: "Who holds the flag killed, in order.", ElementType: types.StringType, Computed: true},
			"revision":       schema.Int64Attribute{MarkdownDescription: "The server's revision that changed the definition last.", Computed: true},
			"changed_by":     schema.StringAttribute{MarkdownDescription: "Name of the token that changed the definition last.", Computed: true},
			"changed_at":     schema.StringAttribute{MarkdownDescription: "When the definition was changed last, as RFC 3339 in UTC.", Computed: true},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (d *flagDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var config flagDataModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() || config.Key.IsUnknown() || config.Key.IsNull() {
		return
	}
	if _, err := flag.ParseKey(config.Key.ValueString()); err != nil {
		invalid(&resp.Diagnostics, err)
	}
}

// Read asks the server.
func (d *flagDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m flagDataModel
	resp.Diagnostics.Append(get(ctx, req.Config, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	key := flag.Key(m.Key.ValueString())
	doing := operation{doing: fmt.Sprintf("read the flag %q", key)}
	f, holds, err := d.session.flag(ctx, key)
	if err != nil {
		doing.failed(&resp.Diagnostics, err)
		return
	}
	if f == nil {
		resp.Diagnostics.AddAttributeError(path.Root("key"), fmt.Sprintf("There is no flag %q", key), fmt.Sprintf(
			"key is %q, but the server has no such flag. A flag of this configuration is read from its resource, bunting_flag.NAME; for any other check the key and the provider's endpoint.", key))
		return
	}
	if m, err = describe(ctx, f, holds); err != nil {
		doing.failed(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &m)...)
}

// describe gives the definition of a flag and who holds it killed.
func describe(ctx context.Context, f *flag.Flag, holds []*flag.Hold) (flagDataModel, error) {
	var declared flagModel
	if err := declared.show(ctx, f, holds); err != nil {
		return flagDataModel{}, err
	}
	_, holders := split(holds, "")
	return flagDataModel{
		Key: declared.Key, ID: declared.ID, Type: declared.Type, DefaultValue: declared.DefaultValue, Value: declared.Value,
		Enabled: declared.Enabled, Layer: declared.Layer, AllowedValues: declared.AllowedValues, Description: declared.Description,
		Owner: declared.Owner, Tags: declared.Tags, Archived: types.BoolValue(f.Archived()), Killed: declared.Killed, Holders: stringList(holders),
		Revision: types.Int64Value(f.Changed.Revision), ChangedBy: types.StringValue(f.Changed.Actor),
		ChangedAt: types.StringValue(f.Changed.Time.UTC().Format(time.RFC3339)),
	}, nil
}
