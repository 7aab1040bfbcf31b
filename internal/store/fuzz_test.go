package store

import (
	"slices"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// FuzzParseDocument reads whatever may stand in a store. What can be read can be
// used, and what is valid is written back as it was.
func FuzzParseDocument(f *testing.F) {
	stamp := flag.Stamp{Revision: 3, Actor: "anna", Time: time.Unix(1, 2).UTC(), OwnerID: "workspace:a"}
	for _, o := range []flag.Object{
		&flag.Flag{Key: "a/b", Type: flag.JSON, Default: flag.IntValue(1), State: flag.Enabled, Layer: "user", Tags: []string{"t"}, Changed: stamp},
		&flag.Flag{Key: "a", Type: flag.Int, Default: flag.IntValue(-1 << 63), Value: flag.IntValue(1), State: flag.Default, ArchivedState: flag.Enabled, AllowedValues: []flag.Value{flag.IntValue(1)}},
		&flag.Override{FlagKey: "a", EntityID: "ü", State: flag.Enabled, Value: flag.BoolValue(true), OwnerID: "object:1", Changed: stamp},
		&flag.Hold{FlagKey: "a", Holder: "anna", Reason: "r", Actor: "anna", Since: stamp.Time, ExpiresAt: stamp.Time, Expired: true, Changed: stamp},
	} {
		document, err := Document(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int(o.Ref().Kind), string(o.Ref().Key), o.Ref().ID, document)
	}
	f.Add(1, "a", "", `{"key":"a","type":"int","default_value":9223372036854775808}`)
	f.Add(2, "a", "u", `null`)
	f.Fuzz(func(t *testing.T, kind int, key, id, document string) {
		ref := flag.Ref{Kind: flag.Kind(kind), Key: flag.Key(key), ID: id}
		o, err := ParseDocument(ref, document)
		if err != nil {
			return
		}
		if o.Ref() != ref {
			t.Fatalf("read %v as %v", ref, o.Ref())
		}
		s := flag.NewSnapshot("e", flag.Revision{}).With(flag.Revision{}, slices.Values([]flag.Edit{{Ref: ref, Object: o}}))
		s.Evaluate(ref.Key, flag.Context{TargetingKey: id}, time.Now())
		if o.Validate() != nil {
			return
		}
		again, err := Document(o)
		if err != nil {
			t.Fatalf("a valid object cannot be written: %v", err)
		}
		o2, err := ParseDocument(ref, again)
		if err != nil {
			t.Fatalf("a valid object cannot be read back from %s: %v", again, err)
		}
		if third, err := Document(o2); err != nil || third != again {
			t.Fatalf("written as %s, then as %s (%v)", again, third, err)
		}
	})
}

// FuzzAnswer reads whatever may stand in a store as the answer to a request.
func FuzzAnswer(f *testing.F) {
	var kept Request
	err := kept.keep(Outcome{Revision: flag.Revision{StoreID: "s", Number: 1}, Results: []flag.Result{
		{Status: flag.Applied, Object: &flag.Hold{FlagKey: "a", Holder: "b"}},
		{Status: flag.Refused, Problem: flag.Invalid("key", "is wrong.")},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept.Answer)
	f.Add(`{"results":[{"flag":null}]}`)
	f.Fuzz(func(_ *testing.T, answer string) {
		outcome, err := (&Request{Answer: answer}).outcome()
		if err != nil {
			return
		}
		for _, r := range outcome.Results {
			if r.Object != nil {
				_ = r.Object.Ref() // no nil pointer in it
			}
		}
	})
}

// FuzzPage reads whatever a caller sends as the place of a page.
func FuzzPage(f *testing.F) {
	f.Add(AuditEntry{Revision: 7, Ordinal: 1}.Page())
	f.Add("-1.")
	f.Fuzz(func(t *testing.T, page string) {
		revision, ordinal, later, err := AuditFilter{Page: page}.PageStart()
		if err == nil && later == (page == "") {
			t.Errorf("page %q is %d.%d, %t", page, revision, ordinal, later)
		}
	})
}
