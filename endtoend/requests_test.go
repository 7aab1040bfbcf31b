package endtoend

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
)

// traffic is what an operation asked of the server.
type traffic struct {
	calls   map[string]int // by procedure
	changes int            // that were asked for, in all calls together
}

// TestFeatureGatesRequests counts every request of the feature gates, operation by operation. None of the figures but
// that of Apply, whose changes travel together as it comes, depends on how many gates there are.
func TestFeatureGatesRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var mu sync.Mutex
	now := traffic{calls: map[string]int{}}
	p := startProxy(t, s.endpoint, func(w http.ResponseWriter, r *http.Request, call string, pass http.Handler) {
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var write buntingv1.ApplyRequest
		if call == "Apply" && err == nil {
			err = proto.Unmarshal(body, &write)
		}
		if err != nil {
			t.Errorf("read the %s: %v", call, err)
		}
		mu.Lock()
		now.calls[call]++
		now.changes += len(write.GetChanges())
		mu.Unlock()
		pass.ServeHTTP(w, r)
	})
	w := exampleWorkspace(t, s, "kubernetes-feature-gates")
	w.env["BUNTING_ENDPOINT"] = p.endpoint

	upgrade := "-var=kubernetes_version=1.37"
	for _, step := range []struct {
		name    string
		run     func()
		calls   map[string]int // without Apply
		changes int
	}{
		// Nothing is in the state yet, so nothing is read.
		{"plan of 1.33", func() { w.must(t, "plan") }, map[string]int{handshake: 1}, 0},
		// Terraform plans once more in an apply, in a process of its own.
		{"apply of 1.33", func() { w.must(t, "apply") }, map[string]int{handshake: 2}, 24},
		{"plan of what is there", func() { w.planIsEmpty(t) }, map[string]int{handshake: 1, "GetSnapshot": 1}, 0},
		{"plan of 1.37", func() { w.must(t, "plan", upgrade) }, map[string]int{handshake: 1, "GetSnapshot": 1}, 0},
		{"apply of 1.37", func() { w.must(t, "apply", upgrade) }, map[string]int{handshake: 2, "GetSnapshot": 1}, 25},
		{"plan of what is there then", func() { w.planIsEmpty(t, upgrade) }, map[string]int{handshake: 1, "GetSnapshot": 1}, 0},
	} {
		step.run()
		mu.Lock()
		got := now
		now = traffic{calls: map[string]int{}}
		mu.Unlock()
		t.Logf("%-26s %v, %d changes", step.name+":", got.calls, got.changes)
		writes := got.calls["Apply"]
		delete(got.calls, "Apply")
		if !maps.Equal(got.calls, step.calls) || got.changes != step.changes || writes > step.changes || (writes == 0) != (step.changes == 0) {
			t.Errorf("%s: %v and %d changes in %d writes; want %v and %d changes in as many writes or fewer", step.name, got.calls, got.changes, writes, step.calls, step.changes)
		}
	}
}
