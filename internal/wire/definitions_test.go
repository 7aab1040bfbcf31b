package wire_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
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
		got, err := wire.DecodeDefinitions(copyOf(body, at))
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
		d, err := wire.DecodeDefinitions(copyOf(body, at))
		if err != nil {
			return
		}
		if _, err := wire.EncodeDefinitions(d); err != nil {
			t.Error(err)
		}
	})
}

// A few thousand bytes in the shared place may unpack to many million fields: they
// cost no memory before one of them is looked at.
func TestHostileDefinitionsAreRefusedAtTheFirstWrongField(t *testing.T) { //nolint:paralleltest // It counts allocations.
	object, err := wire.EncodeDefinitions(wire.Definitions{Snapshot: snapshotOf(&flag.Flag{Key: "k", Type: flag.Bool, Default: flag.BoolValue(true)})})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		field []byte
		want  string
	}{
		"empty objects":         {[]byte{0x0a, 0}, "cannot be read"},
		"stores without a name": {[]byte{0x12, 0}, "more stores"},
		"many stores":           {[]byte{0x12, 1, 'A'}, "more stores"},
		"tokens without an id":  {[]byte{0x1a, 0}, "more revoked tokens"},
		"many tokens":           {[]byte{0x1a, 3, 0x0a, 1, 't'}, "more revoked tokens"},
		"one object for ever":   {object, "comes twice"},
		"no field":              {[]byte{0}, "cannot be read"},
		"a field that is cut":   {[]byte{0x0a, 0x7f}, "cannot be read"},
	} {
		body := bytes.Repeat(c.field, 1_000_000)
		grown := testing.AllocsPerRun(1, func() {
			if _, err := wire.DecodeDefinitions(copyOf(body, flag.Revision{StoreID: "s", Number: 1})); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v; want %q", name, err, c.want)
			}
		})
		if grown > 200_000 {
			t.Errorf("%s: %.0f allocations", name, grown)
		}
	}
}

func copyOf(body []byte, at flag.Revision) definitioncache.Copy {
	return definitioncache.Copy{Body: body, Header: definitioncache.Header{
		Key: definitioncache.Key{Environment: "test"}, Revision: definitioncache.Revision{Store: at.StoreID, Number: at.Number},
	}}
}

func snapshotOf(objects ...flag.Object) *flag.Snapshot {
	at := flag.Revision{StoreID: "s", Number: 1}
	edits := make([]flag.Edit, len(objects))
	for i, o := range objects {
		edits[i] = flag.Edit{Ref: o.Ref(), Object: o}
	}
	return flag.NewSnapshot("test", at).With(at, slices.Values(edits))
}
