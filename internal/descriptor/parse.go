package descriptor

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// MaxBytes is the largest that a FileDescriptorSet may be. Ten thousand flags
// with their comments take a quarter of it.
const MaxBytes = 16 << 20

// maxMistakes is how many mistakes one error tells of; the others are counted.
const maxMistakes = 10

// Parse reads a FileDescriptorSet, as "buf build" and "protoc
// --descriptor_set_out" write it. Files that the set imports but lacks do not
// matter: everything that a flag says stands beside it, and the options are
// known here. A set with files and without a flag is one of no flags. The error
// tells of every mistake (of the first ten in words), where it is, and what to
// write instead.
func Parse(content []byte) (*Set, error) {
	switch {
	case len(content) == 0:
		return nil, errors.New("it is empty, but a FileDescriptorSet was expected. Build it anew, for example with: buf build -o flags.binpb")
	case len(content) > MaxBytes:
		return nil, errTooLarge
	}
	var files descriptorpb.FileDescriptorSet
	// Of required fields, descriptor.proto has some that only a compiler meets.
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(content, &files); err != nil {
		return nil, fmt.Errorf("it is no FileDescriptorSet%s (%w). Build it anew, for example with: buf build -o flags.binpb", looksLike(content), err)
	}
	if len(files.GetFile()) == 0 {
		return nil, errors.New("it is no FileDescriptorSet, or one without any file. Build it anew, for example with: buf build -o flags.binpb")
	}
	r := reader{layers: layers{names: map[string]bool{}}, features: map[string]string{}, keys: map[flag.Key]Definition{}}
	r.readFiles(unique(&r, files.GetFile()))
	if err := r.err(); err != nil {
		return nil, err
	}
	slices.SortFunc(r.definitions, func(a, b Definition) int { return cmp.Compare(a.Flag.Key, b.Flag.Key) })
	set := &Set{hash: hashOf(content), definitions: r.definitions, places: map[flag.Key]int{}}
	for i, d := range r.definitions {
		set.keys = append(set.keys, d.Flag.Key)
		set.places[d.Flag.Key] = i
	}
	return set, nil
}

var errTooLarge = fmt.Errorf("it has more than the %d bytes that are allowed. Build only the files that declare flags (buf build --path …), without comments (--exclude-source-info)", MaxBytes)

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// looksLike names what people hand over by mistake.
func looksLike(content []byte) string {
	switch {
	case bytes.HasPrefix(content, []byte{0x1f, 0x8b}):
		return ": it is compressed with gzip"
	case bytes.HasPrefix(content, []byte("{")):
		return ": it looks like JSON"
	case bytes.HasPrefix(content, []byte("syntax")), bytes.HasPrefix(content, []byte("//")):
		return ": it looks like the source of a .proto file"
	}
	return ", or its end is missing"
}

// reader collects what files declare, and what is wrong with it.
type reader struct {
	layers      layers
	features    map[string]string // id → the message that has it
	definitions []Definition
	keys        map[flag.Key]Definition
	mistakes    []string
	more        int // mistakes beyond those
}

func (r *reader) mistakef(format string, args ...any) {
	if len(r.mistakes) == maxMistakes {
		r.more++
		return
	}
	r.mistakes = append(r.mistakes, fmt.Sprintf(format, args...))
}

func (r *reader) err() error {
	switch {
	case len(r.mistakes) == 0:
		return nil
	case len(r.mistakes) == 1:
		return errors.New(r.mistakes[0])
	}
	text := fmt.Sprintf("it has %d mistakes:\n- %s", len(r.mistakes)+r.more, strings.Join(r.mistakes, "\n- "))
	if r.more > 0 {
		text += fmt.Sprintf("\n- and %d more", r.more)
	}
	return errors.New(text)
}

// unique leaves out files that are there twice, as in two sets that were written
// one behind the other.
func unique(r *reader, files []*descriptorpb.FileDescriptorProto) []*descriptorpb.FileDescriptorProto {
	first := map[string]*descriptorpb.FileDescriptorProto{}
	return slices.DeleteFunc(files, func(f *descriptorpb.FileDescriptorProto) bool {
		// Comments, and what buf notes of a file, may differ from build to build.
		f.SourceCodeInfo = nil
		f.ProtoReflect().SetUnknown(nil)
		before, again := first[f.GetName()]
		if again && !proto.Equal(before, f) {
			r.mistakef("the file %s is there twice, with different content: the set was put together from different builds. Build it in one", quoted(f.GetName()))
		}
		first[f.GetName()] = f
		return again
	})
}

// readFiles reads the layers first, which flags of every file may name.
func (r *reader) readFiles(files []*descriptorpb.FileDescriptorProto) {
	for _, f := range files {
		r.checkExtensions(f.GetPackage(), f.GetExtension())
		r.readLayers(scope(f.GetPackage()), f.GetEnumType())
		for _, m := range f.GetMessageType() {
			r.readInside(scope(f.GetPackage()), m)
		}
	}
	for _, f := range files {
		for _, m := range f.GetMessageType() {
			r.readMessage(f.GetName(), scope(f.GetPackage()), m)
		}
	}
}

// readInside reads the layers and the extensions that messages hold.
func (r *reader) readInside(outer string, m *descriptorpb.DescriptorProto) {
	name := outer + m.GetName()
	r.checkExtensions(name, m.GetExtension())
	r.readLayers(name+".", m.GetEnumType())
	for _, nested := range m.GetNestedType() {
		r.readInside(name+".", nested)
	}
}

// scope gives what leads the names of a package; "" has none.
func scope(pkg string) string {
	if pkg == "" {
		return ""
	}
	return pkg + "."
}

// checkExtensions refuses options of others that have the numbers of ours: what
// they say would be taken for flags. Numbers from 50000 are anybody's.
func (r *reader) checkExtensions(within string, extensions []*descriptorpb.FieldDescriptorProto) {
	for _, x := range extensions {
		if proto.HasExtension(x.GetOptions(), pbflags.E_Flag) {
			r.mistakef("the extension %s has the option (pbflags.flag), but only a field of a message can be a flag. Make it one", quoted(scope(within)+x.GetName()))
		}
		ours, ok := numbers[place{x.GetExtendee(), x.GetNumber()}]
		if name := scope(within) + x.GetName(); ok && name != ours {
			r.mistakef("the option %s has the number %d, which is that of %s from pbflags/options.proto. Give it another number", quoted(name), x.GetNumber(), ours)
		}
	}
}

// place is where an extension stands: what it extends, and its number there.
type place struct {
	extendee string
	number   int32
}

// numbers has the names of our options.
var numbers = func() map[place]string {
	names := map[place]string{}
	for _, x := range []protoreflect.ExtensionType{pbflags.E_Feature, pbflags.E_Flag, pbflags.E_Layers} {
		d := x.TypeDescriptor()
		names[place{"." + string(d.ContainingMessage().FullName()), int32(d.Number())}] = string(d.FullName())
	}
	return names
}()
