// Package wire turns the domain into the messages of proto/ and back, for the
// server and the client alike. Messages come from outside, so nothing here
// panics on what they hold: what cannot be read is an error that names it.
package wire

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// FromValue gives the message of a value; nil for none.
func FromValue(v flag.Value) *pbflagsv1.FlagValue {
	switch v.Type() {
	case flag.Bool:
		return &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_BoolValue{BoolValue: v.Bool()}}
	case flag.String:
		return &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_StringValue{StringValue: v.Text()}}
	case flag.Int:
		return &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_Int64Value{Int64Value: v.Int()}}
	case flag.Double:
		return &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_DoubleValue{DoubleValue: v.Double()}}
	case flag.JSON:
		return &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_JsonValue{JsonValue: v.Text()}}
	}
	return nil
}

// ToValue reads a value; an absent or empty message is no value.
func ToValue(m *pbflagsv1.FlagValue) (flag.Value, error) {
	switch v := m.GetValue().(type) {
	case *pbflagsv1.FlagValue_BoolValue:
		return flag.BoolValue(v.BoolValue), nil
	case *pbflagsv1.FlagValue_StringValue:
		return flag.StringValue(v.StringValue)
	case *pbflagsv1.FlagValue_Int64Value:
		return flag.IntValue(v.Int64Value), nil
	case *pbflagsv1.FlagValue_DoubleValue:
		return flag.DoubleValue(v.DoubleValue)
	case *pbflagsv1.FlagValue_JsonValue:
		return flag.JSONValue(v.JsonValue)
	}
	return flag.Value{}, nil
}

// FromTime gives the message of a time; nil for the zero time.
func FromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// ToTime reads a time in UTC; an absent message is the zero time.
func ToTime(m *timestamppb.Timestamp) (time.Time, error) {
	if m == nil {
		return time.Time{}, nil
	}
	if err := m.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("read a time: %w", err)
	}
	return m.AsTime(), nil
}

// FromRevision gives the message of a revision; nil for the zero revision.
func FromRevision(r flag.Revision) *buntingv1.Revision {
	if r == (flag.Revision{}) {
		return nil
	}
	return &buntingv1.Revision{StoreId: r.StoreID, Number: r.Number}
}

// ToRevision reads a revision; an absent message is the zero revision.
func ToRevision(m *buntingv1.Revision) flag.Revision {
	return flag.Revision{StoreID: m.GetStoreId(), Number: m.GetNumber()}
}

// FromStamp gives the message of a stamp; nil for the zero stamp.
func FromStamp(s flag.Stamp) *buntingv1.Stamp {
	if s == (flag.Stamp{}) {
		return nil
	}
	return &buntingv1.Stamp{Revision: s.Revision, Actor: s.Actor, Time: FromTime(s.Time), OwnerId: s.OwnerID, Created: s.Created}
}

// ToStamp reads a stamp; an absent message is the zero stamp.
func ToStamp(m *buntingv1.Stamp) (flag.Stamp, error) {
	t, err := ToTime(m.GetTime())
	return flag.Stamp{Revision: m.GetRevision(), Actor: m.GetActor(), Time: t, OwnerID: m.GetOwnerId(), Created: m.GetCreated()}, err
}

// FromFlag gives the message of a flag.
func FromFlag(f *flag.Flag) *buntingv1.Flag {
	m := &buntingv1.Flag{
		Key: string(f.Key), Type: pbflagsv1.FlagType(f.Type), DefaultValue: FromValue(f.Default), Value: FromValue(f.Value),
		State: pbflagsv1.State(f.State), Layer: f.Layer, Description: f.Description, Owner: f.Owner, Tags: f.Tags,
		ArchivedState: pbflagsv1.State(f.ArchivedState), OwnerId: f.OwnerID, Changed: FromStamp(f.Changed),
	}
	for _, v := range f.AllowedValues {
		m.AllowedValues = append(m.AllowedValues, FromValue(v))
	}
	return m
}

// ToFlag reads a flag. It checks only what the domain cannot hold; whether the
// flag is valid is for flag.Flag.Validate to say.
func ToFlag(m *buntingv1.Flag) (*flag.Flag, error) {
	f := &flag.Flag{
		Key: flag.Key(m.GetKey()), Type: flag.Type(m.GetType()), State: flag.State(m.GetState()), Layer: m.GetLayer(),
		Description: m.GetDescription(), Owner: m.GetOwner(), Tags: m.GetTags(),
		ArchivedState: flag.State(m.GetArchivedState()), OwnerID: m.GetOwnerId(),
	}
	var errs [3]error
	f.Default, errs[0] = ToValue(m.GetDefaultValue())
	f.Value, errs[1] = ToValue(m.GetValue())
	f.Changed, errs[2] = ToStamp(m.GetChanged())
	for _, allowed := range m.GetAllowedValues() {
		v, err := ToValue(allowed)
		if err != nil {
			return nil, fmt.Errorf("flag %q: allowed_values: %w", f.Key, err)
		}
		f.AllowedValues = append(f.AllowedValues, v)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("flag %q: %w", f.Key, err)
	}
	return f, nil
}

// FromOverride gives the message of an override.
func FromOverride(o *flag.Override) *buntingv1.Override {
	return &buntingv1.Override{
		FlagKey: string(o.FlagKey), EntityId: o.EntityID, State: pbflagsv1.State(o.State), Value: FromValue(o.Value),
		OwnerId: o.OwnerID, Changed: FromStamp(o.Changed),
	}
}

// ToOverride reads an override.
func ToOverride(m *buntingv1.Override) (*flag.Override, error) {
	value, err := ToValue(m.GetValue())
	stamp, err2 := ToStamp(m.GetChanged())
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("override of %q: %w", m.GetFlagKey(), err)
	}
	return &flag.Override{
		FlagKey: flag.Key(m.GetFlagKey()), EntityID: m.GetEntityId(), State: flag.State(m.GetState()), Value: value,
		OwnerID: m.GetOwnerId(), Changed: stamp,
	}, nil
}

// FromHold gives the message of a hold.
func FromHold(h *flag.Hold) *buntingv1.Hold {
	return &buntingv1.Hold{
		FlagKey: string(h.FlagKey), Holder: h.Holder, Reason: h.Reason, ExpiresAt: FromTime(h.ExpiresAt), Actor: h.Actor,
		Since: FromTime(h.Since), Expired: h.Expired, OwnerId: h.OwnerID, Changed: FromStamp(h.Changed),
	}
}

// ToHold reads a hold.
func ToHold(m *buntingv1.Hold) (*flag.Hold, error) {
	expires, err1 := ToTime(m.GetExpiresAt())
	since, err2 := ToTime(m.GetSince())
	stamp, err3 := ToStamp(m.GetChanged())
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("hold on %q: %w", m.GetFlagKey(), err)
	}
	return &flag.Hold{
		FlagKey: flag.Key(m.GetFlagKey()), Holder: m.GetHolder(), Reason: m.GetReason(), ExpiresAt: expires, Actor: m.GetActor(),
		Since: since, Expired: m.GetExpired(), OwnerID: m.GetOwnerId(), Changed: stamp,
	}, nil
}

// FromRef gives the message of a ref.
func FromRef(r flag.Ref) *buntingv1.Ref {
	switch r.Kind {
	case flag.KindOverride:
		return &buntingv1.Ref{Ref: &buntingv1.Ref_Override{Override: &buntingv1.OverrideRef{FlagKey: string(r.Key), EntityId: r.ID}}}
	case flag.KindHold:
		return &buntingv1.Ref{Ref: &buntingv1.Ref_Hold{Hold: &buntingv1.HoldRef{FlagKey: string(r.Key), Holder: r.ID}}}
	case flag.KindFlag:
	}
	return &buntingv1.Ref{Ref: &buntingv1.Ref_Flag{Flag: string(r.Key)}}
}

// ToRef reads a ref.
func ToRef(m *buntingv1.Ref) (flag.Ref, error) {
	switch r := m.GetRef().(type) {
	case *buntingv1.Ref_Flag:
		return flag.FlagRef(flag.Key(r.Flag)), nil
	case *buntingv1.Ref_Override:
		return flag.OverrideRef(flag.Key(r.Override.GetFlagKey()), r.Override.GetEntityId()), nil
	case *buntingv1.Ref_Hold:
		return flag.HoldRef(flag.Key(r.Hold.GetFlagKey()), r.Hold.GetHolder()), nil
	}
	return flag.Ref{}, errors.New("a ref names neither a flag nor an override nor a hold")
}

// FromObject gives the message of an object, or, when it is nil, of its absence.
func FromObject(ref flag.Ref, o flag.Object) *buntingv1.Object {
	switch o := o.(type) {
	case *flag.Flag:
		return &buntingv1.Object{Object: &buntingv1.Object_Flag{Flag: FromFlag(o)}}
	case *flag.Override:
		return &buntingv1.Object{Object: &buntingv1.Object_Override{Override: FromOverride(o)}}
	case *flag.Hold:
		return &buntingv1.Object{Object: &buntingv1.Object_Hold{Hold: FromHold(o)}}
	}
	return &buntingv1.Object{Object: &buntingv1.Object_Absent{Absent: FromRef(ref)}}
}

// ToObject reads an object, or the proof of its absence.
func ToObject(m *buntingv1.Object) (flag.Edit, error) {
	var o flag.Object
	var err error
	switch v := m.GetObject().(type) {
	case *buntingv1.Object_Flag:
		o, err = ToFlag(v.Flag)
	case *buntingv1.Object_Override:
		o, err = ToOverride(v.Override)
	case *buntingv1.Object_Hold:
		o, err = ToHold(v.Hold)
	case *buntingv1.Object_Absent:
		ref, err := ToRef(v.Absent)
		return flag.Edit{Ref: ref}, err
	default:
		return flag.Edit{}, errors.New("an object is neither a flag nor an override nor a hold")
	}
	if err != nil {
		return flag.Edit{}, err
	}
	return flag.Edit{Ref: o.Ref(), Object: o}, nil
}

// FromChange gives the message of a change.
func FromChange(c flag.Change) *buntingv1.Change {
	m := &buntingv1.Change{ExpectedRevision: c.Expected, ExpectedStoreId: c.StoreID, OwnerId: c.OwnerID, TakeOver: c.TakeOver}
	key := string(c.Ref.Key)
	switch o := c.Object.(type) {
	case *flag.Flag:
		m.Change = &buntingv1.Change_PutFlag{PutFlag: FromFlag(o)}
		return m
	case *flag.Override:
		m.Change = &buntingv1.Change_SetOverride{SetOverride: FromOverride(o)}
		return m
	case *flag.Hold:
		m.Change = &buntingv1.Change_PlaceHold{PlaceHold: FromHold(o)}
		return m
	}
	switch c.Op {
	case flag.ArchiveFlag:
		m.Change = &buntingv1.Change_ArchiveFlag{ArchiveFlag: key}
	case flag.RestoreFlag:
		m.Change = &buntingv1.Change_RestoreFlag{RestoreFlag: key}
	case flag.DeleteFlag:
		m.Change = &buntingv1.Change_DeleteFlag{DeleteFlag: key}
	case flag.RemoveOverride:
		m.Change = &buntingv1.Change_RemoveOverride{RemoveOverride: &buntingv1.OverrideRef{FlagKey: key, EntityId: c.Ref.ID}}
	case flag.ReleaseHold:
		m.Change = &buntingv1.Change_ReleaseHold{ReleaseHold: &buntingv1.HoldRef{FlagKey: key, Holder: c.Ref.ID}}
	case flag.PutFlag, flag.SetOverride, flag.PlaceHold: // have an object
	}
	return m
}

// ToChange reads a change. What the domain cannot hold, a *flag.Problem among
// it, is the error.
func ToChange(m *buntingv1.Change) (flag.Change, error) {
	c := flag.Change{Expected: m.ExpectedRevision, StoreID: m.GetExpectedStoreId(), OwnerID: m.GetOwnerId(), TakeOver: m.GetTakeOver()}
	var err error
	switch v := m.GetChange().(type) {
	case *buntingv1.Change_PutFlag:
		c.Op, c.Ref = flag.PutFlag, flag.FlagRef(flag.Key(v.PutFlag.GetKey()))
		c.Object, err = ToFlag(v.PutFlag)
	case *buntingv1.Change_ArchiveFlag:
		c.Op, c.Ref = flag.ArchiveFlag, flag.FlagRef(flag.Key(v.ArchiveFlag))
	case *buntingv1.Change_RestoreFlag:
		c.Op, c.Ref = flag.RestoreFlag, flag.FlagRef(flag.Key(v.RestoreFlag))
	case *buntingv1.Change_DeleteFlag:
		c.Op, c.Ref = flag.DeleteFlag, flag.FlagRef(flag.Key(v.DeleteFlag))
	case *buntingv1.Change_SetOverride:
		c.Op, c.Ref = flag.SetOverride, flag.OverrideRef(flag.Key(v.SetOverride.GetFlagKey()), v.SetOverride.GetEntityId())
		c.Object, err = ToOverride(v.SetOverride)
	case *buntingv1.Change_RemoveOverride:
		c.Op, c.Ref = flag.RemoveOverride, flag.OverrideRef(flag.Key(v.RemoveOverride.GetFlagKey()), v.RemoveOverride.GetEntityId())
	case *buntingv1.Change_PlaceHold:
		c.Op, c.Ref = flag.PlaceHold, flag.HoldRef(flag.Key(v.PlaceHold.GetFlagKey()), v.PlaceHold.GetHolder())
		c.Object, err = ToHold(v.PlaceHold)
	case *buntingv1.Change_ReleaseHold:
		c.Op, c.Ref = flag.ReleaseHold, flag.HoldRef(flag.Key(v.ReleaseHold.GetFlagKey()), v.ReleaseHold.GetHolder())
	default:
		err = errors.New("a change says nothing of what to change")
	}
	return c, err
}

// FromProblem gives the message of a problem; nil for none.
func FromProblem(p *flag.Problem) *buntingv1.Problem {
	if p == nil {
		return nil
	}
	m := &buntingv1.Problem{Kind: buntingv1.ProblemKind(p.Kind), Field: p.Field, Message: p.Message, OwnerId: p.OwnerID}
	if p.By != nil {
		m.By = FromStamp(*p.By)
	}
	return m
}

// ToProblem reads a problem; nil for none.
func ToProblem(m *buntingv1.Problem) *flag.Problem {
	if m == nil {
		return nil
	}
	p := &flag.Problem{Kind: flag.ProblemKind(m.GetKind()), Field: m.GetField(), Message: m.GetMessage(), OwnerID: m.GetOwnerId()}
	if m.GetBy() != nil {
		// A stamp that cannot be read must not hide the problem itself.
		if stamp, err := ToStamp(m.GetBy()); err == nil {
			p.By = &stamp
		}
	}
	return p
}

// FromResult gives the message of a result of the change.
func FromResult(c flag.Change, r flag.Result) *buntingv1.Result {
	m := &buntingv1.Result{Status: buntingv1.ResultStatus(r.Status), Problem: FromProblem(r.Problem)}
	// Who was refused before anything was looked at is not told that there is
	// nothing: permission denied is not absence.
	if unseen := r.Object == nil && r.Problem != nil && r.Problem.Kind != flag.ProblemNotFound; !unseen {
		m.Object = FromObject(c.Ref, r.Object)
	}
	for _, h := range r.Holds {
		m.Holds = append(m.Holds, FromHold(h))
	}
	return m
}

// ToResult reads a result.
func ToResult(m *buntingv1.Result) (flag.Result, error) {
	r := flag.Result{Status: flag.Status(m.GetStatus()), Problem: ToProblem(m.GetProblem())}
	for _, message := range m.GetHolds() {
		h, err := ToHold(message)
		if err != nil {
			return r, err
		}
		r.Holds = append(r.Holds, h)
	}
	if m.GetObject() == nil {
		return r, nil
	}
	edit, err := ToObject(m.GetObject())
	r.Object = edit.Object
	return r, err
}

// FromAnswer gives the message of an answer of the revision.
func FromAnswer(a flag.Answer, revision flag.Revision) *pbflagsv1.EvaluateResponse {
	return &pbflagsv1.EvaluateResponse{
		FlagId: string(a.Key), Value: FromValue(a.Value), Source: pbflagsv1.EvaluationSource(a.Source), Stale: a.Stale,
		FreshSource: pbflagsv1.EvaluationSource(a.FreshSource), Type: pbflagsv1.FlagType(a.Type), Variant: a.Variant,
		ErrorCode: a.ErrorCode, Revision: revision.Number, StoreId: revision.StoreID,
	}
}

// ToAnswer reads an answer and its revision. Servers that do not know the
// fields numbered from 100 on leave them out: no type is taken from the value,
// and no value means an unknown flag.
func ToAnswer(m *pbflagsv1.EvaluateResponse) (flag.Answer, flag.Revision, error) {
	value, err := ToValue(m.GetValue())
	if err != nil {
		return flag.Answer{}, flag.Revision{}, fmt.Errorf("answer for %q: %w", m.GetFlagId(), err)
	}
	a := flag.Answer{
		Key: flag.Key(m.GetFlagId()), Type: flag.Type(m.GetType()), Value: value, Variant: m.GetVariant(),
		Source: flag.Source(m.GetSource()), Stale: m.GetStale(), FreshSource: flag.Source(m.GetFreshSource()), ErrorCode: m.GetErrorCode(),
	}
	if a.Type == 0 {
		a.Type = value.Type()
	}
	if value.IsZero() && a.ErrorCode == "" {
		a.ErrorCode = flag.ErrorFlagNotFound
	}
	return a, flag.Revision{StoreID: m.GetStoreId(), Number: m.GetRevision()}, nil
}

// FromContext gives the messages of a caller: the targeting key and the
// attributes, nil for none. The error names an attribute that JSON cannot hold.
func FromContext(c flag.Context) (entityID string, attributes *structpb.Struct, err error) {
	if len(c.Attributes) > 0 {
		if attributes, err = structpb.NewStruct(c.Attributes); err != nil {
			return "", nil, fmt.Errorf("write the evaluation context: %w", err)
		}
	}
	return c.TargetingKey, attributes, nil
}

// ToContext reads a caller.
func ToContext(entityID string, attributes *structpb.Struct) flag.Context {
	return flag.Context{TargetingKey: entityID, Attributes: attributes.AsMap()}
}
