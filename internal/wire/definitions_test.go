package wire_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

func TestWhatIsSharedArrives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := flag.Revision{StoreID: "s", Number: 7}
		edits := make([]flag.Edit, rapid.IntRange(0, 5).Draw(t, "objects"))
		for i := range edits {
			o := object(t)
			edits[i] = flag.Edit{Ref: o.Ref(), Object: o}
		}
		sent := wire.Definitions{Snapshot: flag.NewSnapshot("test", at).With(at, slices.Values(edits)), TokensSince: 3}
		if rapid.Bool().Draw(t, "former stores and tokens") {
			sent.Snapshot.Supersedes = []string{"former@12", "first"}
			sent.Revoked = []wire.RevokedToken{{ID: "t1", Revision: 4}, {ID: "t2", Revision: 7}}
		}
		body, err := wire.EncodeDefinitions(sent)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeDefinitions(body, "test", at)
		if err != nil {
			t.Fatal(err)
		}
		if objects, want := slices.Collect(got.Snapshot.Objects()), slices.Collect(sent.Snapshot.Objects()); !reflect.DeepEqual(objects, want) {
			t.Fatalf("sent %+v\ngot %+v", want, objects)
		}
		if got.Snapshot.Revision != at || got.Snapshot.Environment != "test" || !slices.Equal(got.Snapshot.Supersedes, sent.Snapshot.Supersedes) ||
			!slices.Equal(got.Revoked, sent.Revoked) || got.TokensSince != 3 {
			t.Fatalf("sent %+v\ngot %+v", sent, got)
		}
	})
}

// Nobody vouches for what lies in a shared place.
func FuzzDefinitions(f *testing.F) {
	at := flag.Revision{StoreID: "s", Number: 1}
	edit := flag.Edit{Ref: flag.FlagRef("k"), Object: &flag.Flag{Key: "k", Type: flag.Bool, Default: flag.BoolValue(true)}}
	seed, err := wire.EncodeDefinitions(wire.Definitions{Snapshot: flag.NewSnapshot("test", at).With(at, slices.Values([]flag.Edit{edit}))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := wire.DecodeDefinitions(body, "test", at)
		if err != nil {
			return
		}
		if _, err := wire.EncodeDefinitions(d); err != nil {
			t.Error(err)
		}
	})
}
