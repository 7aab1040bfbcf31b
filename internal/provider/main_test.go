package provider

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The servers that plugin-testing runs in this process are go-plugin's, whose readers of standard output end with
	// the process only.
	stdio := goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.copyChan")
	goleak.VerifyTestMain(m, stdio, goleak.Cleanup(func(code int) {
		if pluginFolder != "" {
			os.RemoveAll(pluginFolder)
		}
		os.Exit(code)
	}))
}
