package client

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Bounds of what is kept as last known: the newest that fit.
const (
	mostSeen      = 20_000
	mostSeenBytes = 8 << 20
	mostLists     = 200
)

// seenAgain is after how long the same answer is kept as seen again: many plans that
// are all alike need not write one after the other, and the age that is told during an
// outage is by no more than that too high.
const seenAgain = 5 * time.Minute

// Seen is an answer that the server gave for an entity, and when.
type Seen struct {
	Evaluation

	Entity string
	At     time.Time
	Shared bool // it is evaluated from shared definitions, which the server confirmed then
}

// Known is what was last known of the flags of one server: its fresh answers, by
// flag and entity, and which flags belonged to a choice like "all under a prefix".
// It tells nothing that a newer answer contradicts, nor what newer definitions do
// where Walk.Recall has added them.
type Known struct {
	Environment string // of the server; "" where it did not tell
	StoreID     string

	answers map[flag.Key]map[string]Seen // by entity
	lists   map[string]seenList          // by the name of the choice

	readable *readable // of the shared definitions; nil: nothing

	// What Walk.Recall adds, and is not kept.
	copied coverage // the shared definitions; without a snapshot: none
	writer *Client  // whose writes are newer than what was kept before them; nil: nobody's
}

// seenList are the flags that a choice had.
type seenList struct {
	keys     []flag.Key
	at       time.Time
	revision int64 // no later than the one that it is of
}

func newKnown(environment, storeID string) *Known {
	return &Known{Environment: environment, StoreID: storeID, answers: map[flag.Key]map[string]Seen{}, lists: map[string]seenList{}}
}

// since reports whether the answer was given after the other: of a later
// revision, or later of the same.
func (s Seen) since(other Seen) bool {
	return cmp.Or(cmp.Compare(s.Revision.Number, other.Revision.Number), s.At.Compare(other.At)) > 0
}

// take keeps an answer, unless a later one for the same flag and entity is known.
func (k *Known) take(s Seen) {
	if s.Revision.StoreID != k.StoreID || s.Stale && s.Source != flag.SourceKilled || s.ErrorCode != "" && s.ErrorCode != flag.ErrorFlagNotFound {
		return // of a stale answer a kill is kept all the same: it stands as long as the outage lasts
	}
	s.Stale, s.FreshSource = false, 0
	of := k.answers[s.Key]
	if of == nil {
		of = map[string]Seen{}
		k.answers[s.Key] = of
	}
	if had, ok := of[s.Entity]; !ok || !had.since(s) {
		of[s.Entity] = s
	}
}

// Chosen are the flags that a choice had, and when that was seen.
type Chosen struct {
	Keys   []flag.Key
	At     time.Time
	Shared bool // shared definitions tell it, which the server confirmed then
}

// Flags gives the flags that a choice had; false where that is not known.
func (k *Known) Flags(choice Choice) (Chosen, bool) {
	list, ok := k.lists[choice.Name]
	if k.copied.Snapshot != nil && (!ok || list.revision < k.copied.Revision.Number) {
		if keys, told := choice.among(k.copied, k.readable.compiled); told {
			return Chosen{keys, k.copied.at, true}, true
		}
	}
	if ok && k.writer != nil && k.writer.wroteSince(flag.Revision{StoreID: k.StoreID, Number: list.revision}) {
		return Chosen{}, false // whatever it was: it may have joined the choice, or left it
	}
	return Chosen{Keys: slices.Clone(list.keys), At: list.at}, ok
}

// Answer gives what the flag was last known to be for the entity, as it is told
// during an outage; false where it is not known. The state
// of the flag decides, as far as later answers to others have told it:
//
//   - it was killed: so it is for everybody, also for an entity never seen
//   - it was gone: so it is for everybody
//   - an override of the entity goes before what others got, while the type is the same
//   - else, what others got at a later revision is what the entity gets: another
//     value, or the default, so that nothing that was turned off serves its leftover
//     value. (What an override of theirs gave says nothing.)
//
// What our own writes have made old is not known any more.
func (k *Known) Answer(key flag.Key, entity string) (Seen, bool) {
	of := k.of(key, entity)
	own, has := of[entity]
	var last, others Seen // the latest of all, and the latest that is not by an override
	for _, s := range of {
		if s.since(last) || last.At.IsZero() {
			last = s
		}
		if s.Source != flag.SourceOverride && s.Source != flag.SourceKilled && (s.since(others) || others.At.IsZero()) {
			others = s
		}
	}
	told := own
	switch {
	case last.Source == flag.SourceKilled, has && last.ErrorCode == flag.ErrorFlagNotFound:
		told = last
	case !has:
		return Seen{}, false
	case own.Source == flag.SourceKilled, own.Source == flag.SourceOverride && own.Type == last.Type, own.Source == flag.SourceDefault && own.Type == last.Type && own.ErrorCode == "":
		// what it was; a kill that was lifted for others served the default, which is safe
	case later(others.Revision, own.Revision), own.Revision.Number == 0 && others.Revision.Number == 0 && others.At.After(own.At): // a plain evaluator tells none
		told = others
	case own.Type != last.Type:
		return Seen{}, false
	}
	if k.writer != nil && k.writer.wroteAfter(key, told.Revision) {
		return Seen{}, false
	}
	told.Answer = told.Aged()
	return told, true
}

// merge takes up what was seen: all of one server. What the server before it said,
// another store or environment, is forgotten.
func (k *Known) merge(news *Known) *Known {
	if k == nil || k.StoreID != news.StoreID || k.Environment != news.Environment {
		return news
	}
	k.readable = news.readable
	for s := range news.all() {
		k.take(s)
	}
	for choice, list := range news.lists {
		if !k.lists[choice].at.After(list.at) {
			k.lists[choice] = list
		}
	}
	return k
}

// lacks reports whether merge would add anything: more than that the same was seen a
// moment later.
func (k *Known) lacks(news *Known) bool {
	if k == nil || k.StoreID != news.StoreID || k.Environment != news.Environment {
		return true
	}
	if had, has := k.readable, news.readable; (had == nil) != (has == nil) || had != nil && *had != *has {
		return true
	}
	for s := range news.all() {
		had, ok := k.answers[s.Key][s.Entity]
		if again := s; ok && s.Revision.Number > 0 { // where it is 0 only the time tells which is later
			again.At = had.At
			if had.since(s) || again == had && s.At.Sub(had.At) < seenAgain {
				continue
			}
		}
		return true
	}
	for choice, list := range news.lists {
		had, ok := k.lists[choice]
		same := ok && had.revision == list.revision && slices.Equal(had.keys, list.keys)
		if !had.at.After(list.at) && (!same || list.at.Sub(had.at) >= seenAgain) {
			return true
		}
	}
	return false
}

func (k *Known) all() func(yield func(Seen) bool) {
	return func(yield func(Seen) bool) {
		for _, of := range k.answers {
			for _, s := range of {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// newest gives what fits into the bounds, the newest first, and of the same time
// in the order of the flags.
func (k *Known) newest() (answers []Seen, lists []string) {
	answers = slices.SortedFunc(k.all(), func(a, b Seen) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Entity, b.Entity))
	})
	size, fitting := 0, answers[:0]
	for _, s := range answers {
		own := 200 + len(s.Key) + len(s.Entity) + len(s.Value.JSON())
		if len(fitting) == mostSeen || size+own > mostSeenBytes {
			continue
		}
		size, fitting = size+own, append(fitting, s)
	}
	answers = fitting
	lists = slices.SortedFunc(maps.Keys(k.lists), func(a, b string) int {
		return cmp.Or(k.lists[b].at.Compare(k.lists[a].at), cmp.Compare(a, b))
	})
	size = 0
	for i, choice := range lists {
		for _, key := range k.lists[choice].keys {
			size += 4 + len(key)
		}
		if i == mostLists || size > mostSeenBytes {
			return answers, lists[:i]
		}
	}
	return answers, lists
}
