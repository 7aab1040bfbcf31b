package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func countNew(n *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
}

func newFlag(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled, Changed: flag.Stamp{Revision: 3, Actor: "ci"}}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"endpoint":       {Endpoint: "ftp://x"},
		"token, newline": {Endpoint: "http://x", Token: secret + "\n"},
		"token, space":   {Endpoint: "http://x", Token: "Bearer " + secret},
		"token, control": {Endpoint: "http://x", Token: secret + "\x07"},
		"token, letters": {Endpoint: "http://x", Token: secret + "ü"},
		"user agent":     {Endpoint: "http://x", UserAgent: "a\r\nX: y"},
		"timeout":        {Endpoint: "http://x", RequestTimeout: -time.Second},
	} {
		_, err := New(o)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != Config || strings.Contains(e.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAbsenceIsProven: only the server's word makes a flag absent.
func TestAbsenceIsProven(t *testing.T) {
	hold := func(holder string) *buntingv1.Object {
		return wire.FromObject(flag.Ref{}, &flag.Hold{FlagKey: "a", Holder: holder, Reason: "r"})
	}
	absent := func(ref flag.Ref) *buntingv1.Object { return wire.FromObject(ref, nil) }
	for _, tc := range []struct {
		name    string
		objects []*buntingv1.Object
		want    *flag.Flag
		holds   []string
		wrong   string
	}{
		{name: "there", objects: []*buntingv1.Object{hold("b"), wire.FromObject(flag.Ref{}, newFlag("a")), hold("a")}, want: newFlag("a"), holds: []string{"a", "b"}},
		{name: "absent", objects: []*buntingv1.Object{absent(flag.FlagRef("a"))}},
		{name: "nothing said", wrong: `E said nothing about the flag "a" that was asked for.`},
		{name: "another flag", objects: []*buntingv1.Object{absent(flag.FlagRef("b"))}, wrong: `E said nothing about the flag "a" that was asked for.`},
		{name: "another kind", objects: []*buntingv1.Object{absent(flag.HoldRef("a", ""))}, wrong: `E said nothing about the flag "a" that was asked for.`},
		{name: "an empty object", objects: []*buntingv1.Object{{}}, wrong: `E sent an object that cannot be read (an object is neither a flag nor an override nor a hold).`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := (&speaker{get: func(*buntingv1.GetRequest) (*buntingv1.GetResponse, error) {
				return &buntingv1.GetResponse{Objects: tc.objects}, nil
			}}).start(t)
			f, holds, err := c.Flag(t.Context(), "a")
			if tc.wrong != "" {
				e := checkError(t, err, c.Endpoint(), `read the flag "a"`, tc.wrong+" Nothing can be told from such an answer. Compare the versions of both sides, and look for a proxy that alters answers.")
				if e.Kind != Broken {
					t.Errorf("kind %v", e.Kind)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(f, tc.want) {
				t.Errorf("got %+v, %v", f, err)
			}
			var holders []string
			for _, h := range holds {
				holders = append(holders, h.Holder)
			}
			if !reflect.DeepEqual(holders, tc.holds) {
				t.Errorf("holds of %v, want %v", holders, tc.holds)
			}
		})
	}
}

// TestServersWords: what the server says for programs reaches the caller.
func TestServersWords(t *testing.T) {
	fail := func(code connect.Code, message string, details ...proto.Message) error {
		e := connect.NewError(code, errors.New(message))
		for _, d := range details {
			detail, err := connect.NewErrorDetail(d)
			if err != nil {
				panic(err)
			}
			e.AddDetail(detail)
		}
		return e
	}
	present := &buntingv1.Revision{StoreId: "s2", Number: 9}
	for _, tc := range []struct {
		err     error
		kind    Kind
		reason  string
		message string
	}{
		{fail(connect.CodeFailedPrecondition, "the store is s2 now", &buntingv1.ErrorDetail{Reason: "STORE_CHANGED", Revision: present}), StoreChanged, "STORE_CHANGED",
			`E says: the store is s2 now. The server was restored or stands on another database: read everything again.`},
		{fail(connect.CodeFailedPrecondition, "revision 12 has not come within 1s", &buntingv1.ErrorDetail{Reason: "REVISION_NOT_REACHED", Revision: present}), RevisionNotReached, "REVISION_NOT_REACHED",
			`E says: revision 12 has not come within 1s. Try again in a moment.`},
		{fail(connect.CodeUnauthenticated, "the token has expired", &buntingv1.ErrorDetail{Reason: "TOKEN_EXPIRED", Revision: present}), Unauthenticated, "TOKEN_EXPIRED",
			`E says: the token has expired.`},
		{fail(connect.CodeUnavailable, "not ready", &buntingv1.ErrorDetail{Reason: "NOT_READY", Revision: present}), Unavailable, "NOT_READY", `E says: not ready. Try again later.`},
		{fail(connect.CodeUnimplemented, "writes have an address of their own", &buntingv1.ErrorDetail{Reason: "ADMIN_ELSEWHERE", Revision: present}), Denied, "ADMIN_ELSEWHERE", `E says: writes have an address of their own.`},
		{fail(connect.CodeUnimplemented, "writes are switched off", &buntingv1.ErrorDetail{Reason: "ADMIN_OFF", Revision: present}), Denied, "ADMIN_OFF", `E says: writes are switched off.`},
	} {
		s := &speaker{
			get:    func(*buntingv1.GetRequest) (*buntingv1.GetResponse, error) { return nil, tc.err },
			list:   func(*connect.ServerStream[buntingv1.GetSnapshotResponse]) error { return tc.err },
			answer: func(*pbflagsv1.EvaluateRequest) (*pbflagsv1.EvaluateResponse, error) { return nil, tc.err },
		}
		c := s.start(t)
		_, _, unary := c.Flag(t.Context(), "a")
		_, stream := c.Snapshot(t.Context(), "")
		for op, err := range map[string]error{`read the flag "a"`: unary, "read all flags": stream} {
			e := checkError(t, err, c.Endpoint(), op, tc.message)
			if e.Kind != tc.kind || e.Reason != tc.reason || e.Revision != (flag.Revision{StoreID: "s2", Number: 9}) {
				t.Errorf("%s: %v, %q, %v", op, e.Kind, e.Reason, e.Revision)
			}
		}
	}

	c := (&speaker{get: func(*buntingv1.GetRequest) (*buntingv1.GetResponse, error) {
		return nil, fail(connect.CodePermissionDenied, "", &buntingv1.Problem{Kind: buntingv1.ProblemKind_PROBLEM_KIND_DENIED, Message: "not with " + secret + "\x1b[2J\nAsk Anna."})
	}}).start(t)
	_, _, err := c.Flag(t.Context(), "a")
	p, ok := errors.AsType[*flag.Problem](err)
	if !ok || p.Kind != flag.ProblemDenied || p.Message != "not with (token) [2J\nAsk Anna." {
		t.Errorf("got %v", err)
	}
}

func TestWrite(t *testing.T) {
	var requests []*buntingv1.ApplyRequest
	var results []*buntingv1.Result
	var minimum *buntingv1.Revision
	s := &speaker{
		apply: func(r *buntingv1.ApplyRequest) (*buntingv1.ApplyResponse, error) {
			requests = append(requests, r)
			return &buntingv1.ApplyResponse{Revision: &buntingv1.Revision{StoreId: "s", Number: int64(10 - len(requests))}, Results: results}, nil
		},
		get: func(r *buntingv1.GetRequest) (*buntingv1.GetResponse, error) {
			minimum = r.GetMinimumRevision()
			return &buntingv1.GetResponse{Objects: []*buntingv1.Object{wire.FromObject(flag.FlagRef("a"), nil)}}, nil
		},
	}
	c := s.start(t)
	c.note = "the night shift"
	change := flag.Put(newFlag("a"))
	ref := flag.FlagRef("a")

	results = []*buntingv1.Result{{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(ref, newFlag("a"))}}
	written, err := c.Write(t.Context(), change)
	if want := (Written{Object: newFlag("a"), Revision: flag.Revision{StoreID: "s", Number: 9}}); err != nil || !reflect.DeepEqual(written, want) {
		t.Fatalf("got %+v, %v", written, err)
	}

	results = []*buntingv1.Result{{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(ref, nil)}}
	written, err = c.Write(t.Context(), flag.Change{Op: flag.DeleteFlag, Ref: ref})
	if err != nil || written.Object != nil {
		t.Fatalf("got %+v, %v", written, err)
	}
	// A read sees the newest of our own writes, whatever came back last.
	if _, _, err := c.Flag(t.Context(), "a"); err != nil || minimum.GetNumber() != 9 || minimum.GetStoreId() != "s" {
		t.Errorf("the read asked for at least %v (%v)", minimum, err)
	}

	results = []*buntingv1.Result{{Status: buntingv1.ResultStatus_RESULT_STATUS_REFUSED, Object: wire.FromObject(ref, newFlag("a")), Problem: &buntingv1.Problem{
		Kind: buntingv1.ProblemKind_PROBLEM_KIND_CONFLICT, Message: "changed", By: &buntingv1.Stamp{Revision: 3, Actor: "anna"},
	}}}
	_, err = c.Write(t.Context(), change)
	if p, ok := errors.AsType[*flag.Problem](err); !ok || p.Kind != flag.ProblemConflict || p.By.Actor != "anna" {
		t.Errorf("got %v", err)
	}

	ids := map[string]bool{}
	for _, r := range requests {
		ids[r.GetRequestId()] = true
		if r.GetNote() != "the night shift" || r.GetAtomic() || r.GetDryRun() {
			t.Errorf("sent %v", r)
		}
	}
	if len(ids) != 3 || ids[""] {
		t.Errorf("request ids: %v", ids)
	}

	for wrong, results := range map[string][]*buntingv1.Result{
		"sent 0 results for 1 changes":                    {},
		"sent 2 results for 1 changes":                    {{}, {}},
		"did not say what became of a change":             {{}},
		"did not say clearly whether it refused a change": {{Status: buntingv1.ResultStatus_RESULT_STATUS_REFUSED}},
		"did not say what became of the flag":             {{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(ref, nil)}},
		`answered about "b" instead of "a"`:               {{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(ref, newFlag("b"))}},
		`told of a hold on "b" instead of "a"`: {{
			Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: wire.FromObject(ref, newFlag("a")), Holds: []*buntingv1.Hold{{FlagKey: "b", Holder: "ops"}},
		}},
		"sent a result that cannot be read (an object is neither a": {{Status: buntingv1.ResultStatus_RESULT_STATUS_APPLIED, Object: &buntingv1.Object{}}},
	} {
		s.apply = func(*buntingv1.ApplyRequest) (*buntingv1.ApplyResponse, error) {
			return &buntingv1.ApplyResponse{Results: results}, nil
		}
		_, err := c.Write(t.Context(), change)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Broken || !strings.Contains(e.Message, wrong) {
			t.Errorf("want %q, got %v", wrong, err)
		}
	}
}

func TestSnapshot(t *testing.T) {
	objects := []flag.Object{newFlag("a"), newFlag("a/b"), &flag.Override{FlagKey: "a", EntityID: "e", State: flag.Default}, &flag.Hold{FlagKey: "a/b", Holder: "h", Reason: "r"}}
	start := func(prefix string, kind buntingv1.SnapshotKind, parts ...buntingv1.Part) *buntingv1.GetSnapshotResponse {
		return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Start{Start: &buntingv1.SnapshotStart{
			Revision: &buntingv1.Revision{StoreId: "s", Number: 7}, Kind: kind, Prefix: prefix, Parts: parts,
		}}}
	}
	full := start("a", buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, buntingv1.Part_PART_FLAGS, buntingv1.Part_PART_OVERRIDES, buntingv1.Part_PART_HOLDS)
	chunk := func(objects ...flag.Object) *buntingv1.GetSnapshotResponse {
		list := &buntingv1.SnapshotObjects{}
		for _, o := range objects {
			list.Objects = append(list.Objects, wire.FromObject(o.Ref(), o))
		}
		return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Objects{Objects: list}}
	}
	end := func(objects ...flag.Object) *buntingv1.GetSnapshotResponse {
		sum := sha256.New()
		for _, o := range objects {
			flag.Digest(sum, o.Ref(), o)
		}
		return &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_End{End: &buntingv1.SnapshotEnd{Count: int64(len(objects)), Checksum: sum.Sum(nil)}}}
	}
	type stream = []*buntingv1.GetSnapshotResponse
	say := func(messages stream) *Client {
		return (&speaker{
			list: func(s *connect.ServerStream[buntingv1.GetSnapshotResponse]) error {
				for _, m := range messages {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				return nil
			},
			greeting: func(context.Context) (*buntingv1.GetServerResponse, error) {
				return &buntingv1.GetServerResponse{Environment: "prod", Protocol: 1, OldestProtocol: 1}, nil
			},
		}).start(t)
	}

	c := say(stream{full, chunk(objects[:2]...), chunk(objects[2:]...), end(objects...)})
	if _, err := c.Server(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if flags, overrides, holds := s.Counts(); flags != 2 || overrides != 1 || holds != 1 || s.Revision != (flag.Revision{StoreID: "s", Number: 7}) || s.Environment != "prod" {
		t.Errorf("got %d flags, %d overrides, %d holds at %v of %q", flags, overrides, holds, s.Revision, s.Environment)
	}
	if s, err := say(stream{full, end()}).Snapshot(t.Context(), "a"); err != nil || s.Flag("a") != nil {
		t.Errorf("an empty list: %v", err)
	}

	for wrong, messages := range map[string]stream{
		"ended the list after 0 objects without saying that it is whole": {},
		"ended the list after 1 objects without saying that it is whole": {full, chunk(objects[0])},
		"the list's count does not match":                                {full, chunk(objects[0]), end(objects...)},
		"the list's checksum does not match":                             {full, chunk(objects[1], objects[0]), end(objects[0], objects[1])},
		"does not belong to the list":                                    {full, chunk(newFlag("ab")), end(newFlag("ab"))},
		"sent changes where the whole was asked for":                     {start("a", buntingv1.SnapshotKind_SNAPSHOT_KIND_DELTA)},
		"sent another part of the flags":                                 {start("b", buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL)},
		"left out a kind of objects":                                     {start("a", buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL, buntingv1.Part_PART_FLAGS)},
		"began the list twice":                                           {full, full},
		"sent objects before the start of the list":                      {chunk(objects[0])},
		"ended the list before it began":                                 {end()},
		"went on after the end of the list":                              {full, end(), chunk(objects[0])},
		"a part of the list that cannot be read":                         {{}},
		"sent an object that cannot be read":                             {full, {Message: &buntingv1.GetSnapshotResponse_Objects{Objects: &buntingv1.SnapshotObjects{Objects: []*buntingv1.Object{{}}}}}},
	} {
		_, err := say(messages).Snapshot(t.Context(), "a")
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Broken || !strings.Contains(e.Message, wrong) {
			t.Errorf("want %q, got %v", wrong, err)
		}
	}
}

// TestSilence: a stream may last longer than the request timeout as long as it
// goes on talking, and ends when it falls silent.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var messages atomic.Int64
		silent := false
		road := roadFunc(func(r *http.Request) (*http.Response, error) {
			body, say := io.Pipe()
			go func() {
				<-r.Context().Done()
				body.CloseWithError(r.Context().Err())
			}()
			go func() {
				defer say.Close()
				for i := range 10 {
					time.Sleep(7 * time.Second)
					m := &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Objects{Objects: &buntingv1.SnapshotObjects{}}}
					switch {
					case i == 0:
						m = &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Start{Start: &buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL}}}
					case i == 9:
						m = &buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_End{End: &buntingv1.SnapshotEnd{Checksum: sha256.New().Sum(nil)}}}
					case silent && i == 5:
						<-r.Context().Done()
						return
					}
					text, _ := proto.Marshal(m)
					say.Write(append([]byte{0, 0, 0, 0, byte(len(text))}, text...))
					messages.Add(1)
				}
				say.Write([]byte("\x02\x00\x00\x00\x02{}"))
			}()
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {typeStream}}, Body: body, Request: r}, nil
		})
		c, err := New(Options{Policy: &impatient, Endpoint: "http://x", Transport: road})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Snapshot(t.Context(), ""); err != nil || messages.Load() != 10 {
			t.Fatalf("after %d messages: %v", messages.Load(), err)
		}
		silent = true
		began := time.Now()
		_, err = c.Snapshot(t.Context(), "")
		e := checkError(t, err, "http://x", "read all flags", `E did not answer within 10s (the request timeout). Is it overloaded, or is a firewall dropping packets on the way?`)
		if took := time.Since(began); e.Kind != Timeout || took != (5*7+10)*time.Second {
			t.Errorf("%v after %v", e.Kind, took)
		}
	})
}

type roadFunc func(*http.Request) (*http.Response, error)

func (f roadFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHandshake(t *testing.T) {
	greeting := &buntingv1.GetServerResponse{
		Environment: "prod", Version: "1.0.0", Protocol: 1, OldestProtocol: 1, Actor: "ops-anna", Prefix: "pay", Flags: 3,
		Scopes: []buntingv1.Scope{buntingv1.Scope_SCOPE_KILL},
	}
	var asked atomic.Int64
	fail := true
	var mu sync.Mutex
	c := (&speaker{greeting: func(context.Context) (*buntingv1.GetServerResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		asked.Add(1)
		if fail {
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("not yet"))
		}
		return greeting, nil
	}}).start(t)
	if _, err := c.Server(t.Context()); err == nil {
		t.Fatal("no error")
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			s, err := c.Server(t.Context())
			if err != nil || s.Environment != "prod" || s.Actor.Name != "ops-anna" || s.Actor.Prefix != "pay" || s.Actor.Scopes[0].String() != "kill" || s.Flags != 3 {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2: once in vain, once for all", n)
	}
	for _, wrong := range []struct {
		greeting *buntingv1.GetServerResponse
		kind     Kind
		message  string
	}{
		{&buntingv1.GetServerResponse{Version: "9.0.0", Protocol: 7, OldestProtocol: 5}, Incompatible, `E (version "9.0.0") speaks the versions 5 to 7 of the protocol, but this program speaks 1 to 1. Upgrade this program.`},
		{&buntingv1.GetServerResponse{}, Broken, `E did not say which version of the protocol it speaks. Nothing can be told from such an answer. Compare the versions of both sides, and look for a proxy that alters answers.`},
	} {
		c := (&speaker{greeting: func(context.Context) (*buntingv1.GetServerResponse, error) { return wrong.greeting, nil }}).start(t)
		_, err := c.Server(t.Context())
		if e := checkError(t, err, c.Endpoint(), "greet the server", wrong.message); e.Kind != wrong.kind {
			t.Errorf("kind %v", e.Kind)
		}
	}
}

// TestHandshakeLeaderLeaves: who came first may leave without failing those who
// wait; when all have left, the question is not asked on.
func TestHandshakeLeaderLeaves(t *testing.T) {
	reached, answer, ended := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	c := (&speaker{greeting: func(ctx context.Context) (*buntingv1.GetServerResponse, error) {
		reached <- struct{}{}
		select {
		case <-answer:
			return &buntingv1.GetServerResponse{Protocol: 1, OldestProtocol: 1}, nil
		case <-ctx.Done():
			ended <- struct{}{}
			return nil, ctx.Err()
		}
	}}).start(t)

	leader, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := c.Server(leader); left <- err }()
	<-reached
	leave()
	if e, ok := errors.AsType[*Error](<-left); !ok || e.Kind != Canceled {
		t.Fatalf("the leader got %v", e)
	}
	<-ended // nobody waited, so the question ended

	leader, leave = context.WithCancel(t.Context())
	go func() { _, err := c.Server(leader); left <- err }()
	<-reached
	follower := make(chan error, 1)
	go func() { _, err := c.Server(t.Context()); follower <- err }()
	for waiting := 0; waiting < 2; { // until the follower waits too
		c.handshake.mu.Lock()
		waiting = c.handshake.underway.waiting
		c.handshake.mu.Unlock()
	}
	leave()
	<-left
	close(answer)
	if err := <-follower; err != nil {
		t.Errorf("the follower got %v", err)
	}
}

func TestEvaluate(t *testing.T) {
	var got *pbflagsv1.EvaluateRequest
	reply := &pbflagsv1.EvaluateResponse{FlagId: "a", Value: wire.FromValue(flag.IntValue(3)), Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_OVERRIDE, Revision: 5, StoreId: "s"}
	s := &speaker{
		answer: func(r *pbflagsv1.EvaluateRequest) (*pbflagsv1.EvaluateResponse, error) { got = r; return reply, nil },
		answers: func(*pbflagsv1.BulkEvaluateRequest) (*pbflagsv1.BulkEvaluateResponse, error) {
			return &pbflagsv1.BulkEvaluateResponse{Evaluations: []*pbflagsv1.EvaluateResponse{reply}}, nil
		},
	}
	c := s.start(t)
	q := Question{Key: "a", Caller: flag.Context{TargetingKey: "u1", Attributes: map[string]any{"tenant": "t1"}}, Minimum: flag.Revision{StoreID: "s", Number: 4}}
	e, err := c.Evaluate(t.Context(), q)
	if err != nil || e.Value.Int() != 3 || e.Type != flag.Int || e.Source != flag.SourceOverride || e.Revision != (flag.Revision{StoreID: "s", Number: 5}) {
		t.Errorf("got %+v, %v", e, err)
	}
	if got.GetEntityId() != "u1" || got.GetContext().AsMap()["tenant"] != "t1" || got.GetMinimumRevision() != 4 || got.GetStoreId() != "s" {
		t.Errorf("asked %v", got)
	}
	reply = &pbflagsv1.EvaluateResponse{FlagId: "a", Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT}
	if e, err := c.Evaluate(t.Context(), q); err != nil || e.ErrorCode != flag.ErrorFlagNotFound || !e.Value.IsZero() {
		t.Errorf("an unknown flag: %+v, %v", e, err)
	}
	if all, err := c.BulkEvaluate(t.Context(), nil, flag.Context{}, flag.Revision{}); err != nil || len(all) != 1 || all[0].Key != "a" {
		t.Errorf("got %v, %v", all, err)
	}
	for wrong, keys := range map[string][]flag.Key{`answered about "a" instead of "b"`: {"b"}, "sent 1 answers to 2 questions": {"a", "b"}} {
		_, err := c.BulkEvaluate(t.Context(), keys, flag.Context{}, flag.Revision{})
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Broken || !strings.Contains(e.Message, wrong) {
			t.Errorf("want %q, got %v", wrong, err)
		}
	}
	_, err = c.Evaluate(t.Context(), Question{Key: "a", Caller: flag.Context{Attributes: map[string]any{"x": make(chan int)}}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Invalid {
		t.Errorf("got %v", err)
	}
}

// TestConnections: waves of calls, failed ones among them, share few
// connections, and a finished stream gives its own back.
func TestConnections(t *testing.T) {
	s := &speaker{
		get: func(r *buntingv1.GetRequest) (*buntingv1.GetResponse, error) {
			if r.GetRefs()[0].GetFlag() == "denied" {
				return nil, connect.NewError(connect.CodePermissionDenied, errors.New("no"))
			}
			return &buntingv1.GetResponse{Objects: []*buntingv1.Object{wire.FromObject(flag.FlagRef("a"), nil)}}, nil
		},
		list: func(s *connect.ServerStream[buntingv1.GetSnapshotResponse]) error {
			s.Send(&buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_Start{Start: &buntingv1.SnapshotStart{Kind: buntingv1.SnapshotKind_SNAPSHOT_KIND_FULL}}})
			return s.Send(&buntingv1.GetSnapshotResponse{Message: &buntingv1.GetSnapshotResponse_End{End: &buntingv1.SnapshotEnd{Checksum: sha256.New().Sum(nil)}}})
		},
	}
	c := s.start(t)
	for range 20 {
		if _, _, err := c.Flag(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Flag(t.Context(), "denied"); err == nil {
			t.Fatal("no error")
		}
		if _, err := c.Snapshot(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections for calls one after the other, want 1", n)
	}
	for range 10 {
		var wave sync.WaitGroup
		for range poolSize {
			wave.Go(func() { c.Flag(t.Context(), "a") })
		}
		wave.Wait()
	}
	if n := s.connections.Load(); n > 2*poolSize {
		t.Errorf("%d connections for waves of %d", n, poolSize)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	mutual := httptest.NewUnstartedServer(http.NotFoundHandler())
	mutual.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	mutual.Config.ErrorLog = log.New(io.Discard, "", 0)
	mutual.StartTLS()
	defer mutual.Close()

	trusting := server.Client().Transport.(*http.Transport).Clone()
	defer trusting.CloseIdleConnections()
	elsewhere := trusting.Clone()
	defer elsewhere.CloseIdleConnections()
	elsewhere.TLSClientConfig.ServerName = "elsewhere.test"
	for _, tc := range []struct {
		name, endpoint string
		transport      http.RoundTripper
		kind           Kind
		message        string
	}{
		{"an authority unknown", server.URL, nil, Untrusted, `E shows a certificate of an authority that this machine does not trust. Add the authority's certificate to the system's, or name it in SSL_CERT_FILE, or in the provider's setting tls.ca.`},
		{"another host", server.URL, elsewhere, Untrusted, `E shows a certificate for another host. Check the host name in the endpoint.`},
		{"https to http", "https" + strings.TrimPrefix(plain.URL, "http"), nil, NotFlagServer, `E speaks plain HTTP, but the endpoint says https (or has no scheme, which means https). Write http:// before the host if that is meant.`},
		{"http to https", "http" + strings.TrimPrefix(server.URL, "https"), nil, NotFlagServer, `E speaks TLS, but the endpoint says http. Write https:// instead.`},
		{"not a flag server", server.URL, trusting, NotFlagServer, `E answered 404 (Not Found) with plain text, not as a flag server does. Check the endpoint, and what stands before the flag server.`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := New(Options{Endpoint: tc.endpoint, Token: secret, Transport: tc.transport})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Server(t.Context())
			if e := checkError(t, err, tc.endpoint, "greet the server", tc.message); e.Kind != tc.kind {
				t.Errorf("kind %v", e.Kind)
			}
		})
	}
	c, err := New(Options{Endpoint: mutual.URL, Transport: trusting})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Server(t.Context())
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Untrusted || !strings.Contains(e.Message, "It may want a client certificate (the provider's setting tls).") {
		t.Errorf("got %v", err)
	}
}

// TestHTTP2 shows that waves of calls share one connection where TLS allows it.
func TestHTTP2(t *testing.T) {
	var versions sync.Map
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versions.Store(r.ProtoMajor, true)
		w.Header().Set("Content-Type", typeUnary)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = countNew(&connections)
	server.StartTLS()
	defer server.Close()
	c := newClient(t, server.URL, 0)
	c.own.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	if _, err := c.KilledFlags(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wave sync.WaitGroup
	for range poolSize {
		wave.Go(func() { c.KilledFlags(t.Context()) })
	}
	wave.Wait()
	if _, old := versions.Load(1); old || connections.Load() != 1 {
		t.Errorf("HTTP/1: %t; %d connections", old, connections.Load())
	}
}

// TestDeadIdleConnection: a connection that died while it was idle costs
// nobody an error, but what must not be made twice is not sent again.
func TestDeadIdleConnection(t *testing.T) {
	for _, tc := range []struct {
		path     string
		call     func(*Client) error
		requests int64
		kind     Kind
	}{
		{"reads", func(c *Client) error { _, err := c.KilledFlags(t.Context()); return err }, 3, 0},
		{"tokens", func(c *Client) error { return everyCall[11].call(t.Context(), c) }, 2, Unavailable},
	} {
		t.Run(tc.path, func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if requests.Add(1) == 2 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", typeUnary)
			}))
			defer server.Close()
			c := newClient(t, server.URL, 0)
			if _, err := c.KilledFlags(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := tc.call(c)
			if tc.kind == 0 && err != nil || tc.kind != 0 && !isKind(err, tc.kind) || requests.Load() != tc.requests {
				t.Errorf("%d requests, %v", requests.Load(), err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	for message, err := range map[string]error{
		`E names a host that is not known. Check its spelling, and the network's name service.`:                                                                                &net.DNSError{IsNotFound: true, Name: "x"},
		`E names a host that cannot be looked up now. Check the network's name service.`:                                                                                       &net.DNSError{IsTemporary: true, Name: "x"},
		`E is to be reached through the proxy that HTTPS_PROXY or HTTP_PROXY names, and that proxy cannot be reached. Correct the variable, or exempt the host with NO_PROXY.`: &net.OpError{Op: "proxyconnect", Err: errors.New("no")},
		`E cannot be reached: something else. Is the flag server running there? Start it with "bunting serve", or correct the endpoint.`:                                       errors.New("something else"),
		`E closed the connection without an answer. Is it restarting, or does it want TLS (https://)?`:                                                                         fmt.Errorf("read: %w", errClosed),
	} {
		if kind, got := unreachable("E", err); kind != Unavailable || got != message {
			t.Errorf("got %v: %s", kind, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "soon": 0, "1.5": 0,
		"99999999999999999999": 0, "999999999999": 24 * time.Hour,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Fri, 01 Jan 2100 00:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// FuzzAnswers gives every reading call any bytes at all as its answer: an error
// or an answer, never a panic, and never an answer about something else.
func FuzzAnswers(f *testing.F) {
	add := func(status int, kind string, m proto.Message) {
		text, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(status, kind, text)
	}
	add(200, typeUnary, &buntingv1.GetResponse{Objects: []*buntingv1.Object{wire.FromObject(flag.Ref{}, newFlag("a"))}})
	add(200, typeUnary, &buntingv1.ApplyResponse{Results: []*buntingv1.Result{{Status: 1, Object: wire.FromObject(flag.FlagRef("a"), nil)}}})
	add(200, typeUnary, wire.FromAnswer(flag.Answer{Key: "a", Value: flag.IntValue(1)}, flag.Revision{StoreID: "s", Number: 1}))
	add(200, typeUnary, &buntingv1.GetServerResponse{Protocol: 1, OldestProtocol: 1})
	f.Add(200, typeStream, []byte("\x00\x00\x00\x00\x04\x0a\x02\x10\x03\x00\x00\x00\x00\x02\x1a\x00\x02\x00\x00\x00\x02{}"))
	detail := base64.RawStdEncoding.EncodeToString([]byte("\x0a\x03abc"))
	f.Add(403, "application/json", []byte(`{"code":"permission_denied","message":"no","details":[{"type":"bunting.v1.ErrorDetail","value":"`+detail+`"},{"type":"x","value":"%"}]}`))
	f.Add(302, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		road := roadFunc(func(r *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, r.Body)
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}, "Location": {string(body)}, "Retry-After": {string(body)}}, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, nil
		})
		c, err := New(Options{Endpoint: "http://x", Token: secret, Transport: road})
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range everyCall {
			err := call.call(t.Context(), c)
			e, isError := errors.AsType[*Error](err)
			p, isProblem := errors.AsType[*flag.Problem](err)
			switch {
			case err == nil:
			case !isError && !isProblem:
				t.Fatalf("%s: %T %v", call.name, err, err)
			case isError && (e.Kind == 0 || e.Message == "" || strings.ContainsAny(e.Error(), "\n\r\x1b")):
				t.Fatalf("%s: kind %v: %q", call.name, e.Kind, e)
			case isProblem && strings.Contains(p.Error(), secret):
				t.Fatalf("%s: %q", call.name, p)
			}
		}
	})
}
