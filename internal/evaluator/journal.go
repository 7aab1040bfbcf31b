package evaluator

import (
	"context"
	"slices"
	"sort"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Bounds of the journal: who is further behind reads a snapshot. A commit of an
// ordinary change is some 500 bytes, so the two bounds meet.
const (
	journalCommits = 8192
	journalBytes   = 4 << 20 // as objectBytes counts
	journalFill    = 256     // changes read at the start, at most: nobody wrote while the server was away
)

// Commit is a step from one revision to another.
type Commit struct {
	store.Commit

	// Previous is the number of the revision that it leads on from: the one before,
	// but where several commits became known as one.
	Previous int64
	// Joined says that it was read as a difference: which tokens were made or ended
	// on the way is not known.
	Joined bool
	// Superseded is, of a joined one, all stores whose place was taken, as far as
	// they are told; nil: they are not.
	Superseded []string
}

// journal is the most recent commits, oldest first, without a gap. Journals
// share their memory: with returns a longer one and leaves the old one as it was,
// for those who are reading it.
type journal struct {
	commits []Commit
	bytes   int64
}

// with gives the journal with more commits, the oldest ones dropped where it
// would pass its bounds. Only the newest journal may be lengthened.
func (j journal) with(commits []Commit) journal {
	j.commits = append(j.commits, commits...) // beyond the length that others see
	for _, c := range commits {
		j.bytes += commitBytes(c)
	}
	if len(j.commits) <= journalCommits && j.bytes <= journalBytes {
		return j
	}
	// Down to half of each bound, into memory of its own, so that what is dropped
	// is freed and the copying is rare.
	drop := 0
	for drop < len(j.commits) && (len(j.commits)-drop > journalCommits/2 || j.bytes > journalBytes/2) {
		j.bytes -= commitBytes(j.commits[drop])
		drop++
	}
	j.commits = slices.Clone(j.commits[drop:])
	return j
}

// recentCommits gives the commits up to the revision that the newest page of the
// audit log tells whole. They are counted in changes, because one commit may
// have changed everything.
func recentCommits(ctx context.Context, from store.Reader, at flag.Revision) ([]Commit, error) {
	entries, _, err := from.Audit(ctx, store.AuditFilter{Limit: journalFill})
	if err != nil {
		return nil, err
	}
	slices.Reverse(entries) // they come newest first
	entries = slices.DeleteFunc(entries, func(e store.AuditEntry) bool { return e.Revision > at.Number })
	whole := slices.IndexFunc(entries, func(e store.AuditEntry) bool { return e.Ordinal == 0 })
	if whole < 0 {
		return nil, nil
	}
	entries = entries[whole:]
	commits, _, err := store.CommitsSince(entries[0].Revision-1, at, func() ([]store.AuditEntry, error) { return entries, nil })
	return consecutive(commits), err
}

// after gives the commits after the revision number, at being the present one; ok
// is false when the journal has no commit that leads on from there.
func (j journal) after(number, at int64) (commits []Commit, ok bool) {
	if number == at {
		return nil, true
	}
	i := sort.Search(len(j.commits), func(i int) bool { return j.commits[i].Previous >= number })
	if i == len(j.commits) || j.commits[i].Previous != number {
		return nil, false
	}
	return j.commits[i:], true
}

// leadsTo reports whether the journal is without a gap and ends at the revision.
func (j journal) leadsTo(at flag.Revision) bool {
	for _, c := range slices.Backward(j.commits) {
		if c.Revision != at {
			return false
		}
		at.Number = c.Previous
	}
	return true
}

// revoked gives the tokens that the newest commits revoked, as far back as the commits
// tell of tokens, and the number of the revision after which that is.
func (j journal) revoked(at int64) (revoked []wire.RevokedToken, since int64) {
	since = at
	for _, c := range slices.Backward(j.commits) {
		if c.Joined || len(revoked) > journalCommits {
			break
		}
		since = c.Previous
		for _, t := range c.Tokens {
			if !t.RevokedAt.IsZero() {
				revoked = append(revoked, wire.RevokedToken{ID: t.ID, Revision: c.Revision.Number})
			}
		}
	}
	return revoked, since
}

// Changes gives the commits after the revision, a channel that is closed when
// there are more, and whether that could be told: not ok means that the reader's
// place is gone (too far behind, ahead, or of another store), so that it must
// read a snapshot. The commits are shared: they are not to be changed.
func (e *Evaluator) Changes(since flag.Revision) (commits []Commit, more <-chan struct{}, ok bool) {
	v := e.present.Load()
	at := v.snapshot.Revision
	if since.StoreID != at.StoreID {
		return nil, v.newer, false
	}
	commits, ok = v.journal.after(since.Number, at.Number)
	return commits, v.newer, ok
}

// Delta gives the edits that lead from the revision to the view, one for each
// object that differs, as it is now, ordered by kind, key and id. It is not ok as
// Changes is not.
func (e *Evaluator) Delta(since flag.Revision) (v View, delta []flag.Edit, ok bool) {
	present := e.present.Load()
	v = e.view(present)
	at := present.snapshot.Revision
	if since.StoreID != at.StoreID {
		return v, nil, false
	}
	commits, ok := present.journal.after(since.Number, at.Number)
	if !ok {
		return v, nil, false
	}
	differs := map[flag.Ref]bool{}
	for _, c := range commits {
		for _, edit := range c.Edits {
			differs[edit.Ref] = true
		}
	}
	delta = make([]flag.Edit, 0, len(differs))
	for ref := range differs {
		delta = append(delta, flag.Edit{Ref: ref, Object: present.snapshot.Object(ref)})
	}
	slices.SortFunc(delta, func(a, b flag.Edit) int { return a.Ref.Compare(b.Ref) })
	return v, delta, true
}
