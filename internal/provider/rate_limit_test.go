package provider

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// rateLimit lets so many requests a second pass, and answers 429 to the others:
// a bucket that is full at first and fills evenly.
type rateLimit struct {
	perSecond float64

	mu      sync.Mutex
	left    float64
	at      time.Time
	refused int
}

func (l *rateLimit) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.left = min(l.perSecond, l.left+l.perSecond*now.Sub(l.at).Seconds())
	l.at = now
	if l.left < 1 {
		l.refused++
		return false
	}
	l.left--
	return true
}

// A server that takes 20 requests a second and says so is no trouble: everything
// is applied and refreshed without an error, and hardly ever is it asked too much.
// The calls come as from Terraform, some at a time; it would itself be too slow on
// a busy machine to meet the limit.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	flags, atOnce := 150, 3
	if os.Getenv("BUNTING_SOAK") != "" {
		flags, atOnce = 1000, 10 // as many as Terraform does
	}
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	limit := &rateLimit{perSecond: 20, left: 20, at: time.Now()}
	refuse := page(http.StatusTooManyRequests, "1")
	proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
		if limit.passes() {
			proxy.road.ServeHTTP(w, r)
			return
		}
		refuse(w, r)
	})
	c := newCore(t, proxy.URL, server.AdminToken, "")
	states := make([]*tfprotov6.ApplyResourceChangeResponse, flags)
	const kind = "bunting_flag"
	schema := c.schemas[kind]
	null := c.wire(schema, cty.NullVal(schema.typ))
	// walks lets something be done for each flag in a walk, and gives how long it took.
	walks := func(do func(ctx context.Context, w *coreWalk, i int) ([]*tfprotov6.Diagnostic, error)) time.Duration {
		t.Helper()
		w, end := c.walk(nil)
		defer end()
		w.must(t)
		begin := time.Now()
		next := make(chan int)
		var workers sync.WaitGroup
		for range atOnce {
			workers.Go(func() {
				for i := range next {
					diags, err := do(t.Context(), w, i)
					if err != nil {
						t.Errorf("flag %d: %v", i, err)
					}
					for _, d := range diags {
						t.Errorf("flag %d: %s: %s", i, d.Summary, d.Detail)
					}
				}
			})
		}
		for i := range flags {
			next <- i
		}
		close(next)
		workers.Wait()
		return time.Since(begin)
	}
	applied := walks(func(ctx context.Context, w *coreWalk, i int) ([]*tfprotov6.Diagnostic, error) {
		object := c.object(schema, coreAttrs{"key": cty.StringVal(fmt.Sprintf("f/%d", i)), "default_value": cty.False}, nil)
		config := c.wire(schema, object)
		plan, err := w.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{TypeName: kind, PriorState: null, Config: config, ProposedNewState: c.wire(schema, proposed(schema, cty.NullVal(schema.typ), object))})
		if err != nil || hasError(plan.Diagnostics) {
			return plan.Diagnostics, err
		}
		applied, err := w.ApplyResourceChange(ctx, &tfprotov6.ApplyResourceChangeRequest{TypeName: kind, PriorState: null, PlannedState: plan.PlannedState, Config: config, PlannedPrivate: plan.PlannedPrivate})
		states[i] = applied
		return applied.Diagnostics, err
	})
	if t.Failed() {
		return
	}
	refreshed := walks(func(ctx context.Context, w *coreWalk, i int) ([]*tfprotov6.Diagnostic, error) {
		read, err := w.ReadResource(ctx, &tfprotov6.ReadResourceRequest{TypeName: kind, CurrentState: states[i].NewState, Private: states[i].Private})
		if was, is := c.value(schema, states[i].NewState), c.value(schema, read.NewState); !is.RawEquals(was) {
			t.Errorf("flag %d was %#v and is %#v", i, was, is)
		}
		return read.Diagnostics, err
	})
	requests, _ := proxy.recorded()
	t.Logf("%d flags: applied in %s, refreshed in %s, with %v, of which %d too many", flags, applied, refreshed, requests, limit.refused)
	if limit.refused >= 5 {
		t.Errorf("%d requests were refused, want fewer than 5", limit.refused)
	}
	s, err := newOperator(t, server, "anna").Snapshot(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := s.Counts(); got != flags {
		t.Errorf("%d flags are there, want %d", got, flags)
	}
}
