package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Changes that wait travel together, and each has its own outcome: its object,
// the holds of its flag, or why it alone was refused.
func TestWritesTravelTogether(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	release := g.holds("Apply")
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			f := newFlag(flag.Key(fmt.Sprintf("f/%d", i)))
			f.Type = flag.Type(1 + i%2*8) // every second one has no type that there is
			written, err := c.Write(t.Context(), flag.Put(f))
			p, refused := errors.AsType[*flag.Problem](err)
			switch {
			case i%2 == 1 && (!refused || p.Field != "type"):
				t.Errorf("%d: got %+v, %v", i, written, err)
			case i%2 == 0 && (err != nil || written.Object.Ref() != f.Ref() || written.Revision.Number < written.Object.Stamp().Revision):
				t.Errorf("%d: got %+v, %v", i, written, err)
			}
		})
	}
	c.writes.waits(49)
	release()
	wait.Wait()
	if got := g.calls(); !slices.Equal(got, []string{"Apply", "Apply"}) {
		t.Errorf("requests %q", got)
	}
	s, err := c.Snapshot(t.Context(), "")
	if flags, _, _ := s.Counts(); err != nil || flags != 25 {
		t.Errorf("%d flags, %v", flags, err)
	}
}

// A change that was sent is not withdrawn when its caller gives up, and he is
// told its outcome; one that still waits is, and is never sent.
func TestAWriteIsNotWithdrawn(t *testing.T) {
	server := startServer(t)
	c, g := gated(t, server, server.AdminToken)
	release := g.holds("Apply")
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if written, err := c.Write(ctx, flag.Put(newFlag("sent"))); err != nil || written.Object == nil {
			t.Errorf("sent: %+v, %v", written, err)
		}
	})
	until(func() bool { return len(g.calls()) > 0 })
	wait.Go(func() {
		_, err := c.Write(ctx, flag.Put(newFlag("waiting")))
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Canceled || e.Op != `write the flag "waiting"` {
			t.Errorf("waiting: %v", err)
		}
	})
	c.writes.waits(1)
	cancel()
	c.writes.waits(0)
	release()
	wait.Wait()
	for key, there := range map[flag.Key]bool{"sent": true, "waiting": false} {
		if f, _, err := c.Flag(t.Context(), key); err != nil || (f != nil) != there {
			t.Errorf("%s: %+v, %v", key, f, err)
		}
	}
}

// A request that the server, or a proxy before it, refuses as a whole fails for
// the change that is at fault alone.
func TestWritesRefusedAsAWhole(t *testing.T) {
	var sizes []int
	reached, hold := make(chan struct{}), make(chan struct{})
	s := &speaker{apply: func(r *buntingv1.ApplyRequest) (*buntingv1.ApplyResponse, error) {
		sizes = append(sizes, len(r.GetChanges()))
		if len(sizes) == 1 {
			close(reached)
			<-hold
		}
		m := &buntingv1.ApplyResponse{Revision: &buntingv1.Revision{StoreId: "s", Number: 5}}
		for _, change := range r.GetChanges() {
			if change.GetPutFlag().GetKey() == "bad" {
				return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("too much"))
			}
			read, err := wire.ToChange(change)
			if err != nil {
				return nil, err
			}
			m.Results = append(m.Results, &buntingv1.Result{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(read.Ref, read.Object)})
		}
		return m, nil
	}}
	c := s.start(t)
	var wait sync.WaitGroup
	for i, key := range []flag.Key{"first", "bad", "good"} {
		wait.Go(func() {
			_, err := c.Write(t.Context(), flag.Put(newFlag(key)))
			if e, ok := errors.AsType[*Error](err); (key == "bad") != ok || ok && (e.Kind != Invalid || e.Op != `write the flag "bad"`) {
				t.Errorf("%s: %v", key, err)
			}
		})
		<-reached
		c.writes.waits(i)
	}
	close(hold)
	wait.Wait()
	if !slices.Equal(sizes, []int{1, 2, 1, 1}) {
		t.Errorf("sent %v changes at a time", sizes)
	}
}
