package flag

import (
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// tree is the objects of one kind, ordered by key, then id. One that is part of a
// snapshot never changes: with gives another, which shares with it what is
// alike. It keeps a pointer for each object and no more, for there may be a
// million.
type tree[T any] struct {
	objects *btree.BTreeG[*T]
	order   *order[T]
	copying sync.Mutex // guards the mark that copying leaves on objects, which nobody reads who only looks something up
}

// order is how the objects of one kind are named.
type order[T any] struct {
	before func(a, b *T) bool
	name   func(o *T, ref Ref)

	// What is looked for is an object to the library. Made anew for each
	// evaluation, these would be most of what it allocates.
	wanted sync.Pool
}

var (
	flagOrder = &order[Flag]{
		before: func(a, b *Flag) bool { return a.Key < b.Key },
		name:   func(f *Flag, ref Ref) { f.Key = ref.Key },
		wanted: sync.Pool{New: func() any { return new(Flag) }},
	}
	overrideOrder = &order[Override]{
		before: func(a, b *Override) bool { return before(a.FlagKey, b.FlagKey, a.EntityID, b.EntityID) },
		name:   func(o *Override, ref Ref) { o.FlagKey, o.EntityID = ref.Key, ref.ID },
		wanted: sync.Pool{New: func() any { return new(Override) }},
	}
	holdOrder = &order[Hold]{
		before: func(a, b *Hold) bool { return before(a.FlagKey, b.FlagKey, a.Holder, b.Holder) },
		name:   func(h *Hold, ref Ref) { h.FlagKey, h.Holder = ref.Key, ref.ID },
		wanted: sync.Pool{New: func() any { return new(Hold) }},
	}
)

func before(key, otherKey Key, id, otherID string) bool {
	if by := strings.Compare(string(key), string(otherKey)); by != 0 {
		return by < 0
	}
	return id < otherID
}

func newTree[T any](order *order[T]) *tree[T] {
	// No locks: a tree is not changed any more once others know it.
	return &tree[T]{objects: btree.NewBTreeGOptions(order.before, btree.Options{NoLocks: true}), order: order}
}

// copy gives a tree that may be changed until others know it.
func (t *tree[T]) copy() *tree[T] {
	t.copying.Lock()
	defer t.copying.Unlock()
	return &tree[T]{objects: t.objects.Copy(), order: t.order}
}

// find gives the named object; nil when there is none.
func (t *tree[T]) find(ref Ref) (found *T) {
	if t.objects.Len() > 0 {
		t.seek(ref, func(wanted *T) { found, _ = t.objects.Get(wanted) })
	}
	return found
}

// from goes through the objects from the named one on, until yield is false.
func (t *tree[T]) from(ref Ref, yield func(*T) bool) {
	if t.objects.Len() > 0 {
		t.seek(ref, func(wanted *T) { t.objects.Ascend(wanted, yield) })
	}
}

// remove takes the named object away, if it is there.
func (t *tree[T]) remove(ref Ref) { t.seek(ref, func(wanted *T) { t.objects.Delete(wanted) }) }

// seek calls do with an object of the name, which is not to be kept.
func (t *tree[T]) seek(ref Ref, do func(wanted *T)) {
	wanted := t.order.wanted.Get().(*T) //nolint:forcetypeassert // The pool makes no other.
	t.order.name(wanted, ref)
	do(wanted)
	t.order.name(wanted, Ref{}) // keeps no text alive
	t.order.wanted.Put(wanted)
}
