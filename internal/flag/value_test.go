package flag_test

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestParseValue(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		typ  flag.Type
		text string
		want string // the canonical JSON, or the error
	}{
		{flag.Bool, "true", "true"},
		{flag.Bool, "1", "value is a number (1), but the flag is of type bool. Write true or false."},
		{flag.String, `""`, `""`},
		{flag.String, `"a\nb\"c\u00e9😀"`, `"a\nb\"cé😀"`},
		{flag.String, "3", `value is a number (3), but the flag is of type string. Write "3".`},
		{flag.String, "null", "value is null, but the flag is of type string. Leave the value out instead of writing null."},
		{flag.Int, "0", "0"},
		{flag.Int, "-0", "0"},
		{flag.Int, "1e3", "1000"},
		{flag.Int, "3.0", "3"},
		{flag.Int, "9007199254740993", "9007199254740993"},
		{flag.Int, "9223372036854775807", "9223372036854775807"},
		{flag.Int, "-9223372036854775808", "-9223372036854775808"},
		{flag.Int, "9223372036854775808", "value is 9223372036854775808, outside what an int can hold (-9223372036854775808 to 9223372036854775807). Write a smaller number, or set type = \"double\"."},
		{flag.Int, "0.5", "value is 0.5, not a whole number within -9223372036854775808 to 9223372036854775807. Write a whole number, or set type = \"double\"."},
		{flag.Double, "0.1", "0.1"},
		{flag.Double, "-0.0", "0"},
		{flag.Double, "1e308", "1e+308"},
		{flag.Double, "1e20", "100000000000000000000"},
		{flag.Double, "5e-324", "5e-324"},
		{flag.Double, "0.33333333333333333333333333333333333333", "0.3333333333333333"},
		{flag.Double, "123456789012345678901234567890", "1.2345678901234568e+29"},
		{flag.Double, "1e309", "value is 1e+309, outside what a double can hold (±1.8e308). Write a smaller number, or make the flag a string."},
		{flag.JSON, `{"b":[1.0,null],"a":{"\u20ac":1E2}}`, `{"a":{"€":100},"b":[1,null]}`},
		{flag.JSON, "null", "null"},
		{flag.JSON, `{"a":1,"a":2}`, `value has the member "a" twice. Keep one of them.`},
		{flag.JSON, "[1e1000000000]", "value is 1e1000000000, whose exponent is beyond ±1000000000. Write a smaller number, or make it a string."},
		{flag.JSON, "[1e99999999999999999999]", "value is 1e99999999999999999999, whose exponent is beyond ±1000000000. Write a smaller number, or make it a string."},
		{flag.JSON, `[1] 2`, "value has something after its end, at byte 5."},
		{flag.JSON, strings.Repeat("[", 65) + strings.Repeat("]", 65), "value nests deeper than 64 levels. Flatten it."},
	} {
		v, err := flag.ParseValue(row.typ, row.text)
		got := v.JSON()
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("ParseValue(%s, %s)\n got %s\nwant %s", row.typ, row.text, got, row.want)
		}
	}
}

// Equal values have equal texts, and different ones do not, where float64 would
// take them for equal.
func TestCanonicalNumbersAreExact(t *testing.T) {
	t.Parallel()
	same := [][]string{
		{"1", "1.0", "10e-1", "0.1e1", "1E0", "1e+0"},
		{"0", "-0", "0.000", "0e99999999", "-0.0e-5"},
		{"100", "1e2", "1.00E+2"},
		{"1e+400", "10e399", "1" + strings.Repeat("0", 400)},
		{"0.000001", "1e-6"}, {"1e-7", "0.0000001"},
		{"1e+999999999", "10e999999998"},
	}
	seen := map[string]string{}
	for _, texts := range same {
		first := ""
		for _, text := range texts {
			got, err := flag.Canonical(text)
			if err != nil {
				t.Fatalf("Canonical(%s): %v", text, err)
			}
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("Canonical(%s) = %s, but %s for %s", text, got, first, texts[0])
			}
		}
		if other, ok := seen[first]; ok {
			t.Errorf("%s and %s share the text %s", texts[0], other, first)
		}
		seen[first] = texts[0]
	}
	a, _ := flag.Canonical("9007199254740992")
	b, _ := flag.Canonical("9007199254740993")
	if a == b {
		t.Error("2^53 and 2^53+1 have the same text")
	}
}

// RFC 8785, section 3.2.3: members are sorted by UTF-16 code units.
func TestCanonicalSortsByUTF16(t *testing.T) {
	t.Parallel()
	got, err := flag.Canonical(`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`)
	want := "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}"
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestInferType(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		prior                   flag.Type
		defaultValue, value, to string
	}{
		{0, "true", "false", "bool"},
		{0, `"a"`, "", "string"},
		{0, "0", "1", "int"},
		{0, "0", "0.5", "double"},
		{0, "9223372036854775807", "", "int"},
		{0, "9223372036854775808", "", "double"},
		{0, "1.0", "", "int"},
		{flag.Double, "0", "1", "double"},
		{flag.Int, "0", "0.5", "double"},
		{0, "[]", "", "json"},
		{0, "{}", `{"a":1}`, "json"},
		{0, "{}", "3", "json"},
		{flag.Bool, `"a"`, "", "string"},
		{0, `"blue"`, "3", `value is a number (3), but the flag is of type string, as its default_value "blue" says. Write "3", or set type = "int" and a whole number as default_value.`},
		{0, "false", `"on"`, `value is a string ("on"), but the flag is of type bool, as its default_value false says. Write true or false, or set type = "string" and a string as default_value.`},
		{0, "", "3", "int"},
	} {
		typ, err := flag.InferType(row.prior, row.defaultValue, row.value)
		got := typ.String()
		if err != nil {
			got = err.Error()
		}
		if got != row.to {
			t.Errorf("InferType(%s, %s, %s)\n got %s\nwant %s", row.prior, row.defaultValue, row.value, got, row.to)
		}
	}
}

func TestDoublesKeepEveryBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
		v, err := flag.DoubleValue(d)
		if math.IsNaN(d) || math.IsInf(d, 0) {
			if err == nil {
				t.Fatalf("%v was accepted", d)
			}
			return
		}
		back, err := flag.ParseValue(flag.Double, v.JSON())
		if err != nil || back != v || back.Double() != d {
			t.Fatalf("%v came back as %v (%v)", d, back, err)
		}
	})
}

func TestIntsKeepEveryBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.Int64().Draw(t, "int")
		back, err := flag.ParseValue(flag.Int, flag.IntValue(i).JSON())
		if err != nil || back.Int() != i {
			t.Fatalf("%d came back as %v (%v)", i, back, err)
		}
	})
}

// Canonical is idempotent and keeps the value of every number, told by exact
// rationals.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.50,-0,1e-7,1E400],"b":"\u0000\ud800"}`, `"\\\/"`, "1e999999999999999999999", "[[[]]]", "{\"a\":1,\"a\":1}", "\xff", "nul", "true ", "-0.0 ", `"a" 1`, "12 ", "1e1000000000", `"\xff"`, "-", "1_0", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := flag.Canonical(text)
		// A space before it leads to the decoder, whatever comes.
		if decoded, err2 := flag.Canonical(" " + text); len(text) < flag.MaxValueBytes && (decoded != once || (err == nil) != (err2 == nil)) {
			t.Fatalf("%q is %q (%v), after a space %q (%v)", text, once, err, decoded, err2)
		}
		if err != nil {
			return
		}
		twice, err := flag.Canonical(once)
		if err != nil || twice != once {
			t.Fatalf("%q became %q and then %q (%v)", text, once, twice, err)
		}
		if !json.Valid([]byte(once)) {
			t.Fatalf("%q became %q, which is not JSON", text, once)
		}
		if _, err := strconv.ParseFloat(text, 64); err == nil && len(text) < 30 && json.Valid([]byte(text)) {
			was, ok1 := new(big.Rat).SetString(text)
			is, ok2 := new(big.Rat).SetString(once)
			if ok1 && ok2 && was.Cmp(is) != 0 {
				t.Fatalf("the number %s became %s", text, once)
			}
		}
	})
}
