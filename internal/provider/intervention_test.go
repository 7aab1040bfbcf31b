package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// asked is what a request wants of one object.
type asked struct {
	op  flag.Op // 0: to read it
	ref flag.Ref
}

// intervention is somebody else's deed between two calls of ours: do is run once,
// before the first call is passed on that when accepts.
type intervention struct {
	when func(asked) bool
	do   func()
}

// middleman stands before a server, records what is asked, and lets somebody
// step in, flag by flag, just before a call arrives.
type middleman struct {
	*httptest.Server

	mu    sync.Mutex
	armed map[flag.Key]intervention
	steps map[flag.Key]chan struct{} // closed when who stepped in is done: no call passes half a deed
	calls []asked
}

func newMiddleman(t *testing.T, server *buntingtest.Server) *middleman {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	road := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport}
	m := &middleman{steps: map[flag.Key]chan struct{}{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		call := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		objects, err := objectsOf(call, body)
		if err != nil {
			t.Errorf("%s: %v", call, err) // then the tests that count on it prove nothing
		}
		if call == "GetSnapshot" { // reads everything
			m.beforeAll()
		}
		for _, a := range objects {
			m.before(a)
		}
		road.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		m.Close()
		transport.CloseIdleConnections()
	})
	return m
}

// objectsOf gives the objects of which a call to read or to write speaks.
func objectsOf(call string, body []byte) (objects []asked, err error) {
	switch call {
	case "Get":
		var m buntingv1.GetRequest
		err = proto.Unmarshal(body, &m)
		for _, r := range m.GetRefs() {
			ref, wrong := wire.ToRef(r)
			if wrong != nil {
				return nil, wrong
			}
			objects = append(objects, asked{ref: ref})
		}
	case "Apply":
		var m buntingv1.ApplyRequest
		err = proto.Unmarshal(body, &m)
		for _, c := range m.GetChanges() {
			change, wrong := wire.ToChange(c)
			if wrong != nil {
				return nil, wrong
			}
			objects = append(objects, asked{change.Op, change.Ref})
		}
	}
	return objects, err
}

// beforeAll lets somebody step in before everything is read, at several flags at once:
// one after the other they would take so long that what asks no longer waits.
func (m *middleman) beforeAll() {
	m.mu.Lock()
	keys := slices.AppendSeq(slices.Collect(maps.Keys(m.armed)), maps.Keys(m.steps))
	m.mu.Unlock()
	var stepping sync.WaitGroup
	turns := make(chan struct{}, 8)
	for _, key := range keys {
		turns <- struct{}{}
		stepping.Go(func() {
			defer func() { <-turns }()
			m.before(asked{ref: flag.FlagRef(key)})
		})
	}
	stepping.Wait()
}

// before records what is asked, and lets somebody step in.
func (m *middleman) before(a asked) {
	m.mu.Lock()
	m.calls = append(m.calls, a)
	done, stepped := m.steps[a.ref.Key]
	step, armed := m.armed[a.ref.Key]
	if armed = armed && step.when(a); armed {
		delete(m.armed, a.ref.Key)
		done, stepped = make(chan struct{}), false
		m.steps[a.ref.Key] = done
	}
	m.mu.Unlock()
	switch {
	case armed:
		defer close(done)
		step.do()
	case stepped:
		<-done
	}
}

// arm lets somebody step in, and forgets the calls so far.
func (m *middleman) arm(interventions map[flag.Key]intervention) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed, m.steps, m.calls = interventions, map[flag.Key]chan struct{}{}, nil
}

// waiting gives the flags at which nobody has stepped in.
func (m *middleman) waiting() (keys []flag.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.armed {
		keys = append(keys, key)
	}
	return keys
}

// writes gives what was written of a flag and what belongs to it since arm, in
// order.
func (m *middleman) writes(key flag.Key) (ops []flag.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.calls {
		if a.ref.Key == key && a.op != 0 {
			ops = append(ops, a.op)
		}
	}
	return slices.Clip(ops)
}

// truth is what the server has of a row: the revision of each object.
type truth map[flag.Ref]int64

func truthOf(snapshot *flag.Snapshot, key flag.Key) truth {
	has := truth{}
	if f := snapshot.Flag(key); f != nil {
		has[f.Ref()] = f.Changed.Revision
	}
	for o := range snapshot.OverridesOf(key) {
		has[o.Ref()] = o.Changed.Revision
	}
	for h := range snapshot.HoldsOf(key) {
		has[h.Ref()] = h.Changed.Revision
	}
	return has
}

// without gives the truth of the row's neighbours: what is not its to change.
func (h truth) without(s scene) truth {
	rest := maps.Clone(h)
	delete(rest, s.ref())
	if s.plan == "delete" {
		maps.DeleteFunc(rest, func(r flag.Ref, _ int64) bool { return r.Kind == flag.KindOverride })
	}
	return rest
}

// done reports whether the server has what the plan was to bring.
func (s scene) done(snapshot *flag.Snapshot) bool {
	f, o, h := snapshot.Flag(s.key()), snapshot.Override(s.key(), "u"), snapshot.Hold(s.key(), flag.TerraformHolder)
	switch s.doing().write {
	case flag.PutFlag:
		return f != nil && !f.Archived() && f.Description == "planned" && f.Owner == "" && (f.Type == flag.String) == (s.plan == "replace")
	case flag.ArchiveFlag:
		return f == nil && (s.deed == "delete" || s.deed == "recreate") || f != nil && f.Archived()
	case flag.DeleteFlag:
		return f == nil || f.Archived() && (s.deed == "archive" || s.deed == "taken over")
	case flag.SetOverride:
		return o != nil && o.Value == flag.IntValue(2)
	case flag.RemoveOverride:
		return o == nil
	case flag.PlaceHold:
		return h != nil && h.Reason == "planned"
	default:
		return h == nil
	}
}

// tampering is anna, who does the deeds of all rows.
type tampering struct {
	operator

	mu      sync.Mutex
	refused map[flag.Key]error // what the server did not let her do
	left    map[flag.Key]truth // what there was after the deed
}

func (a *tampering) act(s scene) {
	ctx := a.t.Context()
	f, _, err := a.Flag(ctx, s.key())
	for _, change := range s.does(f) {
		if err == nil {
			_, err = a.Write(ctx, change)
		}
	}
	snapshot, wrong := a.Snapshot(ctx, s.key())
	if p := asProblem(err); wrong != nil || err != nil && p == nil {
		a.t.Errorf("%s: %v", s.key(), errors.Join(err, wrong))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused[s.key()], a.left[s.key()] = err, truthOf(snapshot, s.key())
}

func (a *tampering) sees() *flag.Snapshot {
	a.t.Helper()
	snapshot, err := a.Snapshot(a.t.Context(), "")
	if err != nil {
		a.t.Fatal(err)
	}
	return snapshot
}

// outcome says in the words of the matrix what became of a row.
func (a *tampering) outcome(s scene, planned, applied outcome) (string, told) {
	got, stop := "nothing to do", told{}
	switch action := planned.actions[s.address()]; action {
	case "":
	case s.doing().action:
		got = "applied"
	default:
		got = "applied as " + action
	}
	for _, d := range applied.of("error") {
		// Of what is destroyed Terraform does not tell the address.
		if d.Address == s.address() || strings.Contains(d.Summary, fmt.Sprintf("%q", s.key())) {
			got, stop = "stopped: "+d.Summary[:strings.Index(d.Summary+" the", " the")], d
		}
	}
	if a.refused[s.key()] != nil {
		got = strings.TrimSuffix("refused, "+got, ", applied")
	}
	return got, stop
}

var (
	whoAndWhen = regexp.MustCompile(`anna (for workspace "other" )?at 20\d\d-`)
	whatNext   = regexp.MustCompile(`Plan again|import it here|import \{|Have that hold released|Create the flag first|restore it first|change the flag's type|Write true or false`)
)

// judge compares what became of a row with the matrix and with what the server
// has now, and makes way for the next apply.
func (a *tampering) judge(s scene, moment string, planned, applied outcome, now *flag.Snapshot) {
	a.t.Helper()
	got, stop := a.outcome(s, planned, applied)
	fail := func(format string, args ...any) {
		a.t.Helper()
		a.t.Errorf("%s, %s, %s: %s\n%s", s.resource, s.plan, s.deed, fmt.Sprintf(format, args...), stop)
	}
	if got != s.expected[moment] {
		fail("%s, want %s", got, s.expected[moment])
	}
	left, has := a.left[s.key()], truthOf(now, s.key())
	switch {
	case stop.Summary != "" && !maps.Equal(left, has):
		fail("stopped, but there was %v, and now is %v", left, has)
	case stop.Summary != "" && (!whoAndWhen.MatchString(stop.Detail) || !whatNext.MatchString(stop.Detail)):
		fail("who, when and what to do next?")
	case stop.Summary == "" && !s.done(now):
		fail("the server has %+v", now.Flag(s.key()))
	case stop.Summary == "" && !maps.Equal(left.without(s), has.without(s)):
		fail("beside it there was %v, and now is %v", left, has)
	}
	if changed := got == "nothing to do" || strings.HasPrefix(got, "applied as "); changed && !a.blamed(s, planned) {
		fail("nobody is told that it was anna")
	}
	a.makesRoom(s, stop, now)
}

// blamed reports whether a warning of the plan says that the deed was anna's.
func (a *tampering) blamed(s scene, planned outcome) bool {
	return slices.ContainsFunc(planned.of("warning"), func(d told) bool {
		return strings.Contains(d.Summary, fmt.Sprintf("%q", s.key())) && strings.HasSuffix(d.Summary, " by anna")
	})
}

// all makes changes that must all be accepted.
func (a *tampering) all(changes []flag.Change) {
	a.t.Helper()
	done, err := a.Apply(a.t.Context(), client.Batch{Changes: changes})
	if err != nil {
		a.t.Fatal(err)
	}
	for i, r := range done.Results {
		if r.Problem != nil {
			a.t.Fatalf("%s: %v", changes[i].Ref, r.Problem)
		}
	}
}

// makesRoom takes away what an apply may not go over by itself.
func (a *tampering) makesRoom(s scene, stop told, now *flag.Snapshot) {
	a.t.Helper()
	switch {
	case s.plan == "delete" && now.Hold(s.key(), "anna") != nil:
		a.does(remove(flag.ReleaseHold, flag.HoldRef(s.key(), "anna")))
	case stop.Summary == "":
		return
	}
	if f := now.Flag(s.key()); s.resource != "flag" && (f == nil || f.Archived() || f.Type != flag.Int) {
		a.does(flag.Put(s.flag(flag.IntValue(1))))
	}
	object := now.Object(s.ref())
	taken := object != nil && object.Manager() == flag.WorkspaceOwner("other")
	created := slices.ContainsFunc([]string{"create", "set", "place"}, func(verb string) bool { return strings.HasPrefix(stop.Summary, "Cannot "+verb) })
	if object == nil || !taken && !created {
		return
	}
	a.does(remove(map[flag.Kind]flag.Op{flag.KindFlag: flag.ArchiveFlag, flag.KindOverride: flag.RemoveOverride, flag.KindHold: flag.ReleaseHold}[s.ref().Kind], s.ref()))
}
