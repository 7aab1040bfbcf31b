package main

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// A proxy says at its start where it shares definitions, and no password.
func TestAProxyTellsWhereItShares(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	for want, flags := range map[string]map[string]string{
		`"definition_cache":"redis://ci:xxxxx@redis.test"`: {"definition_cache.redis": "redis://ci:hunter2@redis.test"},
		`"definition_cache":"shared"`:                      {"definition_cache.directory": "shared"},
		`"upstream":"http://far:1","version"`:              {},
	} {
		flags["upstream"] = "http://far:1"
		settings, err := configuration.Read(configuration.Roads{Flags: flags})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		tellStart(t.Context(), settings, ready{}, listeners{requests: own}, slog.New(slog.NewJSONHandler(&log, nil)))
		if !strings.Contains(log.String(), want) || strings.Contains(log.String(), "hunter2") {
			t.Errorf("it tells\n%s\nwant %s", &log, want)
		}
	}
}
