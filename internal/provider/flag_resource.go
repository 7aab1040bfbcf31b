package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ resource.ResourceWithConfigure      = &flagResource{}
	_ resource.ResourceWithValidateConfig = &flagResource{}
	_ resource.ResourceWithModifyPlan     = &flagResource{}
	_ resource.ResourceWithImportState    = &flagResource{}
	_ resource.ResourceWithIdentity       = &flagResource{}
)

// flagResource is bunting_flag.
type flagResource struct{ resourceBase }

// NewFlagResource makes bunting_flag.
func NewFlagResource() resource.Resource { return &flagResource{} }

// Metadata names the resource.
func (r *flagResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "bunting_flag"
}

// Schema declares the resource.
func (r *flagResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A feature flag: a key, a type, a default value, and optionally a value that is served while the flag is enabled.\n\n" +
			"A hold that somebody placed on the flag (`bunting kill`) is not Terraform's: it is told by a warning, and no apply lifts it.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				MarkdownDescription: "The key. It is unknown while a change of what the flag serves is pending, so an evaluation that uses it as `flag_key` is read after the change and never before.",
				Computed:            true,
			},
			"key": schema.StringAttribute{
				MarkdownDescription: "Segments of letters, digits, `.`, `_` and `-`, separated by `/`, like `checkout/new-cart`. Another key is another flag. Overrides and kill switches refer to it.",
				Required:            true,
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"type": schema.StringAttribute{
				MarkdownDescription: "`bool`, `string`, `int` (64 bits), `double` or `json`. Without it the type follows from `default_value` and `value` together: all whole numbers are `int`, any others `double`, " +
					"structures `json`; a type once found stays while the values fit it. Another type replaces the flag.",
				Optional: true,
				Computed: true,
			},
			"default_value": schema.DynamicAttribute{
				MarkdownDescription: "What is served when nothing else applies, and always while the flag is killed. A bool, string or number, or any structure for the type `json`.",
				Required:            true,
			},
			"value": schema.DynamicAttribute{
				MarkdownDescription: "What is served while the flag is enabled. Without it the default value is.",
				Optional:            true,
				Computed:            true, // see plain
			},
			"enabled": schema.BoolAttribute{
				MarkdownDescription: "Whether `value` is served (`true`, the default) or `default_value`.",
				Optional:            true,
				Computed:            true,
				Default:             booldefault.StaticBool(true),
			},
			"layer": schema.StringAttribute{
				MarkdownDescription: "The kind of entity that may have overrides, like `user` or `tenant`. Without it, or with `global`, none may.",
				Optional:            true,
			},
			"allowed_values": schema.DynamicAttribute{
				MarkdownDescription: "A list of the only values that `value`, `default_value` and overrides may have. The order does not matter.",
				Optional:            true,
				Computed:            true, // see plain
			},
			"description": schema.StringAttribute{
				MarkdownDescription: "What the flag is for.",
				Optional:            true,
			},
			"owner": schema.StringAttribute{
				MarkdownDescription: "The people who answer for the flag, like a team's name.",
				Optional:            true,
			},
			"tags": schema.SetAttribute{
				MarkdownDescription: "Words to find the flag by.",
				ElementType:         types.StringType,
				Optional:            true,
			},
			"on_destroy": schema.StringAttribute{
				MarkdownDescription: "What destroying does: `archive` (the default) ends the declaration and lets callers keep what the flag served; `delete` removes the flag with its overrides; `keep` leaves it on the server as it is. What counts is what was applied last. Declaring an archived key again restores it.",
				Optional:            true,
				Computed:            true,
				Default:             stringdefault.StaticString(destroyArchive),
			},
			"deletion_protection": schema.BoolAttribute{
				MarkdownDescription: "Refuses to destroy or replace the flag until `false` was applied. `false` by default.",
				Optional:            true,
				Computed:            true,
				Default:             booldefault.StaticBool(false),
			},
			"killed": schema.BoolAttribute{
				MarkdownDescription: "Whether a hold stands, so that the default value is served to everybody.",
				Computed:            true,
			},
			"timeouts": timeoutsAttribute(ctx),
		},
	}
}

// IdentitySchema declares what the flag is known by.
func (r *flagResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"key": identityschema.StringAttribute{Description: "The flag's key.", RequiredForImport: true},
		},
	}
}

// flagIdentity is the flag's resource identity.
type flagIdentity struct {
	Key types.String `tfsdk:"key"`
}

// ValidateConfig checks what the configuration says by itself.
func (r *flagResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config flagModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	_, problems := config.declare(ctx, 0)
	if config.DefaultValue.IsNull() || config.DefaultValue.IsUnderlyingValueNull() {
		return // the framework tells that it is required
	}
	for _, p := range problems {
		invalid(&resp.Diagnostics, p)
	}
}

// ModifyPlan settles what is planned, and refuses what may not be destroyed.
func (r *flagResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout) // what is read while planning has no timeouts
	defer cancel()
	var config, plan, state flagModel
	if !req.State.Raw.IsNull() {
		resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	}
	if req.Plan.Raw.IsNull() {
		kept := r.session.planDestroy(ctx, req, resp, flag.FlagRef(flag.Key(state.Key.ValueString())))
		if !r.leftOver(ctx, &state, kept) {
			refuseProtected(&resp.Diagnostics, &state, "destroyed")
		}
		return
	}
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	proposed := plan
	prior, err := flag.ParseType(state.Type.ValueString())
	if err != nil {
		prior = 0 // there is no prior state
	}
	d, problems := config.declare(ctx, prior)
	for _, p := range problems {
		invalid(&resp.Diagnostics, p)
	}
	if len(problems) > 0 {
		return
	}
	if !plan.Key.IsUnknown() {
		r.session.claim(ctx, req, &resp.Diagnostics, flag.FlagRef(d.flag.Key), "key")
	}
	plan.Value, plan.AllowedValues = plain(config.Value), plain(config.AllowedValues)
	if req.State.Raw.IsNull() {
		plan.Type = typeName(d.flag.Type)
		d.changing = true
	} else {
		d.changing = r.planUpdate(ctx, &config, &plan, &state, d, prior, resp)
	}
	r.session.plan(d)
	resp.Diagnostics.Append(setChanged(ctx, &resp.Plan, &proposed, &plan)...)
}

// planUpdate settles the plan of a flag that exists, and reports whether it is
// going to be written.
func (r *flagResource) planUpdate(ctx context.Context, config, plan, state *flagModel, d declaration, prior flag.Type, resp *resource.ModifyPlanResponse) bool {
	plan.Type = typeName(d.flag.Type)
	if !d.newType {
		plan.DefaultValue = settle(ctx, prior, state.DefaultValue, plan.DefaultValue)
		plan.Value = settle(ctx, prior, state.Value, plan.Value)
		plan.AllowedValues = settleList(ctx, prior, state.AllowedValues, plan.AllowedValues)
	} else {
		resp.RequiresReplace.Append(path.Root("type"))
	}
	if d.newType || !plan.Key.Equal(state.Key) {
		refuseProtected(&resp.Diagnostics, state, "replaced")
	}
	switch kept := plan.Key.Equal(state.Key) && state.OnDestroy.ValueString() == destroyKeep; {
	case d.newType && kept:
		resp.Diagnostics.AddAttributeError(path.Root("on_destroy"), fmt.Sprintf("Flag %q cannot be replaced", state.Key.ValueString()),
			"on_destroy is \"keep\", so the flag of the old type would stay, and its key would not be free for one of the new type. Set on_destroy = \"archive\" or \"delete\" and apply that first.")
	case d.newType:
		r.tellNewType(&resp.Diagnostics, state, d.flag.Type, prior)
	}
	if config.Type.IsUnknown() {
		plan.Type = types.StringUnknown()
	}

	// The id and what is computed tell readers that something is pending. Core
	// compares the rest.
	rest := *plan
	rest.ID, rest.Killed = state.ID, state.Killed
	if rest.equal(state) {
		*plan = rest
		return false
	}
	plan.Killed = types.BoolUnknown()
	plan.ID = types.StringUnknown()
	if plan.servesLike(state) {
		plan.ID = state.ID
	}
	return true
}

// tellNewType says what becomes of the overrides. A change of type that this
// process has not read the flag before is no plan but an apply, in which a value
// became known: Terraform cannot turn the update that it has shown into a
// replacement, so the apply of this flag stops.
func (r *flagResource) tellNewType(diags *diag.Diagnostics, state *flagModel, typ, prior flag.Type) {
	key := flag.Key(state.Key.ValueString())
	if !r.session.saw(flag.FlagRef(key)) {
		diags.AddAttributeError(path.Root("type"), fmt.Sprintf("The type of flag %q changes unplanned", key),
			fmt.Sprintf("type is %s now, but the flag is of type %s, and the plan did not show that it would be replaced: a value became known only during apply, or the plan was made without refreshing. Plan again (with refresh) and apply that.", typ, prior))
		return
	}
	becomes := fmt.Sprintf("Its overrides stay on the server as values of type %s, and are passed over until they are set anew with values of the new type.", prior)
	if state.OnDestroy.ValueString() == destroyDelete {
		becomes = "Its overrides are deleted with it (on_destroy = \"delete\"); those of this configuration are planned anew by the next plan."
	}
	to := "another"
	if typ != 0 {
		to = typ.String()
	}
	diags.AddAttributeWarning(path.Root("type"), fmt.Sprintf("Flag %q is replaced: its type changes from %s to %s", key, prior, to),
		becomes)
}

// equal reports whether two models say the same.
func (m *flagModel) equal(o *flagModel) bool {
	return m.ID.Equal(o.ID) && m.servesLike(o) && m.Killed.Equal(o.Killed) && m.AllowedValues.Equal(o.AllowedValues) &&
		m.Description.Equal(o.Description) && m.Owner.Equal(o.Owner) && m.Tags.Equal(o.Tags) && m.OnDestroy.Equal(o.OnDestroy) &&
		m.DeletionProtection.Equal(o.DeletionProtection) && m.Timeouts.Equal(o.Timeouts)
}

// servesLike reports whether callers are served the same.
func (m *flagModel) servesLike(o *flagModel) bool {
	return m.Key.Equal(o.Key) && m.Type.Equal(o.Type) && m.DefaultValue.Equal(o.DefaultValue) && m.Value.Equal(o.Value) &&
		m.Enabled.Equal(o.Enabled) && m.Layer.Equal(o.Layer)
}

func typeName(typ flag.Type) types.String {
	if typ == 0 {
		return types.StringUnknown()
	}
	return types.StringValue(typ.String())
}

func refuseProtected(diags *diag.Diagnostics, state *flagModel, what string) {
	if state.DeletionProtection.ValueBool() {
		diags.AddAttributeError(path.Root("deletion_protection"), fmt.Sprintf("Flag %q is protected", state.Key.ValueString()),
			fmt.Sprintf("deletion_protection is true, so the flag is not %s. Set deletion_protection = false and apply that first.", what))
	}
}

// leftOver reports whether a protected flag is gone, or its state is only what a
// replacement left over: protected is the flag that took its place. Core asks this
// too when it destroys the old object during apply, and of a block that is gone
// before it reads the flag.
func (r *flagResource) leftOver(ctx context.Context, state *flagModel, kept record) bool {
	if !state.DeletionProtection.ValueBool() || kept.OwnerID == "" {
		return false
	}
	f, _, err := r.session.flag(ctx, flag.Key(state.Key.ValueString()))
	return err == nil && (f == nil || f.Archived() || kept.replacedBy(f))
}

// Create makes the flag, or restores it when it is archived.
func (r *flagResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan flagModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Create, writeTimeout)
	defer cancel()
	if resp.Diagnostics.HasError() {
		return
	}
	f, ok := plan.ready(ctx, 0, &resp.Diagnostics)
	if !ok {
		return
	}
	kept, holds, err := r.session.create(ctx, f)
	if err != nil {
		operation{fmt.Sprintf("create the flag %q", f.Key), "bunting_flag", string(f.Key)}.failed(&resp.Diagnostics, err)
		return
	}
	plan.ID, plan.Type = types.StringValue(string(f.Key)), typeName(f.Type)
	plan.Killed = types.BoolValue(standing(holds))
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, flagIdentity{Key: plan.Key})...)
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// ready gives the flag to write. Everything is known by now.
func (m *flagModel) ready(ctx context.Context, prior flag.Type, diags *diag.Diagnostics) (*flag.Flag, bool) {
	if m.Type.IsUnknown() {
		m.Type = types.StringNull()
	}
	d, problems := m.declare(ctx, prior)
	for _, p := range problems {
		invalid(diags, p)
	}
	f := d.flag.Normalize()
	return &f, len(problems) == 0
}

// Read takes over what the server has.
func (r *flagResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state flagModel
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, state.Timeouts.Read, readTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, flagIdentity{Key: state.Key})...)
	if resp.Diagnostics.HasError() || r.session.lost() {
		return
	}
	r.session.refreshing()
	key := flag.Key(state.Key.ValueString())
	f, holds, err := r.session.flag(ctx, key)
	if err != nil {
		r.session.unread(&resp.Diagnostics, fmt.Sprintf("read the flag %q", key), err)
		return
	}
	r.session.see(flag.FlagRef(key))
	if f == nil {
		r.session.tellGone(ctx, &resp.Diagnostics, flag.FlagRef(key), kept)
		resp.State.RemoveResource(ctx)
		return
	}
	tellHolds(&resp.Diagnostics, holds, "")
	if f.Archived() {
		resp.Diagnostics.AddWarning(fmt.Sprintf("Flag %q was archived by %s", key, f.Changed.Actor),
			when(f.Changed, kept)+". An archived flag is declared by nobody; the plan declares it anew, which restores it.")
		resp.State.RemoveResource(ctx)
		return
	}
	if kept.Created != 0 && kept.replacedBy(f) {
		resp.State.RemoveResource(ctx) // see leftOver; the one that took its place is not to be destroyed for it
		return
	}
	prior, before := state, state
	if err := state.show(ctx, f, holds); err != nil {
		operation{doing: fmt.Sprintf("read the flag %q", key)}.failed(&resp.Diagnostics, err)
		return
	}
	before.Killed, before.ID = state.Killed, state.ID
	tellChange(&resp.Diagnostics, kept, f, !state.equal(&before))
	resp.Diagnostics.Append(setChanged(ctx, &resp.State, &prior, &state)...)
	kept.at(f, r.session.storeID).save(ctx, resp.Private, &resp.Diagnostics)
}

// Update writes the flag as the plan has it.
func (r *flagResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, state flagModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Update, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	prior, err := flag.ParseType(state.Type.ValueString())
	if err != nil {
		prior = 0
	}
	f, ok := plan.ready(ctx, prior, &resp.Diagnostics)
	if !ok {
		return
	}
	kept, holds, err := r.session.update(ctx, f, kept)
	if err != nil {
		operation{doing: fmt.Sprintf("change the flag %q", f.Key)}.failed(&resp.Diagnostics, err)
		return
	}
	plan.ID, plan.Type = types.StringValue(string(f.Key)), typeName(f.Type)
	plan.Killed = types.BoolValue(standing(holds))
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, flagIdentity{Key: plan.Key})...)
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// Delete does what on_destroy says.
func (r *flagResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state flagModel
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, state.Timeouts.Delete, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	key := flag.Key(state.Key.ValueString())
	if state.DeletionProtection.ValueBool() {
		if !r.leftOver(ctx, &state, kept) {
			refuseProtected(&resp.Diagnostics, &state, "destroyed")
		}
		return
	}
	op, doing := flag.ArchiveFlag, "archive"
	switch state.OnDestroy.ValueString() {
	case destroyKeep:
		return
	case destroyDelete:
		op, doing = flag.DeleteFlag, "delete"
	}
	if err := r.session.destroy(ctx, op, flag.FlagRef(key), kept); err != nil {
		operation{doing: fmt.Sprintf("%s the flag %q", doing, key)}.failed(&resp.Diagnostics, err)
	}
}

// ImportState takes the flag by its key.
func (r *flagResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	identity := flagIdentity{Key: types.StringValue(req.ID)}
	if req.ID == "" {
		resp.Diagnostics.Append(req.Identity.Get(ctx, &identity)...)
	}
	key, err := flag.ParseKey(identity.Key.ValueString())
	if err != nil {
		refuseImport(&resp.Diagnostics, err, "KEY, like \"checkout/new-cart\"")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("key"), string(key))...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), string(key))...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, identity)...)
	record{TakeOver: true}.save(ctx, resp.Private, &resp.Diagnostics)
}

// timeoutsAttribute declares how long operations may take.
func timeoutsAttribute(ctx context.Context) schema.Attribute {
	attribute := timeouts.Attributes(ctx, timeouts.Opts{
		Create: true, Read: true, Update: true, Delete: true,
		CreateDescription: "How long creating may take in all, like `30s`. 2 minutes by default.",
		ReadDescription:   "How long reading may take in all. 25 seconds by default.",
		UpdateDescription: "How long updating may take in all. 2 minutes by default.",
		DeleteDescription: "How long destroying may take in all, as it was applied last. 2 minutes by default.",
	})
	if nested, ok := attribute.(schema.SingleNestedAttribute); ok {
		nested.MarkdownDescription = "How long operations may take in all, retries included."
		for name, one := range nested.Attributes {
			if text, ok := one.(schema.StringAttribute); ok {
				text.Validators = []validator.String{duration{}}
				nested.Attributes[name] = text
			}
		}
		return nested
	}
	return attribute
}
