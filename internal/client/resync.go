package client

import (
	"context"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Resync is what a server tells of a store that it refuses (DESIGN §4).
type Resync struct {
	Served      flag.Revision
	Found       flag.Revision // what its store holds; zero: the store does not answer
	Reason      string        // why it is refused, or does not answer; "": neither
	ServedFlags int64
	FoundFlags  int64
	LostHolds   []flag.Ref // standing ones that are served and that the store lacks
}

// Resync asks whether the server refuses its store.
func (c *Client) Resync(ctx context.Context) (Resync, error) {
	return c.resync(ctx, "ask what the store holds", &buntingv1.ResyncRequest{})
}

// AcceptStore has the store that was found, by its id, take the place of the former
// one for everybody, whatever it lacks; "" is the one whose definitions are served.
// What is told is what was refused. A refusal is a *flag.Problem.
func (c *Client) AcceptStore(ctx context.Context, found, former string) (Resync, error) {
	return c.resync(ctx, "accept the store", &buntingv1.ResyncRequest{Accept: true, FoundStoreId: found, Supersedes: former})
}

func (c *Client) resync(ctx context.Context, op string, question *buntingv1.ResyncRequest) (Resync, error) {
	m, err := call(ctx, c, op, again, c.admin.Resync, question) // accepted twice is accepted once
	if err != nil {
		return Resync{}, err
	}
	r := Resync{
		Served: wire.ToRevision(m.GetServed()), Found: wire.ToRevision(m.GetFound()), Reason: plain(m.GetReason(), 2000),
		ServedFlags: m.GetServedFlags(), FoundFlags: m.GetFoundFlags(),
	}
	for _, h := range m.GetLostHolds() {
		r.LostHolds = append(r.LostHolds, flag.HoldRef(flag.Key(h.GetFlagKey()), h.GetHolder()))
	}
	return r, nil
}
