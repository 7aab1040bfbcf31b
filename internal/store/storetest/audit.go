package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

func testAudit(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	start := w.now
	w.must(anna, flag.Put(aFlag("a")), flag.Put(aFlag("a/b")), flag.Put(anOverride("a", "u1")))
	w.must(boris, flag.Put(aHold("a", "boris")))
	w.must(boris, change(flag.ReleaseHold, flag.HoldRef("a", "boris")))
	w.must(ci, of(payments, flag.Put(aFlag("c"))))
	w.must(admin, change(flag.DeleteFlag, flag.FlagRef("a")))

	cases := []struct {
		name   string
		filter store.AuditFilter
		want   []string // action and object, oldest first
	}{
		{"all", store.AuditFilter{}, []string{"put_flag a", "put_flag a/b", "set_override a:u1", "place_hold a:boris", "release_hold a:boris", "put_flag c", "remove_override a:u1", "delete_flag a"}},
		{"one flag with what is on it", store.AuditFilter{Key: "a"}, []string{"put_flag a", "set_override a:u1", "place_hold a:boris", "release_hold a:boris", "remove_override a:u1", "delete_flag a"}},
		{"one actor", store.AuditFilter{Actor: "boris"}, []string{"place_hold a:boris", "release_hold a:boris"}},
		{"since a time, that included", store.AuditFilter{Since: start.Add(4 * time.Second)}, []string{"put_flag c", "remove_override a:u1", "delete_flag a"}},
		{"all filters at once", store.AuditFilter{Key: "a", Actor: "boris", Since: start.Add(3 * time.Second)}, []string{"release_hold a:boris"}},
		{"nothing", store.AuditFilter{Key: "nothing"}, nil},
		{"an actor who cannot be", store.AuditFilter{Actor: "a\x00b"}, nil},
		{"a key that cannot be", store.AuditFilter{Key: "\xff"}, nil},
	}
	for _, c := range cases {
		// Pages of every size, the last one full or not.
		for _, size := range []int{0, 1, 2, 3, 8, 5000} {
			t.Run(fmt.Sprintf("%s/pages of %d", c.name, size), func(t *testing.T) {
				c.filter.Limit = size
				var got []string
				for _, e := range auditLog(t.Context(), t, w.s, c.filter) {
					got = append(got, e.Action+" "+e.Object)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}

	t.Run("sizes of pages", func(t *testing.T) {
		w := newWorld(t, open)
		for i := range 3 {
			changes := make([]flag.Change, 500)
			for j := range changes {
				changes[j] = flag.Put(aFlag(flag.Key(fmt.Sprintf("%d/%d", i, j))))
			}
			w.must(anna, changes...)
		}
		for limit, want := range map[int]int{0: 100, -1: 100, 7: 7, 1000: 1000, 1001: 1000} {
			entries, next, err := w.s.Audit(t.Context(), store.AuditFilter{Limit: limit})
			if err != nil || len(entries) != want || next == "" {
				t.Errorf("a page of %d has %d entries, next %q, error %v; want %d entries", limit, len(entries), next, err, want)
			}
		}
	})

	t.Run("a page that is none", func(t *testing.T) {
		for _, page := range []string{"x", "1", "1.", "1.2.3", "9999999999999999999.0", "1.2 "} {
			_, _, err := w.s.Audit(t.Context(), store.AuditFilter{Page: page})
			if p, ok := errors.AsType[*flag.Problem](err); !ok || p.Field != "page_token" {
				t.Errorf("page %q: error %v, want a problem about page_token", page, err)
			}
		}
	})
	WantComplete(t.Context(), t, w.s)
}

func testSince(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	history := [][]flag.Change{
		{flag.Put(aFlag("a")), flag.Put(anOverride("a", "u1")), flag.Put(anOverride("a", "u2"))},
		{of(payments, flag.Put(aFlag("b"))), of(payments, flag.Put(aHold("a", "terraform")))},
		{change(flag.ArchiveFlag, flag.FlagRef("b")), change(flag.DeleteFlag, flag.FlagRef("b")), flag.Put(aFlag("b"))},
		{change(flag.ReleaseHold, flag.HoldRef("a", "terraform")), change(flag.DeleteFlag, flag.FlagRef("a"))},
	}
	snapshots := make([]*flag.Snapshot, len(history)+1)
	outcomes := make([]store.Outcome, len(history))
	snapshots[0] = w.snapshot()
	for i, changes := range history {
		outcomes[i] = w.must(admin, changes...)
		snapshots[i+1] = w.snapshot()
	}
	head := snapshots[len(snapshots)-1]
	for i, s := range snapshots {
		commits, ok, err := w.s.Since(t.Context(), s.Revision.Number)
		if err != nil || !ok || len(commits) != len(outcomes)-i {
			t.Fatalf("since %d: %d commits, %t, %v; want %d", i, len(commits), ok, err, len(outcomes)-i)
		}
		for j, c := range commits {
			s = s.With(c.Revision, edits(c))
			wantSame(t, fmt.Sprintf("snapshot %d of since %d", i+j+1, i), content(s), content(snapshots[i+j+1]))
			told := *outcomes[i+j].Commit
			wantSame(t, "the commit that Since gives and the one that Apply gave", editsText(c), editsText(told))
		}
		if s.Revision != head.Revision {
			t.Errorf("since %d ends at %v, want %v", i, s.Revision, head.Revision)
		}
	}
	for _, number := range []int64{head.Revision.Number + 1, -1} {
		if commits, ok, err := w.s.Since(t.Context(), number); ok || err != nil || len(commits) > 0 {
			t.Errorf("since revision %d, which never was: %d commits, %t, %v", number, len(commits), ok, err)
		}
	}
}

func editsText(c store.Commit) string {
	var text strings.Builder
	text.WriteString(c.Revision.String())
	for _, e := range c.Edits {
		fmt.Fprintf(&text, "\n%s %s %s", e.Ref.Kind, e.Ref, document(e.Object))
	}
	return text.String()
}
