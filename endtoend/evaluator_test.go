package endtoend

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

const evaluatorService = "pbflags.v1.FlagEvaluatorService/"

// answersConfig has a flag of each type and an override.
const answersConfig = `
resource "bunting_flag" "bool" {
  key           = "answers/bool"
  default_value = false
  value         = true
}

resource "bunting_flag" "string" {
  key           = "answers/string"
  default_value = "none"
  layer         = "user"
}

resource "bunting_flag" "int" {
  key           = "answers/int"
  default_value = 0
  value         = 9223372036854775807
}

resource "bunting_flag" "double" {
  key           = "answers/double"
  default_value = 0.1
}

resource "bunting_flag" "json" {
  key           = "answers/json"
  default_value = { b = [1, 2], a = null }
}

resource "bunting_override" "string" {
  flag_key  = bunting_flag.string.key
  entity_id = "user-42"
  value     = "something"
}
`

// TestEvaluatorSpeaksJSON asks as curl does. Names and enums are those of DESIGN section 11, int64 is a string as
// protobuf's JSON form has it.
func TestEvaluatorSpeaksJSON(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	newWorkspace(t, s, answersConfig).must(t, "apply")
	s.operate(t, s.token, "kill", "answers/double", "--reason", "test")
	token := s.newToken(t, "application", "SCOPE_EVALUATE")
	_, server := s.call(t, token, "bunting.v1.FlagAdminService/GetServer", map[string]any{})
	revision := server["revision"].(map[string]any)

	evaluation := func(key, valueName string, value any, source, typ string) map[string]any {
		return map[string]any{
			"flagId": key, "value": map[string]any{valueName: value}, "source": "EVALUATION_SOURCE_" + source,
			"type": "FLAG_TYPE_" + typ, "revision": revision["number"], "storeId": revision["storeId"],
		}
	}
	evaluations := []any{
		evaluation("answers/bool", "boolValue", true, "GLOBAL", "BOOL"),
		evaluation("answers/double", "doubleValue", 0.1, "KILLED", "DOUBLE"),
		evaluation("answers/int", "int64Value", "9223372036854775807", "GLOBAL", "INT64"),
		evaluation("answers/json", "jsonValue", `{"a":null,"b":[1,2]}`, "DEFAULT", "JSON"),
		evaluation("answers/string", "stringValue", "something", "OVERRIDE", "STRING"),
	}
	notFound := map[string]any{
		"flagId": "answers/none", "source": "EVALUATION_SOURCE_DEFAULT", "errorCode": "FLAG_NOT_FOUND",
		"revision": revision["number"], "storeId": revision["storeId"],
	}
	tests := []struct {
		method   string
		question string
		answer   map[string]any
	}{
		{"Evaluate", `{"flagId": "answers/bool"}`, evaluations[0].(map[string]any)},
		{"Evaluate", `{"flag_id": "answers/double", "entity_id": "user-42"}`, evaluations[1].(map[string]any)},
		{"Evaluate", `{"flagId": "answers/int", "minimumRevision": "1"}`, evaluations[2].(map[string]any)},
		{"Evaluate", `{"flagId": "answers/json", "context": {"plan": "gold"}}`, evaluations[3].(map[string]any)},
		{"Evaluate", `{"flagId": "answers/string", "entityId": "user-42"}`, evaluations[4].(map[string]any)},
		{"Evaluate", `{"flagId": "answers/string", "entityId": "somebody", "context": {"user": "user-42"}}`, evaluations[4].(map[string]any)},
		{"Evaluate", `{"flagId": "answers/string", "entityId": "user-43"}`, evaluation("answers/string", "stringValue", "none", "DEFAULT", "STRING")},
		{"Evaluate", `{"flagId": "answers/none"}`, notFound},
		{"BulkEvaluate", `{"entityId": "user-42"}`, map[string]any{"evaluations": evaluations}},
		{"BulkEvaluate", `{"flagIds": ["answers/none", "answers/bool"]}`, map[string]any{"evaluations": []any{notFound, evaluations[0]}}},
		{"GetFlagState", `{"flagId": "answers/bool"}`, map[string]any{"flag": map[string]any{
			"flagId": "answers/bool", "state": "STATE_ENABLED", "value": map[string]any{"boolValue": true},
		}}},
		{"GetFlagState", `{"flagId": "answers/double"}`, map[string]any{"flag": map[string]any{"flagId": "answers/double", "state": "STATE_KILLED"}}},
		{"GetFlagState", `{"flagId": "answers/none"}`, map[string]any{}},
		{"GetKilledFlags", `{}`, map[string]any{"flagIds": []any{"answers/double"}}},
		{"GetOverrides", `{"entityId": "user-42"}`, map[string]any{"overrides": []any{map[string]any{
			"flagId": "answers/string", "entityId": "user-42", "state": "STATE_ENABLED", "value": map[string]any{"stringValue": "something"},
		}}}},
		{"GetOverrides", `{"entityId": "user-43"}`, map[string]any{}},
	}
	for _, test := range tests {
		status, raw := s.post(t, token, evaluatorService+test.method, "application/json", []byte(test.question))
		var answer map[string]any
		if err := json.Unmarshal(raw, &answer); err != nil || status != http.StatusOK || !reflect.DeepEqual(answer, test.answer) {
			t.Errorf("%s %s answers %d\n%v\nexpected\n%v", test.method, test.question, status, answer, test.answer)
		}
	}

	status, health := s.call(t, token, evaluatorService+"Health", map[string]any{})
	if status != http.StatusOK || health["status"] != "EVALUATOR_STATUS_SERVING" || health["cachedFlagCount"] != 5.0 {
		t.Errorf("Health answers %d %v, expected to be serving 5 flags", status, health)
	}
}

// TestEvaluatorKeepsItsNumbers asks and reads the binary form by field numbers alone, as programs do that were built
// from another copy of the same service.
func TestEvaluatorKeepsItsNumbers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	newWorkspace(t, s, answersConfig).must(t, "apply")

	question := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "answers/string")
	question = protowire.AppendString(protowire.AppendTag(question, 2, protowire.BytesType), "user-42")
	answer := s.fields(t, "Evaluate", question)
	if got := string(answer[1].bytes); got != "answers/string" {
		t.Errorf("field 1 (flag_id) is %q", got)
	}
	if got := string(parseFields(t, answer[2].bytes)[2].bytes); got != "something" {
		t.Errorf("field 2.2 (value.string_value) is %q", got)
	}
	if answer[3].number != 3 { // OVERRIDE
		t.Errorf("field 3 (source) is %d, expected 3", answer[3].number)
	}
	if answer[100].number == 0 || answer[103].number != 2 || len(answer[106].bytes) == 0 {
		t.Errorf("fields 100 (revision), 103 (type), 106 (store_id) are %v, %v, %v", answer[100], answer[103], answer[106])
	}

	question = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "answers/int")
	value := parseFields(t, s.fields(t, "Evaluate", question)[2].bytes)
	if value[3].number != 9223372036854775807 {
		t.Errorf("field 2.3 (value.int64_value) is %d", value[3].number)
	}
	question = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "answers/none")
	answer = s.fields(t, "Evaluate", question)
	if _, there := answer[2]; there || answer[3].number != 1 || string(answer[105].bytes) != "FLAG_NOT_FOUND" {
		t.Errorf("an unknown flag answers %v", answer)
	}
	if state := s.fields(t, "GetFlagState", protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "answers/bool")); parseFields(t, state[1].bytes)[2].number != 1 {
		t.Errorf("GetFlagState answers %v, expected field 1.2 (flag.state) to be 1", state)
	}
	if health := s.fields(t, "Health", nil); health[1].number != 2 || health[3].number != 5 {
		t.Errorf("Health answers %v, expected field 1 (status) to be 2 and field 3 (cached_flag_count) 5", health)
	}
}

// field is a field's value as it is on the wire.
type field struct {
	number uint64
	bytes  []byte
}

// fields asks in the binary form and gives the answer's fields by number.
func (s *server) fields(t *testing.T, method string, question []byte) map[protowire.Number]field {
	t.Helper()
	status, raw := s.post(t, s.token, evaluatorService+method, "application/proto", question)
	if status != http.StatusOK {
		t.Fatalf("%s answers %d: %s", method, status, raw)
	}
	return parseFields(t, raw)
}

func parseFields(t *testing.T, message []byte) map[protowire.Number]field {
	t.Helper()
	fields := map[protowire.Number]field{}
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatalf("no protobuf message: %x", message)
		}
		message = message[n:]
		var f field
		switch typ {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, typ, message)
		}
		if n < 0 {
			t.Fatalf("no protobuf message: %x", message)
		}
		message = message[n:]
		fields[number] = f
	}
	return fields
}
