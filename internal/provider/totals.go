package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

// statsFileVariable names a file that gets the totals of this process.
const statsFileVariable = "BUNTING_STATS_FILE"

// reportTotals logs what was asked of servers so far.
func reportTotals(ctx context.Context, t client.Totals) {
	operations := map[string]int64{}
	for call, o := range t.Operations {
		operations[call] = o.Requests
	}
	tflog.Info(ctx, "requests so far", map[string]any{
		"requests": t.Requests, "bytes": t.Bytes, "coalesced": t.Coalesced, "hits": t.Hits, "retries": t.Retries, "pauses": t.Pauses,
		"breaker_openings": t.BreakerOpenings, "connections": t.Connections, "operations": operations,
	})
}

// stats is a line of the file that BUNTING_STATS_FILE names.
type stats struct {
	Time    time.Time `json:"time"`
	Process int       `json:"process"`
	client.Totals
}

// WriteStats adds a line with the totals of this process, as a JSON object, to the
// file that BUNTING_STATS_FILE names; without it, nothing. Terraform runs a process
// for each walk and for each alias of the provider, and all of them know the same
// name, so each adds its line in one write to the end of the file. Call it when
// serving has ended. A process that asked nothing adds none.
func WriteStats() error {
	name := os.Getenv(statsFileVariable)
	totals := client.SharedTotals()
	if name == "" || totals.Requests == 0 {
		return nil
	}
	line, err := json.Marshal(stats{time.Now().UTC(), os.Getpid(), totals})
	if err != nil {
		return fmt.Errorf("write the totals: %w", err)
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // The user names the file.
	if err != nil {
		return fmt.Errorf("write the totals to the file that %s names: %w", statsFileVariable, err)
	}
	_, err = file.Write(append(line, '\n'))
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the totals to the file that %s names: %w", statsFileVariable, err)
	}
	return nil
}
