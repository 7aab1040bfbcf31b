package definitioncache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
)

// Two clients of one process share what one of them fetches. Processes share in a
// folder with NewFile, or in a Redis with redis.New.
func Example() {
	key := definitioncache.Key{Environment: "production", Scope: "read", Schema: 1}
	timing := definitioncache.Every(10 * time.Second)
	shared, err := definitioncache.NewMemory(key, timing)
	if err != nil {
		fmt.Println(err)
		return
	}
	fetched := 0
	for _, name := range []string{"first", "second"} {
		cycle, err := definitioncache.New(definitioncache.Options{
			Cache:  shared.Join(),
			Timing: timing,
			Fetch: func(_ context.Context, known definitioncache.Revision) (definitioncache.Received, error) {
				fetched++ // here the server is asked for what is newer than known
				newest := definitioncache.Revision{Store: "3f1c", Number: 7}
				if known == newest {
					return definitioncache.Received{Unchanged: true}, nil
				}
				header := definitioncache.Header{Key: key, Revision: newest, FetchedAt: time.Now()}
				return definitioncache.Received{Header: header, Body: []byte("dark-mode=on")}, nil
			},
			Apply: func(_ context.Context, definitions definitioncache.Copy) error {
				fmt.Printf("%s: %s at %d\n", name, definitions.Body, definitions.Revision.Number)
				return nil
			},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		// A program calls Run, which takes a step each poll and shuts down at its end.
		if err := cycle.Step(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetched:", fetched)
	// Output:
	// first: dark-mode=on at 7
	// second: dark-mode=on at 7
	// fetched: 1
}
