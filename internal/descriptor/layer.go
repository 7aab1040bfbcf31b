package descriptor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags"
)

// layers are the kinds of entities that flags may name.
type layers struct {
	enum  string          // that names them; "": none does
	names map[string]bool // without those that stand for no layer
}

// readLayers takes the names of layers from the enum among these that has the
// option.
func (r *reader) readLayers(outer string, enums []*descriptorpb.EnumDescriptorProto) {
	for _, e := range enums {
		if marked, _ := proto.GetExtension(e.GetOptions(), pbflags.E_Layers).(bool); !marked {
			continue
		}
		if r.layers.enum != "" {
			r.mistakef("the enums %s and %s both have the option (pbflags.layers), but one enum names all layers. Keep one of them", quoted(r.layers.enum), quoted(outer+e.GetName()))
			continue
		}
		r.layers.enum = outer + e.GetName()
		for _, v := range e.GetValue() {
			if name := layerName(e.GetName(), v.GetName()); name != "global" && name != "unspecified" {
				r.layers.names[name] = true
			}
		}
	}
}

// layerName gives the name of a layer: that of the enum's value without the
// enum's own name before it, in lower case.
func layerName(enum, value string) string {
	for _, prefix := range []string{upperSnake(enum) + "_", "LAYER_"} {
		if rest, ok := strings.CutPrefix(value, prefix); ok {
			value = rest
			break
		}
	}
	return strings.ToLower(value)
}

// upperSnake writes EntityLayer as ENTITY_LAYER, as the values of enums are
// prefixed by custom.
func upperSnake(name string) string {
	var b strings.Builder
	var before rune
	for _, c := range name {
		if unicode.IsUpper(c) && before != 0 && before != '_' && !unicode.IsUpper(before) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(c))
		before = c
	}
	return b.String()
}

// find gives the layer that a flag names; "" where entities may have no
// overrides.
func (l layers) find(name string) (string, error) {
	switch {
	case name == "" || name == "global":
		return "", nil
	case l.names[name]:
		return name, nil
	case l.enum == "":
		return "", fmt.Errorf("its layer is %s, but no enum names the layers. Give the enum that has them, like LAYER_USER for \"user\", the option (pbflags.layers) = true", quoted(name))
	}
	if len(l.names) == 0 {
		return "", fmt.Errorf("its layer is %s, but the enum %s names none. Add it there, or leave layer out", quoted(name), quoted(l.enum))
	}
	var known []string
	for _, k := range slices.Sorted(maps.Keys(l.names)) {
		known = append(known, quoted(k))
	}
	if len(known) > maxMistakes {
		known = append(known[:maxMistakes], "…")
	}
	return "", fmt.Errorf("its layer is %s, which the enum %s does not name: write \"global\", %s, or add it there", quoted(name), quoted(l.enum), strings.Join(known, ", "))
}
