package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// The list of what is killed is wanted most while the database is lost.
func TestFlagsOfAStaleServer(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "flags.db")
	first := serve(t, folder, "--database", "sqlite:"+path)
	o := first.operator()
	o.has("", boolFlag("pay"))
	if code, _, stderr := o.run("kill", "pay", "--reason", "it burns", "--holder", "ops"); code != exitOK {
		t.Fatal(stderr)
	}
	if code, stdout, stderr := o.run("flags", "--json"); code != exitOK || stderr != "" || !strings.Contains(stdout, `"stale": false`) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	first.stop()
	loses(t, path)

	o = serve(t, folder, "--database", "sqlite:"+path).operator()
	code, stdout, stderr := o.run("flags", "--killed")
	if code != exitOK || !strings.Contains(stdout, "pay  false  ops") || !strings.Contains(stderr, "the list is STALE") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = o.run("flags", "--json")
	var list []struct {
		Killed bool `json:"killed"`
		Stale  bool `json:"stale"`
	}
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != exitOK || len(list) != 1 || !list[0].Killed || !list[0].Stale {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
}
