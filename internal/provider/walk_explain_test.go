package provider

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What people do about a refusal.
const (
	giveNothing    = iota // plan again
	giveImport            // import what stands in the way
	giveReference         // refer to the flag, so that its block is planned first
	giveOrder             // do without create_before_destroy
	giveTurn              // wait for another block to be destroyed; with create_before_destroy it may wait for this one
	giveWay               // let operators take away what stands in the way
	giveForget            // forget it: another has it now
	giveProtection        // let go of what protects the flag
	giveHolds             // let go of holds and overrides
)

// refusal is an error that is meant.
type refusal struct {
	address, summary string
	ref              flag.Ref // the object that it was refused of
	give             int
}

// explain asks of each error that it is one that should be.
func (w *walker) explain(o outcome, planning bool) []refusal {
	errs := o.of("error")
	if len(errs) == 0 {
		w.t.Fatalf("it failed without an error:\n%s", o.text)
	}
	var all []refusal
	for _, d := range errs {
		d.Address = w.address(d)
		r, ok := w.meant(d, planning)
		if !ok {
			w.t.Fatalf("an error that should not be (planning: %t) at %s: %s\ntouched: %v\nstate: %+v", planning, d.Address, d, w.touched, w.had)
		}
		w.t.Logf("refused: %s: %s", d.Address, d.Summary)
		all = append(all, r)
	}
	return all
}

// address gives the address that a diagnostic is about: where no block is left the
// CLI does not say it.
func (w *walker) address(d told) string {
	kind := "bunting_flag"
	switch {
	case strings.Contains(d.Summary, " override of "):
		kind = "bunting_override"
	case strings.Contains(d.Summary, " hold of "), strings.Contains(d.Summary, " kill switch of "):
		kind = "bunting_kill_switch"
	}
	for _, o := range w.had {
		ref := o.ref()
		if d.Address == "" && coreKind(o.Address) == kind &&
			strings.Contains(d.Summary, strconv.Quote(string(ref.Key))) && (kind == "bunting_flag" || strings.Contains(d.Summary+d.Detail, strconv.Quote(ref.ID))) {
			d.Address = o.Address
		}
	}
	return d.Address
}

// meant tells whether an error is one that should be, and what people do then. An
// address may have two objects, where a replacement has left one over.
func (w *walker) meant(d told, planning bool) (refusal, bool) {
	r := refusal{address: d.Address, summary: d.Summary}
	if strings.HasPrefix(d.Summary, "Cycle: ") { // core's own, of a create_before_destroy that comes as what it refers to goes
		r.give = giveOrder
		return r, w.first // the CLI looks for it while planning
	}
	want := addressed(w.declared, d.Address)
	var objects []*stateObject
	for i, o := range w.had {
		if o.Address == d.Address {
			objects = append(objects, &w.had[i])
		}
	}
	if len(objects) == 0 {
		objects = append(objects, nil)
	}
	for _, had := range objects {
		give, ok := w.refusesPlan(d, want, had, planning)
		switch {
		case ok && !planning: // with the type that changes unplanned
			give, ok = giveNothing, want != nil && len(want.later) > 0
		case !ok && !planning:
			give, ok = w.refusesApply(d, want, had)
		}
		if !ok {
			continue
		}
		r.give = give
		if had != nil {
			r.ref = had.ref()
		}
		return r, true
	}
	return r, false
}

// goes tells whether a block's object goes, or another takes its place.
func goes(want *walkBlock, had *stateObject) bool {
	return had != nil && (want == nil || want.ref() != had.ref())
}

// refusesPlan tells whether a plan is to be refused, of a block and the object that
// it had; either may be nil.
func (w *walker) refusesPlan(d told, want *walkBlock, had *stateObject, planning bool) (give int, ok bool) {
	switch {
	case strings.HasSuffix(d.Summary, "is protected"):
		return giveProtection, had != nil && had.DeletionProtection && (goes(want, had) || w.retyped(want, had))
	case strings.HasSuffix(d.Summary, "is engaged"):
		return giveHolds, planning && had != nil && !had.ReleaseOnDestroy && goes(want, had) && w.truth.Object(had.ref()) != nil
	case strings.HasSuffix(d.Summary, "cannot be replaced"):
		return giveProtection, had != nil && had.OnDestroy == destroyKeep && !goes(want, had) && w.retyped(want, had)
	case planning && strings.HasPrefix(d.Summary, "Invalid "):
		// Nobody manages the flag that there is, so nothing tells that this configuration is about to.
		return giveReference, w.literal(want) && w.unmanaged(want.ref().Key) && strings.Contains(d.Detail, "bunting_flag.NAME.key")
	}
	return 0, false
}

// refusesApply tells whether an apply is to be refused.
func (w *walker) refusesApply(d told, want *walkBlock, had *stateObject) (give int, ok bool) {
	disturbed, wasShared := false, had != nil && w.shared(had.ref())
	if want != nil {
		disturbed = w.touched[want.ref().Key] || w.shared(want.ref()) || w.shared(flag.FlagRef(want.ref().Key))
	}
	if had != nil {
		disturbed = disturbed || w.touched[had.ref().Key] || wasShared
	}
	says := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(d.Detail, part) })
	}
	switch {
	case strings.HasSuffix(d.Summary, "is engaged"):
		return giveForget, goes(want, had) && wasShared && !w.owned // the hold is another block's by now
	case says("was changed by"):
		// Terraform 1.11 plans a destruction before it reads what operators have changed.
		return giveNothing, disturbed || want == nil && had != nil && w.orphansFirst && w.drifted[had.ref().Key]
	case says("not by this configuration"):
		// What was there was archived or deleted, and made anew by another block, or
		// by its own replacement. Without a workspace that has another owner.
		return giveForget, !w.owned && had != nil && (w.touched[had.ref().Key] || wasShared || deposed(w.had, d.Address))
	case says("no longer exists", "does not exist any more", "but was expected at revision"):
		return giveNothing, disturbed || had != nil && had.ref().Kind == flag.KindOverride && w.deletes(had.ref().Key)
	case says("the flag exists already", "has an override of the flag", "has a hold on the flag"):
		return w.standsInTheWay(d, want, had)
	case says("cannot be deleted while it is held killed"):
		if had == nil {
			return 0, false
		}
		key := had.ref().Key
		return giveHolds, had.OnDestroy == destroyDelete && (goes(want, had) || w.retyped(want, had)) &&
			(w.truth.Killed(key, time.Now()) || w.touched[key] || wasShared || w.placesFirst(key))
	case says("cannot be deleted while there is"):
		return giveHolds, had != nil && had.OnDestroy == destroyDelete && !w.owned
	case strings.HasPrefix(d.Summary, "Invalid "), strings.HasPrefix(d.Summary, "Cannot set the override"), strings.HasPrefix(d.Summary, "Cannot change the override"), strings.HasPrefix(d.Summary, "Cannot place the hold"):
		return giveNothing, (disturbed || w.literal(want) && w.pending[want.ref().Key]) &&
			says("no such flag", "is archived", "without a layer", "but the flag is of type", "not a whole number", "not among the flag's allowed_values", ", outside what", "does not exist")
	case strings.HasSuffix(d.Summary, "changes unplanned"):
		return giveNothing, want != nil && len(want.later) > 0 && had != nil && w.retyped(want, had)
	}
	return 0, false
}

// standsInTheWay tells what people do where what a block makes is there already.
func (w *walker) standsInTheWay(d told, want *walkBlock, had *stateObject) (give int, ok bool) {
	there := want != nil && (w.truth.Object(want.ref()) != nil || w.touched[want.ref().Key])
	still := slices.ContainsFunc(w.d.objects(), func(o stateObject) bool { return o.Address == d.Address })
	switch {
	case still && !goes(want, had): // itself: made before it is destroyed
		return giveOrder, there && w.foreign(want.ref()) && w.retyped(want, had) && w.first
	case want != nil && w.shared(want.ref()): // what is still another block's is going
		return giveTurn, there
	case still: // under the address there is the old one still
		return giveWay, there
	}
	return giveImport, there
}

// literal tells whether a block writes the key of its flag out, so that core knows
// no order of the two.
func (w *walker) literal(b *walkBlock) bool {
	return b != nil && b.kind() != "bunting_flag" && len(b.after) == 0
}

// placesFirst tells whether a hold on the flag may be placed by this apply before
// it comes to the flag.
func (w *walker) placesFirst(key flag.Key) bool {
	return slices.ContainsFunc(w.declared, func(b walkBlock) bool {
		return b.kind() == "bunting_kill_switch" && b.ref().Key == key && w.literal(&b)
	})
}

// unmanaged tells whether nobody's configuration has written the flag that there
// was when planning began: people made it, made it anew or restored it.
func (w *walker) unmanaged(key flag.Key) bool {
	f := w.truth.Flag(key)
	return f != nil && f.Manager() == ""
}

// foreign tells whether the server cannot know that the object is as this
// configuration wrote it.
func (w *walker) foreign(ref flag.Ref) bool {
	o := w.truth.Object(ref)
	return !w.owned || o == nil || o.Manager() == "" || o.Stamp().OwnerID != o.Manager() || w.touched[ref.Key]
}

// deletes tells whether a flag of the key is deleted with its overrides by this
// plan, as its own warning says.
func (w *walker) deletes(key flag.Key) bool {
	return slices.ContainsFunc(w.had, func(o stateObject) bool {
		want := addressed(w.declared, o.Address)
		return o.ref() == flag.FlagRef(key) && o.OnDestroy == destroyDelete && (want == nil || want.ref() != o.ref() || w.retyped(want, &o))
	})
}

// deposed tells whether a replacement has left an object of the address, beside
// the one that took its place. What is planned for either goes by one name.
func deposed(objects []stateObject, address string) bool {
	n := 0
	for _, o := range objects {
		if o.Address == address {
			n++
		}
	}
	return n > 1
}

// shared tells whether blocks of two addresses have, or had, the object.
func (w *walker) shared(ref flag.Ref) bool {
	var by []string
	for _, b := range w.declared {
		if b.ref() == ref {
			by = append(by, b.address)
		}
	}
	for _, o := range w.had {
		if o.ref() == ref {
			by = append(by, o.Address)
		}
	}
	slices.Sort(by)
	return len(slices.Compact(by)) > 1
}

// retyped tells whether the block's flag is of another type than it was when
// planning began.
func (w *walker) retyped(want *walkBlock, had *stateObject) bool {
	f, isFlag := want.want.(*flag.Flag)
	if !isFlag {
		return false
	}
	was, err := flag.ParseType(had.Type)
	if there := w.truth.Flag(flag.Key(had.Key)); there != nil && !there.Archived() {
		was = there.Type // what is read counts
	} else if err != nil {
		return false
	}
	if text := want.attrs["type"]; text != cty.NilVal {
		return text.AsString() != was.String()
	}
	val := ""
	if !f.Value.IsZero() {
		val = f.Value.JSON()
	}
	typ, err := flag.InferType(was, f.Default.JSON(), val)
	return err != nil || typ != was
}

// ref names the block's object, whether or not there is one on the server.
func (b *walkBlock) ref() flag.Ref {
	text := func(name string) string {
		if v := b.attrs[name]; v != cty.NilVal {
			return v.AsString()
		}
		return ""
	}
	switch b.kind() {
	case "bunting_override":
		return flag.OverrideRef(flag.Key(text("flag_key")), text("entity_id"))
	case "bunting_kill_switch":
		return flag.HoldRef(flag.Key(text("flag_key")), holderName(text("holder")))
	}
	return flag.FlagRef(flag.Key(text("key")))
}

// released is the configuration with nothing in it that refuses to be destroyed.
func (c *walkConfig) released(t *rapid.T) walkConfig {
	open := *c
	for i := range c.flags {
		open.flags[i].protected = false
		if open.flags[i].destroy > 1 {
			open.flags[i].destroy = 0
		}
	}
	for i := range c.switches {
		if rapid.Bool().Draw(t, "by release_on_destroy") {
			open.switches[i].releases = true
		} else {
			open.switches[i].engaged = 2
		}
	}
	return open
}

// inOrder is the configuration without create_before_destroy.
func (c *walkConfig) inOrder() walkConfig {
	plain := *c
	for i := range c.flags {
		plain.flags[i].first = false
	}
	for i := range c.overrides {
		plain.overrides[i].first = false
	}
	for i := range c.switches {
		plain.switches[i].first = false
	}
	return plain
}

// byReference is the configuration without keys of its flags that are written out.
func (c *walkConfig) byReference() walkConfig {
	plain := *c
	for i := range c.overrides {
		plain.overrides[i].literal = false
	}
	for i := range c.switches {
		plain.switches[i].literal = false
	}
	return plain
}
