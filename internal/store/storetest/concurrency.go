package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

const writers = 8

// each runs work in as many goroutines as there are writers and waits for all.
func each(t *testing.T, work func(writer int) error) {
	t.Helper()
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			if err := work(writer); err != nil {
				t.Errorf("writer %d: %v", writer, err)
			}
		})
	}
	group.Wait()
}

// testWritersAtOnce wants revisions without a gap or a double, each told to one
// writer, while readers see nothing but whole commits in order.
func testWritersAtOnce(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	commits := 25
	if soak() {
		commits = 125
	}
	var mu sync.Mutex
	told := map[int64]store.Commit{}

	committed := make(chan struct{}, 1) // wakes a reader, if one waits
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readInOrder(t, w.s, committed) })
	}
	each(t, func(writer int) error {
		for i := range commits {
			// Two flags in each commit, always alike: a reader of one commit sees them so.
			description := fmt.Sprintf("%d.%d", writer, i)
			x, y := aFlag("x"), aFlag("y")
			x.Description, y.Description = description, description
			own := aFlag(flag.Key(fmt.Sprintf("own/%d", writer)))
			own.Description = description
			outcome, err := w.s.Apply(t.Context(), store.Batch{Actor: anna, Now: w.now, Changes: []flag.Change{flag.Put(x), flag.Put(y), flag.Put(own)}})
			if err != nil {
				return err
			}
			mu.Lock()
			if _, double := told[outcome.Revision.Number]; double || outcome.Commit == nil {
				mu.Unlock()
				return fmt.Errorf("revision %v was told twice, or without a commit", outcome.Revision)
			}
			told[outcome.Revision.Number] = *outcome.Commit
			mu.Unlock()
			select {
			case committed <- struct{}{}:
			default:
			}
		}
		return nil
	})
	close(committed)
	readers.Wait()

	s := flag.NewSnapshot("test", flag.Revision{StoreID: w.snapshot().Revision.StoreID})
	for number := int64(1); number <= int64(writers*commits); number++ {
		c, ok := told[number]
		if !ok {
			t.Fatalf("revision %d was told to nobody", number)
		}
		s = s.With(c.Revision, edits(c))
	}
	head := w.snapshot()
	if s.Revision != head.Revision {
		t.Errorf("the commits end at %v, the store is at %v", s.Revision, head.Revision)
	}
	wantSame(t, "what the commits make together", content(s), content(head))
	WantComplete(t.Context(), t, w.s)
}

func readInOrder(t *testing.T, s store.Store, committed <-chan struct{}) {
	t.Helper()
	last := int64(0)
	for range committed {
		snapshot, err := s.Snapshot(t.Context())
		if err != nil {
			t.Errorf("read beside writers: %v", err)
			return
		}
		x, y := snapshot.Flag("x"), snapshot.Flag("y")
		if snapshot.Revision.Number < last || (x == nil) != (y == nil) || x != nil && (x.Description != y.Description || x.Changed.Revision > snapshot.Revision.Number) {
			t.Errorf("after revision %d came %v with %s and %s", last, snapshot.Revision, document(snapshot.Object(theFlag("x"))), document(snapshot.Object(theFlag("y"))))
			return
		}
		last = snapshot.Revision.Number
	}
}

// testLostUpdates counts up with expected revisions from many writers at once: no
// step may get lost.
func testLostUpdates(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	steps := 10
	if soak() {
		steps = 50
	}
	counter := func(n int64) *flag.Flag {
		return &flag.Flag{Key: "counter", Type: flag.Int, Default: flag.IntValue(n), State: flag.Enabled}
	}
	w.must(anna, flag.Put(counter(0)))
	each(t, func(int) error {
		for range steps {
			for {
				s, err := w.s.Snapshot(t.Context())
				if err != nil {
					return err
				}
				present := s.Flag("counter")
				next := expecting(present.Changed.Revision, flag.Put(counter(present.Default.Int()+1)))
				outcome, err := w.s.Apply(t.Context(), store.Batch{Actor: anna, Now: w.now.Add(time.Second), Changes: []flag.Change{next}})
				if err != nil {
					return err
				}
				r := outcome.Results[0]
				if r.Status == flag.Applied {
					break
				}
				if r.Problem == nil || r.Problem.Kind != flag.ProblemConflict {
					return fmt.Errorf("%s, want a conflict", told(r))
				}
			}
		}
		return nil
	})
	if got := w.snapshot().Flag("counter").Default.Int(); got != int64(writers*steps) {
		t.Errorf("counted to %d, want %d", got, writers*steps)
	}
	WantComplete(t.Context(), t, w.s)
}
