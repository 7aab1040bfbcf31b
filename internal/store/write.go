package store

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Tx is what Write, Expire, AddToken, EndToken, TakePlace and Rename need of a
// store: the rows of one transaction that has locked the revision row before
// anything else. A store begins it, calls one of them, and commits when there is
// no error. Every
// rule about what may be written is on this side of it, so a store has none.
type Tx interface {
	// Load gives the wanted rows as a snapshot at the present revision, as what
	// was saved before leaves it. It may hold more than was wanted.
	Load(ctx context.Context, wanted Wanted) (*flag.Snapshot, error)
	// Removal says who removed the object last; nil when that is not known.
	Removal(ctx context.Context, ref flag.Ref) (*flag.Stamp, error)
	// Request finds an answered request; nil when there is none.
	Request(ctx context.Context, actor, id string) (*Request, error)
	// Tokens gives the tokens of the name, the ended ones too.
	Tokens(ctx context.Context, name string) ([]token.Token, error)
	// Save writes the record.
	Save(ctx context.Context, record Record) error
}

// Wanted says which rows a batch must see to be judged.
type Wanted struct {
	Flags       []flag.Key // these flags, each with all its holds
	Overrides   []flag.Ref // these overrides
	OverridesOf []flag.Key // all overrides of these flags
	Due         time.Time  // holds that expire by then and are not yet marked Expired; zero: none
}

// Record is all that a transaction writes.
type Record struct {
	Commit     *Commit      // the new revision and its edits, to be made in order; nil: none
	Audit      []AuditEntry // of the commit
	Token      *token.Token // replaces one of the same id; nil: none
	Request    *Request     // replaces one of the same actor and id; nil: none
	Forget     time.Time    // requests answered before are removed; zero: none
	Supersedes []string     // replaces the stores whose place was taken; nil: they stay
	StoreID    string       // the store's new id; "": it stays
}

// Validate checks the bounds of a batch. The error is a *flag.Problem.
func (b Batch) Validate() error {
	switch {
	case len(b.Changes) > MaxChanges:
		return flag.Invalid("changes", fmt.Sprintf("has %d changes, more than the %d that one call may make. Send them in several calls.", len(b.Changes), MaxChanges))
	case len(b.RequestID) > MaxRequestIDBytes:
		return flag.Invalid("request_id", fmt.Sprintf("has %d bytes, more than the %d that are allowed. Use a random id, like a UUID.", len(b.RequestID), MaxRequestIDBytes))
	case !utf8.ValidString(b.RequestID):
		return flag.Invalid("request_id", "is not valid UTF-8. Use a random id, like a UUID.")
	}
	return flag.CheckText("note", b.Note, MaxNoteBytes)
}

// Write judges a batch and writes what is accepted of it. The error is one of
// the transaction, ErrRequestReused, or a *flag.Problem about the batch as a
// whole; nothing may be committed then.
//
// Each change is judged against the rows as the changes before it leave them
// and is accepted whole or not at all, so a refused one leaves no trace and its
// neighbours stand: what a savepoint in the database would give, without one.
func Write(ctx context.Context, tx Tx, batch Batch) (Outcome, error) {
	if err := batch.Validate(); err != nil {
		return Outcome{}, err
	}
	batch.Now = instant(batch.Now)
	var request *Request
	if batch.RequestID != "" {
		content := batch.content()
		first, err := tx.Request(ctx, batch.Actor.Name, batch.RequestID)
		if err != nil {
			return Outcome{}, err
		}
		if first != nil && batch.Now.Before(first.Time.Add(RequestLife)) {
			if first.Content != content {
				return Outcome{}, ErrRequestReused
			}
			return first.outcome()
		}
		request = &Request{Actor: batch.Actor.Name, ID: batch.RequestID, Time: batch.Now, Content: content}
	}

	present, err := tx.Load(ctx, wanted(batch.Changes))
	if err != nil {
		return Outcome{}, err
	}
	if batch.StoreID != "" && batch.StoreID != present.Revision.StoreID {
		return Outcome{}, ErrAnotherStore
	}
	j := newJudge(present, batch, batch.Actor.May)
	outcome := j.outcome()
	if err := tellRemovals(ctx, tx, present, batch.Changes, outcome.Results); err != nil {
		return Outcome{}, err
	}

	record := Record{Commit: outcome.Commit, Request: request}
	if record.Audit, err = j.audit(); err != nil {
		return Outcome{}, err
	}
	if request != nil {
		if err := request.keep(outcome); err != nil {
			return Outcome{}, err
		}
		record.Forget = batch.Now.Add(-RequestLife)
	}
	if record.Commit == nil && record.Request == nil {
		return outcome, nil
	}
	return outcome, tx.Save(ctx, record)
}

// DryRun tells what Write would answer to the batch at the snapshot. It writes
// nowhere and waits for nothing. Who may see what is judged (the actor's key
// prefix), not who may write: a plan is made with a token that reads. Objects
// carry the revision that the batch would make. The one difference to Write's
// results: that of an object which is gone does not say who removed it.
func DryRun(snapshot *flag.Snapshot, batch Batch) Outcome {
	batch.Now = instant(batch.Now)
	if err := batch.Validate(); err != nil {
		outcome := Outcome{Revision: snapshot.Revision, Results: make([]flag.Result, len(batch.Changes))}
		for i := range outcome.Results {
			outcome.Results[i] = flag.Result{Status: flag.Refused, Problem: problem(err)}
		}
		return outcome
	}
	j := newJudge(snapshot, batch, func(c flag.Change) error { return batch.Actor.Covers(c.Ref.Key) })
	outcome := j.outcome()
	outcome.Revision, outcome.Commit = snapshot.Revision, nil
	return outcome
}

// ExpiryActor is the actor of the commits that Expire makes.
const ExpiryActor = "expiry"

// Expire marks every hold whose time has come by now as expired. The holds stay
// as records until they are released.
func Expire(ctx context.Context, tx Tx, now time.Time) (Outcome, error) {
	now = instant(now)
	present, err := tx.Load(ctx, Wanted{Due: now})
	if err != nil {
		return Outcome{}, err
	}
	j := newJudge(present, Batch{Now: now}, nil)
	j.batch.Actor.Name = ExpiryActor
	for h := range present.Holds("") {
		if !h.Expired && !h.StandsAt(now) {
			expired := *h
			expired.Expired, expired.Changed = true, j.stamp(flag.Change{Ref: h.Ref()})
			j.accept(entry{action: actionExpireHold, edit: flag.Edit{Ref: h.Ref(), Object: &expired}, before: h})
		}
	}
	outcome := j.committed()
	if outcome.Commit == nil {
		return outcome, nil
	}
	for _, e := range outcome.Commit.Edits {
		outcome.Results = append(outcome.Results, flag.Result{Status: flag.Applied, Object: e.Object})
	}
	entries, err := j.audit()
	if err != nil {
		return Outcome{}, err
	}
	return outcome, tx.Save(ctx, Record{Commit: outcome.Commit, Audit: entries})
}

// instant gives a time as every store can keep it: UTC, to the microsecond
// (PostgreSQL's), without the process's own clock reading.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// wanted says what the changes must see: the flag each is about with its holds,
// the override it names, and for a deletion all that goes with the flag.
func wanted(changes []flag.Change) Wanted {
	var w Wanted
	for _, c := range changes {
		if wellFormed(c) != nil {
			continue // refused unseen, and not every database can be asked for every text
		}
		w.Flags = append(w.Flags, c.Ref.Key)
		if c.Ref.Kind == flag.KindOverride {
			w.Overrides = append(w.Overrides, c.Ref)
		}
		if c.Op == flag.DeleteFlag {
			w.OverridesOf = append(w.OverridesOf, c.Ref.Key)
		}
	}
	return w
}

// tellRemovals adds to each refusal of an object that is gone who removed it.
func tellRemovals(ctx context.Context, tx Tx, present *flag.Snapshot, changes []flag.Change, results []flag.Result) error {
	for i, c := range changes {
		p := results[i].Problem
		if p != nil && p.Kind == flag.ProblemNotFound && p.Field == "flag_key" && present.Flag(c.Ref.Key) == nil {
			by, err := tx.Removal(ctx, flag.FlagRef(c.Ref.Key))
			if err != nil {
				return err
			}
			if by != nil {
				results[i].Problem = flag.NoFlag(c.Ref.Key, by)
			}
			continue
		}
		gone := p != nil && p.Kind == flag.ProblemNotFound && p.Field == "" && c.Expected != nil && !creates(c)
		if !gone || present.Object(c.Ref) != nil {
			continue // removed within this very batch: its author knows
		}
		by, err := tx.Removal(ctx, c.Ref)
		if err != nil {
			return err
		}
		if by != nil && by.Revision > *c.Expected {
			results[i].Problem = goneSince(c, *by)
		}
	}
	return nil
}
