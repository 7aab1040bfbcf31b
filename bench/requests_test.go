package main

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/provider"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.Redials()) }

// parallelism is how many objects Terraform works on at once.
const parallelism = 10

// plugin is the provider in this process, at the end of a road to a server.
type plugin struct {
	tfprotov6.ProviderServer

	t      *testing.T
	road   *road
	flag   tftypes.Object // the type of a bunting_flag
	config *tfprotov6.DynamicValue
}

// walk configures a provider for one walk, as Terraform does.
func walk(t *testing.T, server *buntingtest.Server, delay time.Duration) *plugin {
	t.Helper()
	p := newPlugin(t, server, delay)
	p.configure()
	return p
}

// newPlugin makes a provider that shares nothing with others of this process: its road is another host to it.
func newPlugin(t *testing.T, server *buntingtest.Server, delay time.Duration) *plugin {
	t.Helper()
	r, err := openRoad(t.Context(), server.Endpoint, delay)
	if err != nil {
		t.Fatal(err)
	}
	plain := provider.New("0.0.0-test")()
	p := &plugin{ProviderServer: providerserver.NewProtocol6(plain)(), t: t, road: r}
	t.Cleanup(func() { plain.(interface{ Close() }).Close() })
	schema, err := p.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	p.flag = schema.ResourceSchemas["bunting_flag"].ValueType().(tftypes.Object)
	settings := schema.Provider.ValueType().(tftypes.Object)
	p.config = dynamic(t, settings, map[string]tftypes.Value{
		"endpoint": tftypes.NewValue(tftypes.String, r.endpoint), "token": tftypes.NewValue(tftypes.String, server.AdminToken),
		// Nothing is asked again for the sake of a machine that is busy.
		"request_timeout": tftypes.NewValue(tftypes.String, "1m"),
	})
	return p
}

// configure begins a walk.
func (p *plugin) configure() {
	resp, err := p.ConfigureProvider(p.t.Context(), &tfprotov6.ConfigureProviderRequest{TerraformVersion: "1.11.4", Config: p.config})
	p.good(resp.Diagnostics, err)
}

// done ends the walk and tells what it asked of the server.
func (p *plugin) done() traffic {
	p.t.Helper()
	passed, err := p.road.close(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return passed
}

func (p *plugin) good(diags []*tfprotov6.Diagnostic, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Error(err)
	}
	for _, d := range diags {
		p.t.Errorf("%s: %s", d.Summary, d.Detail)
	}
}

// dynamic packs an object. What is not given is null.
func dynamic(t *testing.T, typ tftypes.Object, given map[string]tftypes.Value) *tfprotov6.DynamicValue {
	t.Helper()
	all := map[string]tftypes.Value{}
	for name, typ := range typ.AttributeTypes {
		all[name] = tftypes.NewValue(typ, nil)
	}
	maps.Copy(all, given)
	packed, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, all))
	if err != nil {
		t.Fatal(err)
	}
	return &packed
}

// block gives what declare declares, without the description.
func block(i int) map[string]tftypes.Value {
	return map[string]tftypes.Value{
		"key":           tftypes.NewValue(tftypes.String, keyOf(i)),
		"default_value": tftypes.NewValue(tftypes.Bool, false),
		"value":         tftypes.NewValue(tftypes.Bool, true),
	}
}

// refresh reads a flag.
func (p *plugin) refresh(i int) { p.read(i) }

// read reads a flag, and gives what the provider answers.
func (p *plugin) read(i int) *tfprotov6.ReadResourceResponse {
	resp, err := p.ReadResource(p.t.Context(), &tfprotov6.ReadResourceRequest{TypeName: "bunting_flag", CurrentState: dynamic(p.t, p.flag, block(i))})
	p.good(resp.Diagnostics, err)
	if state, err := resp.NewState.Unmarshal(p.flag); err != nil || state.IsNull() {
		p.t.Errorf("%s is not there: %v", keyOf(i), err)
	}
	return resp
}

// plan plans a flag as it is declared, from what was read of it.
func (p *plugin) plan(i int, prior *tfprotov6.ReadResourceResponse) *tfprotov6.PlanResourceChangeResponse {
	resp, err := p.PlanResourceChange(p.t.Context(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: "bunting_flag", PriorState: prior.NewState, ProposedNewState: prior.NewState, Config: dynamic(p.t, p.flag, block(i)), PriorPrivate: prior.Private,
	})
	p.good(resp.Diagnostics, err)
	return resp
}

// create plans a flag and makes it.
func (p *plugin) create(i int) {
	proposed := block(i)
	for _, name := range []string{"id", "type", "allowed_values", "killed"} {
		proposed[name] = tftypes.NewValue(p.flag.AttributeTypes[name], tftypes.UnknownValue)
	}
	none, err := tfprotov6.NewDynamicValue(p.flag, tftypes.NewValue(p.flag, nil))
	if err != nil {
		p.t.Error(err)
	}
	config := dynamic(p.t, p.flag, block(i))
	planned, err := p.PlanResourceChange(p.t.Context(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: "bunting_flag", PriorState: &none, ProposedNewState: dynamic(p.t, p.flag, proposed), Config: config,
	})
	p.good(planned.Diagnostics, err)
	applied, err := p.ApplyResourceChange(p.t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "bunting_flag", PriorState: &none, PlannedState: planned.PlannedState, Config: config,
		PlannedPrivate: planned.PlannedPrivate, PlannedIdentity: planned.PlannedIdentity,
	})
	p.good(applied.Diagnostics, err)
}

// each does something with so many flags, as many at once as Terraform.
func each(count int, do func(i int)) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range parallelism {
		wait.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	wait.Wait()
}

// TestRequestsOfARefresh: what is read costs the same few requests, however much it is.
func TestRequestsOfARefresh(t *testing.T) {
	// So slow that those who can wait together do, on the busiest machine, too.
	const slow = time.Second
	for _, row := range []struct {
		there       int
		description int // bytes of each
		declared    int
		delay       time.Duration
		requests    int
		bytes       int64 // 0: any
	}{
		{there: 1000, declared: 1000, requests: 3},
		{there: 10_000, declared: 500, requests: 5},
		// So much that it is not all read for the sake of a few.
		{there: 1200, description: 1000, declared: 10, requests: 11, bytes: 100_000},
		{there: 1200, description: 1000, declared: 10, delay: slow, requests: 4, bytes: 100_000},
		{there: 1200, description: 1000, declared: 200, delay: slow, requests: 6}, // three at once, on so slow a road
	} {
		t.Run(fmt.Sprintf("%d of %d, %s away", row.declared, row.there, row.delay), func(t *testing.T) {
			server := buntingtest.Start(t)
			if err := fill(t.Context(), server.Endpoint, server.AdminToken, row.there, strings.Repeat("x", row.description)); err != nil {
				t.Fatal(err)
			}
			p := walk(t, server, row.delay)
			each(row.declared, p.refresh)
			passed := p.done()
			if passed.requests() > row.requests || passed.calls["GetSnapshot"].requests > 1 || row.bytes > 0 && passed.bytes >= row.bytes || passed.connections > 12 {
				t.Errorf("%d requests, %d bytes, %d connections: %v", passed.requests(), passed.bytes, passed.connections, passed.calls)
			}
		})
	}
}

// TestRequestsOfAnApply: a change costs at most one request. How many travel together is told by the client's tests.
func TestRequestsOfAnApply(t *testing.T) {
	const count = 300
	p := walk(t, buntingtest.Start(t), 0)
	each(count, p.create)
	if passed := p.done(); passed.requests() > count+5 || passed.connections > 12 {
		t.Errorf("%d requests, %d connections: %v", passed.requests(), passed.connections, passed.calls)
	}
}
