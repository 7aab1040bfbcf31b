package flag_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func keysOf(flags iter.Seq[*flag.Flag]) (keys []flag.Key) {
	for f := range flags {
		keys = append(keys, f.Key)
	}
	return keys
}

func TestSnapshotVersionsDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	f := func(key flag.Key) flag.Edit { return flag.Edit{Ref: flag.FlagRef(key), Object: &flag.Flag{Key: key}} }
	first := flag.NewSnapshot("prod", flag.Revision{}).With(flag.Revision{StoreID: "s", Number: 1},
		slices.Values([]flag.Edit{f("b"), f("a"), f("a/b"), f("a-b"), f("ab")}))
	second := first.With(flag.Revision{StoreID: "s", Number: 2},
		slices.Values([]flag.Edit{{Ref: flag.FlagRef("a")}, f("c"), {Ref: flag.FlagRef("never-there")}}))

	if got, want := keysOf(first.Flags("")), []flag.Key{"a", "a-b", "a/b", "ab", "b"}; !slices.Equal(got, want) {
		t.Errorf("the first has %v, want %v", got, want)
	}
	if got, want := keysOf(second.Flags("")), []flag.Key{"a-b", "a/b", "ab", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("the second has %v, want %v", got, want)
	}
	if got, want := keysOf(first.Flags("a")), []flag.Key{"a", "a/b"}; !slices.Equal(got, want) {
		t.Errorf("under a there is %v, want %v", got, want)
	}
	if first.Flag("a") == nil || second.Flag("a") != nil || second.Object(flag.FlagRef("a")) != nil {
		t.Error("removing a flag reached the version before, or did not remove it")
	}
	if n, _, _ := second.Counts(); n != 5 || second.Environment != "prod" || second.Revision.Number != 2 {
		t.Errorf("the second counts %d flags, of %q, at %s", n, second.Environment, second.Revision)
	}
}

func TestSnapshotKeepsOverridesAndHoldsApart(t *testing.T) {
	t.Parallel()
	objects := []flag.Object{
		&flag.Override{FlagKey: "a", EntityID: "b/c"}, &flag.Override{FlagKey: "a/b", EntityID: "c"}, &flag.Override{FlagKey: "a", EntityID: "d"},
		&flag.Hold{FlagKey: "a", Holder: "x"}, &flag.Hold{FlagKey: "ab", Holder: "x"},
	}
	var edits []flag.Edit
	for _, o := range objects {
		edits = append(edits, flag.Edit{Ref: o.Ref(), Object: o})
	}
	s := flag.NewSnapshot("", flag.Revision{}).With(flag.Revision{}, slices.Values(edits))
	for _, o := range objects {
		if s.Object(o.Ref()) != o {
			t.Errorf("%s is not found", o.Ref())
		}
	}
	if n := len(slices.Collect(s.OverridesOf("a"))); n != 2 {
		t.Errorf("a has %d overrides, want 2", n)
	}
	if n := len(slices.Collect(s.Overrides("a"))); n != 3 {
		t.Errorf("under a there are %d overrides, want 3", n)
	}
	if n := len(slices.Collect(s.HoldsOf("a"))); n != 1 {
		t.Errorf("a has %d holds, want 1", n)
	}
	if s.Hold("a", "") != nil || s.Override("a\x00d", "") != nil {
		t.Error("a name that cannot be finds something")
	}
}

// BenchmarkWith shows that a write costs the same however many flags there are.
func BenchmarkWith(b *testing.B) {
	for _, size := range []int{1_000, 100_000} {
		var edits []flag.Edit
		for i := range size {
			f := &flag.Flag{Key: flag.Key(fmt.Sprintf("team-%d/flag-%d", i%100, i))}
			edits = append(edits, flag.Edit{Ref: f.Ref(), Object: f})
		}
		s := flag.NewSnapshot("", flag.Revision{}).With(flag.Revision{Number: 1}, slices.Values(edits))
		b.Run(fmt.Sprintf("flags=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				s = s.With(flag.Revision{Number: int64(i)}, slices.Values(edits[i%size:i%size+1]))
			}
		})
	}
}

func BenchmarkEvaluate(b *testing.B) {
	objects := []flag.Object{colour(), &flag.Override{FlagKey: "f", EntityID: "anna", State: flag.Enabled, Value: text("hers")}}
	var edits []flag.Edit
	for _, o := range objects {
		edits = append(edits, flag.Edit{Ref: o.Ref(), Object: o})
	}
	s := flag.NewSnapshot("", flag.Revision{}).With(flag.Revision{}, slices.Values(edits))
	b.ReportAllocs()
	for b.Loop() {
		s.Evaluate("f", flag.Context{TargetingKey: "anna"}, now)
	}
}
