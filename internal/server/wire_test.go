package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// numbers is the table of DESIGN §11: what others already speak. A field's type
// follows its number; repeated fields end with [].
const numbers = `
FlagValue: bool_value=1 bool, string_value=2 string, int64_value=3 int64, double_value=4 double, json_value=100 string
EvaluateRequest: flag_id=1 string, entity_id=2 string, minimum_revision=100 int64, context=101 google.protobuf.Struct, store_id=102 string
EvaluateResponse: flag_id=1 string, value=2 pbflags.v1.FlagValue, source=3 pbflags.v1.EvaluationSource, revision=100 int64, stale=101 bool, fresh_source=102 pbflags.v1.EvaluationSource, type=103 pbflags.v1.FlagType, variant=104 string, error_code=105 string, store_id=106 string
BulkEvaluateRequest: flag_ids=1 string[], entity_id=2 string, minimum_revision=100 int64, context=101 google.protobuf.Struct, store_id=102 string
BulkEvaluateResponse: evaluations=1 pbflags.v1.EvaluateResponse[]
HealthRequest:
HealthResponse: status=1 pbflags.v1.EvaluatorStatus, seconds_since_server_contact=2 int64, cached_flag_count=3 int32, consecutive_failures=4 int32
GetFlagStateRequest: flag_id=1 string
GetFlagStateResponse: flag=1 pbflags.v1.FlagState, archived=2 bool
FlagState: flag_id=1 string, state=2 pbflags.v1.State, value=3 pbflags.v1.FlagValue
GetKilledFlagsRequest:
GetKilledFlagsResponse: flag_ids=1 string[], killed_overrides=2 pbflags.v1.KilledOverride[]
KilledOverride: flag_id=1 string, entity_id=2 string
GetOverridesRequest: entity_id=1 string, flag_ids=2 string[]
GetOverridesResponse: overrides=1 pbflags.v1.OverrideState[]
OverrideState: flag_id=1 string, entity_id=2 string, state=3 pbflags.v1.State, value=4 pbflags.v1.FlagValue
State: STATE_UNSPECIFIED=0, STATE_ENABLED=1, STATE_DEFAULT=2, STATE_KILLED=3
FlagType: FLAG_TYPE_UNSPECIFIED=0, FLAG_TYPE_BOOL=1, FLAG_TYPE_STRING=2, FLAG_TYPE_INT64=3, FLAG_TYPE_DOUBLE=4, FLAG_TYPE_JSON=100
EvaluationSource: EVALUATION_SOURCE_UNSPECIFIED=0, EVALUATION_SOURCE_DEFAULT=1, EVALUATION_SOURCE_GLOBAL=2, EVALUATION_SOURCE_OVERRIDE=3, EVALUATION_SOURCE_KILLED=4, EVALUATION_SOURCE_CACHED=5, EVALUATION_SOURCE_ARCHIVED=6, EVALUATION_SOURCE_TARGETING=100
EvaluatorStatus: EVALUATOR_STATUS_UNSPECIFIED=0, EVALUATOR_STATUS_CONNECTING=1, EVALUATOR_STATUS_SERVING=2, EVALUATOR_STATUS_DEGRADED=3
FlagEvaluatorService: Evaluate(EvaluateRequest)EvaluateResponse, BulkEvaluate(BulkEvaluateRequest)BulkEvaluateResponse, Health(HealthRequest)HealthResponse, GetFlagState(GetFlagStateRequest)GetFlagStateResponse, GetKilledFlags(GetKilledFlagsRequest)GetKilledFlagsResponse, GetOverrides(GetOverridesRequest)GetOverridesResponse
`

func TestTheNumbersThatOthersUse(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(numbers), "\n") {
		name, rest, _ := strings.Cut(line, ":")
		want[name] = strings.TrimSpace(rest)
	}
	got := map[string]string{}
	file := pbflagsv1.File_pbflags_v1_evaluator_proto
	if file.Package() != "pbflags.v1" {
		t.Errorf("the package is %s", file.Package())
	}
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		var fields []string
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			kind := f.Kind().String()
			if f.Message() != nil {
				kind = string(f.Message().FullName())
			} else if f.Enum() != nil {
				kind = string(f.Enum().FullName())
			}
			if f.Cardinality() == protoreflect.Repeated {
				kind += "[]"
			}
			fields = append(fields, fmt.Sprintf("%s=%d %s", f.Name(), f.Number(), kind))
			if (f.ContainingOneof() != nil) != (m.Name() == "FlagValue") || f.HasOptionalKeyword() {
				t.Errorf("%s.%s is in a oneof, or is not", m.Name(), f.Name())
			}
		}
		got[string(m.Name())] = strings.Join(fields, ", ")
	}
	for i := range file.Enums().Len() {
		e := file.Enums().Get(i)
		var values []string
		for j := range e.Values().Len() {
			values = append(values, fmt.Sprintf("%s=%d", e.Values().Get(j).Name(), e.Values().Get(j).Number()))
		}
		got[string(e.Name())] = strings.Join(values, ", ")
	}
	for i := range file.Services().Len() {
		s := file.Services().Get(i)
		var methods []string
		for j := range s.Methods().Len() {
			m := s.Methods().Get(j)
			methods = append(methods, fmt.Sprintf("%s(%s)%s", m.Name(), m.Input().Name(), m.Output().Name()))
		}
		got[string(s.Name())] = strings.Join(methods, ", ")
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is\n%s, want\n%s", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// `curl -H 'Authorization: Bearer …' -d '{"flagId":"x"}' …`, without a word of
// what kind of text that is.
func TestPlainJSONAsCurlSendsIt(t *testing.T) {
	t.Parallel()
	h := start(t)
	text, _ := flag.StringValue("blue \"☃\"")
	third, _ := flag.DoubleValue(1.0 / 3)
	structure, _ := flag.JSONValue(`{"b": [1, 2.50], "a": 9007199254740993}`)
	h.apply(t, flag.Put(boolean("bool")),
		flag.Put(&flag.Flag{Key: "text", Type: flag.String, Default: text, State: flag.Enabled}),
		flag.Put(&flag.Flag{Key: "int", Type: flag.Int, Default: flag.IntValue(math.MaxInt64), State: flag.Enabled}),
		flag.Put(&flag.Flag{Key: "lowest", Type: flag.Int, Default: flag.IntValue(math.MinInt64), State: flag.Enabled}),
		flag.Put(&flag.Flag{Key: "double", Type: flag.Double, Default: third, State: flag.Enabled}),
		flag.Put(&flag.Flag{Key: "checkout/json", Type: flag.JSON, Default: structure, State: flag.Enabled}))
	at := h.apply(t, flag.Put(override("bool", "u1", false)), flag.Put(hold("text", "ops")))
	same := fmt.Sprintf(`"revision":"%d","storeId":%q`, at.Number, at.StoreID)
	for _, row := range []struct{ procedure, body, want string }{
		{"Evaluate", `{"flagId":"bool"}`, `{"flagId":"bool","value":{"boolValue":true},"source":"EVALUATION_SOURCE_GLOBAL","type":"FLAG_TYPE_BOOL",` + same + `}`},
		{"Evaluate", `{"flag_id":"bool","entity_id":"u1"}`, `{"flagId":"bool","value":{"boolValue":false},"source":"EVALUATION_SOURCE_OVERRIDE","type":"FLAG_TYPE_BOOL",` + same + `}`},
		{"Evaluate", `{"flagId":"bool","context":{"user":"u1"},"anotherServersField":1}`, `{"flagId":"bool","value":{"boolValue":false},"source":"EVALUATION_SOURCE_OVERRIDE","type":"FLAG_TYPE_BOOL",` + same + `}`},
		{"Evaluate", `{"flagId":"text"}`, `{"flagId":"text","value":{"stringValue":"blue \"☃\""},"source":"EVALUATION_SOURCE_KILLED","type":"FLAG_TYPE_STRING",` + same + `}`},
		{"Evaluate", `{"flagId":"int"}`, `{"flagId":"int","value":{"int64Value":"9223372036854775807"},"source":"EVALUATION_SOURCE_DEFAULT","type":"FLAG_TYPE_INT64",` + same + `}`},
		{"Evaluate", `{"flagId":"lowest"}`, `{"flagId":"lowest","value":{"int64Value":"-9223372036854775808"},"source":"EVALUATION_SOURCE_DEFAULT","type":"FLAG_TYPE_INT64",` + same + `}`},
		{"Evaluate", `{"flagId":"double"}`, `{"flagId":"double","value":{"doubleValue":0.3333333333333333},"source":"EVALUATION_SOURCE_DEFAULT","type":"FLAG_TYPE_DOUBLE",` + same + `}`},
		{"Evaluate", `{"flagId":"checkout/json"}`, `{"flagId":"checkout/json","value":{"jsonValue":"{\"a\":9007199254740993,\"b\":[1,2.5]}"},"source":"EVALUATION_SOURCE_DEFAULT","type":"FLAG_TYPE_JSON",` + same + `}`},
		{"Evaluate", `{"flagId":"gone"}`, `{"flagId":"gone","source":"EVALUATION_SOURCE_DEFAULT","errorCode":"FLAG_NOT_FOUND",` + same + `}`},
		{"Evaluate", fmt.Sprintf(`{"flagId":"gone","minimumRevision":"%d","storeId":%q}`, at.Number, at.StoreID), `{"flagId":"gone","source":"EVALUATION_SOURCE_DEFAULT","errorCode":"FLAG_NOT_FOUND",` + same + `}`},
		{"BulkEvaluate", `{"flagIds":["gone"]}`, `{"evaluations":[{"flagId":"gone","source":"EVALUATION_SOURCE_DEFAULT","errorCode":"FLAG_NOT_FOUND",` + same + `}]}`},
		{"GetFlagState", `{"flagId":"text"}`, `{"flag":{"flagId":"text","state":"STATE_KILLED"}}`},
		{"GetFlagState", `{"flagId":"bool"}`, `{"flag":{"flagId":"bool","state":"STATE_ENABLED","value":{"boolValue":true}}}`},
		{"GetKilledFlags", `{}`, `{"flagIds":["text"]}`},
		{"GetOverrides", `{"entityId":"u1"}`, `{"overrides":[{"flagId":"bool","entityId":"u1","state":"STATE_ENABLED","value":{"boolValue":false}}]}`},
		{"Health", `{}`, `{"status":"EVALUATOR_STATUS_SERVING","cachedFlagCount":6}`},
	} {
		url := h.endpoint + "/" + pbflagsv1connect.FlagEvaluatorServiceName + "/" + row.procedure
		for _, kind := range []string{"application/x-www-form-urlencoded", "application/json", ""} {
			response, body := raw(t, http.MethodPost, url, row.body, "Authorization", "Bearer "+h.admin, "Content-Type", kind)
			if !sameJSON(body, row.want) || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s (%s): %s\n got %s\nwant %s", row.procedure, row.body, kind, response.Status, body, row.want)
			}
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	if m, ok := x.(map[string]any); ok {
		delete(m, "secondsSinceServerContact")
	}
	return reflect.DeepEqual(x, y)
}
