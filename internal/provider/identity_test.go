package provider

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// protocol speaks to the provider as Terraform does, without Terraform.
type protocol struct {
	t *testing.T
	tfprotov6.ProviderServer
	schemas    *tfprotov6.GetProviderSchemaResponse
	identities *tfprotov6.GetResourceIdentitySchemasResponse
}

// newProtocol configures a provider for the server.
func newProtocol(t *testing.T, server *buntingtest.Server) *protocol {
	t.Helper()
	inside := &buntingProvider{version: "0.0.0-test"}
	t.Cleanup(inside.Close)
	p := &protocol{t: t, ProviderServer: providerserver.NewProtocol6(inside)()}
	var err error
	if p.schemas, err = p.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{}); err != nil {
		t.Fatal(err)
	}
	if p.identities, err = p.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{}); err != nil {
		t.Fatal(err)
	}
	config := objectOf(p.schemas.Provider.ValueType(), map[string]string{"endpoint": server.Endpoint, "token": server.AdminToken})
	resp, err := p.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{Config: p.encode(config)})
	p.must(err, resp.Diagnostics)
	return p
}

func (p *protocol) encode(v tftypes.Value) *tfprotov6.DynamicValue {
	p.t.Helper()
	d, err := tfprotov6.NewDynamicValue(v.Type(), v)
	if err != nil {
		p.t.Fatal(err)
	}
	return &d
}

func (p *protocol) must(err error, diags []*tfprotov6.Diagnostic) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range diags {
		if d.Severity == tfprotov6.DiagnosticSeverityError {
			p.t.Fatalf("%s: %s", d.Summary, d.Detail)
		}
	}
}

// objectOf gives an object of the type with some strings set and all else null.
func objectOf(typ tftypes.Type, texts map[string]string) tftypes.Value {
	members := map[string]tftypes.Value{}
	for name, attribute := range typ.(tftypes.Object).AttributeTypes {
		members[name] = tftypes.NewValue(attribute, nil)
		if text, ok := texts[name]; ok {
			members[name] = tftypes.NewValue(attribute, text)
		}
	}
	return tftypes.NewValue(typ, members)
}

// Every resource is imported by its identity as by its id, and read then.
func TestImportByIdentity(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	layered := boolFlag("a/pay")
	layered.Layer = "user"
	hold := kill("a/pay", "terraform/x")
	hold.OwnerID = flag.WorkspaceOwner("w")
	anna.does(flag.Put(layered), flag.Put(&flag.Override{FlagKey: "a/pay", EntityID: "u:1", State: flag.Default}), hold)
	for resource, row := range map[string]struct {
		id       string
		identity map[string]string
	}{
		"bunting_flag":        {"a/pay", map[string]string{"key": "a/pay"}},
		"bunting_override":    {"a/pay:u:1", map[string]string{"flag_key": "a/pay", "entity_id": "u:1"}},
		"bunting_kill_switch": {"a/pay:terraform/x", map[string]string{"flag_key": "a/pay", "holder": "terraform/x"}},
	} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			p := newProtocol(t, server)
			p.t = t
			identity := objectOf(p.identities.IdentitySchemas[resource].ValueType(), row.identity)
			for name, req := range map[string]*tfprotov6.ImportResourceStateRequest{
				"id":       {TypeName: resource, ID: row.id},
				"identity": {TypeName: resource, Identity: &tfprotov6.ResourceIdentityData{IdentityData: p.encode(identity)}},
			} {
				resp, err := p.ImportResourceState(t.Context(), req)
				p.must(err, resp.Diagnostics)
				imported := resp.ImportedResources[0]
				read, err := p.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{
					TypeName: resource, CurrentState: imported.State, CurrentIdentity: imported.Identity, Private: imported.Private,
				})
				p.must(err, read.Diagnostics)
				state, err := read.NewState.Unmarshal(p.schemas.ResourceSchemas[resource].ValueType())
				if err != nil || state.IsNull() || !state.IsFullyKnown() {
					t.Fatalf("by %s: %s, %v", name, state, err)
				}
				got, err := read.NewIdentity.IdentityData.Unmarshal(identity.Type())
				if err != nil || !got.Equal(identity) {
					t.Errorf("by %s: the identity is %s, %v", name, got, err)
				}
			}
			example, err := os.ReadFile("../../examples/resources/" + resource + "/import-by-identity.tf")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range regexp.MustCompile(`(?m)^ {4}(\w+) +=`).FindAllStringSubmatch(string(example), -1) {
				delete(row.identity, name[1])
			}
			if len(row.identity) > 0 {
				t.Errorf("the example does not name %v", row.identity)
			}
			bad, err := p.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: resource, ID: "a//b"})
			if err != nil || len(bad.Diagnostics) != 1 || bad.Diagnostics[0].Summary != "Invalid import id" || !strings.Contains(bad.Diagnostics[0].Detail, "The import id is KEY") {
				t.Errorf("a bad id: %v, %v", bad.Diagnostics, err)
			}
		})
	}
}
