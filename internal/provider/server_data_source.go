package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var _ datasource.DataSourceWithConfigure = &serverDataSource{}

// serverDataSource is the data source bunting_server.
type serverDataSource struct{ dataSourceBase }

// NewServerDataSource makes the data source bunting_server.
func NewServerDataSource() datasource.DataSource { return &serverDataSource{} }

// serverModel is bunting_server as state has it.
type serverModel struct {
	Endpoint      types.String `tfsdk:"endpoint"`
	Environment   types.String `tfsdk:"environment"`
	Version       types.String `tfsdk:"version"`
	Capabilities  types.Set    `tfsdk:"capabilities"`
	StoreID       types.String `tfsdk:"store_id"`
	Revision      types.Int64  `tfsdk:"revision"`
	FlagCount     types.Int64  `tfsdk:"flag_count"`
	OverrideCount types.Int64  `tfsdk:"override_count"`
	HoldCount     types.Int64  `tfsdk:"hold_count"`
	Actor         types.String `tfsdk:"actor"`
	Scopes        types.Set    `tfsdk:"scopes"`
}

// Metadata names the data source.
func (d *serverDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "bunting_server"
}

// Schema declares the data source.
func (d *serverDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The flag server that the provider is configured with, as it was when the provider greeted it.",
		Attributes: map[string]schema.Attribute{
			"endpoint":       schema.StringAttribute{MarkdownDescription: "The base URL that is used, with its scheme.", Computed: true},
			"environment":    schema.StringAttribute{MarkdownDescription: "The environment that the server is.", Computed: true},
			"version":        schema.StringAttribute{MarkdownDescription: "The version of the server's program.", Computed: true},
			"capabilities":   schema.SetAttribute{MarkdownDescription: "Names of what the server can do besides.", ElementType: types.StringType, Computed: true},
			"store_id":       schema.StringAttribute{MarkdownDescription: "Random id of the server's store; another one after a restore.", Computed: true},
			"revision":       schema.Int64Attribute{MarkdownDescription: "The revision of the store; it grows by one with every committed change.", Computed: true},
			"flag_count":     schema.Int64Attribute{MarkdownDescription: "How many flags there are, archived ones too.", Computed: true},
			"override_count": schema.Int64Attribute{MarkdownDescription: "How many overrides there are.", Computed: true},
			"hold_count":     schema.Int64Attribute{MarkdownDescription: "How many holds there are, expired ones too.", Computed: true},
			"actor":          schema.StringAttribute{MarkdownDescription: "Name of the token that the provider uses, as the audit log tells it.", Computed: true},
			"scopes":         schema.SetAttribute{MarkdownDescription: "What that token may do: `evaluate`, `read`, `write`, `kill`, `admin`.", ElementType: types.StringType, Computed: true},
		},
	}
}

// Read tells what the server said when it was greeted.
func (d *serverDataSource) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	server, endpoint, err := d.session.server(ctx)
	if err != nil {
		operation{doing: "read the flag server"}.failed(&resp.Diagnostics, err)
		return
	}
	scopes := make([]string, len(server.Actor.Scopes))
	for i, scope := range server.Actor.Scopes {
		scopes[i] = scope.String()
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &serverModel{
		Endpoint: types.StringValue(endpoint), Environment: types.StringValue(server.Environment), Version: types.StringValue(server.Version),
		Capabilities: stringSet(server.Capabilities), StoreID: types.StringValue(server.Revision.StoreID), Revision: types.Int64Value(server.Revision.Number),
		FlagCount: types.Int64Value(server.Flags), OverrideCount: types.Int64Value(server.Overrides), HoldCount: types.Int64Value(server.Holds),
		Actor: types.StringValue(server.Actor.Name), Scopes: stringSet(scopes),
	})...)
}
