package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	tfjson "github.com/hashicorp/terraform-json"
	"github.com/zclconf/go-cty/cty"
)

// The documentation generator looks a provider up by its short name, or by an address in the namespace hashicorp,
// which is not ours.
const shortName = "bunting"

// exportSchemas asks the server for everything it declares.
func exportSchemas(ctx context.Context, server tfprotov6.ProviderServer) (*tfjson.ProviderSchemas, error) {
	declared, err := server.GetProviderSchema(ctx, &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		return nil, fmt.Errorf("get provider schema: %w", err)
	}
	if err := firstError(declared.Diagnostics); err != nil {
		return nil, fmt.Errorf("get provider schema: %w", err)
	}
	identities, err := server.GetResourceIdentitySchemas(ctx, &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		return nil, fmt.Errorf("get resource identity schemas: %w", err)
	}
	if err := firstError(identities.Diagnostics); err != nil {
		return nil, fmt.Errorf("get resource identity schemas: %w", err)
	}

	var out tfjson.ProviderSchema
	if out.ConfigSchema, err = convertSchema(declared.Provider); err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	if out.ResourceSchemas, err = convertAll(declared.ResourceSchemas, convertSchema); err != nil {
		return nil, fmt.Errorf("resource %w", err)
	}
	if out.DataSourceSchemas, err = convertAll(declared.DataSourceSchemas, convertSchema); err != nil {
		return nil, fmt.Errorf("data source %w", err)
	}
	if out.EphemeralResourceSchemas, err = convertAll(declared.EphemeralResourceSchemas, convertSchema); err != nil {
		return nil, fmt.Errorf("ephemeral resource %w", err)
	}
	if out.ListResourceSchemas, err = convertAll(declared.ListResourceSchemas, convertSchema); err != nil {
		return nil, fmt.Errorf("list resource %w", err)
	}
	if out.ActionSchemas, err = convertAll(declared.ActionSchemas, convertAction); err != nil {
		return nil, fmt.Errorf("action %w", err)
	}
	if out.Functions, err = convertAll(declared.Functions, convertFunction); err != nil {
		return nil, fmt.Errorf("function %w", err)
	}
	if out.ResourceIdentitySchemas, err = convertAll(identities.IdentitySchemas, convertIdentity); err != nil {
		return nil, fmt.Errorf("identity of %w", err)
	}
	return &tfjson.ProviderSchemas{
		FormatVersion: "1.0",
		Schemas:       map[string]*tfjson.ProviderSchema{shortName: &out},
	}, nil
}

func firstError(diagnostics []*tfprotov6.Diagnostic) error {
	for _, d := range diagnostics {
		if d.Severity == tfprotov6.DiagnosticSeverityError {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return nil
}

// convertAll converts each named value; an error names the one it is about.
func convertAll[From, To any](in map[string]From, convert func(From) (To, error)) (map[string]To, error) {
	out := make(map[string]To, len(in))
	for name, from := range in {
		to, err := convert(from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = to
	}
	return out, nil
}

func convertSchema(in *tfprotov6.Schema) (*tfjson.Schema, error) {
	if in == nil {
		return &tfjson.Schema{Block: &tfjson.SchemaBlock{}}, nil
	}
	block, err := convertBlock(in.Block)
	if err != nil {
		return nil, err
	}
	return &tfjson.Schema{Version: uint64(in.Version), Block: block}, nil //nolint:gosec // The framework refuses negative versions.
}

func convertAction(in *tfprotov6.ActionSchema) (*tfjson.ActionSchema, error) {
	schema, err := convertSchema(in.Schema)
	if err != nil {
		return nil, err
	}
	return &tfjson.ActionSchema{Block: schema.Block}, nil
}

func convertBlock(in *tfprotov6.SchemaBlock) (*tfjson.SchemaBlock, error) {
	if in == nil {
		return &tfjson.SchemaBlock{}, nil
	}
	attributes, err := convertAttributes(in.Attributes)
	if err != nil {
		return nil, err
	}
	blocks := make(map[string]*tfjson.SchemaBlockType, len(in.BlockTypes))
	for _, nested := range in.BlockTypes {
		block, err := convertBlock(nested.Block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nested.TypeName, err)
		}
		mode, ok := blockNesting[nested.Nesting]
		if !ok {
			return nil, fmt.Errorf("%s: unknown nesting mode %s", nested.TypeName, nested.Nesting)
		}
		blocks[nested.TypeName] = &tfjson.SchemaBlockType{
			NestingMode: mode,
			Block:       block,
			MinItems:    uint64(nested.MinItems), //nolint:gosec // A count.
			MaxItems:    uint64(nested.MaxItems), //nolint:gosec // A count.
		}
	}
	return &tfjson.SchemaBlock{
		Attributes:      attributes,
		NestedBlocks:    blocks,
		Description:     in.Description,
		DescriptionKind: descriptionKind(in.DescriptionKind),
		Deprecated:      in.Deprecated,
	}, nil
}

func convertAttributes(in []*tfprotov6.SchemaAttribute) (map[string]*tfjson.SchemaAttribute, error) {
	out := make(map[string]*tfjson.SchemaAttribute, len(in))
	for _, attribute := range in {
		converted, err := convertAttribute(attribute)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", attribute.Name, err)
		}
		out[attribute.Name] = converted
	}
	return out, nil
}

func convertAttribute(in *tfprotov6.SchemaAttribute) (*tfjson.SchemaAttribute, error) {
	out := &tfjson.SchemaAttribute{
		Description:     in.Description,
		DescriptionKind: descriptionKind(in.DescriptionKind),
		Deprecated:      in.Deprecated,
		Required:        in.Required,
		Optional:        in.Optional,
		Computed:        in.Computed,
		Sensitive:       in.Sensitive,
		WriteOnly:       in.WriteOnly,
	}
	var err error
	if in.NestedType == nil {
		out.AttributeType, err = convertType(in.Type)
		return out, err
	}
	mode, ok := objectNesting[in.NestedType.Nesting]
	if !ok {
		return nil, fmt.Errorf("unknown nesting mode %s", in.NestedType.Nesting)
	}
	out.AttributeNestedType = &tfjson.SchemaNestedAttributeType{NestingMode: mode}
	out.AttributeNestedType.Attributes, err = convertAttributes(in.NestedType.Attributes)
	return out, err
}

func convertIdentity(in *tfprotov6.ResourceIdentitySchema) (*tfjson.IdentitySchema, error) {
	out := &tfjson.IdentitySchema{
		Version:    uint64(in.Version), //nolint:gosec // The framework refuses negative versions.
		Attributes: make(map[string]*tfjson.IdentityAttribute, len(in.IdentityAttributes)),
	}
	for _, attribute := range in.IdentityAttributes {
		typ, err := convertType(attribute.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", attribute.Name, err)
		}
		out.Attributes[attribute.Name] = &tfjson.IdentityAttribute{
			IdentityType:      typ,
			Description:       attribute.Description,
			RequiredForImport: attribute.RequiredForImport,
			OptionalForImport: attribute.OptionalForImport,
		}
	}
	return out, nil
}

func convertFunction(in *tfprotov6.Function) (*tfjson.FunctionSignature, error) {
	out := &tfjson.FunctionSignature{
		Description:        in.Description,
		Summary:            in.Summary,
		DeprecationMessage: in.DeprecationMessage,
	}
	var err error
	if out.ReturnType, err = convertType(in.Return.Type); err != nil {
		return nil, fmt.Errorf("return: %w", err)
	}
	for _, parameter := range in.Parameters {
		converted, err := convertParameter(parameter)
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, converted)
	}
	if in.VariadicParameter != nil {
		out.VariadicParameter, err = convertParameter(in.VariadicParameter)
	}
	return out, err
}

func convertParameter(in *tfprotov6.FunctionParameter) (*tfjson.FunctionParameter, error) {
	typ, err := convertType(in.Type)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return &tfjson.FunctionParameter{
		Name:        in.Name,
		Description: in.Description,
		IsNullable:  in.AllowNullValue,
		Type:        typ,
	}, nil
}

// convertType goes by the JSON form, which both libraries share.
func convertType(in tftypes.Type) (cty.Type, error) {
	text, err := json.Marshal(in)
	if err != nil {
		return cty.NilType, fmt.Errorf("encode type: %w", err)
	}
	var out cty.Type
	if err := json.Unmarshal(text, &out); err != nil {
		return cty.NilType, fmt.Errorf("decode type %s: %w", text, err)
	}
	return out, nil
}

func descriptionKind(in tfprotov6.StringKind) tfjson.SchemaDescriptionKind {
	if in == tfprotov6.StringKindMarkdown {
		return tfjson.SchemaDescriptionKindMarkdown
	}
	return tfjson.SchemaDescriptionKindPlain
}

var blockNesting = map[tfprotov6.SchemaNestedBlockNestingMode]tfjson.SchemaNestingMode{
	tfprotov6.SchemaNestedBlockNestingModeSingle: tfjson.SchemaNestingModeSingle,
	tfprotov6.SchemaNestedBlockNestingModeGroup:  tfjson.SchemaNestingModeGroup,
	tfprotov6.SchemaNestedBlockNestingModeList:   tfjson.SchemaNestingModeList,
	tfprotov6.SchemaNestedBlockNestingModeSet:    tfjson.SchemaNestingModeSet,
	tfprotov6.SchemaNestedBlockNestingModeMap:    tfjson.SchemaNestingModeMap,
}

var objectNesting = map[tfprotov6.SchemaObjectNestingMode]tfjson.SchemaNestingMode{
	tfprotov6.SchemaObjectNestingModeSingle: tfjson.SchemaNestingModeSingle,
	tfprotov6.SchemaObjectNestingModeList:   tfjson.SchemaNestingModeList,
	tfprotov6.SchemaObjectNestingModeSet:    tfjson.SchemaNestingModeSet,
	tfprotov6.SchemaObjectNestingModeMap:    tfjson.SchemaNestingModeMap,
}
