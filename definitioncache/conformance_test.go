package definitioncache_test

import (
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

// clock is a clock in hand.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(_ testing.TB, by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(testing.TB) cachetest.Shared {
		c := newClock()
		memories := map[definitioncache.Key]*definitioncache.Memory{}
		return cachetest.Shared{Advance: c.Advance, Join: func(tb testing.TB, key definitioncache.Key) definitioncache.Cache {
			tb.Helper()
			if memories[key] == nil {
				memory, err := definitioncache.NewMemory(key, cachetest.Timing)
				if err != nil {
					tb.Fatal(err)
				}
				memories[key] = memory.WithClock(c.Now)
			}
			return memories[key].Join()
		}}
	})
}

func TestFileConforms(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(tb testing.TB) cachetest.Shared {
		tb.Helper()
		c, folder := newClock(), tb.TempDir()
		return cachetest.Shared{Advance: c.Advance, Join: func(tb testing.TB, key definitioncache.Key) definitioncache.Cache {
			tb.Helper()
			file, err := definitioncache.NewFile(folder, key, cachetest.Timing)
			if err != nil {
				tb.Fatal(err)
			}
			return file.WithClock(c.Now)
		}}
	})
}
