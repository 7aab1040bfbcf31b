package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What a server of ordinary size holds, and how often it is written to before its memory is looked at.
const (
	heldFlags        = 10_000
	overridesPerFlag = 10
	writesAfter      = 1000
)

// BenchmarkMemory tells how much of the machine's memory a server with 10,000 flags and 100,000 overrides takes, after
// they were put and 1,000 flags were changed, and after a restart with that database; and what it took at most meanwhile. The
// aim of the first two is less than 96 MB.
func BenchmarkMemory(b *testing.B) {
	program, dir := buildServer(b), b.TempDir()
	for b.Loop() {
		first := start(b, program, dir)
		load(b, first)
		report(b, first, "loaded")
		if err := first.stop(); err != nil {
			b.Fatal(err)
		}
		second := start(b, program, dir)
		report(b, second, "restarted")
		if err := second.stop(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// load puts everything there, as operators do: in batches, then one by one.
func load(b *testing.B, s *server) {
	b.Helper()
	c, err := client.New(client.Options{Endpoint: s.endpoint, Token: s.token, UserAgent: "bench", RequestTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	put := func(count int, change func(i int) flag.Object) {
		const size = 5000
		for from := 0; from < count; from += size {
			batch := client.Batch{Atomic: true}
			for i := from; i < min(count, from+size); i++ {
				batch.Changes = append(batch.Changes, flag.Put(change(i)))
			}
			if _, err := c.Apply(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	put(heldFlags, func(i int) flag.Object { return declared(i, description) })
	put(heldFlags*overridesPerFlag, func(i int) flag.Object {
		return &flag.Override{
			FlagKey: flag.Key(keyOf(i / overridesPerFlag)), EntityID: fmt.Sprintf("user-%06d", i), State: flag.Enabled, Value: flag.BoolValue(true),
		}
	})
	for i := range writesAfter {
		if _, err := c.Write(b.Context(), flag.Put(declared(i, strconv.Itoa(i)))); err != nil {
			b.Fatal(err)
		}
	}
}

// report tells a server's resident memory as it is now, and at most.
func report(b *testing.B, s *server, when string) {
	b.Helper()
	b.ReportMetric(memory(b, s, "VmRSS"), when+"-MB")
	b.ReportMetric(memory(b, s, "VmHWM"), when+"-most-MB")
}

// memory reads a row of proc_pid_status(5), in megabytes.
func memory(b *testing.B, s *server, row string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+row+":")
	var kib float64
	if _, err := fmt.Sscanf(rest, "%f kB", &kib); err != nil {
		b.Fatalf("read %s of the server: %v", row, err)
	}
	return kib * 1024 / 1e6
}
