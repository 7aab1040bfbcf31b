package main

import (
	"reflect"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	ours "github.com/bunting-flags/terraform-provider-bunting/internal/provider"
)

// TestNothing: what does nothing has the same schemas, and keeps to the rules of Terraform, without a server.
func TestNothing(t *testing.T) {
	ctx := t.Context()
	nothing := providerserver.NewProtocol6(newProvider())()
	ask := &tfprotov6.GetProviderSchemaRequest{}
	got, err := nothing.GetProviderSchema(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	want, err := providerserver.NewProtocol6(ours.New("0.0.0-test")())().GetProviderSchema(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Provider, want.Provider) || !reflect.DeepEqual(got.ResourceSchemas, want.ResourceSchemas) || !reflect.DeepEqual(got.DataSourceSchemas, want.DataSourceSchemas) {
		t.Error("the schemas differ")
	}

	typ := got.ResourceSchemas["bunting_flag"].ValueType().(tftypes.Object)
	pack := func(v any) *tfprotov6.DynamicValue {
		packed, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, v))
		if err != nil {
			t.Fatal(err)
		}
		return &packed
	}
	declared := map[string]tftypes.Value{}
	for name, typ := range typ.AttributeTypes {
		declared[name] = tftypes.NewValue(typ, nil)
	}
	declared["key"], declared["default_value"] = tftypes.NewValue(tftypes.String, "pay"), tftypes.NewValue(tftypes.Bool, false)
	config := pack(declared)
	declared["id"], declared["killed"] = tftypes.NewValue(tftypes.String, tftypes.UnknownValue), tftypes.NewValue(tftypes.Bool, tftypes.UnknownValue)
	made, err := nothing.ApplyResourceChange(ctx, &tfprotov6.ApplyResourceChangeRequest{TypeName: "bunting_flag", PriorState: pack(nil), PlannedState: pack(declared), Config: config})
	if err != nil || len(made.Diagnostics) > 0 || made.NewIdentity == nil {
		t.Fatalf("%v, %+v", err, made)
	}
	read, err := nothing.ReadResource(ctx, &tfprotov6.ReadResourceRequest{TypeName: "bunting_flag", CurrentState: made.NewState})
	if err != nil || len(read.Diagnostics) > 0 || read.NewIdentity == nil {
		t.Fatalf("%v, %+v", err, read)
	}
	declared["id"], declared["killed"] = tftypes.NewValue(tftypes.String, nil), tftypes.NewValue(tftypes.Bool, nil)
	for _, packed := range []*tfprotov6.DynamicValue{made.NewState, read.NewState} {
		if state, err := packed.Unmarshal(typ); err != nil || !state.Equal(tftypes.NewValue(typ, declared)) {
			t.Errorf("%v, %v", state, err)
		}
	}
}
