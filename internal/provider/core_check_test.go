package provider

import (
	"fmt"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/zclconf/go-cty/cty"
)

// The rules that core keeps providers to, for attributes (our schemas have no
// nested blocks).

// proposed gives what core proposes: the configuration, and the prior value of
// what is computed and not configured.
func proposed(s *coreSchema, prior, config cty.Value) cty.Value {
	members := map[string]cty.Value{}
	for _, a := range s.block.Attributes {
		members[a.Name] = config.GetAttr(a.Name)
		if a.Computed && members[a.Name].IsNull() && !prior.IsNull() {
			members[a.Name] = prior.GetAttr(a.Name)
		}
	}
	return cty.ObjectVal(members)
}

// planBroken says which attributes were planned otherwise than core allows: as
// configured; or as before, where something is configured and was before; or,
// where nothing is configured, anything that is computed.
func planBroken(s *coreSchema, prior, config, planned cty.Value) []string {
	if planned.IsNull() {
		return []string{"planned for absence but config wants existence"}
	}
	var broken []string
	for _, a := range s.block.Attributes {
		is, want, was := planned.GetAttr(a.Name), config.GetAttr(a.Name), cty.NilVal
		if !prior.IsNull() {
			was = prior.GetAttr(a.Name)
		}
		switch {
		case is.RawEquals(want):
		case was != cty.NilVal && !was.IsNull() && !want.IsNull() && is.RawEquals(was):
		case a.Computed && (!a.Optional || want.IsNull()):
		default:
			broken = append(broken, fmt.Sprintf(".%s: planned value %#v, configured %#v, prior %#v", a.Name, is, want, was))
		}
	}
	return broken
}

// replaces tells whether a path that requires replacement does: core asks that
// its value really changes.
func replaces(prior, planned cty.Value) func(*tftypes.AttributePath) bool {
	return func(p *tftypes.AttributePath) bool {
		name, ok := p.Steps()[0].(tftypes.AttributeName)
		if !ok {
			return true
		}
		eq := planned.GetAttr(string(name)).Equals(prior.GetAttr(string(name)))
		return !eq.IsKnown() || eq.False()
	}
}

// compatible says where the actual value is not what was planned: what was known
// must be equal, and what was unknown may be anything of its type.
func compatible(planned, actual cty.Value, path string) []string {
	differ := func(format string, args ...any) []string { return []string{path + ": " + fmt.Sprintf(format, args...)} }
	switch {
	case planned.Type() == cty.DynamicPseudoType:
		return nil // null or unknown of whatever type: as core, anything goes
	case len(actual.Type().TestConformance(planned.Type())) > 0:
		return differ("wrong final value type: planned %#v, now %#v", planned, actual)
	case !planned.IsKnown():
		if in := planned.Range().Includes(actual); in.IsKnown() && in.False() {
			return differ("final value %#v is not in the range of %#v", actual, planned)
		}
		return nil
	case planned.IsNull() || actual.IsNull():
		if planned.IsNull() != actual.IsNull() {
			return differ("was %#v, but now %#v", planned, actual)
		}
		return nil
	case !actual.IsKnown():
		return differ("was known, but now unknown")
	}
	typ := planned.Type()
	switch {
	case typ.IsObjectType():
		var broken []string
		for name := range typ.AttributeTypes() {
			broken = append(broken, compatible(planned.GetAttr(name), actual.GetAttr(name), path+"."+name)...)
		}
		slices.Sort(broken)
		return broken
	case typ.IsSetType():
		return setCompatible(planned, actual, path)
	case typ.IsListType() || typ.IsTupleType() || typ.IsMapType():
		return elementsCompatible(planned, actual, path)
	case actual.Equals(planned).False():
		return differ("was %#v, but now %#v", planned, actual)
	}
	return nil
}

func elementsCompatible(planned, actual cty.Value, path string) []string {
	var broken []string
	for key, element := range planned.Elements() {
		at := fmt.Sprintf("%s[%#v]", path, key)
		if actual.HasIndex(key).False() {
			broken = append(broken, at+" has vanished")
			continue
		}
		broken = append(broken, compatible(element, actual.Index(key), at)...)
	}
	for key := range actual.Elements() {
		if planned.HasIndex(key).False() {
			broken = append(broken, fmt.Sprintf("%s[%#v] has appeared", path, key))
		}
	}
	return broken
}

// setCompatible asks that each element has one in the other set that it is
// compatible with, and that none has come to be.
func setCompatible(planned, actual cty.Value, path string) []string {
	var broken []string
	fits := func(p, a cty.Value) bool { return len(compatible(p, a, path)) == 0 }
	for _, p := range planned.AsValueSlice() {
		if !slices.ContainsFunc(actual.AsValueSlice(), func(a cty.Value) bool { return fits(p, a) }) {
			broken = append(broken, fmt.Sprintf("%s: planned element %#v is in no element", path, p))
		}
	}
	for _, a := range actual.AsValueSlice() {
		if !slices.ContainsFunc(planned.AsValueSlice(), func(p cty.Value) bool { return fits(p, a) }) {
			broken = append(broken, fmt.Sprintf("%s: element %#v was not planned", path, a))
		}
	}
	if actual.LengthInt() > planned.LengthInt() {
		broken = append(broken, fmt.Sprintf("%s: length changed from %d to %d", path, planned.LengthInt(), actual.LengthInt()))
	}
	return broken
}
