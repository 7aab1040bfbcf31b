package provider

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// userCache is where this user's programs, like go, keep what they can make again.
var userCache = os.Getenv("XDG_CACHE_HOME")

func TestMain(m *testing.M) {
	redisTimeout = 10 * time.Second // a Redis that is well is heard, on however busy a machine
	// What the provider keeps from one run to the next is not kept for whoever runs the tests.
	cache, err := os.MkdirTemp("", "bunting-cache-")
	if err != nil || os.Setenv("XDG_CACHE_HOME", cache) != nil {
		panic(err)
	}
	// The servers that plugin-testing runs in this process are go-plugin's, whose readers of standard output end with
	// the process only.
	stdio := goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.copyChan")
	goleak.VerifyTestMain(m, stdio, redistest.Redials(), goleak.Cleanup(func(code int) {
		if pluginFolder != "" {
			os.RemoveAll(pluginFolder)
		}
		os.RemoveAll(cache)
		os.Exit(code)
	}))
}
