package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What the heap of a server may take beside what is in use.
const (
	// smallHeap is what is not worth any care: collecting costs much for its size.
	smallHeap = 16 << 20 // bytes

	// usualGarbage and littleGarbage are how much garbage there may be before it is
	// collected, in percent of what is in use. The runtime's own 100 is half of the memory.
	// Nearly all that a large server has are definitions, which stay, and it answers
	// nearly as fast with less room (some 5 % more processor time).
	usualGarbage  = 100
	littleGarbage = 50

	heapInterval = time.Second // how often the heap is looked at
)

// tendHeap keeps a large heap to little garbage, and gives memory back that only a
// large batch has needed, until the context ends. It does nothing where GOGC is
// set: then whoever runs the server has said what they want.
func tendHeap(ctx context.Context, env func(key string) string) {
	if env("GOGC") != "" {
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(usualGarbage))
	tick := time.NewTicker(heapInterval)
	defer tick.Stop()
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	now := usualGarbage
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(heap)
		percent, spare := tend(heap[0].Value.Uint64(), heap[1].Value.Uint64())
		if percent != now {
			debug.SetGCPercent(percent)
			now = percent
		}
		if spare {
			debug.FreeOSMemory()
		}
	}
}

// tend says how much garbage there may be, and whether so much is free that it is
// better given back: more than collecting the garbage leaves again and again. Both
// are told in bytes: what was in use at the last collection, and what is free but
// still ours.
func tend(live, free uint64) (percent int, spare bool) {
	if live < smallHeap {
		return usualGarbage, free > smallHeap
	}
	return littleGarbage, free > max(smallHeap, live*littleGarbage/100)
}
