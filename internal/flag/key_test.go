package flag_test

import (
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	const grammar = `, but a flag key is 1 to 512 bytes of segments separated by "/", each of letters, digits, ".", "_" and "-", ` +
		`starting and ending with a letter or digit. Write a key like "checkout/new-cart".`
	for _, row := range []struct{ text, found string }{
		{"a", ""},
		{"notifications/1", ""},
		{"pay.v2_new-cart/7", ""},
		{strings.Repeat("k", 512), ""},
		{"", "key is empty"},
		{strings.Repeat("k", 513), "key has 513 bytes"},
		{"/a", `key "/a" has an empty segment at byte 1`},
		{"a//b", `key "a//b" has an empty segment at byte 3`},
		{"a/", `key "a/" has an empty segment at byte 3`},
		{".", `key "." has '.' at byte 1`},
		{"a/../b", `key "a/../b" has '.' at byte 3`},
		{"-a", `key "-a" has '-' at byte 1`},
		{"a/b-", `key "a/b-" has '-' at byte 4`},
		{"a b", `key "a b" has ' ' at byte 2`},
		{"größe", `key "größe" has 'ö' at byte 3`},
		{"a:b", `key "a:b" has ':' at byte 2`},
		{"a\x00b", `key "a\x00b" has '\x00' at byte 2`},
		{"a\xff", `key "a\xff" has '�' at byte 2`},
	} {
		key, err := flag.ParseKey(row.text)
		switch {
		case row.found == "" && (err != nil || string(key) != row.text):
			t.Errorf("ParseKey(%q) = %q, %v; want it accepted", row.text, key, err)
		case row.found != "" && (err == nil || err.Error() != row.found+grammar):
			t.Errorf("ParseKey(%q) = %q, %v\nwant the error %s", row.text, key, err, row.found+grammar)
		}
	}
}

func TestKeyUnder(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		key, prefix flag.Key
		want        bool
	}{
		{"a/b", "", true},
		{"a/b", "a", true},
		{"a/b", "a/b", true},
		{"a/bc", "a/b", false},
		{"a-b", "a", false},
		{"a", "a/b", false},
	} {
		if got := row.key.Under(row.prefix); got != row.want {
			t.Errorf("%q.Under(%q) = %v", row.key, row.prefix, got)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("a/b.c-d_e/1")
	f.Add("a//b")
	f.Add("\xff/\x00")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := flag.ParseKey(text)
		if err == nil && string(key) != text {
			t.Fatalf("ParseKey(%q) changed it to %q", text, key)
		}
		if err == nil && strings.ContainsAny(text, "\x00:% \\") {
			t.Fatalf("ParseKey accepts %q", text)
		}
	})
}
