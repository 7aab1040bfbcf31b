package storetest

import (
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// The words in which the rules are written. Anna does what nobody else is named
// for; Terraform is ci.

func put(changes ...func(*flag.Flag)) act {
	return act{op: flag.PutFlag, by: anna, object: func(key flag.Key, _ time.Time) flag.Object {
		f := aFlag(key)
		for _, change := range changes {
			change(f)
		}
		return f
	}}
}

func archive() act  { return act{op: flag.ArchiveFlag, by: anna} }
func restore() act  { return act{op: flag.RestoreFlag, by: anna} }
func deletion() act { return act{op: flag.DeleteFlag, by: anna} }
func removal() act  { return act{op: flag.RemoveOverride, by: anna, id: "u1"} }

// wait lets an hour pass: what expires soon has expired then, what expires late
// has not.
func wait() act { return act{later: time.Hour} }

const (
	soon = 30 * time.Minute
	late = 2 * time.Hour
)

func differs() act   { return put(described("differs")) }
func disabled() act  { return put(func(f *flag.Flag) { f.State = flag.Default }) }
func valueless() act { return put(func(f *flag.Flag) { f.Value = flag.Value{} }) }

// set sets the override of u1.
func set(changes ...func(*flag.Override)) act {
	return act{op: flag.SetOverride, by: anna, object: func(key flag.Key, _ time.Time) flag.Object {
		o := anOverride(key, "u1")
		for _, change := range changes {
			change(o)
		}
		return o
	}}
}

func place(holder string, changes ...func(h *flag.Hold, begin time.Time)) act {
	return act{op: flag.PlaceHold, by: anna, object: func(key flag.Key, begin time.Time) flag.Object {
		h := aHold(key, holder)
		for _, change := range changes {
			change(h, begin)
		}
		return h
	}}
}

func release(holder string) act { return act{op: flag.ReleaseHold, by: anna, id: holder} }

func (a act) as(actor token.Actor) act {
	a.by = actor
	return a
}

// in makes it Terraform's, of the owner.
func (a act) in(owner string) act {
	a.by, a.owner = ci, owner
	return a
}

func (a act) expecting(e expectation) act {
	a.expects = e
	return a
}

func (a act) taking() act {
	a.takeOver = true
	return a
}

func described(text string) func(*flag.Flag) {
	return func(f *flag.Flag) { f.Description = text }
}

func layered(layer string) func(*flag.Flag) { return func(f *flag.Flag) { f.Layer = layer } }

func numeric(f *flag.Flag) {
	f.Type, f.Default, f.Value = flag.Int, flag.IntValue(1), flag.IntValue(2)
}

func serving(v flag.Value) func(*flag.Override) {
	return func(o *flag.Override) { o.State, o.Value = flag.Enabled, v }
}

func servingDefault(o *flag.Override) { o.State, o.Value = flag.Default, flag.Value{} }

func reason(text string) func(*flag.Hold, time.Time) {
	return func(h *flag.Hold, _ time.Time) { h.Reason = text }
}

// expiring sets the expiry, counted from the rule's beginning.
func expiring(after time.Duration) func(*flag.Hold, time.Time) {
	return func(h *flag.Hold, begin time.Time) { h.ExpiresAt = begin.Add(after) }
}

func theFlag(key flag.Key) flag.Ref     { return flag.FlagRef(key) }
func theOverride(key flag.Key) flag.Ref { return flag.OverrideRef(key, "u1") }
func theHold(holder string) func(flag.Key) flag.Ref {
	return func(key flag.Key) flag.Ref { return flag.HoldRef(key, holder) }
}
