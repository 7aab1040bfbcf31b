//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Compiled flags answer until the store has one of the same key; another file takes
// the place of the first while the server runs, and a broken one does not.
func TestServeCompiledFlags(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "flags.binpb")
	declares(t, file, `bool cart = 1 [(pbflags.flag) = {description: "New cart", default: {bool_value: {value: true}}}];`)
	s := serve(t, folder, "--database", "memory:", "--descriptors", file, "--environment-color", "#cc0000")
	secret := readSecret(t, folder)
	c, err := client.New(client.Options{Endpoint: s.ready.Endpoint, Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	is := func(key flag.Key) string {
		t.Helper()
		e, err := c.Evaluate(t.Context(), client.Question{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(e.Value.JSON() + " " + e.Source.String() + " " + e.ErrorCode)
	}
	becomes := func(key flag.Key, want string) {
		t.Helper()
		look := time.NewTicker(10 * time.Millisecond)
		defer look.Stop()
		for deadline := time.After(20 * time.Second); is(key) != want; {
			select {
			case <-look.C:
			case <-deadline:
				t.Fatalf("%s is %s, want %s", key, is(key), want)
			}
		}
	}
	if got := is("m/1"); got != "true DEFAULT" {
		t.Errorf("m/1 is %s", got)
	}
	all, err := c.BulkEvaluate(t.Context(), nil, flag.Context{}, flag.Revision{})
	if err != nil || len(all) != 1 || all[0].Key != "m/1" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, command := range [][]string{{"kill", "m/1", "--reason", "it burns"}, {"release", "m/1"}} {
		if code, _, stderr := s.operator().run(command...); code != exitNotFound || !strings.Contains(stderr, "only compiled in") || !strings.Contains(stderr, `"bunting sync" first`) {
			t.Errorf("%v: exit %d, %s", command, code, stderr)
		}
	}
	if _, err := c.Write(t.Context(), flag.Put(&flag.Flag{Key: "m/1", Type: flag.Bool, Default: flag.BoolValue(false), State: flag.Default})); err != nil {
		t.Fatal(err)
	}
	if got := is("m/1"); got != "false DEFAULT" {
		t.Errorf("the store's word does not win: m/1 is %s", got)
	}

	declares(t, file, `bool cart = 1 [(pbflags.flag) = {description: "New cart"}]; int64 most = 2 [(pbflags.flag) = {default: {int64_value: {value: 7}}}];`)
	becomes("m/2", "7 DEFAULT")
	write(t, file, "no descriptors")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := is("m/2"); got != "7 DEFAULT" {
		t.Errorf("m/2 is %s", got)
	}
	if code := s.stop(); code != exitOK || !strings.Contains(s.log.String(), "m/2") || !strings.Contains(s.log.String(), `"msg":"the descriptors are read","file":"`+file+`","flags":1`) {
		t.Errorf("it ended with %d:\n%s", code, &s.log)
	}
}
