package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// act is one change in a rule, by somebody, about the rule's own key.
type act struct {
	op       flag.Op
	object   func(key flag.Key, begin time.Time) flag.Object // to write
	id       string                                          // the entity or holder, where there is no object
	by       token.Actor
	owner    string
	expects  expectation
	takeOver bool
	later    time.Duration // passes before; with no op, all that happens
}

// expectation says which revision a change expects its object at.
type expectation int

const (
	whatever  expectation = iota
	fresh                 // 0: there must be none
	asRead                // the present one, or for what is not there the store's
	outdated              // an earlier one
	elsewhere             // the present one, but of another store
)

func (a act) change(key flag.Key, begin time.Time, s *flag.Snapshot) flag.Change {
	c := flag.Change{Op: a.op, Ref: flag.Ref{Kind: a.op.Kind(), Key: key, ID: a.id}, OwnerID: a.owner, TakeOver: a.takeOver}
	if a.object != nil {
		c.Object = a.object(key, begin)
		c.Ref = c.Object.Ref()
	}
	present := s.Revision.Number
	if o := s.Object(c.Ref); o != nil {
		present = o.Stamp().Revision
	}
	switch a.expects {
	case fresh:
		present = 0
	case outdated:
		present--
	case whatever:
		return c
	case asRead:
		c.StoreID = s.Revision.StoreID
	case elsewhere:
		c.StoreID = "another"
	}
	c.Expected = &present
	return c
}

// rule is one row: after what is given, the change has the outcome.
type rule struct {
	name  string
	given []act
	when  act
	want  want
}

// want is an outcome: of a refusal the kind, the field and parts of the message,
// else what the object is then.
type want struct {
	status flag.Status
	kind   flag.ProblemKind
	field  string
	says   []string
	by     string                                     // who wrote what is in the way
	owner  string                                     // who manages what is in the way
	check  func(s *flag.Snapshot, key flag.Key) error // of what is there after
}

// testRules runs the rows about one operation on one store, each with a key of
// its own; what the other rows left is the neighbourhood that no row may touch.
func testRules(t *testing.T, open Opener) {
	t.Helper()
	for _, group := range []struct {
		name string
		rows []rule
	}{
		{"put_flag", putFlagRules}, {"archive_flag", archiveFlagRules}, {"restore_flag", restoreFlagRules}, {"delete_flag", deleteFlagRules},
		{"set_override", setOverrideRules}, {"remove_override", removeOverrideRules},
		{"place_hold", placeHoldRules}, {"release_hold", releaseHoldRules}, {"malformed", malformedRules},
	} {
		t.Run(group.name, func(t *testing.T) {
			w := newWorld(t, open)
			for i, row := range group.rows {
				t.Run(row.name, func(t *testing.T) {
					here := &world{t: t, s: w.s, now: w.now}
					here.rule(flag.Key(fmt.Sprintf("rules/%d", i)), row)
					w.now = here.now
				})
			}
			WantComplete(t.Context(), t, w.s)
		})
	}
}

func (w *world) rule(key flag.Key, row rule) {
	w.t.Helper()
	begin := w.now
	for _, a := range row.given {
		w.now = w.now.Add(a.later)
		if a.op != 0 {
			w.must(a.by, a.change(key, begin, w.snapshot()))
		}
	}
	w.now = w.now.Add(row.when.later)
	before := w.snapshot()
	c := row.when.change(key, begin, before)
	batch := store.Batch{Actor: row.when.by, Changes: []flag.Change{c}, Now: w.now.Add(time.Second), Note: row.name}

	dry := store.DryRun(before, batch)
	wantSame(w.t, "content after the dry run", content(w.snapshot()), content(before))
	done := w.batch(batch)
	after := w.snapshot()
	r := done.Results[0]

	w.wantOutcome(done, before, after, r)
	w.wantResult(r, row.want)
	if row.want.check != nil {
		if err := row.want.check(after, key); err != nil {
			w.t.Error(err)
		}
	}
	if r.Status == flag.Applied {
		wantSame(w.t, "the object told and the one kept", document(r.Object), document(after.Object(c.Ref)))
	}
	// A dry run has no audit log: it cannot know who removed what is gone.
	if r.Problem == nil || r.Problem.Kind != flag.ProblemNotFound {
		wantSame(w.t, "the dry run's result", told(dry.Results[0]), told(r))
	}
	if dry.Revision != before.Revision || dry.Commit != nil {
		w.t.Errorf("the dry run says revision %v and commit %v, want %v and none", dry.Revision, dry.Commit, before.Revision)
	}
}

// wantOutcome checks that a revision was made exactly when something was
// applied, and that the commit leads from the one snapshot to the other.
func (w *world) wantOutcome(o store.Outcome, before, after *flag.Snapshot, r flag.Result) {
	w.t.Helper()
	if r.Status != flag.Applied {
		if o.Commit != nil || o.Revision != before.Revision {
			w.t.Errorf("nothing was applied, but there is commit %v and revision %v after %v", o.Commit, o.Revision, before.Revision)
		}
		wantSame(w.t, "content after a change without effect", content(after), content(before))
		return
	}
	if o.Commit == nil || o.Revision.Number != before.Revision.Number+1 || o.Commit.Revision != o.Revision {
		w.t.Fatalf("applied, but there is commit %v and revision %v after %v", o.Commit, o.Revision, before.Revision)
	}
	wantSame(w.t, "what the commit makes of the snapshot before", content(before.With(o.Revision, edits(*o.Commit))), content(after))
}

func (w *world) wantResult(r flag.Result, want want) {
	w.t.Helper()
	if r.Status != want.status {
		w.t.Fatalf("%s, want status %d", told(r), want.status)
	}
	if want.status != flag.Refused {
		if r.Problem != nil {
			w.t.Errorf("not refused, but there is a problem: %v", r.Problem)
		}
		return
	}
	p := r.Problem
	if p == nil {
		w.t.Fatal("refused without a problem")
	}
	if p.Kind != want.kind || p.Field != want.field {
		w.t.Errorf("problem of kind %d at %q, want kind %d at %q: %v", p.Kind, p.Field, want.kind, want.field, p)
	}
	for _, part := range want.says {
		if !strings.Contains(p.Error(), part) {
			w.t.Errorf("the message does not say %q: %v", part, p)
		}
	}
	if p.Message == "" || !strings.HasSuffix(p.Message, ".") || strings.Contains(p.Message, "%!") {
		w.t.Errorf("not a sentence: %q", p.Message)
	}
	by := ""
	if p.By != nil {
		by = p.By.Actor
		if !strings.Contains(p.Message, p.By.Time.Format(time.RFC3339)) {
			w.t.Errorf("the message does not say when (%v): %v", p.By.Time, p)
		}
	}
	if by != want.by || p.OwnerID != want.owner {
		w.t.Errorf("problem by %q of owner %q, want %q and %q: %v", by, p.OwnerID, want.by, want.owner, p)
	}
}

// Outcomes.

var unchanged = want{status: flag.Unchanged}

func applied(checks ...func(s *flag.Snapshot, key flag.Key) error) want {
	return want{status: flag.Applied, check: func(s *flag.Snapshot, key flag.Key) error {
		errs := make([]error, len(checks))
		for i, check := range checks {
			errs[i] = check(s, key)
		}
		return errors.Join(errs...)
	}}
}

func refused(kind flag.ProblemKind, field string, says ...string) want {
	return want{status: flag.Refused, kind: kind, field: field, says: says}
}

// because names who wrote what is in the way, and who manages it.
func (w want) because(by, owner string) want {
	w.by, w.owner = by, owner
	return w
}

// What may be asked of the state after.

func flagIs(what string, ok func(f *flag.Flag) bool) func(*flag.Snapshot, flag.Key) error {
	return func(s *flag.Snapshot, key flag.Key) error {
		if f := s.Flag(key); f == nil || !ok(f) {
			return fmt.Errorf("the flag is not %s: %s", what, document(s.Object(flag.FlagRef(key))))
		}
		return nil
	}
}

func managed(ref func(flag.Key) flag.Ref, owner string) func(*flag.Snapshot, flag.Key) error {
	return func(s *flag.Snapshot, key flag.Key) error {
		o := s.Object(ref(key))
		if o == nil || o.Manager() != owner {
			return fmt.Errorf("not managed by %q: %s", owner, document(o))
		}
		return nil
	}
}

func archivedAs(state flag.State) func(*flag.Snapshot, flag.Key) error {
	return flagIs("archived as "+state.String(), func(f *flag.Flag) bool { return f.ArchivedState == state })
}

func holdIs(holder, what string, ok func(h *flag.Hold) bool) func(*flag.Snapshot, flag.Key) error {
	return func(s *flag.Snapshot, key flag.Key) error {
		if h := s.Hold(key, holder); h == nil || !ok(h) {
			return fmt.Errorf("the hold is not %s: %s", what, document(s.Object(flag.HoldRef(key, holder))))
		}
		return nil
	}
}

// stillThe says that the object was changed, but not made anew: the same object as
// the one that the first of what was given made.
func stillThe(ref func(flag.Key) flag.Ref) func(*flag.Snapshot, flag.Key) error {
	return func(s *flag.Snapshot, key flag.Key) error {
		by := s.Object(ref(key)).Stamp()
		if by.Revision != s.Revision.Number || by.Created == 0 || by.Created >= by.Revision {
			return fmt.Errorf("changed at revision %d and made at %d; the store is at %d", by.Revision, by.Created, s.Revision.Number)
		}
		return nil
	}
}

// writtenAnew says that something of the flag is of the newest revision: who
// adopts an object writes it, so that the version before is nobody's any more.
func writtenAnew(s *flag.Snapshot, key flag.Key) error {
	objects := []flag.Object{s.Flag(key)}
	for o := range s.OverridesOf(key) {
		objects = append(objects, o)
	}
	for h := range s.HoldsOf(key) {
		objects = append(objects, h)
	}
	for _, o := range objects {
		if o.Stamp().Revision == s.Revision.Number && o.Stamp().Created == s.Revision.Number {
			return nil
		}
	}
	return errors.New("nothing was written anew")
}

// nothingLeft says that neither the flag nor anything of it is there.
func nothingLeft(s *flag.Snapshot, key flag.Key) error {
	var errs []error
	if s.Flag(key) != nil {
		errs = append(errs, errors.New("the flag is still there"))
	}
	for o := range s.OverridesOf(key) {
		errs = append(errs, fmt.Errorf("still there: %s", document(o)))
	}
	for h := range s.HoldsOf(key) {
		errs = append(errs, fmt.Errorf("still there: %s", document(h)))
	}
	return errors.Join(errs...)
}
