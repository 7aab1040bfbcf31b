package provider

import (
	"fmt"
	"slices"

	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Configurations of random walks: a few places for blocks, each of which may be
// declared or not. Numbers choose among small sets, so that rapid can make a
// failure small, and things meet: keys, entities and holders are few.

const walkFlags, walkOverrides, walkSwitches = 3, 3, 2

var (
	walkKeys     = []string{"a", "b/1", "c"}
	walkEntities = []string{"u", "v w/ü:1"}
	walkHolders  = []string{"", "terraform/two"}
	walkTexts    = []string{"", "one", "two\nlines, \"quoted\", ${no} %{template} 💥"}
	walkKinds    = []flag.Type{flag.Bool, flag.String, flag.Int, flag.Double, flag.JSON}
	// JSON texts of values, by type.
	walkValues = map[flag.Type][]string{
		flag.Bool:   {"true", "false"},
		flag.String: {`"x"`, `""`, `"two\nlines, \"quoted\", ${no} %{template} 💥"`, `"1"`},
		flag.Int:    {"1", "0", "-7", "9007199254740993", "9223372036854775807"},
		flag.Double: {"0.5", "0.1", "1", "1e20", "0.3333333333333333333333333333", "1e308", "-0.0"},
		flag.JSON: {
			`{"a":null,"b":[1,0.1,"x",{"c":false}]}`, `[]`, `{}`, `[1,2,3]`, `["x","y"]`, `{"n":9007199254740992}`, `{"n":9007199254740993}`, `"text"`, `0.10`,
		},
	}
)

// walkFlag is a bunting_flag block.
type walkFlag struct {
	declared, typed, allowed, protected, first     bool
	key, kind, def, val, state, layer, description int // val 0: none; the values begin with 1
	tags, destroy, late                            int
}

// walkOverride is a bunting_override block of one of the flags; literal: it writes
// the flag's key and does not refer to the flag.
type walkOverride struct {
	declared, first   bool
	literal           bool
	flag, entity, val int // val 0: none
}

// walkSwitch is a bunting_kill_switch block of one of the flags.
type walkSwitch struct {
	declared, first, literal, releases   bool
	flag, holder, engaged, reason, until int
}

// walkConfig is a configuration. It is valid by itself, whatever was drawn: what
// does not go together is left out.
type walkConfig struct {
	flags     [walkFlags]walkFlag
	overrides [walkOverrides]walkOverride
	switches  [walkSwitches]walkSwitch
}

// evenly gives numbers of 0 to n-1, each as often as the others: rapid's own prefer
// small ones, with which little happens.
func evenly(n int) *rapid.Generator[int] {
	return rapid.Custom(func(t *rapid.T) int {
		i := 0
		for range 8 {
			i *= 2
			if rapid.Bool().Draw(t, "bit") {
				i++
			}
		}
		return i % n
	})
}

// oneOf gives one of the elements, each as often as the others.
func oneOf[T any](t *rapid.T, what string, all ...T) T { return all[evenly(len(all)).Draw(t, what)] }

// draw gives a number of 0 to n-1, as often as not the one that it is.
func draw(t *rapid.T, what string, now *int, n int) {
	if rapid.Bool().Draw(t, "change "+what) {
		*now = evenly(n).Draw(t, what)
	}
}

func drawBool(t *rapid.T, what string, now *bool, oneIn int) {
	n := 0
	if *now {
		n = 1
	}
	draw(t, what, &n, oneIn)
	*now = n == 1
}

// change draws the next configuration: each block stays in half of the cases.
func (c *walkConfig) change(t *rapid.T) {
	for _, block := range c.drawers() {
		if rapid.Bool().Draw(t, "a block changes") {
			block(t)
		}
	}
}

// drawers give each block's next form.
func (c *walkConfig) drawers() (all []func(*rapid.T)) {
	for i := range c.flags {
		all = append(all, c.flags[i].draw)
	}
	for i := range c.overrides {
		all = append(all, c.overrides[i].draw)
	}
	for i := range c.switches {
		all = append(all, c.switches[i].draw)
	}
	return all
}

func (f *walkFlag) draw(t *rapid.T) {
	f.declared = evenly(4).Draw(t, "declared") > 0
	draw(t, "key", &f.key, len(walkKeys))
	draw(t, "kind", &f.kind, len(walkKinds))
	drawBool(t, "typed", &f.typed, 2)
	draw(t, "default", &f.def, 9)
	draw(t, "value", &f.val, 10)
	draw(t, "state", &f.state, 3)
	draw(t, "layer", &f.layer, 3)
	drawBool(t, "allowed", &f.allowed, 3)
	draw(t, "description", &f.description, len(walkTexts)+1)
	draw(t, "tags", &f.tags, 3)
	draw(t, "destroy", &f.destroy, 4)
	drawBool(t, "protected", &f.protected, 6)
	drawBool(t, "first", &f.first, 3)
	draw(t, "late", &f.late, 8)
}

func (o *walkOverride) draw(t *rapid.T) {
	o.declared = evenly(4).Draw(t, "declared") > 0
	draw(t, "flag", &o.flag, walkFlags)
	draw(t, "entity", &o.entity, len(walkEntities))
	draw(t, "value", &o.val, 10)
	drawBool(t, "first", &o.first, 4)
	drawBool(t, "literal", &o.literal, 3)
}

func (k *walkSwitch) draw(t *rapid.T) {
	k.declared = evenly(4).Draw(t, "declared") > 0
	draw(t, "flag", &k.flag, walkFlags)
	draw(t, "holder", &k.holder, len(walkHolders))
	draw(t, "engaged", &k.engaged, 3)
	draw(t, "reason", &k.reason, 2)
	draw(t, "until", &k.until, 3)
	drawBool(t, "releases", &k.releases, 2)
	drawBool(t, "first", &k.first, 4)
	drawBool(t, "literal", &k.literal, 3)
}

func pick[T any](from []T, i int) T { return from[i%len(from)] }

// values gives the texts of a flag's default value and value ("" for none).
func (f *walkFlag) values() (def, val string) {
	texts := walkValues[walkKinds[f.kind]]
	def = pick(texts, f.def)
	if f.val > 0 {
		val = pick(texts, f.val-1)
	}
	return def, val
}

// list gives the texts of allowed_values; nil for any.
func (f *walkFlag) list() []string {
	if !f.allowed {
		return nil
	}
	def, val := f.values()
	all := []string{pick(walkValues[walkKinds[f.kind]], f.def+1), def, def}
	if val != "" {
		all = append(all, val)
	}
	return all
}

// typeText gives what the block writes as its type: what the values do not say by
// themselves it must.
func (f *walkFlag) typeText() string {
	def, val := f.values()
	if inferred, err := flag.InferType(0, def, val); err != nil || inferred != walkKinds[f.kind] || f.typed {
		return walkKinds[f.kind].String()
	}
	return ""
}

// overrideText gives the value of an override of the flag; "" for none.
func (f *walkFlag) overrideText(o walkOverride) string {
	from := walkValues[walkKinds[f.kind]]
	if f.allowed {
		from = f.list()
	}
	if o.val == 0 {
		return ""
	}
	return pick(from, o.val-1)
}

// walkBlock is a block, and what of it is to be found on the server.
type walkBlock struct {
	coreBlock
	want flag.Object // nil: nothing of this block's
}

// blocks gives the blocks of the configuration, the keys under the prefix. Late
// gives some attributes of flags that the plan does not know.
func (c *walkConfig) blocks(prefix string, late bool) []walkBlock {
	var all []walkBlock
	taken := map[flag.Ref]bool{}
	add := func(ref flag.Ref, b walkBlock) bool {
		if taken[ref] {
			return false
		}
		taken[ref] = true
		all = append(all, b)
		return true
	}
	var keys [walkFlags]string // "": not declared
	for i, f := range c.flags {
		key := prefix + walkKeys[f.key]
		if f.declared && add(flag.FlagRef(flag.Key(key)), c.flagBlock(i, key, late)) {
			keys[i] = key
		}
	}
	for i, o := range c.overrides {
		if key := keys[o.flag]; o.declared && key != "" && c.flags[o.flag].layer > 0 {
			add(flag.OverrideRef(flag.Key(key), walkEntities[o.entity]), c.overrideBlock(i, key))
		}
	}
	for i, k := range c.switches {
		if key := keys[k.flag]; k.declared && key != "" {
			b := c.switchBlock(i, key)
			add(flag.HoldRef(flag.Key(key), holderName(walkHolders[k.holder])), b)
		}
	}
	return all
}

func (c *walkConfig) flagBlock(i int, key string, late bool) walkBlock {
	f := c.flags[i]
	def, val := f.values()
	b := walkBlock{coreBlock: coreBlock{address: fmt.Sprintf("bunting_flag.f%d", i), createFirst: f.first, attrs: coreAttrs{
		"key": cty.StringVal(key), "default_value": ctyOf(def),
	}}}
	want := &flag.Flag{Key: flag.Key(key), State: flag.Enabled, Type: walkKinds[f.kind]}
	want.Default, want.Value = mustValue(want.Type, def), mustValue(want.Type, val)
	set := func(name string, v cty.Value) { b.attrs[name] = v }
	if val != "" {
		set("value", ctyOf(val))
	}
	if text := f.typeText(); text != "" {
		set("type", cty.StringVal(text))
	}
	if f.state > 0 {
		set("enabled", cty.BoolVal(f.state == 1))
	}
	if f.state == 2 {
		want.State = flag.Default
	}
	if f.layer > 0 {
		want.Layer = []string{"user", "tenant"}[f.layer-1]
		set("layer", cty.StringVal(want.Layer))
	}
	if texts := f.list(); len(texts) > 0 {
		var list []cty.Value
		for _, text := range texts {
			list, want.AllowedValues = append(list, ctyOf(text)), append(want.AllowedValues, mustValue(want.Type, text))
		}
		set("allowed_values", cty.TupleVal(list))
	}
	if f.description > 0 {
		want.Description = walkTexts[f.description-1]
		set("description", cty.StringVal(want.Description))
	}
	if f.tags > 0 {
		want.Tags = []string{"x", "y"}[:f.tags]
		set("tags", cty.TupleVal([]cty.Value{cty.StringVal("y"), cty.StringVal("x")}[2-f.tags:]))
	}
	if f.destroy > 0 {
		set("on_destroy", cty.StringVal([]string{"archive", "delete", "keep"}[f.destroy-1]))
	}
	if f.protected {
		set("deletion_protection", cty.True)
	}
	if name := map[int]string{1: "default_value", 2: "value", 3: "description", 4: "type"}[f.late]; late && name != "" && b.attrs[name] != cty.NilVal {
		b.later = coreAttrs{name: b.attrs[name]}
	}
	n := want.Normalize()
	b.want = &n
	return b
}

func (c *walkConfig) overrideBlock(i int, key string) walkBlock {
	o := c.overrides[i]
	f := c.flags[o.flag]
	b := walkBlock{coreBlock: coreBlock{
		address: fmt.Sprintf("bunting_override.o%d", i), createFirst: o.first, after: refersTo(o.flag, o.literal),
		attrs: coreAttrs{"flag_key": cty.StringVal(key), "entity_id": cty.StringVal(walkEntities[o.entity])},
	}}
	want := &flag.Override{FlagKey: flag.Key(key), EntityID: walkEntities[o.entity], State: flag.Default}
	if text := f.overrideText(o); text != "" {
		b.attrs["value"] = ctyOf(text)
		want.State, want.Value = flag.Enabled, mustValue(walkKinds[f.kind], text)
	}
	b.want = want
	return b
}

func (c *walkConfig) switchBlock(i int, key string) walkBlock {
	k := c.switches[i]
	reason := pick([]string{"load", "other\nload"}, k.reason)
	b := walkBlock{coreBlock: coreBlock{
		address: fmt.Sprintf("bunting_kill_switch.k%d", i), createFirst: k.first, after: refersTo(k.flag, k.literal),
		attrs: coreAttrs{"flag_key": cty.StringVal(key), "reason": cty.StringVal(reason)},
	}}
	if holder := walkHolders[k.holder]; holder != "" {
		b.attrs["holder"] = cty.StringVal(holder)
	}
	if k.engaged > 0 {
		b.attrs["engaged"] = cty.BoolVal(k.engaged == 1)
	}
	if k.releases {
		b.attrs["release_on_destroy"] = cty.True
	}
	want := &flag.Hold{FlagKey: flag.Key(key), Holder: holderName(walkHolders[k.holder]), Reason: reason}
	if k.until > 0 {
		text := []string{"2199-01-02T03:04:05Z", "2199-01-02T04:04:05+01:00"}[k.until-1]
		b.attrs["expires_at"] = cty.StringVal(text)
		want.ExpiresAt = walkExpiry
	}
	if k.engaged != 2 {
		b.want = want
	}
	return b
}

// refersTo gives the address of the flag's block, unless its key is written out.
func refersTo(i int, literal bool) []string {
	if literal {
		return nil
	}
	return []string{fmt.Sprintf("bunting_flag.f%d", i)}
}

func holderName(holder string) string {
	if holder == "" {
		return flag.TerraformHolder
	}
	return holder
}

// coreBlocks gives the blocks as core takes them.
func coreBlocks(blocks []walkBlock) []coreBlock {
	all := make([]coreBlock, len(blocks))
	for i, b := range blocks {
		all[i] = b.coreBlock
	}
	return all
}

func addressed(blocks []walkBlock, address string) *walkBlock {
	if i := slices.IndexFunc(blocks, func(b walkBlock) bool { return b.address == address }); i >= 0 {
		return &blocks[i]
	}
	return nil
}
