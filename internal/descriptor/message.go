package descriptor

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// maxFieldNumber is the highest that a protobuf field may have: 2^29 - 1.
const maxFieldNumber = int32(protoreflect.FieldNumber(1<<29 - 1))

// readMessage reads a message and those inside it. The types of fields are not
// followed, so messages that hold themselves need no care.
func (r *reader) readMessage(file, outer string, m *descriptorpb.DescriptorProto) {
	name := outer + m.GetName()
	feature, usable := r.readFeature(file, name, m)
	for _, field := range m.GetField() {
		if !proto.HasExtension(field.GetOptions(), pbflags.E_Flag) {
			continue
		}
		d := Definition{Name: field.GetName(), Feature: Feature{Name: name, File: file}}
		if feature == nil {
			r.mistakef("%s has the option (pbflags.flag), but its message is no feature. Give the message the option (pbflags.feature) with an id", d.Place())
			continue
		}
		if usable {
			d.Feature = *feature
			r.readFlag(d, field)
		}
	}
	for _, nested := range m.GetNestedType() {
		r.readMessage(file, name+".", nested)
	}
}

// readFeature gives what a message says as a feature, and whether flags can be
// declared in it; nil for a message that is none.
func (r *reader) readFeature(file, name string, m *descriptorpb.DescriptorProto) (feature *Feature, usable bool) {
	if !proto.HasExtension(m.GetOptions(), pbflags.E_Feature) {
		return nil, false
	}
	said, _ := proto.GetExtension(m.GetOptions(), pbflags.E_Feature).(*pbflags.FeatureOptions)
	f := &Feature{ID: said.GetId(), Name: name, Description: said.GetDescription(), Owner: said.GetOwner(), File: file}
	place := fmt.Sprintf("message %s (%s)", quoted(name), bare(file))
	if !protoreflect.FullName(name).IsValid() {
		r.mistakef("%s: that is no name of a message. Build the set with buf or protoc", place)
		return f, false
	}
	if _, err := flag.ParseKey(f.ID); err != nil {
		r.mistakef("%s: the feature's id %s", place, reason(err))
		return f, false
	}
	if other, taken := r.features[f.ID]; taken {
		r.mistakef("%s: the feature's id %s is that of message %s too. Give each feature an id of its own", place, quoted(f.ID), quoted(other))
	}
	r.features[f.ID] = name
	for _, err := range []error{flag.CheckText("description", f.Description, flag.MaxDescriptionBytes), flag.CheckText("owner", f.Owner, flag.MaxOwnerBytes)} {
		if err != nil {
			r.mistakef("%s: the feature's %v", place, err)
		}
	}
	return f, true
}

// readFlag reads a field that is a flag.
func (r *reader) readFlag(d Definition, field *descriptorpb.FieldDescriptorProto) {
	refuse := func(format string, args ...any) { r.mistakef("%s: %s", d.Place(), fmt.Sprintf(format, args...)) }
	kind, known := kinds[field.GetType()]
	known = known && field.Type != nil // no type at all reads as double
	switch {
	case !protoreflect.Name(d.Name).IsValid():
		refuse("that is no name of a field. Build the set with buf or protoc")
		return
	case field.GetNumber() < 1 || field.GetNumber() > maxFieldNumber:
		refuse("its number is %d, but fields are numbered from 1 to %d", field.GetNumber(), maxFieldNumber)
		return
	case field.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED:
		refuse("it is repeated, but a flag has one value. Make it a field of %s", plainKinds)
		return
	case !known:
		refuse("it is %s, which no flag can be. Make it a field of %s", kindName(field), plainKinds)
		return
	case field.OneofIndex != nil && !field.GetProto3Optional():
		refuse("it is in a oneof, but a flag is there whatever the others are. Take it out of the oneof")
		return
	}
	said, _ := proto.GetExtension(field.GetOptions(), pbflags.E_Flag).(*pbflags.FlagOptions)
	declared := flag.Flag{
		Key: flag.Key(fmt.Sprintf("%s/%d", d.Feature.ID, field.GetNumber())), Type: kind.typ, State: flag.Enabled,
		Description: said.GetDescription(), Owner: d.Feature.Owner,
	}
	if declared.Description == "" {
		// A key of numbers tells nobody anything.
		declared.Description = d.Title()
	}
	var err error
	if declared.Default, err = kind.defaultValue(said.GetDefault()); err != nil {
		refuse("%s", reason(err))
		return
	}
	if declared.AllowedValues, err = kind.supported(said.GetSupportedValues()); err != nil {
		refuse("%s", reason(err))
		return
	}
	if declared.Layer, err = r.layers.find(said.GetLayer()); err != nil {
		refuse("%v", err)
		return
	}
	declared = declared.Normalize()
	if err := declared.Validate(); err != nil {
		refuse("%s", reason(err))
		return
	}
	if other, taken := r.keys[declared.Key]; taken {
		if other.Feature.Name == d.Feature.Name { // of two messages it is told already that they have one id
			refuse("its number is that of field %s too, so both are the flag %s. Give each field a number of its own", quoted(other.Name), quoted(string(declared.Key)))
		}
		return
	}
	d.Flag = &declared
	r.keys[declared.Key] = d
	r.definitions = append(r.definitions, d)
}

// optionNames gives the words of the flag document those of the options.
var optionNames = strings.NewReplacer("default_value", "default", "allowed_values", "supported_values")

// reason tells a broken rule in the words of the options.
func reason(err error) string {
	p, ok := errors.AsType[*flag.Problem](err)
	if !ok {
		return err.Error()
	}
	if p.Field == "key" {
		return p.Message
	}
	return optionNames.Replace(p.Field) + " " + optionNames.Replace(p.Message)
}
