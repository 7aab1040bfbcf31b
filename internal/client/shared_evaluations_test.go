package client

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// states puts flags in every state on the server, and gives their keys.
func states(t *testing.T, c *Client) []flag.Key {
	t.Helper()
	layered := func(key flag.Key, state flag.State) *flag.Flag {
		f := newFlag(key)
		f.Layer, f.State = "user", state
		return f
	}
	typed := layered("s/typed", flag.Enabled)
	typed.Type, typed.Default, typed.Value = flag.JSON, must(flag.JSONValue(`{"a":[1,null]}`)), must(flag.JSONValue(`{"a":9007199254740993}`))
	gone := layered("s/gone", flag.Enabled)
	var batch Batch
	for _, o := range []flag.Object{
		layered("s/default", flag.Default), layered("s/enabled", flag.Enabled), layered("s/overridden", flag.Enabled), layered("s/defaulted", flag.Enabled),
		layered("s/killed", flag.Enabled), layered("s/expiring", flag.Enabled), layered("s/archived", flag.Enabled), layered("s/archived-default", flag.Default), typed, gone,
		&flag.Override{FlagKey: "s/overridden", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(false)},
		&flag.Override{FlagKey: "s/defaulted", EntityID: "u", State: flag.Default},
		&flag.Override{FlagKey: "s/archived", EntityID: "u", State: flag.Enabled, Value: flag.BoolValue(false)},
		&flag.Hold{FlagKey: "s/killed", Holder: "admin", Reason: "r", ExpiresAt: time.Now().Add(24 * time.Hour).UTC()},
	} {
		batch.Changes = append(batch.Changes, flag.Put(o))
	}
	for _, key := range []flag.Key{"s/archived", "s/archived-default"} {
		batch.Changes = append(batch.Changes, flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef(key)})
	}
	batch.Changes = append(batch.Changes, flag.Change{Op: flag.DeleteFlag, Ref: gone.Ref()})
	done, err := c.Apply(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	var keys []flag.Key
	for i, r := range done.Results {
		if r.Status != flag.Applied {
			t.Fatalf("%+v: %+v", batch.Changes[i], r.Problem)
		}
		if f, ok := batch.Changes[i].Object.(*flag.Flag); ok && f.Key != gone.Key {
			keys = append(keys, f.Key)
		}
	}
	slices.Sort(keys)
	for expires := false; !expires; { // a hold that came a second late is in the past, and refused
		done, err := c.Apply(t.Context(), Batch{Changes: []flag.Change{flag.Put(&flag.Hold{FlagKey: "s/expiring", Holder: "admin", Reason: "r", ExpiresAt: time.Now().Add(time.Second).UTC()})}})
		if err != nil {
			t.Fatal(err)
		}
		r := done.Results[0]
		if expires = r.Status == flag.Applied; !expires && !strings.Contains(fmt.Sprint(r.Problem), "in the past") {
			t.Fatal(r.Problem)
		}
	}
	for { // until the expiry was committed
		holds, err := c.Holds(t.Context(), "s/expiring")
		if err != nil {
			t.Fatal(err)
		}
		if holds[0].Expired {
			return keys
		}
	}
}

// Within max_age the shared copy answers as the server would, which is not asked.
func TestTheCopyAnswersAsTheServerWould(t *testing.T) {
	t.Parallel()
	place := SharedPlace{Directory: t.TempDir()}
	server := startServer(t)
	operator, _ := gated(t, server, server.AdminToken)
	keys := states(t, operator)
	evaluate := func(o *operation) (got []Evaluation) {
		t.Helper()
		for _, entity := range []string{"", "u", "v"} {
			for _, key := range keys {
				got = append(got, evaluated(t, o.walk, key, entity))
			}
			got = append(got, must(o.walk.EvaluateFlags(t.Context(), keys, entity))...)
			got = append(got, must(o.walk.EvaluateUnder(t.Context(), "s", entity))...)
			got = append(got, must(o.walk.EvaluateUnder(t.Context(), "none", entity))...)
		}
		return got
	}
	plain := begins(t, server, server.AdminToken, SharedPlace{}, 0, nil)
	want := evaluate(plain)
	for i, asked := range [][]string{{"GetServer", "GetSnapshot"}, {"GetServer"}, {"GetServer"}} {
		o := begins(t, server, server.AdminToken, place, time.Hour, nil)
		if got := evaluate(o); !reflect.DeepEqual(got, want) {
			for j := range min(len(got), len(want)) {
				if !reflect.DeepEqual(got[j], want[j]) {
					t.Errorf("operation %d: got %+v, want %+v", i, got[j], want[j])
				}
			}
			t.Fatalf("operation %d: %d answers, want %d", i, len(got), len(want))
		}
		if got := o.gate.calls(); !slices.Equal(got, asked) {
			t.Errorf("operation %d: requests %q", i, got)
		}
		o.warned(t, "")
	}
	// What it lacks the server is asked for.
	o := begins(t, server, server.AdminToken, place, time.Hour, nil)
	if e := evaluated(t, o.walk, "s/gone", "u"); e.ErrorCode != flag.ErrorFlagNotFound {
		t.Errorf("got %+v", e)
	}
	if got := o.gate.calls(); !slices.Equal(got, []string{"GetServer", "BulkEvaluate"}) {
		t.Errorf("requests %q", got)
	}
	// Without max_age it is always asked.
	o = begins(t, server, server.AdminToken, place, 0, nil)
	if got := evaluate(o); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := o.gate.calls(); slices.Contains(got, "GetSnapshot") || !slices.Contains(got, "BulkEvaluate") {
		t.Errorf("requests %q", got)
	}
}

// Nothing that is older than max_age answers, nor what is older than what the walk
// was told or has written; what it has read itself answers before the copy.
func TestHowOldAnAnswerMayBe(t *testing.T) {
	t.Parallel()
	place := SharedPlace{Directory: t.TempDir()}
	server := startServer(t)
	operator, _ := gated(t, server, server.AdminToken)
	fill(t, operator, 20, 0)
	begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
	kill := func(i int) {
		t.Helper()
		if _, err := operator.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: numbered(i), Holder: "admin", Reason: "r"})); err != nil {
			t.Fatal(err)
		}
	}
	killed := func(o *operation, i int, want bool, asked ...string) {
		t.Helper()
		e := evaluated(t, o.walk, numbered(i), "u")
		if (e.Source == flag.SourceKilled) != want {
			t.Errorf("got %+v, want killed: %t", e, want)
		}
		if got := o.gate.calls(); !slices.Equal(got, asked) {
			t.Errorf("requests %q, want %q", got, asked)
		}
	}
	kill(1)
	o := begins(t, server, server.AdminToken, place, time.Hour, nil)
	killed(o, 1, false, "GetServer") // of before the kill, as max_age allows
	if holds, err := o.walk.Holds(t.Context(), numbered(2)); err != nil || len(holds) != 0 {
		t.Fatal(holds, err)
	}
	killed(o, 1, true, "GetSnapshot") // a resource was read since, which shared it

	kill(3)
	o = begins(t, server, server.AdminToken, place, time.Hour, nil)
	if _, err := o.Write(t.Context(), flag.Put(&flag.Hold{FlagKey: numbered(4), Holder: "admin", Reason: "r"})); err != nil {
		t.Fatal(err)
	}
	killed(o, 3, true, "GetServer", "Apply", "GetSnapshot")
	killed(o, 4, true)

	kill(5)
	o = begins(t, server, server.AdminToken, place, time.Nanosecond, nil)
	e := evaluated(t, o.walk, numbered(5), "u")
	if got := o.gate.calls(); e.Source != flag.SourceKilled || !slices.Equal(got, []string{"GetServer", "GetSnapshot", "BulkEvaluate"}) {
		t.Errorf("got %+v, requests %q", e, got)
	}

	// An answer of the server is never followed by an older one.
	kill(6)
	o = begins(t, server, server.AdminToken, place, time.Hour, nil)
	killed(o, 6, false, "GetServer")
	if e, err := o.walk.Evaluate(t.Context(), Question{Key: "none"}); err != nil || e.ErrorCode == "" {
		t.Fatal(e, err)
	}
	killed(o, 6, true, "BulkEvaluate", "GetSnapshot")

	// What is asked with attributes is asked of the server.
	o = begins(t, server, server.AdminToken, place, time.Hour, nil)
	if _, err := o.walk.Evaluate(t.Context(), Question{Key: numbered(1), Caller: flag.Context{Attributes: map[string]any{"a": "b"}}}); err != nil {
		t.Fatal(err)
	}
	if got := o.gate.calls(); !slices.Equal(got, []string{"GetServer", "Evaluate"}) {
		t.Errorf("requests %q", got)
	}
}

// A hold stands until the server has said that it expired, whatever time it is here.
func TestNoClockOfOursLiftsAHold(t *testing.T) {
	t.Parallel()
	for i, h := range []*flag.Hold{{ExpiresAt: time.Now().Add(-time.Hour)}, {ExpiresAt: time.Now().Add(time.Hour)}, {}} {
		h.FlagKey, h.Holder, h.Reason = "f/1", "admin", "r"
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			s := newWorld(0, 3).flags
			s = s.With(s.Revision, slices.Values([]flag.Edit{{Ref: h.Ref(), Object: h}}))
			if e, ok := evaluateFrom(s, "f/1", "u"); !ok || e.Source != flag.SourceKilled {
				t.Errorf("got %+v", e)
			}
			released := *h
			released.Expired = true
			s = s.With(s.Revision, slices.Values([]flag.Edit{{Ref: h.Ref(), Object: &released}}))
			if e, ok := evaluateFrom(s, "f/1", "u"); !ok || e.Source == flag.SourceKilled {
				t.Errorf("got %+v", e)
			}
		})
	}
}
