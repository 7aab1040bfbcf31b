package client

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLRU compares with a list that is kept in order by hand.
func TestLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct{ key, value, weight int }
		capacity := rapid.IntRange(1, 6).Draw(t, "capacity")
		l := newLRU[int, int](capacity)
		var model []entry // last used first
		drop := func(key int) { model = slices.DeleteFunc(model, func(e entry) bool { return e.key == key }) }
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			key := rapid.IntRange(0, 7).Draw(t, "key")
			switch rapid.SampledFrom([]string{"put", "put", "get", "remove", "clear"}).Draw(t, "step") {
			case "put":
				e := entry{key, i, rapid.IntRange(1, 7).Draw(t, "weight")}
				l.put(e.key, e.value, e.weight)
				drop(key)
				if e.weight > capacity {
					break
				}
				kept := 0
				model = slices.DeleteFunc(append([]entry{e}, model...), func(e entry) bool { kept += e.weight; return kept > capacity })
			case "get":
				value, ok := l.get(key)
				at := slices.IndexFunc(model, func(e entry) bool { return e.key == key })
				if ok != (at >= 0) || ok && value != model[at].value {
					t.Fatalf("got %d, %t of %v", value, ok, model)
				}
				if ok {
					e := model[at]
					drop(key)
					model = append([]entry{e}, model...)
				}
			case "remove":
				l.remove(key)
				drop(key)
			case "clear":
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					l.clear()
					model = nil
				}
			}
			want := map[int]int{}
			weight := 0
			for _, e := range model {
				want[e.key] = e.value
				weight += e.weight
			}
			if got := maps.Collect(l.all()); !maps.Equal(got, want) || l.weight != weight || l.order.Len() != len(want) || weight > capacity {
				t.Fatalf("got %v of weight %d, want %v of weight %d", got, l.weight, want, weight)
			}
		}
	})
}
