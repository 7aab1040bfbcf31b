package descriptor

import (
	"errors"
	"fmt"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Action is what a sync does with a flag.
type Action string

// The actions.
const (
	Create  Action = "create"
	Update  Action = "update"
	Restore Action = "restore" // it was archived
	Adopt   Action = "adopt"   // it was nobody's
	Archive Action = "archive" // the set has it no more
	Refuse  Action = "refuse"
)

// Step is one flag that a sync does something with.
type Step struct {
	Action  Action    `json:"action"`
	FlagKey flag.Key  `json:"flag_key"`
	Name    string    `json:"name,omitempty"` // of feature and field; "" for what the set lacks
	Changed []Changed `json:"changed,omitempty"`
	// Reason reads on from the flag's name, where it is refused.
	Reason string `json:"reason,omitempty"`
	// Change is what is to be asked of the server; it expects the flag as it was
	// when this was planned. Zero for what is refused.
	Change flag.Change `json:"-"`
}

// Plan is what a sync does.
type Plan struct {
	Steps     []Step // those of the set by key, then what is archived by key
	Unchanged int    // flags of the set that are as they should be
	Managed   int    // living flags that were the owner's before
}

// Count tells how many steps are of the action.
func (p Plan) Count(action Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == action {
			n++
		}
	}
	return n
}

// PlanSync decides how the flags of a store come to be what the set says. What
// the owner manages and the set lacks is archived; what others manage is
// refused. Type, default value, allowed values, layer, description and owner are
// the set's. Value, state and tags are the operators': they stay as they are, and
// a new flag has none, so it serves its default. A type never changes. With adopt
// flags that nobody manages are taken however they are defined, without it only
// those that do the same as the set says.
func PlanSync(set *Set, store *flag.Snapshot, ownerID string, adopt bool) Plan {
	var p Plan
	for _, d := range set.Definitions() {
		step := planFlag(d, store.Flag(d.Flag.Key), ownerID, adopt)
		if step.Action == "" {
			p.Unchanged++
			continue
		}
		if step.Action != Refuse {
			step.Change.OwnerID, step.Change.StoreID = ownerID, store.Revision.StoreID
		}
		p.Steps = append(p.Steps, step)
	}
	for have := range store.Flags("") {
		if have.OwnerID != ownerID || have.Archived() {
			continue
		}
		p.Managed++
		if set.Flag(have.Key) == nil {
			p.Steps = append(p.Steps, Step{Action: Archive, FlagKey: have.Key, Change: flag.Change{
				Op: flag.ArchiveFlag, Ref: have.Ref(), Expected: new(have.Changed.Revision), StoreID: store.Revision.StoreID, OwnerID: ownerID,
			}})
		}
	}
	return p
}

// planFlag decides about one flag of the set; have is nil where the store has no
// such flag. Without an action it is as it should be.
func planFlag(d Definition, have *flag.Flag, ownerID string, adopt bool) Step {
	step := Step{FlagKey: d.Flag.Key, Name: d.Title()}
	if have == nil {
		step.Action, step.Change = Create, flag.Put(d.Flag)
		step.Change.Expected = new(int64(0))
		return step
	}
	want := *d.Flag
	want.Value, want.State, want.Tags = have.Value, have.State, have.Tags
	step.Changed = differences(have, &want)
	for i := range step.Changed {
		step.Changed[i].Name = step.Name
	}
	if step.Reason = refusal(have, &want, step.Changed, ownerID, adopt); step.Reason != "" {
		step.Action = Refuse
		return step
	}
	switch {
	case have.Archived():
		step.Action = Restore
		if was, is := have.Serves(), want.Serves(); was != is { // it was killed when it was archived, or the default is another
			step.Changed = append(step.Changed, Changed{FlagKey: want.Key, Name: step.Name, Aspect: AspectServes, Before: was.JSON(), After: is.JSON()})
		}
	case have.OwnerID == "":
		step.Action = Adopt
	case len(step.Changed) > 0:
		step.Action = Update
	default:
		return step
	}
	step.Change = flag.Put(&want)
	step.Change.Expected = new(have.Changed.Revision)
	return step
}

// refusal says why a flag cannot become what is wanted; "" when it can.
func refusal(have, want *flag.Flag, changed []Changed, ownerID string, adopt bool) string {
	author := have.Changed
	if author.OwnerID == have.OwnerID {
		author.OwnerID = "" // named already
	}
	switch {
	case have.OwnerID != "" && have.OwnerID != ownerID:
		return fmt.Sprintf("is managed by %s (last changed by %s). Have it removed there first, or give the feature another id", flag.OwnerName(have.OwnerID), author.Author())
	case have.Type != want.Type:
		return fmt.Sprintf("is of type %s, but the field is of type %s: a flag's type does not change, because programs that run would read a value of the wrong type. Give the field a new number", have.Type, want.Type)
	case have.OwnerID == "" && !have.Archived() && !adopt:
		for _, c := range changed {
			if c.Aspect != AspectDescription && c.Aspect != AspectOwner {
				return fmt.Sprintf("is there already, managed by nobody (last changed by %s), and differs: its %s is %s, but the set says %s. Have it changed first, or let the sync take it with --adopt", author.Author(), c.Aspect, orNone(c.Before), orNone(c.After))
			}
		}
	}
	if err := want.Validate(); err != nil {
		if p, ok := errors.AsType[*flag.Problem](err); ok && p.Field == "value" {
			return fmt.Sprintf("has a value that an operator set and the set does not allow: it %s Have the value changed first", optionNames.Replace(p.Message))
		}
		return reason(err)
	}
	return ""
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
