package client_test

import (
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

func init() { //nolint:gochecknoinits // The one way from an external test file to those inside the package.
	client.StartFlagServer = func(tb testing.TB) (client.Running, string, string) {
		tb.Helper()
		s := buntingtest.Start(tb, buntingtest.Environment("prod"), buntingtest.Version("1.2.3"))
		return s, s.Endpoint, s.AdminToken
	}
}
