//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// Plans of one CI system that start together: each a process of its own, with as many flags on the server and as many in
// its configuration. This machine does the work of many, so a wave of them starts at the same time, and then the next.
const (
	flagsThere    = 1000
	flagsDeclared = 5

	wave         = 20
	waveInterval = 200 * time.Millisecond
)

// plansAtOnce gives how many: in the soak as many as a large CI system has.
func plansAtOnce() int {
	if os.Getenv("BUNTING_SOAK") != "" {
		return 200
	}
	return 60
}

// outcome is what plans at once came to.
type outcome struct {
	traffic
	results [][]string // of each plan: what the provider answered, flag by flag
	whole   int        // plans to which all definitions came from the server
	asked   int        // requests of the plan with most of them
	took    time.Duration
}

// planAtOnce makes the plans. What begins them goes on at the same time; the rest, for which nothing is asked of the
// server, is done by as many at once as there are processors, or it would keep the others from it.
// Whole is how many bytes all definitions have on the road; 0: that is not known yet.
func planAtOnce(t *testing.T, server *buntingtest.Server, plans int, whole int64) (all outcome) {
	t.Helper()
	plugins := make([]*plugin, plans)
	for i := range plugins {
		plugins[i] = newPlugin(t, server, 0)
	}
	all.results, all.calls = make([][]string, plans), map[string]call{}
	var planning sync.WaitGroup
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	begin := time.Now()
	waves := time.NewTicker(waveInterval)
	defer waves.Stop()
	for n, p := range plugins {
		if n > 0 && n%wave == 0 {
			<-waves.C
		}
		planning.Go(func() {
			p.configure()
			p.refresh(0)
			turns <- struct{}{}
			defer func() { <-turns }()
			for i := range flagsDeclared {
				read := p.read(i)
				planned := p.plan(i, read)
				all.results[n] = append(all.results[n], fmt.Sprintf("read %q %q %q, planned %q %q %q %v", read.NewState.MsgPack, read.Private, read.NewIdentity.IdentityData.MsgPack,
					planned.PlannedState.MsgPack, planned.PlannedPrivate, planned.PlannedIdentity.IdentityData.MsgPack, planned.RequiresReplace))
			}
		})
	}
	planning.Wait()
	all.took = time.Since(begin)
	for _, p := range plugins {
		passed := p.done()
		for name, c := range passed.calls {
			all.calls[name] = call{all.calls[name].requests + c.requests, all.calls[name].spent + c.spent}
		}
		all.bytes += passed.bytes
		all.connections += passed.connections
		all.asked = max(all.asked, passed.requests())
		if passed.bytes > whole/2 {
			all.whole++
		}
	}
	return all
}

// serve starts the program as its users have it, with flags: in this process the plans would take its time from it.
func serve(t *testing.T) *buntingtest.Server {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	ctx := context.WithoutCancel(t.Context()) // it ends by being stopped
	err := b.buildProgram(ctx, "bunting", "../cmd/bunting")
	if err == nil {
		b.server, err = startServer(ctx, filepath.Join(b.dir, "bunting"), b.dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.stopServer(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(client.Options{Endpoint: b.server.endpoint, Token: b.server.token, UserAgent: "bench"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	batch := client.Batch{Atomic: true}
	for i := range flagsThere {
		batch.Changes = append(batch.Changes, flag.Put(&flag.Flag{
			Key: flag.Key(keyOf(i)), Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled,
			Description: description + " " + rand.Text(), // what is alike would travel as next to nothing
		}))
	}
	if _, err := c.Apply(ctx, batch); err != nil {
		t.Fatal(err)
	}
	return &buntingtest.Server{Endpoint: b.server.endpoint, AdminToken: b.server.token}
}

// TestRequestsOfPlansAtOnce: of many plans that start together and share definitions, one fetches them.
func TestRequestsOfPlansAtOnce(t *testing.T) {
	if inSlowMotion() {
		// Ten times as slow, the plans would not hear their Redis in time, and ask the server.
		again := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run=^"+t.Name()+"$", ".")
		out, err := again.CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		t.Logf("without the race detector:\n%s", out)
		return
	}
	server, plans := serve(t), plansAtOnce()
	alone := planAtOnce(t, server, 1, 0)
	table := []string{fmt.Sprintf("%-32s %8s %6s %6s  %s", fmt.Sprintf("%d plans at once of %d flags", plans, flagsThere), "requests", "kB", "s", "of them")}
	row := func(what string, whole, each int) {
		all := planAtOnce(t, server, plans, alone.bytes)
		table = append(table, fmt.Sprintf("%-32s %8d %6d %6.1f  %s; at most %d of one plan; all definitions %d times", what, all.requests(), all.bytes/1000, all.took.Seconds(), byName(all.calls), all.asked, all.whole))
		if all.whole > whole || all.asked > each {
			t.Errorf("%s: all definitions were fetched %d times, and one plan asked %d times; at most %d and %d are meant", what, all.whole, all.asked, whole, each)
		}
		for i, result := range all.results {
			for j, answer := range result {
				if want := alone.results[0][j]; answer != want {
					t.Fatalf("%s: plan %d came to another result for %s than a plan alone:\n%s\n%s", what, i, keyOf(j), answer, want)
				}
			}
		}
	}
	row("nothing shared", plans, 2)
	// So many may begin before there is a copy, or not hear a busy machine's Redis in time: they ask the server.
	few := plans / 20
	for _, place := range []struct{ name, variable, value string }{
		{"a Redis", "BUNTING_CACHE_REDIS_URL", redistest.Start(t).URL()},
		{"a folder", "BUNTING_CACHE_DIRECTORY", t.TempDir()},
	} {
		t.Setenv(place.variable, place.value)
		row(place.name+", with nothing in it", 1+few, 3)
		// The handshake tells that the copy is what the server has; when that is too long ago, it is asked.
		row(place.name+", with the definitions", few, 2)
		t.Setenv(place.variable, "")
	}
	t.Log(strings.Join(table, "\n"))
}

// inSlowMotion reports whether the race detector watches this program.
func inSlowMotion() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// byName tells the calls: "200 GetServer, 1 GetSnapshot".
func byName(calls map[string]call) string {
	var text []string
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		text = append(text, fmt.Sprintf("%d %s", calls[name].requests, name))
	}
	return strings.Join(text, ", ")
}
