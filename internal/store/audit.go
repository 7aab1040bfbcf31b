package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// Actions of the audit log that are no flag.Op.
const (
	actionTakeOver       = "take_over"
	actionExpireHold     = "expire_hold"
	actionCreateToken    = "create_token"
	actionRevokeToken    = "revoke_token"
	actionSupersedeStore = "supersede_store"
	actionRenewStore     = "renew_store"
)

// Bounds of a page of the audit log.
const (
	defaultPage = 100
	largestPage = 1000
)

// PageSize gives how many entries a page may have.
func (f AuditFilter) PageSize() int {
	if f.Limit <= 0 {
		return defaultPage
	}
	return min(f.Limit, largestPage)
}

// PageStart gives the place in the log before which the page begins; ok is false
// for the first page. The error is a *flag.Problem.
func (f AuditFilter) PageStart() (revision int64, ordinal int, ok bool, err error) {
	if f.Page == "" {
		return 0, 0, false, nil
	}
	before, after, _ := strings.Cut(f.Page, ".")
	revision, err1 := strconv.ParseInt(before, 10, 64)
	ordinal, err2 := strconv.Atoi(after)
	if err1 != nil || err2 != nil {
		return 0, 0, false, flag.Invalid("page_token", "is not one that this server gave. Leave it out to begin with the newest entry.")
	}
	return revision, ordinal, true, nil
}

// Page names the place of an entry, for AuditFilter.Page: the next page begins
// behind it.
func (e AuditEntry) Page() string { return fmt.Sprintf("%d.%d", e.Revision, e.Ordinal) }

// Ref names the object that the entry is about.
func (e AuditEntry) Ref() flag.Ref {
	if e.Kind == flag.KindFlag {
		return flag.FlagRef(e.Key)
	}
	return flag.Ref{Kind: e.Kind, Key: e.Key, ID: strings.TrimPrefix(e.Object, string(e.Key)+":")}
}

// CommitsSince gives the commits from the revision number to the present one, as
// Store.Since does, from the audit entries after the number, oldest first, which
// read gives. Every revision has its entries, so a revision without is a damaged
// log.
func CommitsSince(number int64, present flag.Revision, read func() ([]AuditEntry, error)) (commits []Commit, ok bool, err error) {
	if number < 0 || number > present.Number {
		return nil, false, nil // it never was: the reader comes from elsewhere
	}
	entries, err := read()
	if err != nil {
		return nil, false, err
	}
	if number < present.Number && (len(entries) == 0 || entries[0].Revision > number+1) {
		return nil, false, nil // the older entries were removed
	}
	last := number
	for _, e := range entries {
		switch {
		case e.Revision == last+1:
			last++
			commits = append(commits, Commit{Revision: flag.Revision{StoreID: present.StoreID, Number: last}})
		case e.Revision != last || len(commits) == 0:
			return nil, false, fmt.Errorf("read the audit log: revision %d was expected after %d, but there is %d", last+1, last, e.Revision)
		}
		if err := commits[len(commits)-1].add(e); err != nil {
			return nil, false, err
		}
	}
	if last != present.Number {
		return nil, false, fmt.Errorf("the audit log ends at revision %d, but the store is at %d", last, present.Number)
	}
	return commits, true, nil
}

// add takes what one audit entry tells into its commit.
func (c *Commit) add(e AuditEntry) error {
	switch e.Action {
	case actionTakeOver, actionRenewStore:
		return nil // about who manages an object, which the entry beside it shows; about the id, which every revision has
	case actionSupersedeStore:
		c.Supersedes = e.Object
		return nil
	case actionCreateToken, actionRevokeToken:
		var t token.Token
		if err := json.Unmarshal([]byte(e.After), &t); err != nil {
			return fmt.Errorf("read the token %q of the audit log: %w", e.Object, err)
		}
		c.Tokens = append(c.Tokens, t)
		return nil
	}
	edit := flag.Edit{Ref: e.Ref()}
	if e.After != "" {
		o, err := ParseDocument(edit.Ref, e.After)
		if err != nil {
			return err
		}
		edit.Object = o
	}
	c.Edits = append(c.Edits, edit)
	return nil
}
