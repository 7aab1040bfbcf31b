package provider

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
)

// faultPatience is how long a request waits that is not answered.
const faultPatience = time.Second

// faultCell is a fault that one operation meets.
type faultCell struct {
	*faultColumn
	fault
	passes bool // only the first request meets it
	key    string
	proxy  *faultyProxy
	core   *core

	struck      chan struct{} // closed when the fault begins
	met         atomic.Int32  // requests since then
	connections atomic.Int32  // to a server whose certificate is unknown
	took        time.Duration // of the call that met the fault
}

// limit is how long an operation may take: all of its timeouts. Only silence is to
// last until then.
func (c *faultCell) limit() time.Duration {
	if c.says == silence {
		return 3 * faultPatience
	}
	return 20 * time.Second
}

func (c *faultCell) name() string {
	name := c.kind + "/" + c.doing + "/" + c.fault.name
	if c.passes {
		name += " in passing"
	}
	return name
}

// Errorf and Fatalf say which cell it is. Fatalf ends the cell.
func (c *faultCell) Errorf(format string, args ...any) {
	c.Helper()
	c.T.Errorf("%s: %s", c.name(), fmt.Sprintf(format, args...))
}

func (c *faultCell) Fatalf(format string, args ...any) {
	c.Helper()
	c.Errorf(format, args...)
	runtime.Goexit()
}

func (c *faultCell) run() {
	own := *c.faultColumn.core // never changed
	c.core = &own
	own.t, own.state, own.setting = c, coreState{}, maps.Clone(own.setting)
	c.proxy = newFaultyProxy(c.T, c.server)
	own.setting["endpoint"] = cty.StringVal(c.proxy.URL)
	switch {
	case strings.HasPrefix(c.kind, "data."):
		c.data()
	case c.doing == readsAll || c.doing == readsOne:
		config := []coreBlock{c.block(c.row.first)}
		c.applies(config)
		before := c.core.state
		c.strikes(func() outcome {
			plan := c.core.plan(config, coreMode{})
			c.keeps(before, plan.state)
			return plan.outcome
		})
		c.converges(config)
	default:
		var config []coreBlock
		if c.doing != coreCreate {
			c.applies([]coreBlock{c.block(c.row.first)})
		}
		switch c.doing {
		case coreCreate:
			config = []coreBlock{c.block(c.row.first)}
		case coreUpdate:
			config = []coreBlock{c.block(c.row.first, c.row.then)}
		}
		plan := c.core.plan(config, coreMode{})
		c.succeeds(plan.outcome)
		c.strikes(func() outcome {
			o := c.core.apply(plan)
			if o.code != 0 {
				c.keeps(plan.state, c.core.state)
			}
			return o
		})
		c.converges(config)
	}
}

// data lets a data source be read before, in and after the fault.
func (c *faultCell) data() {
	config := c.block(c.row.first)
	read := func() (o outcome, found cty.Value) {
		w, end := c.core.walk(nil)
		defer end()
		if w.code != 0 {
			return w.outcome, cty.NilVal
		}
		kind, schema := strings.TrimPrefix(c.kind, "data."), c.core.schemas[c.kind]
		a, err := w.ReadDataSource(context.Background(), &tfprotov6.ReadDataSourceRequest{TypeName: kind, Config: c.core.wire(schema, c.core.object(schema, config.attrs, nil))})
		c.core.called(err)
		w.tell(config.address, a.Diagnostics)
		return w.outcome, c.core.value(schema, a.State)
	}
	o, want := read()
	c.succeeds(o)
	c.strikes(func() outcome {
		o, got := read()
		if o.code == 0 && !got.RawEquals(want) {
			c.Errorf("%#v was read, want %#v", got, want)
		}
		return o
	})
	o, got := read()
	c.succeeds(o)
	if c.fault.name != refused && !got.RawEquals(want) {
		c.Errorf("%#v was read afterwards, want %#v", got, want)
	}
}

// block gives the block with attributes written as JSON, the later ones winning.
func (c *faultCell) block(texts ...string) coreBlock {
	all := coreAttrs{}
	for _, text := range texts {
		maps.Copy(all, attrs(c, strings.ReplaceAll(text, "KEY", c.key)))
	}
	if typ := c.core.schemas[c.kind].typ; typ.HasAttribute("timeouts") {
		limits := map[string]cty.Value{}
		for name := range typ.AttributeType("timeouts").AttributeTypes() {
			limits[name] = cty.StringVal(c.limit().String())
		}
		all["timeouts"] = cty.ObjectVal(limits)
	}
	return coreBlock{address: c.kind + ".it", attrs: all}
}

// applies plans and applies without a word.
func (c *faultCell) applies(config []coreBlock) {
	plan := c.core.plan(config, coreMode{})
	c.succeeds(plan.outcome)
	c.succeeds(c.core.apply(plan))
}

func (c *faultCell) succeeds(o outcome) {
	c.Helper()
	if o.code != 0 || len(o.diags) > 0 {
		c.Fatalf("without a fault this is told: %s", o.text)
	}
}

// keeps asks that a state is as it was.
func (c *faultCell) keeps(before, state coreState) {
	c.Helper()
	if !reflect.DeepEqual(state, before) {
		c.Errorf("the state changed from %v to %v", before, state)
	}
}

// converges applies, now that all is well again, and asks for an empty plan. That
// the plan tells of a change of our own, whose answer was lost, is fine.
func (c *faultCell) converges(config []coreBlock) {
	c.Helper()
	plan := c.core.plan(config, coreMode{})
	plan.diags = slices.DeleteFunc(plan.diags, func(d told) bool {
		return d.Severity == "warning" && strings.Contains(d.Detail, `workspace "matrix", which is this configuration's own`)
	})
	c.succeeds(plan.outcome)
	c.succeeds(c.core.apply(plan))
	plan = c.core.plan(config, coreMode{})
	c.succeeds(plan.outcome)
	if len(plan.actions) > 0 {
		c.Errorf("the plan is not empty afterwards: %v", plan.actions)
	}
}

// strikes lets the operation meet the fault, and checks what comes of it.
func (c *faultCell) strikes(operation func() outcome) {
	c.Helper()
	usual := maps.Clone(c.core.setting)
	if c.says == silence {
		c.core.setting["request_timeout"] = cty.StringVal(faultPatience.String())
	}
	if strings.HasPrefix(c.kind, "data.") { // which have no timeouts
		attempts := int64(2)
		if c.passes {
			attempts = 3 // after the struck one none is the only one: on a busy machine it may need more than faultPatience
		}
		c.core.setting["retry"] = cty.ObjectVal(map[string]cty.Value{"attempts": cty.NumberIntVal(attempts), "requests_per_second": cty.NullVal(cty.Number)})
	}
	if c.fault.name == unknownCert {
		stranger := httptest.NewUnstartedServer(c.proxy.Config.Handler)
		stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
		stranger.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				c.connections.Add(1)
			}
		}
		stranger.StartTLS()
		defer stranger.Close()
		c.core.setting["endpoint"] = cty.StringVal(stranger.URL)
	}
	c.struck = make(chan struct{})
	c.proxy.fails("", c.answer)
	c.core.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer { return &faultStriker{p, c} }
	o := operation()
	c.core.wrap = nil

	if c.took > c.limit()+faultPatience+time.Second {
		c.Errorf("it took %s", c.took)
	}
	c.judge(o)
	c.count()
	c.core.setting = usual
	if c.fault.name == refused {
		c.proxy = newFaultyProxy(c.T, c.server)
		c.core.setting["endpoint"] = cty.StringVal(c.proxy.URL)
	}
	c.proxy.fails("", nil)
}

// answer stands for the server.
func (c *faultCell) answer(w http.ResponseWriter, r *http.Request) {
	greets := path.Base(r.URL.Path) == greeting
	select {
	case <-c.struck:
		if n := c.met.Add(1); n == 1 || !c.passes {
			c.serve(c.proxy, w, r)
			return
		}
	default:
	}
	if greets && c.doing == readsOne {
		c.exaggerate(w, r)
		return
	}
	c.proxy.road.ServeHTTP(w, r)
}

// exaggerate lets the server answer the greeting and alters its answer: there are
// too many flags to read them all.
func (c *faultCell) exaggerate(w http.ResponseWriter, r *http.Request) {
	a := c.proxy.answer(r)
	var said buntingv1.GetServerResponse
	if err := proto.Unmarshal(a.Body.Bytes(), &said); err != nil {
		c.Errorf("the greeting cannot be read: %v", err)
	}
	said.Flags, said.SnapshotBytes = math.MaxInt64, math.MaxInt64
	body, err := proto.Marshal(&said)
	if err != nil {
		c.Errorf("the greeting cannot be written: %v", err)
	}
	w.Header().Set("Content-Type", a.Header().Get("Content-Type"))
	w.Write(body)
}

// faultStriker begins the fault with the call of the provider that is to meet it.
type faultStriker struct {
	tfprotov6.ProviderServer
	cell *faultCell
}

func (s *faultStriker) strike() (end func()) {
	close(s.cell.struck)
	if s.cell.fault.name == refused {
		s.cell.proxy.Close()
	}
	<-faultPlaces
	begin := time.Now()
	return func() {
		s.cell.took = time.Since(begin)
		faultPlaces <- struct{}{}
	}
}

func (s *faultStriker) ConfigureProvider(ctx context.Context, r *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	if s.cell.atGreeting() {
		defer s.strike()()
	}
	return s.ProviderServer.ConfigureProvider(ctx, r)
}

func (s *faultStriker) ReadResource(ctx context.Context, r *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	defer s.strike()()
	return s.ProviderServer.ReadResource(ctx, r)
}

func (s *faultStriker) ApplyResourceChange(ctx context.Context, r *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	defer s.strike()()
	return s.ProviderServer.ApplyResourceChange(ctx, r)
}

func (s *faultStriker) ReadDataSource(ctx context.Context, r *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	if !s.cell.atGreeting() {
		defer s.strike()()
	}
	return s.ProviderServer.ReadDataSource(ctx, r)
}

// atGreeting tells whether the provider's greeting is what meets the fault.
func (c *faultCell) atGreeting() bool { return c.row.greets || c.fault.name == unknownCert }

// judge checks what was told of a fault.
func (c *faultCell) judge(o outcome) {
	c.Helper()
	if c.passes {
		c.succeeds(o)
		return
	}
	if o.code != 1 || len(o.diags) != 1 {
		c.Fatalf("%d diagnostics, want one error: %s", len(o.diags), o.text)
	}
	d := o.diags[0]
	at := c.kind + ".it"
	if c.atGreeting() {
		at = ""
	}
	if d.Address != at || d.Severity != "error" || !strings.HasPrefix(d.Summary, "Cannot ") || !strings.Contains(d.Detail, c.core.setting["endpoint"].AsString()) ||
		!strings.Contains(d.Detail, c.says) || !strings.HasSuffix(d.Detail, ".") && !strings.HasSuffix(d.Detail, "?") {
		c.Errorf("at %q is told:\n%s\nwant at %q something with %q", d.Address, d, at, c.says)
	}
	if strings.Contains(d.String(), c.server.AdminToken) {
		c.Errorf("the token is told")
	}
	if tried := strings.Contains(d.Detail, " Tried "); tried && !c.again {
		c.Errorf("it was tried again: %s", d)
	}
}

// count checks how often was asked: what may pass again and again, and a write
// with the id that it had at first; everything else once.
func (c *faultCell) count() {
	c.Helper()
	requests, ids := c.proxy.recorded()
	n := max(c.proxy.repeated(), int(c.connections.Load()))
	switch {
	case c.fault.name == refused: // nobody counts
	case c.again && (n < 2 || n > 5):
		c.Errorf("%d times the same request, want some repetitions: %v", n, requests)
	case !c.again && (n != 1 || len(ids) > 1):
		c.Errorf("%d times the same request, want 1: %v", n, requests)
	}
	for _, id := range ids {
		if id != ids[0] || id == "" {
			c.Errorf("the writes had the ids %q", ids)
		}
	}
}
