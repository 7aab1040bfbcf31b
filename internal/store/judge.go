package store

import (
	"encoding/json"
	"fmt"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// judge decides the changes of one batch, in order. It holds no lock and does
// no input or output: the same judge answers a dry run.
type judge struct {
	batch Batch
	allow func(flag.Change) error // what the caller's token says
	next  flag.Revision           // the revision that the batch will make
	base  *flag.Snapshot          // before the batch
	state *flag.Snapshot          // after the changes accepted so far
	done  []entry                 // what the accepted changes write, in order
}

// entry is one object's change, or, with takeOver, the former owner's loss.
type entry struct {
	action   string // as in the audit log
	ownerID  string // on whose behalf
	edit     flag.Edit
	before   flag.Object
	takeOver bool
}

func newJudge(present *flag.Snapshot, batch Batch, allow func(flag.Change) error) *judge {
	next := present.Revision
	next.Number++
	return &judge{batch: batch, allow: allow, next: next, base: present, state: present}
}

// outcome judges every change. An atomic batch with a refusal is dropped, but
// judged to its end, so that all refusals are told at once.
func (j *judge) outcome() Outcome {
	results := make([]flag.Result, len(j.batch.Changes))
	refused := false
	for i, c := range j.batch.Changes {
		results[i] = j.change(c)
		refused = refused || results[i].Status == flag.Refused
	}
	if refused && j.batch.Atomic {
		j.done, j.state = nil, j.base
		for i, c := range j.batch.Changes {
			if j.inadmissible(c) != nil {
				continue
			}
			results[i].Object = j.base.Object(c.Ref)
			if results[i].Status != flag.Refused {
				results[i].Status = flag.Abandoned
			}
		}
	}
	outcome := j.committed()
	outcome.Results = results
	return outcome
}

// change judges one change and takes it into the state when it is accepted.
func (j *judge) change(c flag.Change) flag.Result {
	if p := j.inadmissible(c); p != nil {
		return flag.Result{Status: flag.Refused, Problem: p} // nor is the caller told what there is
	}
	edits, p := j.decide(c)
	if c.Expected != nil && c.StoreID != "" && c.StoreID != j.base.Revision.StoreID {
		p = otherStore(c) // what the caller read tells nothing of what is here
	}
	switch {
	case p != nil:
		return flag.Result{Status: flag.Refused, Problem: p, Object: j.state.Object(c.Ref)}
	case len(edits) == 0:
		return flag.Result{Status: flag.Unchanged, Object: j.state.Object(c.Ref)}
	}
	if have := j.state.Object(c.Ref); have != nil && c.TakeOver && have.Manager() != "" && have.Manager() != c.OwnerID {
		j.done = append(j.done, entry{action: actionTakeOver, ownerID: c.OwnerID, edit: flag.Edit{Ref: c.Ref}, before: have, takeOver: true})
	}
	op := c.Op.String()
	if have := j.state.Object(c.Ref); have != nil && creates(c) && !archived(have) {
		op = "adopt" // nothing else lets a create pass where there is something
	}
	entries := make([]entry, len(edits))
	for i, e := range edits {
		action := op
		if e.Ref != c.Ref { // goes with its flag
			action = map[flag.Kind]flag.Op{flag.KindOverride: flag.RemoveOverride, flag.KindHold: flag.ReleaseHold}[e.Ref.Kind].String()
		}
		entries[i] = entry{action: action, ownerID: c.OwnerID, edit: e, before: j.state.Object(e.Ref)}
	}
	j.accept(entries...)
	return flag.Result{Status: flag.Applied, Object: j.state.Object(c.Ref)}
}

// inadmissible says why the change is refused before anything is looked at; nil
// when it is not.
func (j *judge) inadmissible(c flag.Change) *flag.Problem {
	if err := j.allow(c); err != nil {
		return problem(err)
	}
	return wellFormed(c)
}

// accept takes what one change writes into the state.
func (j *judge) accept(entries ...entry) {
	j.done = append(j.done, entries...)
	j.state = j.state.With(j.next, func(yield func(flag.Edit) bool) {
		for _, e := range entries {
			if !yield(e.edit) {
				return
			}
		}
	})
}

// committed gives the outcome of what was accepted, without results.
func (j *judge) committed() Outcome {
	commit := Commit{Revision: j.next}
	for _, e := range j.done {
		if !e.takeOver {
			commit.Edits = append(commit.Edits, e.edit)
		}
	}
	if len(commit.Edits) == 0 {
		return Outcome{Revision: j.base.Revision}
	}
	return Outcome{Revision: j.next, Commit: &commit}
}

// audit gives the audit rows of what was accepted.
func (j *judge) audit() ([]AuditEntry, error) {
	entries := make([]AuditEntry, len(j.done))
	for i, e := range j.done {
		entries[i] = AuditEntry{
			Revision: j.next.Number, Ordinal: i, Time: j.batch.Now, Actor: j.batch.Actor.Name, OwnerID: e.ownerID, Action: e.action,
			Kind: e.edit.Ref.Kind, Key: e.edit.Ref.Key, Object: e.edit.Ref.String(), Note: j.batch.Note,
		}
		if e.takeOver {
			entries[i].Before, entries[i].After = ownerDocument(e.before.Manager()), ownerDocument(e.ownerID)
			continue
		}
		var err error
		if entries[i].Before, err = Document(e.before); err != nil {
			return nil, err
		}
		if entries[i].After, err = Document(e.edit.Object); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// ownerDocument is what a take_over row shows: {"owner_id":"…"}.
func ownerDocument(ownerID string) string {
	text, err := json.Marshal(map[string]string{"owner_id": ownerID})
	if err != nil {
		return "" // cannot be: a string is always JSON
	}
	return string(text)
}

// stamp gives the stamp of what the change writes.
func (j *judge) stamp(c flag.Change) flag.Stamp {
	s := flag.Stamp{Revision: j.next.Number, Actor: j.batch.Actor.Name, Time: j.batch.Now, OwnerID: c.OwnerID, Created: j.next.Number}
	if have := j.state.Object(c.Ref); have != nil && !creates(c) && !archived(have) {
		s.Created = have.Stamp().Created
	}
	return s
}

// decide gives what the well-formed change writes, nothing when it is so
// already, or why it is refused.
func (j *judge) decide(c flag.Change) ([]flag.Edit, *flag.Problem) {
	switch c.Op {
	case flag.PutFlag:
		return j.putFlag(c)
	case flag.ArchiveFlag:
		return j.archiveFlag(c)
	case flag.RestoreFlag:
		return j.restoreFlag(c)
	case flag.DeleteFlag:
		return j.deleteFlag(c)
	case flag.SetOverride:
		return j.setOverride(c)
	case flag.RemoveOverride:
		return j.removeOverride(c)
	case flag.PlaceHold:
		return j.placeHold(c)
	case flag.ReleaseHold:
		return j.releaseHold(c)
	}
	return nil, flag.Invalid("", fmt.Sprintf("the change has the operation %d, which is none.", c.Op))
}

// wellFormed checks what every change must be before its operation's own rules.
func wellFormed(c flag.Change) *flag.Problem {
	var kind flag.Kind
	switch o := c.Object.(type) { // a nil pointer in an Object is no object
	case *flag.Flag:
		if o != nil {
			kind = flag.KindFlag
		}
	case *flag.Override:
		if o != nil {
			kind = flag.KindOverride
		}
	case *flag.Hold:
		if o != nil {
			kind = flag.KindHold
		}
	}
	writes := c.Op == flag.PutFlag || c.Op == flag.SetOverride || c.Op == flag.PlaceHold
	switch {
	case c.Ref.Kind != c.Op.Kind():
		return flag.Invalid("", fmt.Sprintf("the change %s is one of a %s, but it names the %s.", c.Op, c.Op.Kind(), c.Ref.Name()))
	case writes && (kind != c.Ref.Kind || c.Object.Ref() != c.Ref):
		return flag.Invalid("", fmt.Sprintf("the change %s of %q comes without the %s that it is to write.", c.Op, c.Ref, c.Ref.Kind))
	case c.Expected != nil && *c.Expected < 0:
		return flag.Invalid("expected_revision", fmt.Sprintf("is %d. Send the revision that was read, or 0 when there must be no such object.", *c.Expected))
	case c.TakeOver && c.OwnerID == "":
		return flag.Invalid("take_over", "is set, but there is no owner_id to take the object for. Send the owner_id, or leave take_over out: an operator may write without it.")
	}
	for _, err := range []error{checkID(c.Ref), flag.ValidateOwnerID(c.OwnerID)} {
		if err != nil {
			return problem(err)
		}
	}
	if _, err := flag.ParseKey(string(c.Ref.Key)); err != nil {
		p := *problem(err)
		if c.Ref.Kind != flag.KindFlag {
			p.Field = "flag_key"
		}
		return &p
	}
	return nil
}

// checkID checks the bounds of the id beside the key. What is more to say of it
// is said of the object that has it.
func checkID(ref flag.Ref) error {
	switch ref.Kind {
	case flag.KindOverride:
		return flag.CheckText("entity_id", ref.ID, flag.MaxEntityBytes)
	case flag.KindHold:
		return flag.CheckText("holder", ref.ID, flag.MaxHolderBytes)
	default:
		return nil
	}
}

// creates reports whether the object is meant to be new.
func creates(c flag.Change) bool { return c.Expected != nil && *c.Expected == 0 }

// adopts reports whether a create meets what its own owner made before: an
// apply whose answer was lost is run again, or a replacement is made before the
// old object is destroyed. Adopting writes the object anew (action
// "adopt" in the audit log): whoever still wants to remove the version before is
// told that it is gone.
func adopts(c flag.Change, have flag.Object, same bool) bool {
	return same && c.OwnerID != "" && have.Manager() == c.OwnerID
}

// replaces reports whether a create takes the place of a flag of another type
// that its own workspace wrote last: a replacement with create_before_destroy,
// the only way in which a flag's type changes in Terraform. A flag of the same
// type is not replaced so: it may be declared a second time under a workspace
// name that two configurations share.
func replaces(c flag.Change, have, want *flag.Flag) bool {
	return flag.IsWorkspaceOwner(c.OwnerID) && have.OwnerID == c.OwnerID && have.Changed.OwnerID == c.OwnerID && have.Type != want.Type
}

func archived(o flag.Object) bool {
	f, ok := o.(*flag.Flag)
	return ok && f.Archived()
}

// admit checks that the change may write the object as it is now: first whose
// it is, then which version the caller knows. An operator is not bound to
// owners.
func admit(c flag.Change, have flag.Object) *flag.Problem {
	switch {
	case c.OwnerID != "" && have.Manager() != "" && have.Manager() != c.OwnerID && !c.TakeOver:
		return owned(have)
	case c.Expected != nil && *c.Expected != have.Stamp().Revision:
		return conflict(c, have)
	}
	return nil
}

func write(o flag.Object) []flag.Edit { return []flag.Edit{{Ref: o.Ref(), Object: o}} }

func remove(ref flag.Ref) []flag.Edit { return []flag.Edit{{Ref: ref}} }
