package client

import (
	"container/list"
	"iter"
)

// lru keeps what was used last, up to a weight: what is stated is what fits, to
// the last one. It is not locked.
type lru[K comparable, V any] struct {
	capacity int // the most that may be kept, by weight
	weight   int // of all that is kept
	order    list.List
	at       map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

func newLRU[K comparable, V any](capacity int) *lru[K, V] {
	return &lru[K, V]{capacity: capacity, at: map[K]*list.Element{}}
}

// get finds what is kept for the key, and counts as a use of it.
func (l *lru[K, V]) get(key K) (value V, ok bool) {
	e, ok := l.at[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(e)
	return l.item(e).value, true
}

// put keeps the value instead of what was there, and lets go of what was used
// longest ago. What weighs more than all that fits is not kept, and neither is
// what was there before it.
func (l *lru[K, V]) put(key K, value V, weight int) {
	l.remove(key)
	if weight > l.capacity {
		return
	}
	l.at[key] = l.order.PushFront(&lruItem[K, V]{key: key, value: value, weight: weight})
	for l.weight += weight; l.weight > l.capacity; {
		l.remove(l.item(l.order.Back()).key)
	}
}

func (l *lru[K, V]) remove(key K) {
	if e, ok := l.at[key]; ok {
		l.weight -= l.item(e).weight
		l.order.Remove(e)
		delete(l.at, key)
	}
}

func (l *lru[K, V]) clear() {
	l.weight = 0
	l.order.Init()
	clear(l.at)
}

// all gives everything that is kept, which counts as no use.
func (l *lru[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key, e := range l.at {
			if !yield(key, l.item(e).value) {
				return
			}
		}
	}
}

func (l *lru[K, V]) item(e *list.Element) *lruItem[K, V] {
	return e.Value.(*lruItem[K, V]) //nolint:forcetypeassert // Only put fills the list.
}
