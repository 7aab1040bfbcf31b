package flag

import (
	"errors"
	"fmt"
	"time"
)

// ProblemKind sorts the reasons for which a change is refused.
type ProblemKind int32

// The kinds, with the numbers of bunting.v1.ProblemKind.
const (
	ProblemInvalid       ProblemKind = 1 // breaks a rule; Field names the place
	ProblemNotFound      ProblemKind = 2 // the object, or the flag that it belongs to, does not exist
	ProblemAlreadyExists ProblemKind = 3 // it was to be created, and is there
	ProblemConflict      ProblemKind = 4 // changed since it was read; By says by whom
	ProblemOwned         ProblemKind = 5 // managed by another owner; OwnerID names it
	ProblemHeld          ProblemKind = 6 // a hold stands in the way
	ProblemDenied        ProblemKind = 7 // the token may not do this
	ProblemInternal      ProblemKind = 8 // the store could not do it
)

// Problem is why a change is refused: an error for people (what was expected,
// what was found, what to do next) and for programs (kind, field, stamp).
type Problem struct { //nolint:errname // What is wrong with one change: a result first, an error second.
	Kind    ProblemKind `json:"kind"`
	Field   string      `json:"field,omitempty"`    // attribute at fault in the words of the flag document, or ""
	Message string      `json:"message"`            // reads on from the field, where there is one: "is a number (3), but …"
	By      *Stamp      `json:"by,omitempty"`       // the present version's stamp, where there is one
	OwnerID string      `json:"owner_id,omitempty"` // the present owner, where there is one
}

// Error gives the message, led by the field where there is one.
func (p *Problem) Error() string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + " " + p.Message
}

// In names the place of a problem that was found by a rule which does not know
// the place. Other errors pass unchanged.
func In(field string, err error) error {
	var p *Problem
	if !errors.As(err, &p) {
		return err
	}
	moved := *p
	moved.Field = field
	return &moved
}

// Invalid makes the problem of a broken rule.
func Invalid(field, message string) *Problem {
	return &Problem{Kind: ProblemInvalid, Field: field, Message: message}
}

func invalidf(field, format string, args ...any) *Problem {
	return Invalid(field, fmt.Sprintf(format, args...))
}

// NoFlag refuses what belongs to a flag that is not there; by says who deleted
// it, where that is known.
func NoFlag(key Key, by *Stamp) *Problem {
	since := ""
	if by != nil {
		since = " any more: it was deleted by " + by.Author()
	}
	return &Problem{
		Kind: ProblemNotFound, Field: "flag_key", By: by,
		Message: fmt.Sprintf("is %q, but there is no such flag%s. Create the flag first; in Terraform, write flag_key = bunting_flag.NAME.key instead of the text, so that the flag is made before.", key, since),
	}
}

// Stamp says who committed the present version of an object, and when.
type Stamp struct {
	Revision int64     `json:"revision"`
	Actor    string    `json:"actor"`              // the token's name
	Time     time.Time `json:"time"`               // UTC, the server's clock
	OwnerID  string    `json:"owner_id,omitempty"` // on whose behalf; empty for an operator
	// Created is the revision that made the object, made it anew in the place of an
	// equal one, or restored it; later changes keep it. So two objects of one name
	// are told apart: what a replacement left over, and what took its place.
	Created int64 `json:"created,omitempty"`
}

// Author says to people who it was, on whose behalf, and when:
// anna for workspace "payments" at 2030-01-02T15:04:05Z.
func (s Stamp) Author() string {
	on := ""
	if s.OwnerID != "" {
		on = " for " + OwnerName(s.OwnerID)
	}
	return s.Actor + on + " at " + s.Time.UTC().Format(time.RFC3339)
}

// Revision names one state of one store; "unchanged" needs both to match.
type Revision struct {
	StoreID string `json:"store_id"`
	Number  int64  `json:"number"`
}

func (r Revision) String() string { return fmt.Sprintf("%d of store %s", r.Number, r.StoreID) }

// Place names the store as far as it has come, for Snapshot.Supersedes: "id@number".
func (r Revision) Place() string { return fmt.Sprintf("%s@%d", r.StoreID, r.Number) }
