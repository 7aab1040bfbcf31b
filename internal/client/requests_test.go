package client

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// handOut is how long Terraform takes between two objects that it hands out, as
// measured on loopback, and parallelism how many it does at once.
const (
	handOut     = 15 * time.Millisecond
	parallelism = 10
)

func numbered(i int) flag.Key { return flag.Key(fmt.Sprintf("f/%d", i)) }

// terraform does something with count objects, as it does.
func terraform(count int, every time.Duration, do func(i int)) {
	free := make(chan struct{}, parallelism)
	var wait sync.WaitGroup
	for i := range count {
		free <- struct{}{}
		wait.Go(func() {
			do(i)
			<-free
		})
		time.Sleep(every)
	}
	wait.Wait()
}

// Requests do not grow with resources (DESIGN §6.1). Each flag is read twice, as
// a refresh and the plan after it do.
func TestRequestsOfReads(t *testing.T) {
	const huge = 20 << 20 // bytes of 100,000 flags
	for _, tc := range []struct {
		flags          int
		beside         int64
		latency, every time.Duration
		requests       int
		bytes          int
	}{
		{1000, 0, 0, 0, 3, 1 << 20},
		{1000, 0, 20 * time.Millisecond, handOut / 15, 3, 1 << 20},
		{10000, 0, 20 * time.Millisecond, 0, 5, 10 << 20},
		{10, huge, 20 * time.Millisecond, handOut / 15, 4, 100_000},
		{10, huge, 0, handOut, 11, 100_000},
		{1000, huge, 20 * time.Millisecond, handOut / 15, 4, 1 << 20},
		{1000, huge, 150 * time.Millisecond, handOut / 15, 6, 1 << 20},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes at %s", tc.flags, tc.beside, tc.latency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(tc.latency, tc.flags)
				w.padding = tc.beside
				c := w.client(t)
				if _, err := c.Server(t.Context()); err != nil {
					t.Fatal(err)
				}
				walk := c.NewWalk()
				terraform(tc.flags, tc.every, func(i int) {
					for range 2 {
						if f, _, err := walk.Flag(t.Context(), numbered(i)); err != nil || f == nil {
							t.Errorf("got %v, %v", f, err)
						}
					}
				})
				if n := w.total(); n > tc.requests || w.bytes > tc.bytes {
					t.Errorf("%v and %d bytes, want at most %d and %d", w.counts, w.bytes, tc.requests, tc.bytes)
				}
				t.Logf("%v, %d bytes", w.counts, w.bytes)
			})
		})
	}
}

// Writes travel together where the road is slower than Terraform.
func TestRequestsOfWrites(t *testing.T) {
	for _, tc := range []struct {
		latency, every time.Duration
		requests       int
	}{
		{0, handOut, 1005}, {0, 0, 1005}, {20 * time.Millisecond, handOut, 1005}, {50 * time.Millisecond, handOut, 350}, {150 * time.Millisecond, handOut, 1005},
	} {
		t.Run(fmt.Sprintf("%s every %s", tc.latency, tc.every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(tc.latency, 0)
				c := w.client(t)
				begin := time.Now()
				terraform(1000, tc.every, func(i int) {
					if _, err := c.Write(t.Context(), flag.Put(newFlag(numbered(i)))); err != nil {
						t.Error(err)
					}
				})
				if n := w.total(); n > tc.requests {
					t.Errorf("%v, want at most %d", w.counts, tc.requests)
				}
				t.Logf("%v in %s", w.counts, time.Since(begin))
			})
		})
	}
}

// A read of what the walk knows costs nothing.
func TestAKnownReadAllocatesNothing(t *testing.T) {
	w := newWorld(0, 5)
	walk := w.client(t).NewWalk()
	read := func() {
		if f, _, err := walk.Flag(t.Context(), "f/1"); err != nil || f == nil {
			t.Errorf("got %v, %v", f, err)
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
