package storetest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// testValues keeps values of every type at their limits, as a flag's and as an
// override's, and wants them back as they were.
func testValues(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	text := func(s string) flag.Value {
		v, err := flag.StringValue(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	number := func(d float64) flag.Value {
		v, err := flag.DoubleValue(d)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	structure := func(s string) flag.Value {
		v, err := flag.JSONValue(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	values := []flag.Value{
		flag.BoolValue(true), flag.BoolValue(false),
		flag.IntValue(0), flag.IntValue(math.MinInt64), flag.IntValue(math.MaxInt64), flag.IntValue(1<<53 + 1), flag.IntValue(-1<<53 - 1),
		number(0), number(math.Copysign(0, -1)), number(0.1), number(1.0 / 3), number(math.MaxFloat64), number(-math.MaxFloat64),
		number(math.SmallestNonzeroFloat64), number(1e308), number(1e20), number(1<<53 + 2), number(math.Nextafter(1, 2)),
		text(""), text("null"), text("a\x00b\u2028\u00e4\U0001F6A9\"\\\n\t"), text(strings.Repeat("ä", 100_000)),
		structure(`{}`), structure(`[]`), structure(`{"b":[1,{"a":null}],"a":"x"}`), structure(`9007199254740993`), structure(`9007199254740992`),
		structure(`123456789012345678901234567890.123456789`), structure(`1e400`), structure(`"` + "\u2028" + `"`), structure(strings.Repeat("[", 64) + strings.Repeat("]", 64)),
	}
	for i, v := range values {
		key := flag.Key(fmt.Sprintf("values/%d", i))
		w.must(anna,
			flag.Put(&flag.Flag{Key: key, Type: v.Type(), Default: v, Value: v, State: flag.Enabled, Layer: "user", AllowedValues: []flag.Value{v}}),
			flag.Put(&flag.Override{FlagKey: key, EntityID: "ü/" + strings.Repeat("u", i), State: flag.Enabled, Value: v}))
	}
	s := w.snapshot()
	for i, v := range values {
		key := flag.Key(fmt.Sprintf("values/%d", i))
		f, o := s.Flag(key), s.Override(key, "ü/"+strings.Repeat("u", i))
		if f == nil || f.Default != v || f.Value != v || len(f.AllowedValues) != 1 || f.AllowedValues[0] != v {
			t.Errorf("flag of %.60v came back as %.200s", v, document(s.Object(flag.FlagRef(key))))
		}
		if o == nil || o.Value != v {
			t.Errorf("override of %.60v came back as %.200v", v, o)
		}
	}

	// Times too: an expiry to the nanosecond, in another zone.
	h := aHold("values/0", "anna")
	h.ExpiresAt = time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	w.must(anna, flag.Put(h))
	if got := w.snapshot().Hold("values/0", "anna"); !got.ExpiresAt.Equal(h.ExpiresAt) {
		t.Errorf("expiry %v came back as %v", h.ExpiresAt, got.ExpiresAt)
	}
	WantComplete(t.Context(), t, w.s)
}
