package provider

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// Each process adds its totals to the file, and together they are what the server
// was asked. The log has them too, and neither has the token.
func TestStatsFile(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken)
	file := filepath.Join(t.TempDir(), "stats")
	c.env = append(c.env, statsFileVariable+"="+file, "TF_LOG_PROVIDER=INFO")
	c.config(manyFlags(20))
	o := c.applies().must(t)
	c.unchanged()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(file)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", about.Mode(), err)
	}
	told := map[string]int{}
	var writes, processes int64
	for line := range strings.Lines(string(text)) {
		var s stats
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		processes++
		writes += s.Operations["Apply"].Requests + s.Coalesced
		for call, o := range s.Operations {
			told[call] += int(o.Requests)
		}
		t.Logf("%s", line)
	}
	for call, requests := range told {
		if has := proxy.count(call); has != requests {
			t.Errorf("%s: %d in the file, %d asked", call, requests, has)
		}
	}
	if len(told) != len(proxy.asked()) || processes != 3 || writes < 60 {
		t.Errorf("%d processes told of %v, asked were %v", processes, told, proxy.asked())
	}
	if !strings.Contains(o.text, "requests so far") || strings.Contains(o.text+string(text), server.AdminToken) {
		t.Errorf("the log has no totals, or the token:\n%s", o.text)
	}
}
