package client

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// step is what a caller does next, and when.
type step struct {
	key      int
	write    bool
	after    time.Duration
	patience time.Duration // 0: without end
}

// Whatever callers do at the same time, and whatever becomes of requests and
// answers on the way: no read is older than a write of ours that had come back
// before the read began, whether it came back with a result or with an error.
func TestReadsSeeOwnWrites(t *testing.T) {
	const keys = 3
	rapid.Check(t, func(r *rapid.T) {
		callers := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				key: rapid.IntRange(0, keys-1).Draw(r, "key"), write: rapid.Bool().Draw(r, "write"),
				after:    time.Duration(rapid.IntRange(0, 40).Draw(r, "after")) * time.Millisecond,
				patience: time.Duration(rapid.SampledFrom([]int{0, 0, 5, 30, 400}).Draw(r, "patience")) * time.Millisecond,
			}
		}), 1, 12), 1, 6).Draw(r, "callers")
		troubles := rapid.SliceOfN(rapid.SampledFrom([]trouble{none, none, none, lost, unheard, absent, late}), 0, 30).Draw(r, "troubles")
		latency := time.Duration(rapid.SampledFrom([]int{0, 5, 20, 150}).Draw(r, "latency")) * time.Millisecond
		large := rapid.Bool().Draw(r, "large")
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(latency, keys)
			w.troubles = func(n int) trouble {
				if n >= len(troubles) {
					return none
				}
				return troubles[n]
			}
			if large {
				w.padding = wholeAtMost + 1
			}
			m := &model{world: w, client: w.client(t), wrote: map[flag.Key]int64{}}
			m.walk = m.client.NewWalk()
			var wait sync.WaitGroup
			for i, steps := range callers {
				wait.Go(func() {
					for j, s := range steps {
						m.does(r, s, fmt.Sprintf("%d/%d", i, j))
					}
				})
			}
			wait.Wait()
		})
	})
}

// model knows what our writes have done.
type model struct {
	world  *world
	client *Client
	walk   *Walk

	mu    sync.Mutex
	wrote map[flag.Key]int64 // the revision of our last write that has come back
}

func (m *model) does(r *rapid.T, s step, text string) {
	time.Sleep(s.after)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.patience > 0 {
		stop := time.AfterFunc(s.patience, cancel)
		defer stop.Stop()
	}
	key := numbered(s.key)
	if !s.write {
		m.mu.Lock()
		atLeast := m.wrote[key]
		m.mu.Unlock()
		f, _, err := m.walk.Flag(ctx, key)
		if err == nil && (f == nil || f.Changed.Revision < atLeast) {
			r.Errorf("%s read %+v, but wrote revision %d", text, f, atLeast)
		}
		return
	}
	f := newFlag(key)
	f.Description = text
	written, err := m.client.Write(ctx, flag.Put(f))
	has := m.world.now().Flag(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.wrote[key] = max(m.wrote[key], written.Object.Stamp().Revision)
	case has.Description == text: // it was done all the same
		m.wrote[key] = max(m.wrote[key], has.Changed.Revision)
	}
}
