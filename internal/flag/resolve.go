package flag

// Context is what is known about a caller: the evaluation context of
// OpenFeature. It goes through every evaluation from the start, so that
// targeting rules can use it when they come.
type Context struct {
	TargetingKey string         // the caller's id; "" when there is none
	Attributes   map[string]any // as JSON decodes them; never changed by an evaluation
}

// Entity gives the entity of the layer: the attribute of the layer's name when
// it is a string that is not empty, else the targeting key. "" is no entity.
func (c Context) Entity(layer string) string {
	if entity, ok := c.Attributes[layer].(string); ok && entity != "" {
		return entity
	}
	return c.TargetingKey
}

// Source says which rule gave an answer: the resolution reason.
type Source int32

// The sources, with the numbers of pbflags.v1.EvaluationSource.
const (
	SourceDefault   Source = 1
	SourceGlobal    Source = 2
	SourceOverride  Source = 3
	SourceKilled    Source = 4
	SourceCached    Source = 5
	SourceArchived  Source = 6
	SourceTargeting Source = 100
)

var sourceNames = map[Source]string{
	SourceDefault: "DEFAULT", SourceGlobal: "GLOBAL", SourceOverride: "OVERRIDE", SourceKilled: "KILLED",
	SourceCached: "CACHED", SourceArchived: "ARCHIVED", SourceTargeting: "TARGETING",
}

// String gives the name without the enum's prefix, or UNSPECIFIED.
func (s Source) String() string {
	if name, ok := sourceNames[s]; ok {
		return name
	}
	return "UNSPECIFIED"
}

// ErrorFlagNotFound is the error code of an answer about an unknown flag.
const ErrorFlagNotFound = "FLAG_NOT_FOUND"

// Answer is what a flag is for a caller. An answer without a value is about a
// flag that is not known, and says so in ErrorCode.
type Answer struct {
	Key         Key
	Type        Type
	Value       Value
	Variant     string // "" until variants exist
	Source      Source
	Stale       bool   // the source of truth has not been heard for a while
	FreshSource Source // the rule that gave the answer, when it is stale; else 0
	ErrorCode   string
}

// Aged gives the answer as it is told during an outage: marked stale, its
// source CACHED. A kill stays KILLED, because whoever reads it must not think
// that it may have been lifted; "no such flag" stays what it is.
func (a Answer) Aged() Answer {
	if a.ErrorCode == "" {
		a.FreshSource = a.Source
		if a.Source != SourceKilled {
			a.Source = SourceCached
		}
	}
	a.Stale = true
	return a
}

// Resolve is the rule. In this order, the first that applies answers:
//
//  1. a standing hold: the default value
//  2. an override of the caller's entity, where the flag has a layer
//  3. archived: what the flag served when it was archived
//  4. enabled with a value: the value
//  5. the default value
//
// Whether a hold stands is for the caller to know: a plain evaluator service does
// not tell whose it is. The lookup is asked for the override of one entity at
// most, and only when the rule comes to it; it gives nil for none. Nothing is
// changed and nothing waits.
func Resolve(f *Flag, killed bool, override func(entity string) *Override, caller Context) Answer {
	answer := func(v Value, s Source) Answer { return Answer{Key: f.Key, Type: f.Type, Value: v, Source: s} }

	if killed {
		return answer(f.Default, SourceKilled)
	}
	if entity := caller.Entity(f.Layer); entity != "" && f.HasLayer() {
		if o := override(entity); o != nil && o.AppliesTo(f) {
			if o.State == Enabled {
				return answer(o.Value, SourceOverride)
			}
			return answer(f.Default, SourceDefault)
		}
	}
	switch {
	case f.ArchivedState == Enabled && !f.Value.IsZero():
		return answer(f.Value, SourceArchived)
	case !f.Archived() && f.State == Enabled && !f.Value.IsZero():
		return answer(f.Value, SourceGlobal)
	}
	return answer(f.Default, SourceDefault)
}
