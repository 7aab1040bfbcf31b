package evaluator

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double is a store in memory that fails, hangs and forgets as a test wants. Its
// rules are the real ones (store.Write).
type double struct {
	mu       sync.Mutex
	snapshot *flag.Snapshot
	commits  []store.Commit
	audit    []store.AuditEntry
	failing  error                       // every call's answer
	hanging  bool                        // calls wait for the end of their context
	hangsIn  string                      // the same, of this method alone
	forgets  bool                        // Since and Audit reach back to nothing
	asked    map[string]int              // calls by method
	after    func(outcome store.Outcome) // called when an Apply has committed, before it returns
}

func newDouble(storeID string) *double {
	return &double{snapshot: flag.NewSnapshot("test", flag.Revision{StoreID: storeID}), asked: map[string]int{}}
}

// enter begins a call: with the lock held, or with the error that it gives.
func (d *double) enter(ctx context.Context, method string) error {
	d.mu.Lock()
	d.asked[method]++
	failing, hanging := d.failing, d.hanging || d.hangsIn == method
	if failing == nil && !hanging {
		return nil
	}
	d.mu.Unlock()
	if hanging {
		<-ctx.Done()
		return ctx.Err()
	}
	return failing
}

func (d *double) set(change func(d *double)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *double) count(method string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[method]
}

func (d *double) Head(ctx context.Context) (flag.Revision, error) {
	if err := d.enter(ctx, "Head"); err != nil {
		return flag.Revision{}, err
	}
	defer d.mu.Unlock()
	return d.snapshot.Revision, nil
}

func (d *double) Snapshot(ctx context.Context) (*flag.Snapshot, error) {
	if err := d.enter(ctx, "Snapshot"); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	return d.snapshot, nil
}

func (d *double) Since(ctx context.Context, number int64) ([]store.Commit, bool, error) {
	if err := d.enter(ctx, "Since"); err != nil {
		return nil, false, err
	}
	defer d.mu.Unlock()
	if d.forgets {
		return nil, false, nil
	}
	i := slices.IndexFunc(d.commits, func(c store.Commit) bool { return c.Revision.Number > number })
	if i < 0 {
		return nil, true, nil
	}
	return slices.Clone(d.commits[i:]), d.commits[i].Revision.Number == number+1, nil
}

func (d *double) Apply(ctx context.Context, batch store.Batch) (store.Outcome, error) {
	if err := d.enter(ctx, "Apply"); err != nil {
		return store.Outcome{}, err
	}
	outcome, err := store.Write(ctx, doubleTx{d}, batch)
	after := d.after
	d.mu.Unlock()
	if after != nil {
		after(outcome)
	}
	return outcome, err
}

// behind makes a change that the evaluator does not know of: another root's.
func (d *double) behind(tb testing.TB, changes ...flag.Change) store.Outcome {
	tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	outcome, err := store.Write(tb.Context(), doubleTx{d}, batch(changes...))
	if err != nil {
		tb.Fatal(err)
	}
	return outcome
}

func (d *double) ExpireHolds(ctx context.Context, now time.Time) (store.Outcome, error) {
	if err := d.enter(ctx, "ExpireHolds"); err != nil {
		return store.Outcome{}, err
	}
	defer d.mu.Unlock()
	return store.Expire(ctx, doubleTx{d}, now)
}

func (d *double) Audit(ctx context.Context, filter store.AuditFilter) ([]store.AuditEntry, string, error) {
	if err := d.enter(ctx, "Audit"); err != nil {
		return nil, "", err
	}
	defer d.mu.Unlock()
	if d.forgets {
		return nil, "", nil
	}
	newest := slices.Clone(d.audit[max(0, len(d.audit)-filter.PageSize()):])
	slices.Reverse(newest)
	return newest, "", nil
}
func (d *double) CreateToken(context.Context, token.Token, string) error { return nil }
func (d *double) RevokeToken(context.Context, string, string, time.Time) (token.Token, error) {
	return token.Token{}, nil
}
func (d *double) Supersede(ctx context.Context, former, actor string, now time.Time) (flag.Revision, error) {
	if err := d.enter(ctx, "Supersede"); err != nil {
		return flag.Revision{}, err
	}
	defer d.mu.Unlock()
	return store.TakePlace(ctx, doubleTx{d}, former, actor, now)
}

func (d *double) Renew(ctx context.Context, former string, now time.Time) (flag.Revision, error) {
	if err := d.enter(ctx, "Renew"); err != nil {
		return flag.Revision{}, err
	}
	defer d.mu.Unlock()
	return store.Rename(ctx, doubleTx{d}, former, now)
}
func (d *double) Tokens(context.Context) ([]token.Token, error) { return nil, nil }
func (d *double) Notified() <-chan struct{}                     { return nil }
func (d *double) Close() error                                  { return nil }

type doubleTx struct{ d *double }

func (tx doubleTx) Load(context.Context, store.Wanted) (*flag.Snapshot, error) {
	return tx.d.snapshot, nil
}
func (tx doubleTx) Removal(context.Context, flag.Ref) (*flag.Stamp, error)          { return nil, nil }
func (tx doubleTx) Request(context.Context, string, string) (*store.Request, error) { return nil, nil }
func (tx doubleTx) Tokens(context.Context, string) ([]token.Token, error)           { return nil, nil }
func (tx doubleTx) Save(_ context.Context, r store.Record) error {
	tx.d.audit = append(tx.d.audit, r.Audit...)
	if r.Commit != nil {
		tx.d.snapshot = tx.d.snapshot.With(r.Commit.Revision, slices.Values(r.Commit.Edits))
		tx.d.commits = append(tx.d.commits, *r.Commit)
	}
	next := *tx.d.snapshot
	if r.Supersedes != nil {
		next.Supersedes = r.Supersedes
	}
	if r.StoreID != "" {
		next.Revision.StoreID = r.StoreID
	}
	tx.d.snapshot = &next
	return nil
}

var admin = token.Actor{Name: "anna", Scopes: []token.Scope{token.Admin}}

func batch(changes ...flag.Change) store.Batch {
	return store.Batch{Changes: changes, Actor: admin, Now: time.Now()}
}

// boolean is a flag that serves true, and false when killed.
func boolean(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled, Layer: "user"}
}

func override(key flag.Key, entity string, value bool) *flag.Override {
	return &flag.Override{FlagKey: key, EntityID: entity, State: flag.Enabled, Value: flag.BoolValue(value)}
}

func hold(key flag.Key, holder string, expires time.Time) *flag.Hold {
	return &flag.Hold{FlagKey: key, Holder: holder, Reason: "it burns", ExpiresAt: expires}
}

// apply makes the changes through the evaluator; none may be refused.
func apply(tb testing.TB, e *Root, changes ...flag.Change) flag.Revision {
	tb.Helper()
	out, err := e.Apply(tb.Context(), batch(changes...))
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range out.Results {
		if r.Status != flag.Applied {
			tb.Fatalf("change %d (%s): %v", i, changes[i].Ref, r.Problem)
		}
	}
	return out.Revision
}

func start(tb testing.TB, d *double) *Root {
	tb.Helper()
	e, err := NewRoot(tb.Context(), d, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// running starts the background work until the test's bubble ends.
func running(tb testing.TB, e *Root) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var work sync.WaitGroup
	work.Go(func() { e.Run(ctx) })
	tb.Cleanup(func() { cancel(); work.Wait() })
}
