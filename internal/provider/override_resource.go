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
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ resource.ResourceWithConfigure      = &overrideResource{}
	_ resource.ResourceWithValidateConfig = &overrideResource{}
	_ resource.ResourceWithModifyPlan     = &overrideResource{}
	_ resource.ResourceWithImportState    = &overrideResource{}
	_ resource.ResourceWithIdentity       = &overrideResource{}
)

// overrideResource is bunting_override.
type overrideResource struct{ resourceBase }

// NewOverrideResource makes bunting_override.
func NewOverrideResource() resource.Resource { return &overrideResource{} }

// overrideModel is bunting_override as configuration, plan and state have it.
type overrideModel struct {
	FlagKey  types.String   `tfsdk:"flag_key"`
	EntityID types.String   `tfsdk:"entity_id"`
	Value    types.Dynamic  `tfsdk:"value"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// overrideIdentity is the override's resource identity.
type overrideIdentity struct {
	FlagKey  types.String `tfsdk:"flag_key"`
	EntityID types.String `tfsdk:"entity_id"`
}

func (m *overrideModel) identity() overrideIdentity {
	return overrideIdentity{FlagKey: m.FlagKey, EntityID: m.EntityID}
}

func (m *overrideModel) ref() flag.Ref {
	return flag.OverrideRef(flag.Key(m.FlagKey.ValueString()), m.EntityID.ValueString())
}

// name names the override after a verb.
func (m *overrideModel) name() string {
	return fmt.Sprintf("the override of %q for %q", m.FlagKey.ValueString(), m.EntityID.ValueString())
}

// Metadata names the resource.
func (r *overrideResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "bunting_override"
}

// Schema declares the resource.
func (r *overrideResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "What one entity gets instead of what everybody gets. The flag must have a `layer`; while it is killed, the entity gets the flag's default value like everybody.",
		Attributes: map[string]schema.Attribute{
			"flag_key": schema.StringAttribute{
				MarkdownDescription: "Key of the flag. Write `bunting_flag.NAME.key` for a flag of the same configuration, so that it is made first; its `id` would plan a replacement whenever the flag changes.",
				Required:            true,
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"entity_id": schema.StringAttribute{
				MarkdownDescription: "Id of the entity, of the kind that the flag's `layer` names.",
				Required:            true,
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"value": schema.DynamicAttribute{
				MarkdownDescription: "What the entity gets, of the flag's type. Without it the entity gets the flag's default value.",
				Optional:            true,
				Computed:            true, // see plain
			},
			"timeouts": timeoutsAttribute(ctx),
		},
	}
}

// IdentitySchema declares what the override is known by.
func (r *overrideResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"flag_key":  identityschema.StringAttribute{Description: "The flag's key.", RequiredForImport: true},
			"entity_id": identityschema.StringAttribute{Description: "The entity's id.", RequiredForImport: true},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (r *overrideResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config overrideModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	value, err := write(ctx, config.Value)
	if err == nil && value.text != "" {
		_, err = flag.Canonical(value.text)
	}
	if err != nil {
		invalid(&resp.Diagnostics, flag.In("value", err))
	}
	o := flag.Override{FlagKey: "unknown", EntityID: "unknown", State: flag.Default}
	if !config.FlagKey.IsUnknown() {
		o.FlagKey = flag.Key(config.FlagKey.ValueString())
	}
	if !config.EntityID.IsUnknown() {
		o.EntityID = config.EntityID.ValueString()
	}
	if err := o.Validate(); err != nil {
		invalid(&resp.Diagnostics, err)
	}
}

// ModifyPlan keeps representations and tells of rules that the flag sets.
func (r *overrideResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout) // what is read while planning has no timeouts
	defer cancel()
	if req.Plan.Raw.IsNull() {
		var state overrideModel
		resp.Diagnostics.Append(get(ctx, req.State, &state)...)
		r.session.planDestroy(ctx, req, resp, state.ref())
		return
	}
	var plan, config overrideModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	plan.Value = plain(config.Value)
	changing := true
	if !req.State.Raw.IsNull() {
		var state overrideModel
		resp.Diagnostics.Append(get(ctx, req.State, &state)...)
		kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
		if resp.Diagnostics.HasError() {
			return
		}
		plan.Value = settle(ctx, kept.knownType(), state.Value, plan.Value)
		if kept.PassedOver && plan.Value.IsNull() {
			plan.Value = types.DynamicUnknown() // null may be what the state has: only this plans a write
		}
		changing = plan.ref() != state.ref() || !plan.Value.Equal(state.Value)
	}
	value, err := write(ctx, plan.Value)
	if resp.Diagnostics.HasError() || err != nil {
		return // ValidateConfig tells
	}
	if !plan.FlagKey.IsUnknown() && !plan.EntityID.IsUnknown() {
		r.session.claim(ctx, req, &resp.Diagnostics, plan.ref(), "entity_id")
	}
	if !plan.FlagKey.IsUnknown() {
		o := flag.Override{FlagKey: plan.ref().Key, EntityID: plan.ref().ID}
		r.session.checkOverride(ctx, &resp.Diagnostics, o, value, changing)
	}
	resp.Diagnostics.Append(set(ctx, &resp.Plan, &plan)...)
}

// ready gives the override to write, its value of the flag's type. The error is
// a *flag.Problem or a *client.Error.
func (r *overrideResource) ready(ctx context.Context, plan *overrideModel) (*flag.Override, error) {
	ref := plan.ref()
	o := &flag.Override{FlagKey: ref.Key, EntityID: ref.ID, State: flag.Default}
	value, err := write(ctx, plan.Value)
	if err != nil || value.absent() {
		return o, flag.In("value", err)
	}
	typ := r.session.typeOfWritten(ref.Key)
	if typ == 0 {
		f, _, err := r.session.flag(ctx, ref.Key)
		if err != nil {
			return nil, err
		}
		if f == nil {
			return nil, flag.NoFlag(ref.Key, r.session.removedBy(ctx, flag.FlagRef(ref.Key)))
		}
		typ = f.Type
	}
	o.State = flag.Enabled
	o.Value, err = flag.ParseValue(typ, value.text)
	return o, flag.In("value", err)
}

// Create sets the override.
func (r *overrideResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan overrideModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Create, writeTimeout)
	defer cancel()
	if resp.Diagnostics.HasError() {
		return
	}
	var kept record
	o, err := r.ready(ctx, &plan)
	if err == nil {
		kept, _, err = r.session.create(ctx, o)
	}
	if err != nil {
		operation{"set " + plan.name(), "bunting_override", plan.ref().String()}.failed(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, plan.identity())...)
	kept.Type = typeText(o.Value)
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// typeText names a value's type for the record; "" for no value.
func typeText(v flag.Value) string {
	if v.IsZero() {
		return ""
	}
	return v.Type().String()
}

// Read takes over what the server has.
func (r *overrideResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state overrideModel
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, state.Timeouts.Read, readTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, state.identity())...)
	if resp.Diagnostics.HasError() || r.session.lost() {
		return
	}
	r.session.refreshing()
	ref := state.ref()
	doing := "read " + state.name()
	o, err := r.session.override(ctx, ref.Key, ref.ID)
	if err != nil {
		r.session.unread(&resp.Diagnostics, doing, err)
		return
	}
	if o == nil {
		r.session.tellGone(ctx, &resp.Diagnostics, ref, kept)
		resp.State.RemoveResource(ctx)
		return
	}
	if kept.Created != 0 && kept.replacedBy(o) {
		resp.State.RemoveResource(ctx) // what a replacement left over: the override is the one that took its place
		return
	}
	f, _, err := r.session.flag(ctx, ref.Key)
	if err != nil {
		r.session.unread(&resp.Diagnostics, doing, err)
		return
	}
	before := state.Value
	kept.PassedOver = false
	if state.Value, err = show(ctx, state.Value, o.Value); err != nil {
		r.session.unread(&resp.Diagnostics, doing, err)
		return
	}
	tellChange(&resp.Diagnostics, kept, o, !state.Value.Equal(before))
	if tellPassedOver(&resp.Diagnostics, o, f) {
		// So that the plan sets it anew, also where the configured value reads as it
		// did, and where none is configured.
		state.Value, kept.PassedOver = types.DynamicNull(), true
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &state)...)
	kept.Type = typeText(o.Value)
	kept.at(o, r.session.storeID).save(ctx, resp.Private, &resp.Diagnostics)
}

// tellPassedOver warns of an override that says nothing about its flag as it is
// now, and reports whether setting it anew would help.
func tellPassedOver(diags *diag.Diagnostics, o *flag.Override, f *flag.Flag) bool {
	summary := title(o.Ref()) + " is passed over"
	switch {
	case f == nil:
	case !f.HasLayer():
		diags.AddWarning(summary, fmt.Sprintf("Flag %q has no layer any more, so no entity has an override of it. Set layer on the flag, or remove this override.", f.Key))
	case o.State == flag.Enabled && o.Value.Type() != f.Type:
		diags.AddWarning(summary, fmt.Sprintf("It has a value of type %s, but flag %q is of type %s now. The plan sets it anew.", o.Value.Type(), f.Key, f.Type))
		return true
	}
	return false
}

// Update sets the override anew.
func (r *overrideResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan overrideModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Update, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if plan.Value.IsUnknown() {
		plan.Value = types.DynamicNull() // see ModifyPlan: none is configured
	}
	o, err := r.ready(ctx, &plan)
	if err == nil {
		kept, _, err = r.session.update(ctx, o, kept)
	}
	if err != nil {
		operation{doing: "change " + plan.name()}.failed(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, plan.identity())...)
	kept.Type, kept.PassedOver = typeText(o.Value), false
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// Delete removes the override.
func (r *overrideResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state overrideModel
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, state.Timeouts.Delete, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.session.destroy(ctx, flag.RemoveOverride, state.ref(), kept); err != nil {
		operation{doing: "remove " + state.name()}.failed(&resp.Diagnostics, err)
	}
}

// ImportState takes the override by key and entity.
func (r *overrideResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	var identity overrideIdentity
	if req.ID == "" {
		resp.Diagnostics.Append(req.Identity.Get(ctx, &identity)...)
	} else {
		key, entity, err := parseID(req.ID)
		if err != nil {
			refuseImport(&resp.Diagnostics, err, "KEY:ENTITY, like \"checkout/new-cart:user-42\"")
			return
		}
		identity = overrideIdentity{FlagKey: types.StringValue(string(key)), EntityID: types.StringValue(entity)}
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("flag_key"), identity.FlagKey)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("entity_id"), identity.EntityID)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, identity)...)
	record{TakeOver: true}.save(ctx, resp.Private, &resp.Diagnostics)
}
