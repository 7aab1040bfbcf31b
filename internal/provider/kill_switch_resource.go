package provider

import (
	"context"
	"fmt"
	"strings"
	"time"

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
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var (
	_ resource.ResourceWithConfigure      = &killSwitchResource{}
	_ resource.ResourceWithValidateConfig = &killSwitchResource{}
	_ resource.ResourceWithModifyPlan     = &killSwitchResource{}
	_ resource.ResourceWithImportState    = &killSwitchResource{}
	_ resource.ResourceWithIdentity       = &killSwitchResource{}
)

// killSwitchResource is bunting_kill_switch. Engaged, it owns exactly one hold.
// Not engaged, there is nothing on the server: the switch is in the state alone,
// and what Read then expects to find is no hold of its own.
type killSwitchResource struct{ resourceBase }

// NewKillSwitchResource makes bunting_kill_switch.
func NewKillSwitchResource() resource.Resource { return &killSwitchResource{} }

// killSwitchModel is bunting_kill_switch as configuration, plan and state have it.
type killSwitchModel struct {
	FlagKey          types.String   `tfsdk:"flag_key"`
	Reason           types.String   `tfsdk:"reason"`
	Engaged          types.Bool     `tfsdk:"engaged"`
	Holder           types.String   `tfsdk:"holder"`
	ExpiresAt        types.String   `tfsdk:"expires_at"`
	ReleaseOnDestroy types.Bool     `tfsdk:"release_on_destroy"`
	Killed           types.Bool     `tfsdk:"killed"`
	OtherHolds       types.List     `tfsdk:"other_holds"`
	Timeouts         timeouts.Value `tfsdk:"timeouts"`
}

// killSwitchIdentity is the kill switch's resource identity.
type killSwitchIdentity struct {
	FlagKey types.String `tfsdk:"flag_key"`
	Holder  types.String `tfsdk:"holder"`
}

func (m *killSwitchModel) identity() killSwitchIdentity {
	return killSwitchIdentity{FlagKey: m.FlagKey, Holder: m.Holder}
}

func (m *killSwitchModel) ref() flag.Ref {
	return flag.HoldRef(flag.Key(m.FlagKey.ValueString()), m.Holder.ValueString())
}

// name names the kill switch's hold after a verb.
func (m *killSwitchModel) name() string {
	return fmt.Sprintf("the hold of %q on flag %q", m.Holder.ValueString(), m.FlagKey.ValueString())
}

// hold gives the hold that the switch demands while it is engaged.
func (m *killSwitchModel) hold(diags *diag.Diagnostics) *flag.Hold {
	ref := m.ref()
	h := &flag.Hold{FlagKey: ref.Key, Holder: ref.ID, Reason: m.Reason.ValueString()}
	if !m.ExpiresAt.IsNull() && !m.ExpiresAt.IsUnknown() {
		expires, err := time.Parse(time.RFC3339, m.ExpiresAt.ValueString())
		if err != nil {
			invalid(diags, flag.Invalid("expires_at", fmt.Sprintf("is %q, not a time as RFC 3339 writes it. Write one like \"2030-01-02T15:04:05Z\".", flag.Shorten(m.ExpiresAt.ValueString()))))
		}
		h.ExpiresAt = expires.UTC()
	}
	return h
}

// Metadata names the resource.
func (r *killSwitchResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "bunting_kill_switch"
}

// Schema declares the resource.
func (r *killSwitchResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A kill switch: while it is engaged it holds a flag killed, so that the flag's default value is served to everybody. " +
			"It owns exactly one hold; holds of others (`bunting kill`, other kill switches) are not touched by it, and the flag stays killed until all are released.",
		Attributes: map[string]schema.Attribute{
			"flag_key": schema.StringAttribute{
				MarkdownDescription: "Key of the flag. Write `bunting_flag.NAME.key` for a flag of the same configuration, so that it is made first.",
				Required:            true,
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"reason": schema.StringAttribute{
				MarkdownDescription: "Why the flag is killed: what the next person on call reads. Required while engaged.",
				Optional:            true,
			},
			"engaged": schema.BoolAttribute{
				MarkdownDescription: "Whether the hold is placed (`true`, the default) or released.",
				Optional:            true,
				Computed:            true,
				Default:             booldefault.StaticBool(true),
			},
			"holder": schema.StringAttribute{
				MarkdownDescription: "Who holds: `terraform` (the default) or `terraform/<name>`. A flag has one hold for each holder, so a second kill switch on a flag needs a name of its own.",
				Optional:            true,
				Computed:            true,
				Default:             stringdefault.StaticString(flag.TerraformHolder),
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"expires_at": schema.StringAttribute{
				MarkdownDescription: "When the hold ends by itself, as RFC 3339, like `2030-01-02T15:04:05Z`. Without it the hold stands until it is released. An expired hold is kept as a record and is no drift.",
				Optional:            true,
			},
			"release_on_destroy": schema.BoolAttribute{
				MarkdownDescription: "Whether destroying an engaged kill switch releases its hold. By default (`false`) that is refused, because it would switch the feature back on: apply `engaged = false` first. What counts is what was applied last.",
				Optional:            true,
				Computed:            true,
				Default:             booldefault.StaticBool(false),
			},
			"killed": schema.BoolAttribute{
				MarkdownDescription: "Whether any hold stands on the flag, this switch's or another's.",
				Computed:            true,
			},
			"other_holds": schema.ListAttribute{
				MarkdownDescription: "Holders of the other holds that stand on the flag, in order.",
				ElementType:         types.StringType,
				Computed:            true,
			},
			"timeouts": timeoutsAttribute(ctx),
		},
	}
}

// IdentitySchema declares what the kill switch is known by.
func (r *killSwitchResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"flag_key": identityschema.StringAttribute{Description: "The flag's key.", RequiredForImport: true},
			"holder":   identityschema.StringAttribute{Description: "The holder.", RequiredForImport: true},
		},
	}
}

// ValidateConfig checks what the configuration says by itself.
func (r *killSwitchResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config killSwitchModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	h := config.hold(&resp.Diagnostics)
	if config.FlagKey.IsUnknown() {
		h.FlagKey = "unknown"
	}
	if config.Holder.IsUnknown() || config.Holder.IsNull() {
		h.Holder = flag.TerraformHolder
	}
	engaged := config.Engaged.IsNull() || config.Engaged.ValueBool()
	switch {
	case config.Reason.IsUnknown(), config.Engaged.IsUnknown(), !engaged && config.Reason.ValueString() == "":
		h.Reason = "unknown"
	case config.Reason.IsNull():
		invalid(&resp.Diagnostics, flag.Invalid("reason", "is missing, but the kill switch is engaged. Say why the flag is killed: it is what the next person on call reads."))
		h.Reason = "missing"
	}
	if err := h.Validate(); err != nil {
		invalid(&resp.Diagnostics, err)
	}
	if !flag.IsTerraformHolder(h.Holder) {
		invalid(&resp.Diagnostics, flag.Invalid("holder", fmt.Sprintf("is %q, but holders of Terraform are \"terraform\" and what begins with \"terraform/\". Write holder = \"terraform/<name>\"; holds of people are placed and released with the command bunting.", h.Holder)))
	}
}

// ModifyPlan refuses what would switch a feature back on unasked, and settles
// what is planned.
func (r *killSwitchResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout) // what is read while planning has no timeouts
	defer cancel()
	var plan, state killSwitchModel
	update := !req.State.Raw.IsNull()
	if update {
		resp.Diagnostics.Append(get(ctx, req.State, &state)...)
		if resp.Diagnostics.HasError() {
			return
		}
	}
	if req.Plan.Raw.IsNull() {
		if r.session.lost() {
			return
		}
		kept := r.session.planDestroy(ctx, req, resp, state.ref())
		r.refuseEngaged(ctx, &resp.Diagnostics, &state, kept, "destroy", r.session.unread)
		return
	}
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if !plan.FlagKey.IsUnknown() && !plan.Holder.IsUnknown() {
		r.session.claim(ctx, req, &resp.Diagnostics, plan.ref(), "holder")
	}
	if update && plan.ref() != state.ref() && !r.session.lost() && !plan.FlagKey.IsUnknown() && !plan.Holder.IsUnknown() {
		r.refuseEngaged(ctx, &resp.Diagnostics, &state, record{}, "replace", r.session.unread)
	}
	if update && sameTime(plan.ExpiresAt, state.ExpiresAt) {
		plan.ExpiresAt = state.ExpiresAt
		rest := plan
		rest.Killed, rest.OtherHolds = state.Killed, state.OtherHolds
		if rest.equal(&state) {
			plan = rest
		}
	}
	// A hold whose time has come is not at fault; one that is to be placed is.
	stood := update && state.Engaged.ValueBool() && sameTime(plan.ExpiresAt, state.ExpiresAt)
	if plan.Engaged.ValueBool() && !plan.ExpiresAt.IsUnknown() && !stood {
		if err := flag.ValidateExpiry(plan.hold(&resp.Diagnostics).ExpiresAt, time.Now()); err != nil {
			invalid(&resp.Diagnostics, err)
		}
	}
	resp.Diagnostics.Append(set(ctx, &resp.Plan, &plan)...)
}

// equal reports whether two models say the same.
func (m *killSwitchModel) equal(o *killSwitchModel) bool {
	return m.FlagKey.Equal(o.FlagKey) && m.Reason.Equal(o.Reason) && m.Engaged.Equal(o.Engaged) && m.Holder.Equal(o.Holder) &&
		m.ExpiresAt.Equal(o.ExpiresAt) && m.ReleaseOnDestroy.Equal(o.ReleaseOnDestroy) && m.Killed.Equal(o.Killed) &&
		m.OtherHolds.Equal(o.OtherHolds) && m.Timeouts.Equal(o.Timeouts)
}

// sameTime reports whether two times are written, and are the same moment.
func sameTime(a, b types.String) bool {
	if a.IsUnknown() || b.IsUnknown() || a.IsNull() || b.IsNull() {
		return a.IsNull() && b.IsNull()
	}
	at, errA := time.Parse(time.RFC3339, a.ValueString())
	bt, errB := time.Parse(time.RFC3339, b.ValueString())
	return errA == nil && errB == nil && at.Equal(bt)
}

// refuseEngaged refuses to destroy or replace a switch whose hold stands, with
// the value that would be served again. What a replacement left over of a switch
// may go: the hold is that of the switch that took its place. failed tells where
// the flag cannot be read.
func (r *killSwitchResource) refuseEngaged(ctx context.Context, diags *diag.Diagnostics, state *killSwitchModel, kept record, doing string, failed func(*diag.Diagnostics, string, error)) {
	if !state.Engaged.ValueBool() || state.ReleaseOnDestroy.ValueBool() {
		return
	}
	ref := state.ref()
	f, holds, err := r.session.flag(ctx, ref.Key)
	if err != nil {
		failed(diags, doing+" the kill switch of flag "+fmt.Sprintf("%q", ref.Key), err)
		return
	}
	own, others := split(holds, ref.ID)
	if f == nil || own == nil || !own.StandsAt(time.Now()) || kept.replacedBy(own) {
		return // nothing would change
	}
	again := fmt.Sprintf("the flag would serve %s again instead of its default value %s", flag.Shorten(f.Serves().JSON()), flag.Shorten(f.Default.JSON()))
	if len(others) > 0 {
		again += ", as soon as " + strings.Join(others, " and ") + " released it too"
	}
	diags.AddAttributeError(path.Root("engaged"), fmt.Sprintf("The kill switch of flag %q is engaged", ref.Key),
		fmt.Sprintf("To %s it would release the hold of %q: %s. Set engaged = false and apply that first, or set release_on_destroy = true and apply that first.", doing, ref.ID, again))
}

// split gives the holder's own hold (nil for none) and the holders of the others
// that stand.
func split(holds []*flag.Hold, holder string) (own *flag.Hold, others []string) {
	now := time.Now()
	for _, h := range holds {
		switch {
		case h.Holder == holder:
			own = h
		case h.StandsAt(now):
			others = append(others, h.Holder)
		}
	}
	return own, others
}

// show puts what the server has of the flag's holds into the model: killed and
// other_holds. A hold of the same holder that is not this switch's counts as
// another's.
func (m *killSwitchModel) show(holds []*flag.Hold) {
	own, others := split(holds, m.Holder.ValueString())
	if own != nil && !m.Engaged.ValueBool() && own.StandsAt(time.Now()) {
		others = append([]string{own.Holder}, others...)
	}
	m.Killed, m.OtherHolds = types.BoolValue(standing(holds)), stringList(others)
}

// look reads the holds where no write told them. What was to be done is done, so
// not getting the answer is no error: the next plan reads it.
func (r *killSwitchResource) look(ctx context.Context, m *killSwitchModel, diags *diag.Diagnostics) {
	holds, err := r.session.holds(ctx, m.ref().Key)
	if err != nil {
		diags.AddWarning(fmt.Sprintf("The kill switch of flag %q was applied, but not read again", m.FlagKey.ValueString()), sentence(err.Error())+" The holds are read by the next plan.")
		m.Killed, m.OtherHolds = types.BoolNull(), types.ListNull(types.StringType)
		return
	}
	m.show(holds)
}

// Create places the hold, when the switch is engaged.
func (r *killSwitchResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan killSwitchModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Create, writeTimeout)
	defer cancel()
	h := plan.hold(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	op, ref := operation{"place " + plan.name(), "bunting_kill_switch", plan.ref().String()}, plan.ref()
	var kept record
	if plan.Engaged.ValueBool() {
		var holds []*flag.Hold
		var err error
		if kept, holds, err = r.session.create(ctx, h); err != nil {
			op.failed(&resp.Diagnostics, err)
			return
		}
		plan.show(holds)
	} else {
		kept.OwnerID, _ = r.session.owner(kept)
		// Nothing of the holder's own may stand: a hold that the same workspace
		// placed in an apply whose answer was lost is released.
		holds, err := r.session.holds(ctx, ref.Key)
		if own, _ := split(holds, ref.ID); err == nil && own != nil && own.OwnerID == kept.OwnerID {
			err = r.session.remove(ctx, flag.ReleaseHold, ref, record{OwnerID: kept.OwnerID}.at(own, r.session.storeID))
		}
		if err != nil {
			operation{doing: "release " + plan.name()}.failed(&resp.Diagnostics, err)
			return
		}
		r.look(ctx, &plan, &resp.Diagnostics)
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, plan.identity())...)
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// Read takes over what the server has.
func (r *killSwitchResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state killSwitchModel
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
	holds, err := r.session.holds(ctx, ref.Key)
	if err != nil {
		r.session.unread(&resp.Diagnostics, "read "+state.name(), err)
		return
	}
	own, _ := split(holds, ref.ID)
	imported := state.Engaged.IsNull()
	if own == nil && imported {
		resp.State.RemoveResource(ctx) // there is nothing to import
		return
	}
	if own == nil && state.Engaged.ValueBool() {
		r.session.tellGone(ctx, &resp.Diagnostics, ref, kept)
	}
	r.showOwn(&state, kept, own, &resp.Diagnostics)
	state.show(holds)
	if state.ReleaseOnDestroy.IsNull() {
		state.ReleaseOnDestroy = types.BoolValue(false)
	}
	if state.Engaged.ValueBool() {
		tellHolds(&resp.Diagnostics, holds, ref.ID)
	} else {
		tellHolds(&resp.Diagnostics, holds, "")
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &state)...)
	kept.Revision = 0
	if own != nil && state.Engaged.ValueBool() {
		kept = kept.at(own, r.session.storeID)
	}
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// showOwn takes the switch's own hold into the state: whether there is one, and
// what it says.
func (r *killSwitchResource) showOwn(state *killSwitchModel, kept record, own *flag.Hold, diags *diag.Diagnostics) {
	switch {
	case own == nil && !state.Engaged.ValueBool():
		return
	case own == nil:
		state.Engaged = types.BoolValue(false)
		return
	case !state.Engaged.IsNull() && !state.Engaged.ValueBool() && own.OwnerID != kept.OwnerID:
		return // another's: this switch has placed none
	}
	before := *state
	state.Engaged = types.BoolValue(true)
	state.Reason = types.StringValue(own.Reason)
	expires := types.StringNull()
	if !own.ExpiresAt.IsZero() {
		expires = types.StringValue(own.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	if !sameTime(state.ExpiresAt, expires) {
		state.ExpiresAt = expires
	}
	tellChange(diags, kept, own, !state.Reason.Equal(before.Reason) || !state.ExpiresAt.Equal(before.ExpiresAt) || !state.Engaged.Equal(before.Engaged))
}

// Update places, changes or releases the hold.
func (r *killSwitchResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, state killSwitchModel
	resp.Diagnostics.Append(get(ctx, req.Plan, &plan)...)
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, plan.Timeouts.Update, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	h := plan.hold(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	was, is := state.Engaged.ValueBool(), plan.Engaged.ValueBool()
	var holds []*flag.Hold
	doing, err := "place ", error(nil)
	switch {
	case is && was:
		doing = "change "
		kept, holds, err = r.session.update(ctx, h, kept)
	case is:
		kept, holds, err = r.session.create(ctx, h)
	case was:
		doing = "release "
		if err = r.session.remove(ctx, flag.ReleaseHold, plan.ref(), kept); err == nil {
			kept.Revision, kept.TakeOver = 0, false
		}
	}
	if err != nil {
		operation{doing: doing + plan.name()}.failed(&resp.Diagnostics, err)
		return
	}
	if is {
		plan.show(holds)
	} else {
		r.look(ctx, &plan, &resp.Diagnostics)
	}
	resp.Diagnostics.Append(set(ctx, &resp.State, &plan)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, plan.identity())...)
	kept.save(ctx, resp.Private, &resp.Diagnostics)
}

// Delete releases the hold, where that was allowed.
func (r *killSwitchResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state killSwitchModel
	resp.Diagnostics.Append(get(ctx, req.State, &state)...)
	ctx, cancel := deadline(ctx, &resp.Diagnostics, state.Timeouts.Delete, writeTimeout)
	defer cancel()
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() || !state.Engaged.ValueBool() {
		return
	}
	r.refuseEngaged(ctx, &resp.Diagnostics, &state, kept, "destroy", failed)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.session.destroy(ctx, flag.ReleaseHold, state.ref(), kept); err != nil {
		operation{doing: "release " + state.name()}.failed(&resp.Diagnostics, err)
	}
}

// ImportState takes a hold by key and holder.
func (r *killSwitchResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	var identity killSwitchIdentity
	if req.ID == "" {
		resp.Diagnostics.Append(req.Identity.Get(ctx, &identity)...)
	} else {
		key, holder, err := parseID(req.ID)
		if err == nil && !flag.IsTerraformHolder(holder) {
			err = flag.Invalid("", fmt.Sprintf("%q is no holder of Terraform, so its hold cannot be imported; it is released with the command bunting.", holder))
		}
		if err != nil {
			refuseImport(&resp.Diagnostics, err, "KEY:HOLDER, like \"checkout/new-cart:terraform\"")
			return
		}
		identity = killSwitchIdentity{FlagKey: types.StringValue(string(key)), Holder: types.StringValue(holder)}
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("flag_key"), identity.FlagKey)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("holder"), identity.Holder)...)
	resp.Diagnostics.Append(setIdentity(ctx, resp.Identity, identity)...)
	record{TakeOver: true}.save(ctx, resp.Private, &resp.Diagnostics)
}
