package provider

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// faultRows says for each resource and data source how it is configured where it
// meets faults: KEY stands for a flag of its own, which is there unless the
// resource makes it.
var faultRows = map[string]faultRow{
	"bunting_flag":        {first: `{"key": "KEY", "default_value": false, "on_destroy": "delete"}`, then: `{"description": "new"}`},
	"bunting_override":    {first: `{"flag_key": "KEY", "entity_id": "u", "value": false}`, then: `{"value": true}`},
	"bunting_kill_switch": {first: `{"flag_key": "KEY", "reason": "load", "release_on_destroy": true}`, then: `{"reason": "more"}`},

	"data.bunting_evaluation":  {first: `{"flag_key": "KEY", "entity_id": "u"}`},
	"data.bunting_evaluations": {first: `{"flag_keys": ["KEY"], "entity_id": "u"}`},
	"data.bunting_flag":        {first: `{"key": "KEY"}`},
	"data.bunting_flags":       {first: `{"prefix": "KEY"}`},
	"data.bunting_server":      {first: `{}`, greets: true},
}

// faultRow is a resource or data source in the matrix.
type faultRow struct {
	first, then string // attributes, and what an update makes of them
	greets      bool   // it tells what the greeting was answered, and asks nothing else
}

// The operations of the matrix. A read meets faults twice: where everything is
// read at once, and where it is one object among too many for that.
const (
	readsOne = "read of few among many"
	readsAll = "read"
)

// TestFaultMatrix is the whole of it: every resource and data source, in every
// operation, meets every fault, once for good and once in passing. Nothing
// crashes, no state is lost, one clear diagnostic is told within the deadline,
// nothing is repeated that must not be, and afterwards the next apply converges.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	declared, err := providerserver.NewProtocol6(&buntingProvider{})().GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string][]string{} // by resource or data source
	for kind := range declared.ResourceSchemas {
		operations[kind] = []string{coreCreate, readsAll, readsOne, coreUpdate, coreDelete}
	}
	for kind := range declared.DataSourceSchemas {
		operations["data."+kind] = []string{readsAll, readsOne}
		if faultRows["data."+kind].greets {
			operations["data."+kind] = []string{readsAll}
		}
	}
	var columns []*faultColumn
	var first, rest []*faultCell
	for _, kind := range slices.Sorted(maps.Keys(operations)) {
		row, has := faultRows[kind]
		if !has {
			t.Errorf("%s has no row in faultRows", kind)
			continue
		}
		for _, doing := range operations[kind] {
			column := newFaultColumn(t, declared, kind, row, doing)
			for _, cell := range column.cells {
				if cell.says == silence { // takes longest
					first = append(first, cell)
				} else {
					rest = append(rest, cell)
				}
			}
			columns = append(columns, column)
		}
	}
	t.Logf("%d cells", len(first)+len(rest))
	var running sync.WaitGroup
	for _, cell := range slices.Concat(first, rest) {
		faultPlaces <- struct{}{}
		running.Go(func() {
			defer func() { <-faultPlaces }()
			cell.run()
		})
	}
	running.Wait()
	for _, column := range columns {
		column.checkAudit()
	}
}

// faultPlaces are for the cells that do something, not for those that wait for
// the end of a fault. So they do not keep the limits of each other.
var faultPlaces = make(chan struct{}, 8)

// faultColumn is one operation of a resource or data source, on a server of its
// own.
type faultColumn struct {
	*testing.T
	kind, doing string
	row         faultRow
	server      *buntingtest.Server
	anna        operator
	core        *core // what every cell's begins as
	cells       []*faultCell
}

func newFaultColumn(t *testing.T, declared *tfprotov6.GetProviderSchemaResponse, kind string, row faultRow, doing string) *faultColumn {
	t.Helper()
	c := &faultColumn{T: t, kind: kind, doing: doing, row: row, server: buntingtest.Start(t)}
	c.anna = newOperator(t, c.server, "anna")
	c.core = newCore(t, "", c.server.AdminToken, "matrix")
	for kind, schema := range declared.DataSourceSchemas {
		c.core.schemas["data."+kind] = c.core.schema(schema)
	}
	for _, f := range faults {
		if !f.passing {
			c.cells = append(c.cells, &faultCell{faultColumn: c, fault: f})
		}
		if f.again && f.serve != nil {
			c.cells = append(c.cells, &faultCell{faultColumn: c, fault: f, passes: true})
		}
	}
	for i, cell := range c.cells {
		cell.key = fmt.Sprintf("k%d", i)
		if c.kind != "bunting_flag" {
			c.anna.does(flag.Put(&flag.Flag{Key: flag.Key(cell.key), Type: flag.Bool, Default: flag.BoolValue(false), Layer: "user"}))
		}
	}
	return c
}

// checkAudit asks that what Terraform has written is written once. That it has
// adopted what it finds is no writing.
func (c *faultColumn) checkAudit() {
	c.Helper()
	want := map[string]int{coreCreate: 1, readsAll: 1, readsOne: 1, coreUpdate: 2, coreDelete: 2}[c.doing]
	if strings.HasPrefix(c.kind, "data.") {
		want = 0
	}
	for _, cell := range c.cells {
		entries, _, err := c.anna.Audit(c.Context(), client.AuditFilter{Key: flag.Key(cell.key), Actor: "admin"})
		if err != nil {
			c.Fatal(err)
		}
		entries = slices.DeleteFunc(entries, func(e client.AuditEntry) bool { return e.Action == "adopt" })
		if len(entries) != want {
			cell.Errorf("%d changes in the audit log, want %d: %v", len(entries), want, entries)
		}
	}
}
