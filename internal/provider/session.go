package provider

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// session is a configured provider: the one way to its server, and what was seen
// of the walk so far. Terraform configures the provider for each walk, and every
// resource and data source of the walk shares the session.
type session struct {
	client    *client.Client
	release   func()       // gives the client back
	walk      *client.Walk // what is read, within this walk
	secrets   []string     // to keep them out of the log
	workspace string
	storeID   string      // the server's, as it was greeted
	awaits    string      // the setting without which there is no client yet
	dead      atomic.Bool // a Read has told that the server does not answer
	// evaluatorOnly says that the server has only the evaluator service.
	evaluatorOnly bool
	// down is why the server could not be greeted, where something is last known
	// of it all the same; nil otherwise.
	down      error
	lastKnown *lastKnown // nil where nothing can be kept

	mu      sync.Mutex
	seen    map[flag.Ref]bool        // read by a resource in this walk
	claimed map[flag.Ref]bool        // planned by a resource in this walk
	wrote   map[flag.Ref]int64       // written in this walk, at which revision; 0: under way, or refused
	types   map[flag.Key]flag.Type   // of flags written in this walk
	planned map[flag.Key]declaration // flags planned in this walk
}

func newSession() *session {
	return &session{
		seen: map[flag.Ref]bool{}, claimed: map[flag.Ref]bool{}, wrote: map[flag.Ref]int64{},
		types: map[flag.Key]flag.Type{}, planned: map[flag.Key]declaration{},
	}
}

// ready gives the client for definitions and changes, or says why there is none:
// what was to be done reads on from "cannot".
func (s *session) ready(doing string) (*client.Client, error) {
	c, err := s.readyToEvaluate(doing)
	if err == nil && s.evaluatorOnly {
		return nil, &client.Error{Kind: client.Incompatible, Op: doing, Endpoint: c.Endpoint(), Message: c.Endpoint() +
			" has only the evaluator service: it says what flags evaluate to, but has no definitions and takes no changes. Use only bunting_evaluation and bunting_evaluations (by flag_keys or prefix) with it, or let endpoint name a Bunting flag server."}
	}
	return c, err
}

// readyToEvaluate gives the client for evaluations, or says why there is none.
func (s *session) readyToEvaluate(doing string) (*client.Client, error) {
	switch {
	case s == nil:
		return nil, &client.Error{Kind: client.Config, Op: doing, Message: "The provider is not configured."}
	case s.client == nil:
		return nil, &client.Error{Kind: client.Config, Op: doing, Message: fmt.Sprintf(
			"The provider's setting %s is not known yet while planning, so the server cannot be asked. Give it a value that is known while planning, or first apply what it comes from (terraform apply -target=…).", s.awaits)}
	case s.down != nil:
		return nil, s.down
	}
	return s.client, nil
}

// refreshing notes that Terraform reads what is managed: it does so in plans alone,
// before anything is written.
func (s *session) refreshing() {
	if s != nil && s.walk != nil {
		s.walk.Refreshing()
	}
}

// flag reads a flag and its holds. A nil flag is proof that there is none.
func (s *session) flag(ctx context.Context, key flag.Key) (*flag.Flag, []*flag.Hold, error) {
	if _, err := s.ready(fmt.Sprintf("read the flag %q", key)); err != nil {
		return nil, nil, err
	}
	return s.walk.Flag(ctx, key)
}

// override reads an override. Nil is proof that there is none.
func (s *session) override(ctx context.Context, key flag.Key, entity string) (*flag.Override, error) {
	if _, err := s.ready(fmt.Sprintf("read the override of %q for %q", key, entity)); err != nil {
		return nil, err
	}
	return s.walk.Override(ctx, key, entity)
}

// holds reads all holds of a flag.
func (s *session) holds(ctx context.Context, key flag.Key) ([]*flag.Hold, error) {
	if _, err := s.ready(fmt.Sprintf("read the holds of %q", key)); err != nil {
		return nil, err
	}
	return s.walk.Holds(ctx, key)
}

// server gives the handshake and the endpoint that it was made with.
func (s *session) server(ctx context.Context) (client.Server, string, error) {
	c, err := s.ready("greet the server")
	if err != nil {
		return client.Server{}, "", err
	}
	server, err := c.Server(ctx)
	return server, c.Endpoint(), err
}

// evaluate asks what a flag is for a caller, never at a revision older than
// what this process has written.
func (s *session) evaluate(ctx context.Context, q client.Question) (client.Evaluation, error) {
	if _, err := s.readyToEvaluate(fmt.Sprintf("evaluate %q", q.Key)); err != nil {
		return client.Evaluation{}, err
	}
	return s.walk.Evaluate(ctx, q)
}

// evaluateFlags asks what several flags are for an entity, in the order asked.
func (s *session) evaluateFlags(ctx context.Context, keys []flag.Key, entity string) ([]client.Evaluation, error) {
	if _, err := s.readyToEvaluate("evaluate flags"); err != nil {
		return nil, err
	}
	return s.walk.EvaluateFlags(ctx, keys, entity)
}

// evaluateUnder asks what every flag under the prefix is for an entity.
func (s *session) evaluateUnder(ctx context.Context, prefix flag.Key, entity string) ([]client.Evaluation, error) {
	if _, err := s.readyToEvaluate(fmt.Sprintf("evaluate the flags under %q", prefix)); err != nil {
		return nil, err
	}
	return s.walk.EvaluateUnder(ctx, prefix, entity)
}

// definitions gives the definitions under the prefix, which is nil for whatever
// the token covers, and the prefix.
func (s *session) definitions(ctx context.Context, prefix *flag.Key) (*flag.Snapshot, flag.Key, error) {
	c, err := s.ready("read all flags")
	if err != nil {
		return nil, "", err
	}
	if prefix == nil {
		server, err := c.Server(ctx)
		if err != nil {
			return nil, "", err
		}
		prefix = &server.Actor.Prefix
	}
	definitions, err := s.walk.Definitions(ctx, *prefix)
	return definitions, *prefix, err
}

// removedBy says who removed an object that is gone; nil where that is not known.
// Not to know is no error: that the object is gone is known without it.
func (s *session) removedBy(ctx context.Context, ref flag.Ref) *flag.Stamp {
	c, err := s.ready(fmt.Sprintf("ask who removed %q", ref))
	if err != nil {
		return nil
	}
	by, err := c.RemovedBy(ctx, ref)
	if err != nil {
		tflog.Info(ctx, "who removed an object is not known", map[string]any{"object": ref.String(), "error": err.Error()})
		return nil
	}
	return by
}

// write makes one change. A refusal is a *flag.Problem.
func (s *session) write(ctx context.Context, change flag.Change) (client.Written, error) {
	c, err := s.ready(fmt.Sprintf("%s %q", change.Op, change.Ref))
	if err != nil {
		return client.Written{}, err
	}
	ctx = tflog.MaskAllFieldValuesStrings(ctx, s.secrets...)
	s.mu.Lock()
	s.wrote[change.Ref] = 0
	s.mu.Unlock()
	tflog.Debug(ctx, "write", map[string]any{"op": change.Op.String(), "key": string(change.Ref.Key)})
	written, err := c.Write(ctx, change)
	if err != nil {
		return client.Written{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote[change.Ref] = written.Revision.Number
	if f, ok := written.Object.(*flag.Flag); ok {
		s.types[f.Key] = f.Type
	}
	return written, nil
}

// owner gives the owner id that goes with a write of the object, and whether the
// write has to take the object over: after an import, or from ourselves under
// another name, when the provider's workspace was set or changed.
func (s *session) owner(r record) (ownerID string, takeOver bool) {
	switch {
	case s.workspace != "":
		ownerID = flag.WorkspaceOwner(s.workspace)
	case r.OwnerID != "":
		ownerID = r.OwnerID
	default:
		ownerID = flag.ObjectOwner(rand.Text())
	}
	return ownerID, r.TakeOver || r.OwnerID != "" && r.OwnerID != ownerID
}

// ours reports whether an owner id is this configuration's own. Without a
// workspace an object cannot tell the owners of its neighbours.
func (s *session) ours(ownerID string) bool {
	return s != nil && s.workspace != "" && ownerID == flag.WorkspaceOwner(s.workspace)
}

// mayBeOurs reports whether this configuration may manage what the owner id says.
func (s *session) mayBeOurs(ownerID string) bool {
	if s == nil || s.workspace != "" {
		return s.ours(ownerID)
	}
	return flag.IsObjectOwner(ownerID)
}

// create makes the change that creates the object, and gives its record and the
// holds on its flag.
func (s *session) create(ctx context.Context, o flag.Object) (record, []*flag.Hold, error) {
	change := flag.Put(o)
	change.Expected = new(int64)
	change.OwnerID, _ = s.owner(record{})
	written, err := s.write(ctx, change)
	if err != nil {
		return record{}, nil, err
	}
	return record{}.written(change.OwnerID, written), written.Holds, nil
}

// update replaces the object as the record knows it, and gives the new record
// and the holds on its flag.
func (s *session) update(ctx context.Context, o flag.Object, r record) (record, []*flag.Hold, error) {
	change := r.expect(flag.Put(o))
	change.OwnerID, change.TakeOver = s.owner(r)
	written, err := s.write(ctx, change)
	if err != nil {
		return r, nil, err
	}
	return r.written(change.OwnerID, written), written.Holds, nil
}

// destroy is remove for an object that goes from the state: it is done too where
// the object is not the one that was planned to go, but one that its own owner
// has made since: a replacement of the same name. So it is where this walk has
// written it: when somebody makes a flag anew while it is replaced, what is left
// over and what took its place come to be one object.
func (s *session) destroy(ctx context.Context, op flag.Op, ref flag.Ref, r record) error {
	s.mu.Lock()
	at := s.wrote[ref]
	s.mu.Unlock()
	err := s.remove(ctx, op, ref, r)
	if p := asProblem(err); p != nil && p.Kind == flag.ProblemConflict && p.By != nil && (r.leftOver(p.OwnerID, *p.By) || p.By.Revision == at) {
		return nil
	}
	return err
}

// remove takes the object away as the record knows it. It is done already where
// the object is not there.
func (s *session) remove(ctx context.Context, op flag.Op, ref flag.Ref, r record) error {
	change := r.expect(flag.Change{Op: op, Ref: ref, OwnerID: r.OwnerID, TakeOver: r.TakeOver})
	if change.OwnerID == "" {
		change.OwnerID, _ = s.owner(r)
	}
	_, err := s.write(ctx, change)
	if p := asProblem(err); p != nil && p.Kind == flag.ProblemNotFound {
		return nil
	}
	return err
}

// applies reports whether this walk has written, and so is an apply.
func (s *session) applies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wrote) > 0
}

// planDestroy gives the record of what is to be destroyed, at the version that is
// there now, and keeps it with the plan. Of a block that is gone Terraform plans
// the destroy before it refreshes the object, so the record would be of a version
// that nobody has any more, and no later plan would get over that. Not so where
// the record is of what a replacement left over, nor during an apply, where core
// plans the destroy of the replaced object once more.
func (s *session) planDestroy(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse, ref flag.Ref) record {
	kept := loadRecord(ctx, req.Private, &resp.Diagnostics)
	if kept.Revision == 0 {
		return kept
	}
	have, err := s.object(ctx, ref)
	if err != nil || have == nil || have.Stamp().Revision == kept.Revision || s.applies() {
		return kept // not to know is no error: what was expected stays expected
	}
	if !kept.replacedBy(have) {
		if have.Stamp().OwnerID != kept.OwnerID { // without a refresh nothing else tells
			resp.Diagnostics.AddWarning(fmt.Sprintf("%s was changed by %s", title(ref), have.Stamp().Actor),
				when(have.Stamp(), kept)+". The plan destroys it as it is now.")
		}
		kept = kept.at(have, s.storeID)
		kept.save(ctx, resp.Private, &resp.Diagnostics)
	}
	return kept
}

// object reads any object. Nil is proof that there is none.
func (s *session) object(ctx context.Context, ref flag.Ref) (flag.Object, error) {
	if ref.Kind == flag.KindOverride {
		if o, err := s.override(ctx, ref.Key, ref.ID); err != nil || o != nil {
			return o, err
		}
		return nil, nil
	}
	f, holds, err := s.flag(ctx, ref.Key)
	if err != nil {
		return nil, err
	}
	if own, _ := split(holds, ref.ID); ref.Kind == flag.KindHold && own != nil {
		return own, nil
	}
	if ref.Kind == flag.KindFlag && f != nil {
		return f, nil
	}
	return nil, nil
}

// see remembers that a resource has read the object in this walk; saw asks.
func (s *session) see(ref flag.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[ref] = true
}

func (s *session) saw(ref flag.Ref) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[ref]
}

// resourceBase takes the session from the provider; it is nil before the
// provider is configured, as in `terraform validate`.
type resourceBase struct{ session *session }

// Configure is called by the framework before every operation.
func (b *resourceBase) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if s, ok := req.ProviderData.(*session); ok {
		b.session = s
	}
}

// dataSourceBase is resourceBase for data sources.
type dataSourceBase struct{ session *session }

// Configure is called by the framework before every operation.
func (b *dataSourceBase) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if s, ok := req.ProviderData.(*session); ok {
		b.session = s
	}
}
