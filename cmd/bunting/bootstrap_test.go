package main

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/store/sqlite"
)

// TestServersThatStartAtOnce have one first token: one of them writes it, the
// others find it made.
func TestServersThatStartAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		shared, err := sqlite.OpenMemory(t.Context(), sqlite.Options{Environment: "test"})
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				if _, err := bootstrap(t.Context(), shared, filepath.Join(folder, strconv.Itoa(i)), time.Now(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		files, err := os.ReadDir(folder)
		if err != nil || len(files) != 1 {
			t.Errorf("%d servers wrote a first token (%v)", len(files), err)
		}
		if tokens, err := shared.Tokens(t.Context()); err != nil || len(tokens) != 1 {
			t.Errorf("there are %d tokens (%v)", len(tokens), err)
		}
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	}
}
