package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Ten thousand who want the same thing at once cost one fetch, the first ones too.
func TestOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int64
		f := fetched[int]{fetch: func(context.Context) (int, error) {
			time.Sleep(time.Second)
			return int(fetches.Add(1)) + 6, nil
		}}
		var wait sync.WaitGroup
		for range 10000 {
			wait.Go(func() {
				if v, err := f.get(t.Context()); v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		wait.Wait()
		if v, has := f.known(); !has || v != 7 || fetches.Load() != 1 {
			t.Errorf("%d, %t after %d fetches", v, has, fetches.Load())
		}
	})
}

// Whose fetch fails, panics, is given up or runs out of time does not fail the
// others, and the next one is free to try.
func TestAFetchThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches int
		mode := "slow"
		f := fetched[int]{fetch: func(ctx context.Context) (int, error) {
			fetches++
			switch mode {
			case "panics":
				panic("no")
			case "fails":
				return 0, errors.New("no")
			}
			select {
			case <-time.After(10 * time.Second):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}}
		for _, m := range []string{"panics", "fails"} {
			mode = m
			if v, err := f.get(t.Context()); v != 0 || err == nil || !strings.Contains(err.Error(), "no") {
				t.Errorf("%s: got %d, %v", mode, v, err)
			}
		}
		mode = "slow"
		var wait sync.WaitGroup
		hurried, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		leaving, leave := context.WithCancel(t.Context())
		ask := func(ctx context.Context, value int, want error) {
			wait.Go(func() {
				if v, err := f.get(ctx); v != value || !errors.Is(err, want) {
					t.Errorf("got %d, %v, want %d, %v", v, err, value, want)
				}
			})
			synctest.Wait()
		}
		ask(hurried, 0, context.DeadlineExceeded) // begins the fetch, which has its time
		ask(leaving, 0, context.Canceled)
		ask(t.Context(), 7, nil) // has more time, and fetches again
		leave()
		wait.Wait()
		if fetches != 4 {
			t.Errorf("%d fetches", fetches)
		}
	})
}

// Nobody fetches for nobody.
func TestAFetchForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		f := fetched[int]{fetch: func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended = true
			return 0, ctx.Err()
		}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := f.get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if !ended {
			t.Error("the fetch goes on")
		}
	})
}
