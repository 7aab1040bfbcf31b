package main

import "testing"

func TestALargeHeapIsTended(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name       string
		live, free uint64
		percent    int
		spare      bool
	}{
		{"a new server", 3 * mb, 1 * mb, 100, false},
		{"a small one after a large answer", 5 * mb, 40 * mb, 100, true},
		{"a large one", 30 * mb, 15 * mb, 50, false},
		{"a large one after a batch", 30 * mb, 20 * mb, 50, true},
		{"a very large one", 600 * mb, 300 * mb, 50, false},
		{"a very large one after its load", 600 * mb, 400 * mb, 50, true},
	} {
		if percent, spare := tend(c.live, c.free); percent != c.percent || spare != c.spare {
			t.Errorf("%s: %d %%, %t", c.name, percent, spare)
		}
	}
}
