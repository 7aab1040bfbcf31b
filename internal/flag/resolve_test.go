package flag_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A string flag "f" of the layer "user" whose default is "default" and whose
// value is "value", after the edits.
func colour(edit ...func(*flag.Flag)) *flag.Flag {
	f := &flag.Flag{Key: "f", Type: flag.String, Default: text("default"), Value: text("value"), State: flag.Enabled, Layer: "user"}
	for _, e := range edit {
		e(f)
	}
	return f
}

func text(s string) flag.Value {
	v, err := flag.StringValue(s)
	if err != nil {
		panic(err)
	}
	return v
}

func TestResolve(t *testing.T) {
	t.Parallel()

	off := func(f *flag.Flag) { f.State = flag.Default }
	noValue := func(f *flag.Flag) { f.Value = flag.Value{} }
	noLayer := func(f *flag.Flag) { f.Layer = "" }
	global := func(f *flag.Flag) { f.Layer = "global" }
	archivedOn := func(f *flag.Flag) { f.ArchivedState = flag.Enabled }
	archivedOff := func(f *flag.Flag) { f.ArchivedState = flag.Default }

	anna := &flag.Override{FlagKey: "f", EntityID: "anna", State: flag.Enabled, Value: text("hers")}
	annaDefault := &flag.Override{FlagKey: "f", EntityID: "anna", State: flag.Default}
	annaOldType := &flag.Override{FlagKey: "f", EntityID: "anna", State: flag.Enabled, Value: flag.IntValue(7)}

	standing := &flag.Hold{FlagKey: "f", Holder: "ops"}
	later := &flag.Hold{FlagKey: "f", Holder: "ops-2", ExpiresAt: now.Add(time.Second)}
	timeCame := &flag.Hold{FlagKey: "f", Holder: "ops-3", ExpiresAt: now}
	expired := &flag.Hold{FlagKey: "f", Holder: "ops-4", ExpiresAt: now.Add(time.Hour), Expired: true}

	user := func(id string) flag.Context { return flag.Context{TargetingKey: id} }
	attribute := func(name string, value any, key string) flag.Context {
		return flag.Context{TargetingKey: key, Attributes: map[string]any{name: value}}
	}

	for _, row := range []struct {
		rule     string
		flag     *flag.Flag
		override *flag.Override
		holds    []*flag.Hold
		caller   flag.Context
		value    string
		source   string
	}{
		{"1 a standing hold gives the default", colour(), nil, holds(standing), user(""), "default", "KILLED"},
		{"1 before an override", colour(), anna, holds(standing), user("anna"), "default", "KILLED"},
		{"1 before archived", colour(archivedOn), nil, holds(standing), user(""), "default", "KILLED"},
		{"1 one standing hold among others is enough", colour(), nil, holds(expired, later), user(""), "default", "KILLED"},
		{"1 not when its time has come, committed or not", colour(), nil, holds(timeCame), user(""), "value", "GLOBAL"},
		{"1 not when its expiry was committed", colour(), nil, holds(expired), user(""), "value", "GLOBAL"},

		{"2 an override gives its value", colour(), anna, nil, user("anna"), "hers", "OVERRIDE"},
		{"2 an override to the default", colour(), annaDefault, nil, user("anna"), "default", "DEFAULT"},
		{"2 also when the flag serves its default", colour(off), anna, nil, user("anna"), "hers", "OVERRIDE"},
		{"2 before archived", colour(archivedOn), anna, nil, user("anna"), "hers", "OVERRIDE"},
		{"2 to the default, before archived", colour(archivedOn), annaDefault, nil, user("anna"), "default", "DEFAULT"},
		{"2 not of another entity", colour(), anna, nil, user("bert"), "value", "GLOBAL"},
		{"2 not without an entity", colour(), anna, nil, user(""), "value", "GLOBAL"},
		{"2 not on a flag without a layer", colour(noLayer), anna, nil, user("anna"), "value", "GLOBAL"},
		{"2 not on the layer global", colour(global), anna, nil, user("anna"), "value", "GLOBAL"},
		{"2 not of a type that the flag had once", colour(), annaOldType, nil, user("anna"), "value", "GLOBAL"},
		{"2 the layer's attribute names the entity", colour(), anna, nil, attribute("user", "anna", "device-1"), "hers", "OVERRIDE"},
		{"2 an empty attribute does not", colour(), anna, nil, attribute("user", "", "anna"), "hers", "OVERRIDE"},
		{"2 nor one that is no string", colour(), anna, nil, attribute("user", 7.0, "anna"), "hers", "OVERRIDE"},
		{"2 nor another layer's", colour(), anna, nil, attribute("tenant", "anna", ""), "value", "GLOBAL"},

		{"3 archived gives what it served: its value", colour(archivedOn), nil, nil, user(""), "value", "ARCHIVED"},
		{"3 archived gives what it served: the default", colour(archivedOff), nil, nil, user(""), "default", "DEFAULT"},
		{"3 archived while held: the default, also when the hold is gone", colour(archivedOff), nil, holds(expired), user(""), "default", "DEFAULT"},
		{"3 whatever its state says", colour(archivedOn, off), nil, nil, user(""), "value", "ARCHIVED"},

		{"4 enabled with a value", colour(), nil, nil, user("bert"), "value", "GLOBAL"},
		{"5 not enabled", colour(off), nil, nil, user(""), "default", "DEFAULT"},
		{"5 enabled without a value", colour(noValue), nil, nil, user(""), "default", "DEFAULT"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			t.Parallel()
			lookup := func(entity string) *flag.Override {
				if row.override != nil && row.override.EntityID == entity {
					return row.override
				}
				return nil
			}
			stands := slices.ContainsFunc(row.holds, func(h *flag.Hold) bool { return h.StandsAt(now) })
			got := flag.Resolve(row.flag, stands, lookup, row.caller)
			if got.Value != text(row.value) || got.Source.String() != row.source {
				t.Errorf("got %s from %s, want %q from %s", got.Value, got.Source, row.value, row.source)
			}
			if got.Key != "f" || got.Type != flag.String || got.Stale || got.ErrorCode != "" {
				t.Errorf("the rest of the answer is %+v", got)
			}
		})
	}
}

func holds(h ...*flag.Hold) []*flag.Hold { return h }

func TestAged(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ fresh, source, freshSource flag.Source }{
		{flag.SourceGlobal, flag.SourceCached, flag.SourceGlobal},
		{flag.SourceDefault, flag.SourceCached, flag.SourceDefault},
		{flag.SourceKilled, flag.SourceKilled, flag.SourceKilled},
	} {
		a := flag.Answer{Value: text("x"), Source: row.fresh}.Aged()
		if !a.Stale || a.Source != row.source || a.FreshSource != row.freshSource || a.Value != text("x") {
			t.Errorf("an answer from %s becomes %+v", row.fresh, a)
		}
	}
	unknown := flag.NewSnapshot("e", flag.Revision{}).Evaluate("nope", flag.Context{}, now).Aged()
	if unknown.ErrorCode != flag.ErrorFlagNotFound || !unknown.Value.IsZero() || unknown.Source != flag.SourceDefault {
		t.Errorf("an unknown flag becomes %+v", unknown)
	}
}

// world draws a snapshot with a few flags, overrides and holds, and the edits
// that made it.
func world(t *rapid.T) []flag.Edit {
	keys := []flag.Key{"a", "a/b", "a-b", "b"}
	entities := []string{"anna", "bert"}
	var edits []flag.Edit
	add := func(o flag.Object) { edits = append(edits, flag.Edit{Ref: o.Ref(), Object: o}) }
	for _, key := range keys {
		f := colour()
		f.Key = key
		f.Default, f.Value = text("default of "+string(key)), text("value of "+string(key))
		f.State = rapid.SampledFrom([]flag.State{flag.Enabled, flag.Default}).Draw(t, "state")
		f.ArchivedState = rapid.SampledFrom([]flag.State{0, 0, flag.Enabled, flag.Default}).Draw(t, "archived")
		f.Layer = rapid.SampledFrom([]string{"", "user", "global"}).Draw(t, "layer")
		add(f)
		for _, entity := range entities {
			switch rapid.IntRange(0, 2).Draw(t, "override") {
			case 1:
				add(&flag.Override{FlagKey: key, EntityID: entity, State: flag.Enabled, Value: text(entity + " of " + string(key))})
			case 2:
				add(&flag.Override{FlagKey: key, EntityID: entity, State: flag.Default})
			}
		}
		for _, holder := range []string{"ops", "terraform"} {
			switch rapid.IntRange(0, 3).Draw(t, "hold") {
			case 1:
				add(&flag.Hold{FlagKey: key, Holder: holder})
			case 2:
				add(&flag.Hold{FlagKey: key, Holder: holder, ExpiresAt: now.Add(-time.Hour), Expired: true})
			}
		}
	}
	return edits
}

func TestResolutionProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		edits := world(t)
		empty := flag.NewSnapshot("test", flag.Revision{StoreID: "s"})
		snapshot := empty.With(flag.Revision{StoreID: "s", Number: 1}, slices.Values(edits))
		shuffled := empty.With(flag.Revision{StoreID: "s", Number: 1}, slices.Values(rapid.Permutation(edits).Draw(t, "order")))
		caller := flag.Context{TargetingKey: rapid.SampledFrom([]string{"", "anna", "bert"}).Draw(t, "entity")}

		for f := range snapshot.Flags("") {
			got := snapshot.Evaluate(f.Key, caller, now)
			if other := shuffled.Evaluate(f.Key, caller, now); got != other {
				t.Fatalf("the answer depends on the order of things: %+v or %+v", got, other)
			}
			if snapshot.Killed(f.Key, now) && (got.Value != f.Default || got.Source != flag.SourceKilled) {
				t.Fatalf("a standing hold gives %+v", got)
			}
			if got.Source == flag.SourceOverride && got.Value != text(caller.TargetingKey+" of "+string(f.Key)) {
				t.Fatalf("%q got another entity's or flag's override: %+v", caller.TargetingKey, got)
			}
			if got.Value != f.Default && got.Value != f.Value && got.Source != flag.SourceOverride {
				t.Fatalf("a value from nowhere: %+v", got)
			}
		}
	})
}
