package flag_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestValidateFlag(t *testing.T) {
	t.Parallel()
	null, err := flag.JSONValue("null")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		edit  func(*flag.Flag)
		wrong string
	}{
		{func(*flag.Flag) {}, ""},
		{func(f *flag.Flag) { f.Value = flag.Value{} }, ""},
		{func(f *flag.Flag) { f.AllowedValues = []flag.Value{text("default"), text("value")} }, ""},
		{func(f *flag.Flag) { f.Key = "a b" }, `key "a b" has ' ' at byte 2`},
		{func(f *flag.Flag) { f.Type = 0 }, `type is missing.`},
		{func(f *flag.Flag) { f.Default = flag.Value{} }, `default_value is missing.`},
		{func(f *flag.Flag) { f.Type, f.Default, f.Value = flag.JSON, null, flag.Value{} }, `default_value is null. Leave the value out instead of writing null`},
		{func(f *flag.Flag) { f.State = 3 }, `enabled is neither true nor false.`},
		{func(f *flag.Flag) { f.Default = flag.IntValue(3) }, `default_value is int (3), but the flag is of type string.`},
		{func(f *flag.Flag) { f.Value = flag.BoolValue(true) }, `value is bool (true), but the flag is of type string.`},
		{func(f *flag.Flag) { f.AllowedValues = []flag.Value{text("default"), text("b")} }, `value is "value", which is not among the flag's allowed_values: "default", "b".`},
		{func(f *flag.Flag) { f.AllowedValues = []flag.Value{text("default"), text("value"), flag.IntValue(1)} }, `allowed_values has 1 of type int, but the flag is of type string.`},
		{func(f *flag.Flag) { f.AllowedValues = make([]flag.Value, 257) }, `allowed_values has 257 values, more than the 256`},
		{func(f *flag.Flag) { f.Layer = "user group" }, `layer is "user group", but a layer starts with a letter`},
		{func(f *flag.Flag) { f.Layer = strings.Repeat("l", 65) }, `layer has 65 bytes, more than the 64`},
		{func(f *flag.Flag) { f.Description = strings.Repeat("d", 4097) }, `description has 4097 bytes, more than the 4096`},
		{func(f *flag.Flag) { f.Description = "bell\a" }, `description has a control character.`},
		{func(f *flag.Flag) { f.Owner = "\xff" }, `owner is not valid UTF-8.`},
		{func(f *flag.Flag) { f.Tags = make([]string, 65) }, `tags has 65 tags, more than the 64`},
		{func(f *flag.Flag) { f.Tags = []string{""} }, `tags has an empty tag.`},
	} {
		err := colour(row.edit).Validate()
		if row.wrong == "" && err != nil || row.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), row.wrong)) {
			t.Errorf("got %v, want %q", err, row.wrong)
		}
	}
}

func TestValidateOverride(t *testing.T) {
	t.Parallel()
	one := func(edit func(*flag.Override)) *flag.Override {
		o := &flag.Override{FlagKey: "f", EntityID: "anna", State: flag.Enabled, Value: text("value")}
		edit(o)
		return o
	}
	narrow := func(f *flag.Flag) { f.AllowedValues = []flag.Value{text("default")} }
	for _, row := range []struct {
		edit  func(*flag.Override)
		flag  *flag.Flag
		wrong string
	}{
		{func(*flag.Override) {}, colour(), ""},
		{func(o *flag.Override) { o.State, o.Value = flag.Default, flag.Value{} }, colour(narrow), ""},
		{func(o *flag.Override) { o.FlagKey = "-" }, nil, `flag_key "-" has '-' at byte 1`},
		{func(o *flag.Override) { o.EntityID = "" }, nil, `entity_id is empty.`},
		{func(o *flag.Override) { o.EntityID = "a\x00" }, nil, `entity_id has a control character`},
		{func(o *flag.Override) { o.EntityID = strings.Repeat("e", 513) }, nil, `entity_id has 513 bytes, more than the 512`},
		{func(o *flag.Override) { o.State = 0 }, nil, `state is missing.`},
		{func(o *flag.Override) { o.Value = flag.Value{} }, nil, `value is missing.`},
		{func(o *flag.Override) { o.State = flag.Default }, nil, `value is given, but the override serves the default.`},
		{func(*flag.Override) {}, colour(func(f *flag.Flag) { f.Layer = "" }), `flag_key is "f", a flag without a layer`},
		{func(*flag.Override) {}, colour(func(f *flag.Flag) { f.Layer = "global" }), `flag_key is "f", a flag without a layer`},
		{func(o *flag.Override) { o.Value = flag.IntValue(1) }, colour(), `value is int (1), but the flag is of type string.`},
		{func(*flag.Override) {}, colour(narrow), `value is "value", which is not among the flag's allowed_values: "default".`},
	} {
		o := one(row.edit)
		err := o.Validate()
		if err == nil && row.flag != nil {
			err = o.ValidateFor(row.flag)
		}
		if row.wrong == "" && err != nil || row.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), row.wrong)) {
			t.Errorf("got %v, want %q", err, row.wrong)
		}
	}
}

func TestValidateHold(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		hold  flag.Hold
		wrong string
	}{
		{flag.Hold{FlagKey: "f", Holder: "ops-anna", Reason: "r"}, ""},
		{flag.Hold{FlagKey: "f", Holder: "terraform/pay@eu", Reason: "r"}, ""},
		{flag.Hold{FlagKey: "", Holder: "ops", Reason: "r"}, `flag_key is empty`},
		{flag.Hold{FlagKey: "f", Holder: "", Reason: "r"}, `holder is "", but a holder is`},
		{flag.Hold{FlagKey: "f", Holder: "ops anna", Reason: "r"}, `holder is "ops anna", but`},
		{flag.Hold{FlagKey: "f", Holder: "ops/", Reason: "r"}, `holder is "ops/", but`},
		{flag.Hold{FlagKey: "f", Holder: "öps", Reason: "r"}, `holder is "öps", but`},
		{flag.Hold{FlagKey: "f", Holder: "ops", Reason: " \n"}, `reason is empty.`},
		{flag.Hold{FlagKey: "f", Holder: "ops", Reason: "\x1b[2J"}, `reason has a control character.`},
	} {
		err := row.hold.Validate()
		if row.wrong == "" && err != nil || row.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), row.wrong)) {
			t.Errorf("got %v, want %q", err, row.wrong)
		}
	}
	if err := flag.ValidateExpiry(now.Add(time.Second), now); err != nil {
		t.Errorf("an expiry ahead: %v", err)
	}
	if err := flag.ValidateExpiry(time.Time{}, now); err != nil {
		t.Errorf("no expiry: %v", err)
	}
	want := "expires_at is 2026-01-02T03:04:05Z, which is in the past (it is now 2026-01-02T03:04:05Z). Write a later time, or leave it out for a hold that stands until released."
	if err := flag.ValidateExpiry(now, now); err == nil || err.Error() != want {
		t.Errorf("an expiry now: %v", err)
	}
}

func TestNormalizeMakesEqualDeclarationsEqual(t *testing.T) {
	t.Parallel()
	a := colour(func(f *flag.Flag) {
		f.Tags, f.AllowedValues, f.State = []string{"b", "a", "b"}, []flag.Value{text("value"), text("default"), text("value")}, 0
	}).Normalize()
	b := colour(func(f *flag.Flag) {
		f.Tags, f.AllowedValues = []string{"a", "b"}, []flag.Value{text("default"), text("value")}
	}).Normalize()
	if !a.SameDefinition(&b) {
		t.Errorf("%+v\nand %+v differ", a, b)
	}
}

// Documents are how the store keeps objects and how the audit log shows them.
func TestDocumentsComeBack(t *testing.T) {
	t.Parallel()
	stamp := flag.Stamp{Revision: 3, Actor: "anna", Time: now, OwnerID: flag.WorkspaceOwner("w")}
	f := colour(func(f *flag.Flag) {
		f.Tags, f.AllowedValues, f.Description, f.Owner, f.OwnerID = []string{"a"}, []flag.Value{text("default"), text("value")}, "d", "o", "workspace:w"
		f.ArchivedState, f.Changed = flag.Enabled, stamp
	})
	number := colour(func(f *flag.Flag) {
		f.Type, f.Default, f.Value, f.State = flag.Int, flag.IntValue(-1<<63), flag.IntValue(1<<63-1), flag.Default
	})
	for _, pair := range [][2]flag.Object{
		{f, &flag.Flag{}},
		{number, &flag.Flag{}},
		{&flag.Override{FlagKey: "f", EntityID: "e", State: flag.Enabled, Value: flag.IntValue(1<<53 + 1), Changed: stamp}, &flag.Override{}},
		{&flag.Override{FlagKey: "f", EntityID: "e", State: flag.Default}, &flag.Override{}},
		{&flag.Hold{FlagKey: "f", Holder: "ops", Reason: "r", Actor: "anna", Since: now, ExpiresAt: now, Expired: true, Changed: stamp}, &flag.Hold{}},
	} {
		document, err := json.Marshal(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(document, pair[1]); err != nil || !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("wrote %+v as %s\n read %+v (%v)", pair[0], document, pair[1], err)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"key":"a","type":"int","default_value":1,"value":2,"enabled":true}`))
	f.Add([]byte(`{"flag_key":"a","entity_id":"e","state":"ENABLED","type":"json","value":{}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		for _, o := range []flag.Object{&flag.Flag{}, &flag.Override{}, &flag.Hold{}} {
			if json.Unmarshal(document, o) == nil && o.Validate() == nil {
				if _, err := json.Marshal(o); err != nil {
					t.Fatalf("%s reads as %+v, which cannot be written: %v", document, o, err)
				}
			}
		}
	})
}

func TestOwnerName(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		flag.WorkspaceOwner("payments"): `workspace "payments"`,
		flag.SyncOwner("default"):       `the set "default" of bunting sync`,
		flag.ObjectOwner("x"):           "a Terraform configuration without a workspace name",
	} {
		if got := flag.OwnerName(id); got != want {
			t.Errorf("%s is called %s", id, got)
		}
	}
}
