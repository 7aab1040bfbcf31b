package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ datasource.DataSourceWithConfigure      = &evaluationDataSource{}
	_ datasource.DataSourceWithValidateConfig = &evaluationDataSource{}
)

// evaluationDataSource is the data source bunting_evaluation.
type evaluationDataSource struct{ dataSourceBase }

// NewEvaluationDataSource makes the data source bunting_evaluation.
func NewEvaluationDataSource() datasource.DataSource { return &evaluationDataSource{} }

// evaluationModel is bunting_evaluation as configuration and state have it.
type evaluationModel struct {
	FlagKey    types.String  `tfsdk:"flag_key"`
	EntityID   types.String  `tfsdk:"entity_id"`
	Default    types.Dynamic `tfsdk:"default"`
	AllowStale types.Bool    `tfsdk:"allow_stale"`
	Value      types.Dynamic `tfsdk:"value"`
	Source     types.String  `tfsdk:"source"`
	Stale      types.Bool    `tfsdk:"stale"`
}

// allowStaleDescription describes allow_stale, wherever there is one.
const allowStaleDescription = "Whether an answer is taken that is not fresh: what the server knew last, while it does not hear its source of truth; or, while the server is down, what it answered last, which is then kept for this user in the folder, or the Redis, of the provider's setting `cache`, or what the definitions that are shared there say, where that is newer or nothing was kept. " +
	"A warning tells of it. `false` by default: that is an error, and nothing is kept."

// Metadata names the data source.
func (d *evaluationDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "bunting_evaluation"
}

// Schema declares the data source.
func (d *evaluationDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "What a flag is now, for an entity or for everybody: the same answer that applications get.\n\n" +
			"For a flag that the same configuration manages, write `flag_key = bunting_flag.NAME.id`: the `id` is unknown while a change is pending, so the evaluation is read after it. " +
			"For its overrides and kill switches add `depends_on`.\n\n" +
			"Terraform reads data only during apply while any change of a resource is pending that the block itself names, a new description too. " +
			"Hand the id on by a local or a module input, and the evaluation waits only for changes of what the flag serves.",
		Attributes: map[string]schema.Attribute{
			"flag_key": schema.StringAttribute{
				MarkdownDescription: "Key of the flag; `bunting_flag.NAME.id` for one of the same configuration.",
				Required:            true,
			},
			"entity_id": schema.StringAttribute{
				MarkdownDescription: "Id of the entity that asks, of the kind that the flag's `layer` names. Without it overrides do not apply.",
				Optional:            true,
			},
			"default": schema.DynamicAttribute{
				MarkdownDescription: "Served when there is no such flag, and then only; without it that is an error. It must be of the flag's type.",
				Optional:            true,
			},
			"allow_stale": schema.BoolAttribute{
				MarkdownDescription: allowStaleDescription,
				Optional:            true,
			},
			"value": schema.DynamicAttribute{
				MarkdownDescription: "The value that is served.",
				Computed:            true,
			},
			"source": schema.StringAttribute{
				MarkdownDescription: "The rule that gave it: `DEFAULT`, `GLOBAL` (the flag's value), `OVERRIDE`, `KILLED`, `ARCHIVED`, or `CACHED` for a stale answer.",
				Computed:            true,
			},
			"stale": schema.BoolAttribute{
				MarkdownDescription: "Whether the answer is what was known last.",
				Computed:            true,
			},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (d *evaluationDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var config evaluationModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if !config.FlagKey.IsUnknown() && !config.FlagKey.IsNull() {
		if _, err := flag.ParseKey(config.FlagKey.ValueString()); err != nil {
			invalid(&resp.Diagnostics, flag.In("flag_key", err))
		}
	}
	if _, err := write(ctx, config.Default); err != nil {
		invalid(&resp.Diagnostics, flag.In("default", err))
	}
}

// Read asks the server.
func (d *evaluationDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m evaluationModel
	resp.Diagnostics.Append(get(ctx, req.Config, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	key := flag.Key(m.FlagKey.ValueString())
	of := choice{keys: []flag.Key{key}, entity: m.EntityID.ValueString(), allowStale: m.AllowStale.ValueBool()}
	answers, from, err := d.session.evaluated(ctx, &resp.Diagnostics, of, func() ([]client.Evaluation, error) {
		answer, err := d.session.evaluate(ctx, client.Question{Key: key, Caller: flag.Context{TargetingKey: of.entity}})
		return []client.Evaluation{answer}, err
	})
	if err != nil {
		operation{doing: fmt.Sprintf("evaluate the flag %q", key)}.failed(&resp.Diagnostics, err)
		return
	}
	answer := answers[0]
	if answer.Stale {
		tellStale(&resp.Diagnostics, fmt.Sprintf("The answer for flag %q is stale", key), of.allowStale, from)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	m.take(ctx, answer.Answer, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &m)...)
}

// take puts the answer into the model, or says why it is none.
func (m *evaluationModel) take(ctx context.Context, answer flag.Answer, diags *diag.Diagnostics) {
	otherwise, err := write(ctx, m.Default)
	if err != nil {
		invalid(diags, flag.In("default", err))
		return
	}
	m.Source, m.Stale = types.StringValue(answer.Source.String()), types.BoolValue(answer.Stale)
	switch {
	case answer.ErrorCode == flag.ErrorFlagNotFound && otherwise.absent():
		diags.AddAttributeError(path.Root("flag_key"), fmt.Sprintf("There is no flag %q", answer.Key), fmt.Sprintf(
			"flag_key is %q, but the server has no such flag. If this configuration makes it: Terraform reads data while planning, before the flag is there. "+
				"Write flag_key = bunting_flag.NAME.id, which is not known until the flag is made, and hand that id on through locals, module inputs and for_each values (keys must be known, so use .key there); "+
				"or add depends_on. If the flag may be missing, set default.", answer.Key))
	case answer.ErrorCode == flag.ErrorFlagNotFound:
		m.Value = m.Default
	case answer.ErrorCode != "" || answer.Value.IsZero():
		tellNoValue(diags, answer)
	case !otherwise.absent() && !m.fits(answer, otherwise, diags):
	default:
		if m.Value, err = read(ctx, answer.Value.JSON()); err != nil {
			operation{doing: fmt.Sprintf("evaluate the flag %q", answer.Key)}.failed(diags, err)
		}
	}
}

// fits checks that the default is of the flag's type.
func (m *evaluationModel) fits(answer flag.Answer, otherwise writing, diags *diag.Diagnostics) bool {
	if _, err := flag.ParseValue(answer.Type, otherwise.text); err != nil {
		invalid(diags, flag.In("default", err))
		return false
	}
	return true
}

// tellNoValue tells of an answer that is neither a value nor that there is no flag.
func tellNoValue(diags *diag.Diagnostics, answer flag.Answer) {
	diags.AddError(fmt.Sprintf("Flag %q has no value", answer.Key), fmt.Sprintf("The server answered with the error %q. Its log says more.", answer.ErrorCode))
}
