package server

import (
	"context"
	"math"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

var _ pbflagsv1connect.FlagEvaluatorServiceHandler = evaluation{}

// evaluation is pbflags.v1.FlagEvaluatorService. It never waits for the store.
type evaluation struct{ *Server }

// Evaluate answers for one flag.
func (s evaluation) Evaluate(ctx context.Context, request *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	m := request.Msg
	key, err := keyAsked(ctx, m.GetFlagId())
	if err != nil {
		return nil, err
	}
	asker, err := askerOf(m.GetEntityId(), m.GetContext())
	if err != nil {
		return nil, err
	}
	view, err := s.evaluator.WaitFor(ctx, flag.Revision{StoreID: m.GetStoreId(), Number: m.GetMinimumRevision()})
	if err != nil {
		return nil, s.answerError(ctx, "evaluate a flag", err)
	}
	answer := view.Evaluate(key, asker)
	if answer.ErrorCode != "" && !view.Known() {
		return nil, s.answerError(ctx, "evaluate a flag", errNothingKnown)
	}
	return connect.NewResponse(wire.FromAnswer(answer, view.Revision)), nil
}

// BulkEvaluate answers for many flags at one revision.
func (s evaluation) BulkEvaluate(ctx context.Context, request *connect.Request[pbflagsv1.BulkEvaluateRequest]) (*connect.Response[pbflagsv1.BulkEvaluateResponse], error) {
	m := request.Msg
	keys, err := keysAsked(ctx, m.GetFlagIds())
	if err != nil {
		return nil, err
	}
	asker, err := askerOf(m.GetEntityId(), m.GetContext())
	if err != nil {
		return nil, err
	}
	view, err := s.evaluator.WaitFor(ctx, flag.Revision{StoreID: m.GetStoreId(), Number: m.GetMinimumRevision()})
	if err != nil {
		return nil, s.answerError(ctx, "evaluate flags", err)
	}
	if keys == nil {
		keys = slices.Collect(view.Keys(callerOf(ctx).Prefix))
		if len(keys) == 0 && !view.Known() {
			return nil, s.answerError(ctx, "evaluate flags", errNothingKnown)
		}
	}
	answers := make([]*pbflagsv1.EvaluateResponse, len(keys))
	var size answerSize
	for i, key := range keys {
		answer := view.Evaluate(key, asker)
		if answer.ErrorCode != "" && !view.Known() {
			return nil, s.answerError(ctx, "evaluate flags", errNothingKnown)
		}
		answers[i] = wire.FromAnswer(answer, view.Revision)
		if err := size.add(answers[i]); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&pbflagsv1.BulkEvaluateResponse{Evaluations: answers}), nil
}

// Health tells how well the evaluator is connected to its source.
func (s evaluation) Health(ctx context.Context, _ *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	h := s.evaluator.Health()
	if prefix := callerOf(ctx).Prefix; prefix != "" { // of the others it is not told how many there are
		h.Flags = 0
		for range s.evaluator.View().Flags(prefix) {
			h.Flags++
		}
	}
	return connect.NewResponse(healthMessage(h)), nil
}

func healthMessage(h evaluator.Health) *pbflagsv1.HealthResponse {
	silence := int64(-1)
	if h.Silence >= 0 {
		silence = int64(h.Silence.Seconds())
	}
	return &pbflagsv1.HealthResponse{
		Status:                    pbflagsv1.EvaluatorStatus(h.Status), //nolint:gosec // the numbers are the enum's
		SecondsSinceServerContact: silence,
		CachedFlagCount:           int32(min(h.Flags, math.MaxInt32)), ConsecutiveFailures: int32(min(h.Failures, math.MaxInt32)), //nolint:gosec // bounded
	}
}

// GetFlagState tells a flag's global state.
func (s evaluation) GetFlagState(ctx context.Context, request *connect.Request[pbflagsv1.GetFlagStateRequest]) (*connect.Response[pbflagsv1.GetFlagStateResponse], error) {
	key, err := keyAsked(ctx, request.Msg.GetFlagId())
	if err != nil {
		return nil, err
	}
	view, err := s.definitions(ctx, flag.Revision{})
	if err != nil {
		return nil, s.answerError(ctx, "tell the state of a flag", err)
	}
	f := view.Flag(key)
	if f == nil {
		return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{}), nil
	}
	state := pbflagsv1.State(f.State)
	if f.Archived() {
		state = pbflagsv1.State(f.ArchivedState)
	}
	if view.Snapshot.Killed(key, view.Now) {
		state = pbflagsv1.State_STATE_KILLED
	}
	return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{
		Flag: &pbflagsv1.FlagState{FlagId: string(key), State: state, Value: wire.FromValue(f.Value)}, Archived: f.Archived(),
	}), nil
}

// GetKilledFlags lists the killed flags.
func (s evaluation) GetKilledFlags(ctx context.Context, _ *connect.Request[pbflagsv1.GetKilledFlagsRequest]) (*connect.Response[pbflagsv1.GetKilledFlagsResponse], error) {
	view, err := s.definitions(ctx, flag.Revision{})
	if err != nil {
		return nil, s.answerError(ctx, "list the killed flags", err)
	}
	m := &pbflagsv1.GetKilledFlagsResponse{}
	for key := range view.Killed(callerOf(ctx).Prefix) {
		m.FlagIds = append(m.FlagIds, string(key))
	}
	return connect.NewResponse(m), nil
}

// GetOverrides lists the overrides of one entity that say something about their
// flag as it is now.
func (s evaluation) GetOverrides(ctx context.Context, request *connect.Request[pbflagsv1.GetOverridesRequest]) (*connect.Response[pbflagsv1.GetOverridesResponse], error) {
	entity := request.Msg.GetEntityId()
	if entity == "" {
		return nil, invalid("entity_id is empty. Name the entity whose overrides are asked for")
	}
	keys, err := keysAsked(ctx, request.Msg.GetFlagIds())
	if err != nil {
		return nil, err
	}
	view, err := s.definitions(ctx, flag.Revision{})
	if err != nil {
		return nil, s.answerError(ctx, "list overrides", err)
	}
	m := &pbflagsv1.GetOverridesResponse{}
	var size answerSize
	for o := range overridesOf(view, entity, keys, callerOf(ctx).Prefix) {
		told := &pbflagsv1.OverrideState{
			FlagId: string(o.FlagKey), EntityId: o.EntityID, State: pbflagsv1.State(o.State), Value: wire.FromValue(o.Value),
		}
		if err := size.add(told); err != nil {
			return nil, err
		}
		m.Overrides = append(m.Overrides, told)
	}
	return connect.NewResponse(m), nil
}

// overridesOf gives the entity's overrides in key order: of the keys, or, when
// there are none, of all flags under the prefix.
func overridesOf(view evaluator.View, entity string, keys []flag.Key, prefix flag.Key) func(yield func(*flag.Override) bool) {
	return func(yield func(*flag.Override) bool) {
		for _, key := range sortedOnce(keys) {
			f, o := view.Flag(key), view.Override(key, entity)
			if f != nil && o != nil && o.AppliesTo(f) && !yield(o) {
				return
			}
		}
		if keys != nil {
			return
		}
		// There is no index by entity: whichever there are fewer of is gone through.
		flags, overrides, _ := view.Counts()
		if overrides < flags {
			for o := range view.Overrides(prefix) {
				if o.EntityID != entity {
					continue
				}
				if f := view.Flag(o.FlagKey); f != nil && o.AppliesTo(f) && !yield(o) {
					return
				}
			}
			return
		}
		for f := range view.Flags(prefix) {
			if o := view.Override(f.Key, entity); o != nil && o.AppliesTo(f) && !yield(o) {
				return
			}
		}
	}
}

// askerOf reads the evaluation context of a question.
func askerOf(entity string, attributes *structpb.Struct) (flag.Context, error) {
	if deeper(attributes, maxContextDepth) {
		return flag.Context{}, invalid("context nests deeper than %d levels. Flatten it", maxContextDepth)
	}
	return wire.ToContext(entity, attributes), nil
}

// maxContextDepth is how deep the attributes of a caller may nest.
const maxContextDepth = 32

func deeper(attributes *structpb.Struct, levels int) bool {
	if levels == 0 {
		return len(attributes.GetFields()) > 0
	}
	for _, v := range attributes.GetFields() {
		if valueDeeper(v, levels-1) {
			return true
		}
	}
	return false
}

func valueDeeper(v *structpb.Value, levels int) bool {
	if deeper(v.GetStructValue(), levels) {
		return true
	}
	list := v.GetListValue().GetValues()
	if levels == 0 {
		return len(list) > 0
	}
	for _, item := range list {
		if valueDeeper(item, levels-1) {
			return true
		}
	}
	return false
}
