package endtoend

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"
)

// TestFeatureGates moves the example of the Kubernetes feature gates from one release to the next ones. The figures
// were counted by hand in the published gates.
func TestFeatureGates(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := exampleWorkspace(t, s, "kubernetes-feature-gates")

	w.must(t, "apply")
	w.planIsEmpty(t)
	if got := on(t, s); got != 11 {
		t.Errorf("%d gates are on in 1.33, expected 11", got)
	}

	upgrade := "-var=kubernetes_version=1.37"
	changes := w.plan(t, upgrade)
	count := map[tfjson.Action]int{}
	var onlyLocked []string
	for address, change := range changes {
		if len(change.Actions) != 1 {
			t.Errorf("%s is replaced: %v", address, change.Actions)
		}
		count[change.Actions[0]]++
		if change.Actions.Update() && slices.Equal(changedAttributes(change), []string{"deletion_protection"}) {
			onlyLocked = append(onlyLocked, address)
		}
	}
	if want := (map[tfjson.Action]int{tfjson.ActionCreate: 15, tfjson.ActionUpdate: 10}); !maps.Equal(count, want) {
		t.Errorf("1.33 to 1.37 plans %v, expected %v", count, want)
	}
	slices.Sort(onlyLocked)
	want := []string{
		`bunting_flag.gate["AggregatedDiscoveryRemoveBetaType"]`, `bunting_flag.gate["DeclarativeValidation"]`,
		`bunting_flag.gate["DeclarativeValidationTakeover"]`, `bunting_flag.gate["SeparateCacheWatchRPC"]`,
	}
	if !slices.Equal(onlyLocked, want) {
		t.Errorf("newly locked and nothing else are %q, expected %q", onlyLocked, want)
	}

	w.must(t, "apply", upgrade)
	w.planIsEmpty(t, upgrade)
	if got := on(t, s); got != 29 {
		t.Errorf("%d gates are on in 1.37, expected 29", got)
	}
}

// TestFeatureGatesCompareReleases pins that releases are numbers: this gate is off from 1.8 and on from 1.16.
func TestFeatureGatesCompareReleases(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := exampleWorkspace(t, s, "kubernetes-feature-gates")
	for release, enabled := range map[string]bool{"1.8": false, "1.9": false, "1.16": true} {
		changes := w.plan(t, "-var=kubernetes_version="+release)
		after, _ := changes[`bunting_flag.gate["APIResponseCompression"]`].After.(map[string]any)
		if after["enabled"] != enabled {
			t.Errorf("in %s APIResponseCompression is planned with enabled = %v, expected %v", release, after["enabled"], enabled)
		}
	}
	if changes := w.plan(t, "-var=kubernetes_version=1.7"); changes[`bunting_flag.gate["APIResponseCompression"]`] != nil {
		t.Error("in 1.7 APIResponseCompression is planned, but it came with 1.8")
	}
	out := w.run(t, "plan", "-var=kubernetes_version=v1.33")
	if out.code != 1 {
		t.Errorf("the release v1.33 is taken (exit code %d)", out.code)
	}
	out.says(t, `The Kubernetes version is "v1.33", not a release as major.minor.`)
}

// on counts the flags that serve true.
func on(t *testing.T, s *server) (count int) {
	t.Helper()
	_, answer := s.call(t, s.token, "pbflags.v1.FlagEvaluatorService/BulkEvaluate", map[string]any{})
	evaluations, _ := answer["evaluations"].([]any)
	for _, e := range evaluations {
		if reflect.DeepEqual(e.(map[string]any)["value"], map[string]any{"boolValue": true}) {
			count++
		}
	}
	return count
}

// changedAttributes names the attributes that an update changes to something known, in order.
func changedAttributes(change *tfjson.Change) (names []string) {
	before, _ := change.Before.(map[string]any)
	after, _ := change.After.(map[string]any)
	for name := range after {
		if !reflect.DeepEqual(before[name], after[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
