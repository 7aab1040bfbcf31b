package wire_test

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func value(t *rapid.T) flag.Value {
	switch rapid.IntRange(0, 5).Draw(t, "kind of value") {
	case 1:
		return flag.BoolValue(rapid.Bool().Draw(t, "bool"))
	case 2:
		v, err := flag.StringValue(rapid.String().Draw(t, "string"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	case 3:
		return flag.IntValue(rapid.Int64().Draw(t, "int"))
	case 4:
		v, err := flag.DoubleValue(rapid.Float64().Draw(t, "double"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	case 5:
		v, err := flag.JSONValue(rapid.SampledFrom([]string{"null", "{}", `{"a":[1,9007199254740993]}`, `"text"`}).Draw(t, "json"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return flag.Value{}
}

func moment(t *rapid.T) time.Time {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "no time") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
	}).Draw(t, "time")
}

func stamp(t *rapid.T) flag.Stamp {
	return flag.Stamp{Revision: rapid.Int64Range(0, 1e9).Draw(t, "revision"), Actor: rapid.StringN(0, 5, 9).Draw(t, "actor"), Time: moment(t), Created: rapid.Int64Range(0, 9).Draw(t, "created")}
}

func object(t *rapid.T) flag.Object {
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		f := &flag.Flag{
			Key: "a/b", Type: rapid.SampledFrom(flag.Types).Draw(t, "type"), Default: value(t), Value: value(t), State: flag.Default, Layer: "user",
			Description: "what it is for", Owner: "team", OwnerID: "workspace:w", ArchivedState: flag.Enabled, Changed: stamp(t),
		}
		for range rapid.IntRange(0, 2).Draw(t, "allowed") {
			if v := value(t); !v.IsZero() {
				f.AllowedValues = append(f.AllowedValues, v)
			}
		}
		return f
	case 1:
		return &flag.Override{FlagKey: "a", EntityID: rapid.String().Draw(t, "entity"), State: flag.Enabled, Value: value(t), OwnerID: "o", Changed: stamp(t)}
	}
	return &flag.Hold{FlagKey: "a", Holder: "ops", Reason: "r", Actor: "anna", Since: moment(t), ExpiresAt: moment(t), Expired: rapid.Bool().Draw(t, "expired"), OwnerID: "o", Changed: stamp(t)}
}

// through sends a message over the wire.
func through[M proto.Message](t *rapid.T, m, empty M) M {
	bytes, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(bytes, empty); err != nil {
		t.Fatal(err)
	}
	return empty
}

func TestWhatIsSentArrives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := object(t)

		edit, err := wire.ToObject(through(t, wire.FromObject(o.Ref(), o), &buntingv1.Object{}))
		if err != nil || !reflect.DeepEqual(edit, flag.Edit{Ref: o.Ref(), Object: o}) {
			t.Fatalf("sent %+v\ngot %+v (%v)", o, edit.Object, err)
		}
		absent, err := wire.ToObject(through(t, wire.FromObject(o.Ref(), nil), &buntingv1.Object{}))
		if err != nil || absent != (flag.Edit{Ref: o.Ref()}) {
			t.Fatalf("sent the absence of %s, got %+v (%v)", o.Ref(), absent, err)
		}

		change := flag.Change{OwnerID: "workspace:w", TakeOver: rapid.Bool().Draw(t, "take over")}
		if rapid.Bool().Draw(t, "expects") {
			expected := rapid.Int64Range(0, 5).Draw(t, "expected")
			change.Expected, change.StoreID = &expected, "s"
		}
		change.Op = rapid.SampledFrom([]flag.Op{
			flag.PutFlag, flag.ArchiveFlag, flag.RestoreFlag, flag.DeleteFlag, flag.SetOverride, flag.RemoveOverride, flag.PlaceHold, flag.ReleaseHold,
		}).Draw(t, "op")
		if put := flag.Put(o); put.Op == change.Op {
			change.Ref, change.Object = put.Ref, o
		} else if change.Op == flag.PutFlag || change.Op == flag.SetOverride || change.Op == flag.PlaceHold {
			return // needs an object of another kind
		} else {
			change.Ref = flag.Ref{Kind: change.Op.Kind(), Key: "k"}
			if change.Ref.Kind != flag.KindFlag {
				change.Ref.ID = "id"
			}
		}
		got, err := wire.ToChange(through(t, wire.FromChange(change), &buntingv1.Change{}))
		if err != nil || !reflect.DeepEqual(got, change) {
			t.Fatalf("sent %+v\ngot %+v (%v)", change, got, err)
		}

		by := stamp(t)
		result := flag.Result{Status: flag.Refused, Object: o, Problem: &flag.Problem{Kind: flag.ProblemConflict, Field: "value", Message: "m", By: &by, OwnerID: "x"}}
		if by == (flag.Stamp{}) {
			result.Problem.By = nil
		}
		result.Holds = []*flag.Hold{{FlagKey: "a", Holder: "ops", Reason: "r", Since: moment(t)}}
		back, err := wire.ToResult(through(t, wire.FromResult(flag.Put(o), result), &buntingv1.Result{}))
		if err != nil || !reflect.DeepEqual(back, result) {
			t.Fatalf("sent %+v\ngot %+v (%v)", result, back, err)
		}

		answer := flag.Answer{Key: "k", Type: flag.Int, Value: flag.IntValue(3), Variant: "v", Source: flag.SourceCached, Stale: true, FreshSource: flag.SourceGlobal}
		at := flag.Revision{StoreID: "s", Number: 7}
		gotAnswer, gotAt, err := wire.ToAnswer(through(t, wire.FromAnswer(answer, at), &pbflagsv1.EvaluateResponse{}))
		if err != nil || gotAnswer != answer || gotAt != at {
			t.Fatalf("sent %+v, got %+v of %s (%v)", answer, gotAnswer, gotAt, err)
		}
	})
}

// A server that does not know our fields leaves them out.
func TestAnswersOfOtherServers(t *testing.T) {
	t.Parallel()
	a, _, err := wire.ToAnswer(&pbflagsv1.EvaluateResponse{FlagId: "k", Value: wire.FromValue(flag.BoolValue(true)), Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL})
	if err != nil || a.Type != flag.Bool || a.ErrorCode != "" {
		t.Errorf("a value without a type gives %+v (%v)", a, err)
	}
	a, _, err = wire.ToAnswer(&pbflagsv1.EvaluateResponse{FlagId: "k", Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT})
	if err != nil || a.ErrorCode != flag.ErrorFlagNotFound {
		t.Errorf("no value gives %+v (%v)", a, err)
	}
}

// Whatever arrives, reading it ends in an object or an error.
func FuzzMessages(f *testing.F) {
	seed, err := proto.Marshal(wire.FromChange(flag.Put(&flag.Flag{Key: "k", Type: flag.JSON})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(_ *testing.T, bytes []byte) {
		var change buntingv1.Change
		if proto.Unmarshal(bytes, &change) == nil {
			if c, err := wire.ToChange(&change); err == nil && c.Object != nil {
				_ = c.Object.Validate()
			}
		}
		var object buntingv1.Object
		if proto.Unmarshal(bytes, &object) == nil {
			_, _ = wire.ToObject(&object)
		}
		var result buntingv1.Result
		if proto.Unmarshal(bytes, &result) == nil {
			_, _ = wire.ToResult(&result)
		}
		var answer pbflagsv1.EvaluateResponse
		if proto.Unmarshal(bytes, &answer) == nil {
			_, _, _ = wire.ToAnswer(&answer)
		}
	})
}
