package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// What an evaluator service that is not ours is asked: its state calls, which
// carry no default, type, layer or revision, and Evaluate.

const opKills = "read which flags are killed"

// noHint stands where a service does not say for how long its answer may be kept.
const noHint time.Duration = -1

// FlagState is a flag as a plain evaluator service states it.
type FlagState struct {
	Exists   bool // false: there is no such flag, and nothing of what follows
	Killed   bool
	State    flag.State // 0 while killed: what it serves once it is not is not told
	Value    flag.Value // also while it is not served; zero: none
	Archived bool
}

// onto puts what the service says onto a compiled definition. A value of another
// type says nothing about the flag as it is compiled in, like an override of
// another type.
func (s FlagState) onto(f *flag.Flag) {
	f.State, f.Value, f.ArchivedState = flag.Default, flag.Value{}, 0
	if s.State != 0 {
		f.State = s.State
	}
	if s.Value.Type() == f.Type {
		f.Value = s.Value
	}
	if s.Archived {
		f.ArchivedState = f.State
	}
}

// enquiry is a Question that is passed on, in a form that can be compared.
type enquiry struct {
	key        flag.Key
	entity     string // the targeting key
	attributes string // as JSON; "" for none
}

// entityOverrides are all overrides of one entity.
type entityOverrides map[flag.Key]*flag.Override

func (c *Client) askFlagState(ctx context.Context, key flag.Key) (s FlagState, keep time.Duration, err error) {
	op := opFlagState(key)
	m, keep, err := hinted(ctx, c, op, c.evaluator.GetFlagState, &pbflagsv1.GetFlagStateRequest{FlagId: string(key)})
	switch {
	case saidNotFound(err), err == nil && m.GetFlag() == nil:
		return FlagState{}, keep, nil
	case err != nil:
		return FlagState{}, keep, err
	}
	told := m.GetFlag()
	if about := told.GetFlagId(); about != "" && about != string(key) {
		return FlagState{}, keep, c.broken(op, "answered about %q instead of %q", about, key)
	}
	s = FlagState{Exists: true, Archived: m.GetArchived()}
	if s.Value, err = wire.ToValue(told.GetValue()); err != nil {
		return FlagState{}, keep, c.broken(op, "sent a value that cannot be read (%v)", err)
	}
	switch told.GetState() {
	case pbflagsv1.State_STATE_KILLED:
		s.Killed = true
	case pbflagsv1.State_STATE_ENABLED, pbflagsv1.State_STATE_DEFAULT:
		s.State = flag.State(told.GetState())
	default:
		return FlagState{}, keep, c.broken(op, "sent no state that is known (%d)", told.GetState())
	}
	return s, keep, nil
}

func opFlagState(key flag.Key) string { return "read the state of the flag " + quoted(key) }

func (c *Client) askOverrides(ctx context.Context, entity string) (entityOverrides, time.Duration, error) {
	op := opOverrides(entity)
	m, keep, err := hinted(ctx, c, op, c.evaluator.GetOverrides, &pbflagsv1.GetOverridesRequest{EntityId: entity})
	if saidNotFound(err) {
		return nil, keep, nil
	} else if err != nil {
		return nil, keep, err
	}
	all := make(entityOverrides, len(m.GetOverrides()))
	for _, told := range m.GetOverrides() {
		if about := told.GetEntityId(); about != "" && about != entity {
			return nil, keep, c.broken(op, "answered about %q instead of %q", about, entity)
		}
		o := &flag.Override{FlagKey: flag.Key(told.GetFlagId()), EntityID: entity, State: flag.State(told.GetState())}
		if o.Value, err = wire.ToValue(told.GetValue()); err != nil {
			return nil, keep, c.broken(op, "sent an override of %q with a value that cannot be read (%v)", o.FlagKey, err)
		}
		switch told.GetState() {
		case pbflagsv1.State_STATE_ENABLED:
		case pbflagsv1.State_STATE_DEFAULT, pbflagsv1.State_STATE_KILLED: // killed for the entity: it gets the default, too
			o.State, o.Value = flag.Default, flag.Value{}
		default:
			return nil, keep, c.broken(op, "sent an override of %q of no state that is known (%d)", o.FlagKey, told.GetState())
		}
		all[o.FlagKey] = o
	}
	return all, keep, nil
}

func opOverrides(entity string) string { return "read the overrides of the entity " + quoted(entity) }

func (c *Client) askKills(ctx context.Context) (*killSet, error) {
	m, _, err := hinted(ctx, c, opKills, c.evaluator.GetKilledFlags, &pbflagsv1.GetKilledFlagsRequest{})
	if err != nil {
		return nil, err
	}
	s := &killSet{flags: make(map[flag.Key]bool, len(m.GetFlagIds())), entities: make(map[flag.Ref]bool, len(m.GetKilledOverrides()))}
	for _, key := range m.GetFlagIds() {
		s.flags[flag.Key(key)] = true
	}
	for _, o := range m.GetKilledOverrides() {
		s.entities[flag.OverrideRef(flag.Key(o.GetFlagId()), o.GetEntityId())] = true
	}
	return s, nil
}

func (c *Client) askAnswer(ctx context.Context, a enquiry) (flag.Answer, time.Duration, error) {
	op := opAnswer(a)
	caller := flag.Context{TargetingKey: a.entity}
	if a.attributes != "" {
		if err := json.Unmarshal([]byte(a.attributes), &caller.Attributes); err != nil {
			return flag.Answer{}, noHint, c.unwritable(op, err)
		}
	}
	entity, attributes, err := wire.FromContext(caller)
	if err != nil {
		return flag.Answer{}, noHint, c.unwritable(op, err)
	}
	m, keep, err := hinted(ctx, c, op, c.evaluator.Evaluate, &pbflagsv1.EvaluateRequest{FlagId: string(a.key), EntityId: entity, Context: attributes})
	if saidNotFound(err) {
		return flag.Answer{Key: a.key, Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound}, keep, nil
	} else if err != nil {
		return flag.Answer{}, keep, err
	}
	e, err := c.evaluation(op, a.key, m)
	if e.Source == flag.SourceCached {
		e.Stale = true // a service that does not know the field says it by the source alone
	}
	return e.Answer, keep, err
}

func opAnswer(a enquiry) string { return "evaluate " + quoted(a.key) }

// hinted makes a call that only reads, and tells for how long the service says
// that its answer may be kept.
func hinted[Q, A any](ctx context.Context, c *Client, op string, road caller[Q, A], question *Q) (*A, time.Duration, error) {
	keep := noHint
	m, err := call(ctx, c, op, again, func(ctx context.Context, r *connect.Request[Q]) (*connect.Response[A], error) {
		answer, err := road(ctx, r)
		if err == nil {
			keep = maxAge(answer.Header())
		}
		return answer, err
	}, question)
	return m, keep, err
}

// maxAge reads for how long an answer may be kept (RFC 9111 §5.2.2); noHint where
// nothing is said that can be read.
func maxAge(h http.Header) time.Duration {
	keep := noHint
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 63); err == nil && keep == noHint {
				keep = time.Duration(min(seconds, uint64(longestTTL/time.Second))) * time.Second
			}
		}
	}
	return keep
}

// saidNotFound reports whether the service itself said that there is no such
// thing. Some say so by an error, and to them it is an answer like any other. It
// is asked only where the answer is not taken for an object's absence: what is
// evaluated is never removed from a state.
func saidNotFound(err error) bool {
	told, ok := errors.AsType[*connect.Error](err)
	return ok && connect.IsWireError(told) && told.Code() == connect.CodeNotFound
}

// attributesOf gives a caller's attributes as one text, the same for the same
// attributes.
func (c *Client) attributesOf(key flag.Key, caller flag.Context) (string, error) {
	if len(caller.Attributes) == 0 {
		return "", nil
	}
	text, err := json.Marshal(caller.Attributes)
	if err != nil {
		return "", c.unwritable(opAnswer(enquiry{key: key}), fmt.Errorf("write the evaluation context: %w", err))
	}
	return string(text), nil
}
