package diskcopy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// kept is a keeper in a bubble, what it is told, and what it wrote.
type kept struct {
	mu      sync.Mutex
	trusted *flag.Snapshot
	tokens  []token.Token
	failing error
	lasts   time.Duration // how long a writing takes

	wrote []wrote
	log   bytes.Buffer
	began time.Time
	end   func() // and wait for it
}

type wrote struct {
	at     time.Duration // after the beginning
	number int64
	tokens int
}

func keeping(t *testing.T, loaded *Copy) *kept {
	t.Helper()
	k := &kept{began: time.Now()}
	keeper := NewKeeper(&File{}, loaded, func() *flag.Snapshot {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.trusted
	}, func() []token.Token {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.Clone(k.tokens)
	}, slog.New(slog.NewTextHandler(&k.log, nil)))
	keeper.write = func(c Copy) error {
		k.mu.Lock()
		lasts := k.lasts
		k.mu.Unlock()
		time.Sleep(lasts)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.failing == nil {
			k.wrote = append(k.wrote, wrote{time.Since(k.began).Round(time.Second), c.Snapshot.Revision.Number, len(c.Tokens)})
		}
		return k.failing
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { keeper.Run(ctx) })
	k.end = func() { cancel(); work.Wait() }
	t.Cleanup(k.end)
	return k
}

func (k *kept) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// at gives a snapshot of the revision number.
func at(number int64) *flag.Snapshot {
	return flag.NewSnapshot("test", flag.Revision{StoreID: "s", Number: number})
}

// wants compares what was written since the last time.
func (k *kept) wants(t *testing.T, want ...wrote) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.wrote, want) {
		t.Errorf("wrote %v, want %v", k.wrote, want)
	}
	k.wrote = nil
}

// The copy follows what is known, but not more often than every 5 s, and once more
// at the end.
func TestTheCopyFollowsWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeping(t, nil)
		time.Sleep(10*time.Second + time.Millisecond)
		k.wants(t) // nothing is known
		k.set(func() { k.trusted = at(1) })
		time.Sleep(time.Second)
		k.wants(t, wrote{11 * time.Second, 1, 0})
		for number := range int64(90) { // a change each 100 ms: at 16 s, and at the end
			k.set(func() { k.trusted = at(2 + number) })
			time.Sleep(100 * time.Millisecond)
		}
		k.wants(t, wrote{16 * time.Second, 51, 0})
		k.end()
		k.wants(t, wrote{20 * time.Second, 91, 0})
	})
}

func TestNothingNewIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loaded := &Copy{Snapshot: at(7), Tokens: []token.Token{{ID: "1", Hash: "h"}}}
		k := keeping(t, loaded)
		k.set(func() { k.trusted, k.tokens = at(7), []token.Token{{ID: "1", Hash: "h"}} })
		time.Sleep(time.Minute + time.Millisecond)
		k.wants(t)
		k.set(func() { k.tokens = append(k.tokens, token.Token{ID: "2", Hash: "i"}) }) // without a revision: a proxy's verdict
		time.Sleep(time.Second)
		k.wants(t, wrote{61 * time.Second, 7, 2})
		k.set(func() { k.tokens[1].RevokedAt = moment })
		time.Sleep(5 * time.Second)
		k.wants(t, wrote{66 * time.Second, 7, 2})
		k.end()
		k.wants(t)
	})
}

// Another store is refused: what the file holds is the good copy, and stays.
func TestARefusedStoreDoesNotTouchTheCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeping(t, &Copy{Snapshot: at(7)})
		k.set(func() { k.trusted, k.tokens = nil, []token.Token{{ID: "another"}} })
		time.Sleep(time.Minute)
		k.end()
		k.wants(t)
	})
}

// Writing takes at most one twentieth of the time.
func TestASlowDiskIsNotKeptBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeping(t, nil)
		k.lasts = 2 * time.Second
		stop := make(chan struct{})
		go func() {
			for number := int64(1); ; number++ {
				k.set(func() { k.trusted = at(number) })
				select {
				case <-time.After(time.Second):
				case <-stop:
					return
				}
			}
		}()
		time.Sleep(10 * time.Minute)
		close(stop)
		k.set(func() {
			if n := len(k.wrote); n < 13 || n > 15 {
				t.Errorf("it wrote %d times in 10 minutes, each for 2 s", n)
			}
		})
	})
}

// A failure is told once, and what is wrong next is told too; it is tried again, and
// so is the end of it told.
func TestAFailureIsToldOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeping(t, nil)
		k.set(func() { k.trusted, k.failing = at(1), errors.New("no space left") })
		time.Sleep(time.Minute)
		k.set(func() { k.failing = errors.New("a read-only file system") })
		time.Sleep(time.Minute)
		k.set(func() { k.failing = nil })
		time.Sleep(5*time.Second + time.Millisecond)
		k.set(func() {
			if len(k.wrote) != 1 || k.wrote[0].number != 1 {
				t.Errorf("wrote %v", k.wrote)
			}
		})
		k.end()
		log := k.log.String()
		for text, times := range map[string]int{"no space left": 1, "read-only": 1, "is written again": 1} {
			if n := strings.Count(log, text); n != times {
				t.Errorf("%q is told %d times:\n%s", text, n, log)
			}
		}
	})
}
