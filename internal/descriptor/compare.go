package descriptor

import (
	"cmp"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// The aspects in which a flag can change, in the words of the options.
const (
	AspectType            = "type"
	AspectLayer           = "layer"
	AspectDefault         = "default"
	AspectSupportedValues = "supported_values"
	AspectDescription     = "description"
	AspectOwner           = "owner"
	AspectName            = "name"   // of feature and field
	AspectServes          = "serves" // to everybody; of a restored flag alone
)

// Difference is what a newer set has otherwise than an older one, each in the
// order of the keys.
type Difference struct {
	Added   []Definition `json:"added"`
	Removed []Definition `json:"removed"`
	Changed []Changed    `json:"changed"`
}

// Changed is one aspect of a flag that both sets have.
type Changed struct {
	FlagKey flag.Key `json:"flag_key"`
	Name    string   `json:"name"` // of the newer one: feature and field
	Aspect  string   `json:"aspect"`
	Before  string   `json:"before"` // values as JSON
	After   string   `json:"after"`
	// Breaking: programs of the older set read the flag by its type and ask for
	// entities of its layer, and cannot know the newer ones.
	Breaking bool `json:"breaking"`
}

// Empty reports whether the two sets declare the same.
func (d Difference) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Of gives the changes of one aspect.
func (d Difference) Of(aspect string) []Changed {
	var of []Changed
	for _, c := range d.Changed {
		if c.Aspect == aspect {
			of = append(of, c)
		}
	}
	return of
}

// Breaking reports whether programs of the older set cannot live with the newer
// one.
func (d Difference) Breaking() bool {
	for _, c := range d.Changed {
		if c.Breaking {
			return true
		}
	}
	return false
}

// Compare tells what the newer set has otherwise than the older one.
func Compare(older, newer *Set) Difference {
	d := Difference{Added: []Definition{}, Removed: []Definition{}, Changed: []Changed{}}
	before, after := older.definitions, newer.definitions
	for len(before) > 0 || len(after) > 0 {
		var order int
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = cmp.Compare(before[0].Flag.Key, after[0].Flag.Key)
		}
		switch {
		case order < 0:
			d.Removed, before = append(d.Removed, before[0]), before[1:]
		case order > 0:
			d.Added, after = append(d.Added, after[0]), after[1:]
		default:
			d.Changed = append(d.Changed, changes(before[0], after[0])...)
			before, after = before[1:], after[1:]
		}
	}
	return d
}

func changes(before, after Definition) []Changed {
	changed := differences(before.Flag, after.Flag)
	if b, a := before.Title(), after.Title(); b != a {
		changed = append(changed, Changed{FlagKey: after.Flag.Key, Aspect: AspectName, Before: b, After: a})
	}
	for i := range changed {
		changed[i].Name = after.Title()
	}
	return changed
}

// differences gives what two definitions of a flag have otherwise of what a set
// says: not the value, the state and the tags, which are the operators'.
func differences(before, after *flag.Flag) []Changed {
	var changed []Changed
	add := func(aspect, b, a string) {
		if b != a {
			breaking := aspect == AspectType || aspect == AspectLayer
			changed = append(changed, Changed{FlagKey: after.Key, Aspect: aspect, Before: b, After: a, Breaking: breaking})
		}
	}
	add(AspectType, before.Type.String(), after.Type.String())
	add(AspectLayer, layerOf(before), layerOf(after))
	add(AspectDefault, before.Default.JSON(), after.Default.JSON())
	add(AspectSupportedValues, list(before.AllowedValues), list(after.AllowedValues))
	add(AspectDescription, before.Description, after.Description)
	add(AspectOwner, before.Owner, after.Owner)
	return changed
}

// layerOf gives the layer of a flag; "" where entities may have no overrides,
// however that is said.
func layerOf(f *flag.Flag) string {
	if !f.HasLayer() {
		return ""
	}
	return f.Layer
}

// list writes values as a JSON list; "" for none.
func list(values []flag.Value) string {
	if len(values) == 0 {
		return ""
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.JSON()
	}
	return "[" + strings.Join(texts, ",") + "]"
}
