// Nothing is a provider of the same schema as ours that does nothing: what is created is what was planned, what is read
// is what the state says, and no server is asked. What Terraform takes with it is what Terraform and the plugin
// framework take by themselves, so the benchmark compares ours with it.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	ours "github.com/bunting-flags/terraform-provider-bunting/internal/provider"
)

func main() {
	err := providerserver.Serve(context.Background(), newProvider, providerserver.ServeOpts{
		Address: "registry.terraform.io/bunting-flags/bunting",
	})
	if err != nil {
		log.Fatal(err)
	}
}

// nothingProvider has the settings, resources and data sources of the real provider, which it is made from.
type nothingProvider struct{ provider.Provider }

func newProvider() provider.Provider { return &nothingProvider{ours.New("0.0.0-nothing")()} }

// Configure greets nobody.
func (p *nothingProvider) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}

// Resources lists the real resources, each without what it does.
func (p *nothingProvider) Resources(ctx context.Context) []func() resource.Resource {
	all := p.Provider.Resources(ctx)
	list := make([]func() resource.Resource, len(all))
	for i, newReal := range all {
		list[i] = func() resource.Resource {
			return &nothingResource{newReal().(resource.ResourceWithIdentity)} //nolint:forcetypeassert // Each of ours has an identity.
		}
	}
	return list
}

// nothingResource has the schemas of a real resource. Its validation and its planning are what the framework does by
// itself.
type nothingResource struct{ resource.ResourceWithIdentity }

// Create takes what is planned for what is there.
func (r *nothingResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	settle(req.Plan, &resp.State, &resp.Diagnostics)
	identify(ctx, resp.State, resp.Identity, &resp.Diagnostics)
}

// Read leaves the state as it is.
func (r *nothingResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	identify(ctx, req.State, resp.Identity, &resp.Diagnostics)
}

// Update takes what is planned for what is there.
func (r *nothingResource) Update(_ context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	settle(req.Plan, &resp.State, &resp.Diagnostics)
}

// Delete has nothing to delete.
func (r *nothingResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}

// settle makes a state of a plan: what is unknown is null from now on.
func settle(plan tfsdk.Plan, state *tfsdk.State, diags *diag.Diagnostics) {
	known, err := tftypes.Transform(plan.Raw, func(_ *tftypes.AttributePath, v tftypes.Value) (tftypes.Value, error) {
		if !v.IsKnown() {
			return tftypes.NewValue(v.Type(), nil), nil
		}
		return v, nil
	})
	if err != nil {
		diags.AddError("The plan cannot be settled", err.Error())
		return
	}
	state.Raw = known
}

// identify gives the object its identity: the attributes of the same names.
func identify(ctx context.Context, state tfsdk.State, identity *tfsdk.ResourceIdentity, diags *diag.Diagnostics) {
	if identity == nil {
		return // an older Terraform, which asks for none
	}
	for name := range identity.Schema.GetAttributes() {
		var v types.String
		diags.Append(state.GetAttribute(ctx, path.Root(name), &v)...)
		diags.Append(identity.SetAttribute(ctx, path.Root(name), v)...)
	}
}
