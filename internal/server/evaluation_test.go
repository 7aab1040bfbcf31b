package server

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

const (
	sourceDefault  = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT
	sourceGlobal   = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_GLOBAL
	sourceOverride = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_OVERRIDE
	sourceKilled   = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_KILLED
	sourceCached   = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_CACHED
	sourceArchived = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_ARCHIVED
)

// world has a flag for each row of DESIGN §4.
func world(tb testing.TB, h *harness) {
	tb.Helper()
	off := func(key flag.Key) *flag.Flag { f := boolean(key); f.State = flag.Default; return f }
	plain := boolean("plain")
	plain.Value = flag.Value{}
	global := boolean("global")
	global.Layer = "global"
	was := func(key flag.Key) flag.Change { return flag.Change{Op: flag.ArchiveFlag, Ref: flag.FlagRef(key)} }
	retyped := boolean("retyped")
	number := &flag.Flag{Key: "retyped", Type: flag.Int, Default: flag.IntValue(1), Value: flag.IntValue(2), State: flag.Enabled, Layer: "user"}
	h.apply(tb, flag.Put(boolean("on")), flag.Put(off("off")), flag.Put(plain), flag.Put(boolean("held")), flag.Put(global),
		flag.Put(boolean("was-on")), flag.Put(off("was-off")), flag.Put(boolean("was-held")), flag.Put(retyped))
	for _, key := range []flag.Key{"on", "off", "held", "was-on", "retyped"} {
		h.apply(tb, flag.Put(override(key, "u-true", true)), flag.Put(override(key, "u-false", false)),
			flag.Put(&flag.Override{FlagKey: key, EntityID: "u-default", State: flag.Default}))
	}
	h.apply(tb, flag.Put(hold("held", "ops")), flag.Put(hold("was-held", "ops")))
	h.apply(tb, was("was-on"), was("was-off"), was("was-held"), flag.Put(number))
	h.apply(tb, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("was-held", "ops")})
}

// The rule of DESIGN §4, row by row, as it comes over the wire; fresh, and while
// the store is silent.
func TestResolutionOverTheWire(t *testing.T) {
	t.Parallel()
	h := start(t)
	world(t, h)
	rows := []struct {
		key, entity string
		value       any
		source      pbflagsv1.EvaluationSource
	}{
		{"held", "", false, sourceKilled},
		{"held", "u-true", false, sourceKilled},
		{"on", "u-true", true, sourceOverride},
		{"on", "u-false", false, sourceOverride},
		{"on", "u-default", false, sourceDefault},
		{"on", "u-other", true, sourceGlobal},
		{"off", "u-true", true, sourceOverride},
		{"was-on", "u-false", false, sourceOverride},
		{"was-on", "", true, sourceArchived},
		{"was-off", "", false, sourceDefault},
		{"was-held", "", false, sourceDefault},
		{"on", "", true, sourceGlobal},
		{"global", "u-true", true, sourceGlobal},
		{"off", "", false, sourceDefault},
		{"plain", "", false, sourceDefault},
		{"retyped", "u-true", int64(2), sourceGlobal},
		{"retyped", "u-default", int64(1), sourceDefault},
		{"nothing", "", nil, sourceDefault},
		{"no//key at all", "", nil, sourceDefault},
	}
	at := h.server.evaluator.View().Revision
	check := func(c clients, stale bool) {
		t.Helper()
		for _, row := range rows {
			response, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: row.key, EntityId: row.entity}))
			if err != nil {
				t.Fatal(err)
			}
			want := &pbflagsv1.EvaluateResponse{FlagId: row.key, Source: row.source, Revision: at.Number, StoreId: at.StoreID, Stale: stale}
			switch v := row.value.(type) {
			case bool:
				want.Type, want.Value = pbflagsv1.FlagType_FLAG_TYPE_BOOL, &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_BoolValue{BoolValue: v}}
			case int64:
				want.Type, want.Value = pbflagsv1.FlagType_FLAG_TYPE_INT64, &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_Int64Value{Int64Value: v}}
			default:
				want.ErrorCode = "FLAG_NOT_FOUND"
			}
			if stale && row.value != nil {
				want.FreshSource = row.source
				if row.source != sourceKilled {
					want.Source = sourceCached
				}
			}
			if !proto.Equal(response.Msg, want) {
				t.Errorf("%s for %q:\n got %v\nwant %v", row.key, row.entity, response.Msg, want)
			}
			bulk, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{"on", row.key}, EntityId: row.entity}))
			if err != nil || !proto.Equal(bulk.Msg.GetEvaluations()[1], want) {
				t.Errorf("%s for %q in bulk: %v %v", row.key, row.entity, bulk, err)
			}
		}
	}
	h2 := h2c(t)
	for _, c := range []clients{h.as(t, h.admin), h.as(t, h.admin, connect.WithProtoJSON()), h.over(t, h.admin, h2, connect.WithGRPC()), h.over(t, h.admin, h2), h.as(t, h.admin, connect.WithGRPCWeb()), h.as(t, h.admin, connect.WithHTTPGet())} {
		check(c, false)
	}
	h.store.set(func(string) error { return errors.New("away") })
	for !h.server.evaluator.Health().Stale {
		<-time.After(50 * time.Millisecond)
	}
	check(h.as(t, h.admin), true)
	if response, body := raw(t, http.MethodGet, h.endpoint+"/readyz", ""); response.StatusCode != http.StatusOK || !strings.Contains(body, "stale") {
		t.Errorf("readyz: %s %s", response.Status, body)
	}
}

func TestTheContextNamesTheEntity(t *testing.T) {
	t.Parallel()
	h := start(t)
	world(t, h)
	c := h.as(t, h.scoped(t, token.Evaluate))
	for _, row := range []struct {
		entity  string
		context map[string]any
		want    pbflagsv1.EvaluationSource
	}{
		{"u-false", map[string]any{"user": "u-other"}, sourceGlobal},
		{"u-other", map[string]any{"user": "u-false"}, sourceOverride},
		{"u-false", map[string]any{"user": ""}, sourceOverride},
		{"u-false", map[string]any{"user": 3, "plan": "gold"}, sourceOverride},
		{"", map[string]any{"tenant": "u-false"}, sourceGlobal},
	} {
		attributes, err := structpb.NewStruct(row.context)
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "on", EntityId: row.entity, Context: attributes}))
		if err != nil || response.Msg.GetSource() != row.want {
			t.Errorf("%q with %v: %v %v", row.entity, row.context, response, err)
		}
	}
	deep := &structpb.Struct{}
	for range maxContextDepth {
		deep = &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStructValue(deep)}})}}
	}
	if _, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "on", Context: deep})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a deep context: %v", err)
	}
}

func TestBulkEvaluate(t *testing.T) {
	t.Parallel()
	h := start(t)
	world(t, h)
	c := h.as(t, h.scoped(t, token.Evaluate))
	ids := func(request *pbflagsv1.BulkEvaluateRequest) (ids []string) {
		t.Helper()
		response, err := c.BulkEvaluate(t.Context(), connect.NewRequest(request))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range response.Msg.GetEvaluations() {
			ids = append(ids, e.GetFlagId())
		}
		return ids
	}
	if got, want := ids(&pbflagsv1.BulkEvaluateRequest{}), []string{"global", "held", "off", "on", "plain", "retyped", "was-held", "was-off", "was-on"}; !slices.Equal(got, want) {
		t.Errorf("all: %v", got)
	}
	if got, want := ids(&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{"on", "held", "on", "gone"}}), []string{"on", "held", "on", "gone"}; !slices.Equal(got, want) {
		t.Errorf("named: %v", got)
	}
	for name, bad := range map[string][]string{"an empty key": {"on", ""}, "too many": slices.Repeat([]string{"on"}, maxNames+1)} {
		if _, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: bad})); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheStateCalls(t *testing.T) {
	t.Parallel()
	h := start(t)
	world(t, h)
	c := h.as(t, h.scoped(t, token.Evaluate))
	ctx := t.Context()
	for key, want := range map[string]*pbflagsv1.GetFlagStateResponse{
		"on":      {Flag: &pbflagsv1.FlagState{FlagId: "on", State: pbflagsv1.State_STATE_ENABLED, Value: yes}},
		"off":     {Flag: &pbflagsv1.FlagState{FlagId: "off", State: pbflagsv1.State_STATE_DEFAULT, Value: yes}},
		"held":    {Flag: &pbflagsv1.FlagState{FlagId: "held", State: pbflagsv1.State_STATE_KILLED, Value: yes}},
		"plain":   {Flag: &pbflagsv1.FlagState{FlagId: "plain", State: pbflagsv1.State_STATE_ENABLED}},
		"was-on":  {Flag: &pbflagsv1.FlagState{FlagId: "was-on", State: pbflagsv1.State_STATE_ENABLED, Value: yes}, Archived: true},
		"was-off": {Flag: &pbflagsv1.FlagState{FlagId: "was-off", State: pbflagsv1.State_STATE_DEFAULT, Value: yes}, Archived: true},
		"nothing": {},
	} {
		got, err := c.GetFlagState(ctx, connect.NewRequest(&pbflagsv1.GetFlagStateRequest{FlagId: key}))
		if err != nil || !proto.Equal(got.Msg, want) {
			t.Errorf("%s: %v %v, want %v", key, got.Msg, err, want)
		}
	}
	killed, err := c.GetKilledFlags(ctx, connect.NewRequest(&pbflagsv1.GetKilledFlagsRequest{}))
	if err != nil || !slices.Equal(killed.Msg.GetFlagIds(), []string{"held"}) || killed.Msg.GetKilledOverrides() != nil {
		t.Errorf("killed: %v %v", killed, err)
	}
	// An override that says nothing about its flag any more (another type) is none.
	for name, row := range map[string]struct {
		request *pbflagsv1.GetOverridesRequest
		want    []string
	}{
		"all":     {&pbflagsv1.GetOverridesRequest{EntityId: "u-true"}, []string{"held", "off", "on", "was-on"}},
		"default": {&pbflagsv1.GetOverridesRequest{EntityId: "u-default"}, []string{"held", "off", "on", "retyped", "was-on"}},
		"named":   {&pbflagsv1.GetOverridesRequest{EntityId: "u-true", FlagIds: []string{"on", "gone", "held", "on", "retyped"}}, []string{"held", "on"}},
		"nobody":  {&pbflagsv1.GetOverridesRequest{EntityId: "nobody"}, nil},
	} {
		for _, more := range []bool{false, true} { // with more flags than overrides, and the other way round
			if more {
				h.store.set(nil)
				for i := range 20 {
					_, _ = h.server.root.Apply(ctx, adminBatch(flag.Put(boolean(flag.Key("zz/"+string(rune('a'+i)))))))
				}
			}
			got, err := c.GetOverrides(ctx, connect.NewRequest(row.request))
			var ids []string
			for _, o := range got.Msg.GetOverrides() {
				ids = append(ids, o.GetFlagId())
				if o.GetEntityId() != row.request.GetEntityId() || (o.GetState() == pbflagsv1.State_STATE_ENABLED) != (o.GetValue() != nil) {
					t.Errorf("%s: %v", name, o)
				}
			}
			if err != nil || !slices.Equal(ids, row.want) {
				t.Errorf("%s (%t): %v %v, want %v", name, more, ids, err, row.want)
			}
		}
	}
	if _, err := c.GetOverrides(ctx, connect.NewRequest(&pbflagsv1.GetOverridesRequest{})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("nobody's overrides: %v", err)
	}
	health, err := c.Health(ctx, connect.NewRequest(&pbflagsv1.HealthRequest{}))
	if err != nil || health.Msg.GetStatus() != pbflagsv1.EvaluatorStatus_EVALUATOR_STATUS_SERVING || health.Msg.GetCachedFlagCount() != 29 || health.Msg.GetConsecutiveFailures() != 0 || health.Msg.GetSecondsSinceServerContact() > 2 {
		t.Errorf("health: %v %v", health, err)
	}
	part := h.as(t, h.token(t, token.Token{Name: "none-of-it", Prefix: "elsewhere", Scopes: []token.Scope{token.Evaluate}}))
	if health, err := part.Health(ctx, connect.NewRequest(&pbflagsv1.HealthRequest{})); err != nil || health.Msg.GetCachedFlagCount() != 0 {
		t.Errorf("who covers none of the flags is told of %v %v", health, err)
	}
}

var yes = &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_BoolValue{BoolValue: true}}

func TestTheMinimumRevision(t *testing.T) {
	t.Parallel()
	h := start(t)
	at := h.apply(t, flag.Put(boolean("pay")))
	c := h.as(t, h.admin)
	ask := func(store string, number int64) error {
		_, one := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay", StoreId: store, MinimumRevision: number}))
		_, many := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{StoreId: store, MinimumRevision: number}))
		if connect.CodeOf(one) != connect.CodeOf(many) {
			t.Errorf("one: %v, many: %v", one, many)
		}
		return one
	}
	for _, store := range []string{"", at.StoreID} {
		if err := ask(store, at.Number); err != nil {
			t.Errorf("the present revision: %v", err)
		}
		if code, reason := told(ask(store, at.Number+50)); code != connect.CodeFailedPrecondition || reason != "REVISION_NOT_REACHED" {
			t.Errorf("a later one: %v %s", code, reason)
		}
	}
	quickly(t, evaluator.WaitLimit, "the answer that the store is another one", func() {
		if code, reason := told(ask("other", 1)); code != connect.CodeFailedPrecondition || reason != "STORE_CHANGED" {
			t.Errorf("another store: %v %s", code, reason)
		}
	})
	// It comes while the question waits, if this machine is quick enough.
	for range 5 {
		answered, began := make(chan error, 1), time.Now()
		go func() {
			response, err := c.Evaluate(t.Context(), connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay", MinimumRevision: at.Number + 1}))
			if err == nil && response.Msg.GetSource() != sourceKilled {
				err = errors.New("an older answer came")
			}
			answered <- err
		}()
		h.apply(t, flag.Put(hold("pay", "ops")))
		late := time.Since(began) >= evaluator.WaitLimit/2
		err := <-answered
		if err == nil {
			return
		}
		if _, reason := told(err); !late || reason != "REVISION_NOT_REACHED" {
			t.Fatal(err)
		}
		at = h.apply(t, flag.Change{Op: flag.ReleaseHold, Ref: flag.HoldRef("pay", "ops")})
	}
	t.Error("no change was written while a question waited for it")
}
