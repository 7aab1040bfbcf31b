// Package settest builds FileDescriptorSets for tests, as buf and protoc
// do.
package settest

import (
	"maps"
	"slices"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags"
)

// Flags builds the set of one file, flags.proto, that declares flags; source is
// what comes behind its syntax, package ("shop") and imports.
func Flags(tb testing.TB, source string) []byte {
	tb.Helper()
	return Compile(tb, map[string]string{"flags.proto": `syntax = "proto3"; package shop; import "pbflags/options.proto";` + source})
}

// Compile builds the set of files, given by name and source, and of all that
// they import: pbflags/options.proto and what comes with every compiler.
func Compile(tb testing.TB, sources map[string]string) []byte {
	tb.Helper()
	files := map[string]*descriptorpb.FileDescriptorProto{}
	var order []string
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if files[f.Path()] != nil {
			return
		}
		imports := f.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		files[f.Path()] = protodesc.ToFileDescriptorProto(f)
		order = append(order, f.Path())
	}
	options := pbflags.File_pbflags_options_proto
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)},
		protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			if path == options.Path() {
				return protocompile.SearchResult{Proto: protodesc.ToFileDescriptorProto(options)}, nil
			}
			return protocompile.SearchResult{}, protoregistry.NotFound
		}),
	})}
	compiled, err := compiler.Compile(tb.Context(), slices.Sorted(maps.Keys(sources))...)
	if err != nil {
		tb.Fatalf("compile: %v", err)
	}
	for _, f := range compiled {
		add(f)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, path := range order {
		set.File = append(set.File, files[path])
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	return content
}
