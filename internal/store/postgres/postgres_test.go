//go:build unix

package postgres

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgrestest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/storetest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func TestMain(m *testing.M) {
	code := postgrestest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func soak() bool { return os.Getenv("BUNTING_SOAK") == "1" }

// used is a store whose database another test part takes over, emptied: making
// one takes a fifth of a second.
type used struct {
	*Store

	url  string
	free func(url string)
}

func (u *used) Close() error {
	err := u.Store.Close()
	u.free(u.url)
	return err
}

func TestConformance(t *testing.T) {
	whole := t
	var mu sync.Mutex
	free := map[string]bool{}
	take := func(t *testing.T) string {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		for url := range free {
			delete(free, url)
			postgrestest.Exec(t, url, `DELETE FROM bunting.overrides`, `DELETE FROM bunting.holds`, `DELETE FROM bunting.flags`, `DELETE FROM bunting.audit`,
				`DELETE FROM bunting.requests`, `DELETE FROM bunting.tokens`, `UPDATE bunting.meta SET store_id = '', environment = '', revision = 0, supersedes = '{}'`)
			return url
		}
		return ""
	}
	give := func(url string) {
		mu.Lock()
		defer mu.Unlock()
		free[url] = true
	}
	storetest.Run(t, func(t *testing.T, environment string) store.Store {
		t.Helper()
		url := take(t)
		if url == "" {
			url = postgrestest.Database(whole) // it outlives the part
		}
		return &used{open(t, url, Options{Environment: environment}), url, give}
	}, func(t *testing.T, s store.Store) store.Store {
		t.Helper()
		before, ok := s.(*used)
		if !ok {
			t.Fatalf("%T", s)
		}
		if err := before.Store.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, before.url, Options{Environment: "test"})
	})
}

func open(tb testing.TB, url string, options Options) *Store {
	tb.Helper()
	if options.Environment == "" {
		options.Environment = "test"
	}
	s, err := Open(tb.Context(), url, options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func numberedFlag(key flag.Key, n int64) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Int, Default: flag.IntValue(n), Value: flag.IntValue(n + 1), State: flag.Enabled, Layer: "user", Description: "made by a test"}
}

func batchOf(changes ...flag.Change) store.Batch {
	return store.Batch{Actor: token.Actor{Name: "anna", Scopes: []token.Scope{token.Admin}}, Changes: changes, Now: time.Now()}
}

func apply(tb testing.TB, s *Store, changes ...flag.Change) store.Outcome {
	tb.Helper()
	outcome, err := s.Apply(tb.Context(), batchOf(changes...))
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range outcome.Results {
		if r.Status != flag.Applied {
			tb.Fatalf("change %d was not applied: %v", i, r.Problem)
		}
	}
	return outcome
}
