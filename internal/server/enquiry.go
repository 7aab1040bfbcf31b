package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

var _ pbflagsv1connect.FlagEvaluatorServiceHandler = enquiry{}

// enquiry is pbflags.v1.FlagEvaluatorService before a service that has nothing
// else: what is not known is asked for, and kept for a while (client.OnDemand).
type enquiry struct{ *Server }

// bulkAtOnce is how many answers of one bulk question are waited for at once.
const bulkAtOnce = 64

// Evaluate answers for one flag.
func (s enquiry) Evaluate(ctx context.Context, request *connect.Request[pbflagsv1.EvaluateRequest]) (*connect.Response[pbflagsv1.EvaluateResponse], error) {
	m := request.Msg
	key, err := keyAsked(ctx, m.GetFlagId())
	if err != nil {
		return nil, err
	}
	if err := noRevision(m.GetStoreId(), m.GetMinimumRevision()); err != nil {
		return nil, err
	}
	asker, err := askerOf(m.GetEntityId(), m.GetContext())
	if err != nil {
		return nil, err
	}
	answer, err := s.answer(ctx, key, asker)
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	return connect.NewResponse(wire.FromAnswer(answer, flag.Revision{})), nil
}

// answer answers for one flag. A key that no flag can have is asked nobody about:
// it may be anything, and as long as the request.
func (s enquiry) answer(ctx context.Context, key flag.Key, asker flag.Context) (flag.Answer, error) {
	if !isKey(key) {
		return flag.Answer{Key: key, Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound}, nil
	}
	return s.onDemand.Evaluate(ctx, key, asker)
}

func isKey(key flag.Key) bool {
	_, err := flag.ParseKey(string(key))
	return err == nil
}

// BulkEvaluate answers for many flags, each as it is known: the service tells of no
// moment that would be common to them.
func (s enquiry) BulkEvaluate(ctx context.Context, request *connect.Request[pbflagsv1.BulkEvaluateRequest]) (*connect.Response[pbflagsv1.BulkEvaluateResponse], error) {
	m := request.Msg
	keys, err := keysAsked(ctx, m.GetFlagIds())
	if err != nil {
		return nil, err
	}
	if err := noRevision(m.GetStoreId(), m.GetMinimumRevision()); err != nil {
		return nil, err
	}
	asker, err := askerOf(m.GetEntityId(), m.GetContext())
	if err != nil {
		return nil, err
	}
	if keys == nil {
		if s.compiled == nil {
			return nil, invalid("flag_ids is empty, but which flags there are is known here by descriptors alone, and this server has none. Name the flags")
		}
		keys = s.compiled.Keys()
	}
	answers, err := s.evaluateAll(ctx, keys, asker)
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	response := &pbflagsv1.BulkEvaluateResponse{}
	var size answerSize
	for _, answer := range answers {
		told := wire.FromAnswer(answer, flag.Revision{})
		if err := size.add(told); err != nil {
			return nil, err
		}
		response.Evaluations = append(response.Evaluations, told)
	}
	return connect.NewResponse(response), nil
}

// evaluateAll answers for many flags. What is not known of them is asked for
// together, or each would wait for the one before.
func (s enquiry) evaluateAll(ctx context.Context, keys []flag.Key, asker flag.Context) ([]flag.Answer, error) {
	answers, failed := make([]flag.Answer, len(keys)), make([]error, len(keys))
	next := make(chan int)
	var all sync.WaitGroup
	for range min(bulkAtOnce, len(keys)) {
		all.Go(func() {
			for i := range next {
				answers[i], failed[i] = s.answer(ctx, keys[i], asker)
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	all.Wait()
	for _, err := range failed { // the first of them, in the order asked
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// Health tells how well the service is reached.
func (s enquiry) Health(context.Context, *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	return connect.NewResponse(healthMessage(s.health())), nil
}

// GetFlagState tells a flag's global state.
func (s enquiry) GetFlagState(ctx context.Context, request *connect.Request[pbflagsv1.GetFlagStateRequest]) (*connect.Response[pbflagsv1.GetFlagStateResponse], error) {
	key, err := keyAsked(ctx, request.Msg.GetFlagId())
	if err != nil {
		return nil, err
	}
	if !isKey(key) {
		return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{}), nil
	}
	known, _, err := s.onDemand.FlagState(ctx, key)
	switch {
	case err != nil:
		return nil, s.unanswered(ctx, err)
	case !known.Exists:
		return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{}), nil
	}
	state := pbflagsv1.State(known.State)
	if known.Killed {
		state = pbflagsv1.State_STATE_KILLED
	}
	return connect.NewResponse(&pbflagsv1.GetFlagStateResponse{
		Flag: &pbflagsv1.FlagState{FlagId: string(key), State: state, Value: wire.FromValue(known.Value)}, Archived: known.Archived,
	}), nil
}

// GetKilledFlags lists the killed flags.
func (s enquiry) GetKilledFlags(ctx context.Context, _ *connect.Request[pbflagsv1.GetKilledFlagsRequest]) (*connect.Response[pbflagsv1.GetKilledFlagsResponse], error) {
	keys, _, err := s.onDemand.KilledFlags(ctx)
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	m := &pbflagsv1.GetKilledFlagsResponse{}
	for _, key := range keys {
		m.FlagIds = append(m.FlagIds, string(key))
	}
	return connect.NewResponse(m), nil
}

// GetOverrides lists the overrides of one entity.
func (s enquiry) GetOverrides(ctx context.Context, request *connect.Request[pbflagsv1.GetOverridesRequest]) (*connect.Response[pbflagsv1.GetOverridesResponse], error) {
	entity := request.Msg.GetEntityId()
	if entity == "" {
		return nil, invalid("entity_id is empty. Name the entity whose overrides are asked for")
	}
	keys, err := keysAsked(ctx, request.Msg.GetFlagIds())
	if err != nil {
		return nil, err
	}
	overrides, _, err := s.onDemand.Overrides(ctx, entity)
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	wanted := sortedOnce(keys)
	m := &pbflagsv1.GetOverridesResponse{}
	for _, o := range overrides {
		if _, named := slices.BinarySearch(wanted, o.FlagKey); keys != nil && !named {
			continue
		}
		m.Overrides = append(m.Overrides, &pbflagsv1.OverrideState{
			FlagId: string(o.FlagKey), EntityId: o.EntityID, State: pbflagsv1.State(o.State), Value: wire.FromValue(o.Value),
		})
	}
	return connect.NewResponse(m), nil
}

// noRevision refuses a question for a minimum revision, which the service could
// only pretend to answer.
func noRevision(storeID string, minimum int64) error {
	if storeID == "" && minimum == 0 {
		return nil
	}
	return invalid("minimum_revision or store_id is set, but the service behind this proxy tells no revisions. Leave both out, or ask a Bunting flag server")
}

// unanswered is the error of a call that the service behind was needed for.
func (s *Server) unanswered(ctx context.Context, err error) error {
	e, _ := errors.AsType[*client.Error](err)
	switch {
	case e != nil && e.Kind == client.Canceled:
		return connect.NewError(connect.CodeCanceled, errors.New("the caller has gone"))
	case e != nil && e.Kind == client.Invalid:
		return untold(ctx, s.log, connect.CodeInvalidArgument, "", "the service behind this proxy cannot take the question", err)
	case e != nil && e.Kind == client.Incompatible:
		return untold(ctx, s.log, connect.CodeUnimplemented, "", "the service behind this proxy does not know this call", err)
	}
	return untold(ctx, s.log, connect.CodeUnavailable, reasonUpstream, "nothing is known of this yet, and the service behind this proxy has to answer, but did not. Try again later", err)
}

// health tells how well the source of truth is reached, whichever it is.
func (s *Server) health() evaluator.Health {
	if s.onDemand == nil {
		return s.evaluator.Health()
	}
	return healthOf(s.onDemand.Health())
}

func healthOf(h client.Health) evaluator.Health {
	return evaluator.Health{Status: h.Status, Silence: time.Duration(h.SecondsSinceContact) * time.Second, Flags: h.CachedFlags, Failures: h.Failures, Stale: h.Failures > 0 || h.SecondsSinceContact < 0}
}

// nobody is the authority before a service that judges no token: a token that
// nobody can judge is none.
type nobody struct{}

// verify refuses every token.
func (nobody) verify(context.Context, string, string, time.Time) (token.Token, error) {
	return token.Token{}, unauthenticated(reasonTokenUnknown, "this proxy stands before a service that judges no token, so it takes none. Ask without one")
}

// lacks refuses the calls of a service that this server does not have. It comes
// before the token: whoever wants to know what there is has none that is taken.
func (s *Server) lacks(r *http.Request) error {
	if s.onDemand == nil || !strings.HasPrefix(r.URL.Path, "/"+buntingv1connect.FlagAdminServiceName+"/") {
		return nil
	}
	return connect.NewError(connect.CodeUnimplemented, errors.New("this proxy stands before a service that has only FlagEvaluatorService, so it has no admin service. Ask the service's own tools, or a Bunting flag server"))
}
