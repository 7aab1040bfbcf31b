// Package flag is the domain: what a flag, an override, a hold and a snapshot
// are, which of them are valid, and the pure rule Resolve that turns them into
// an answer. Both programs use it, so what a plan promises is what the server
// does. It imports nothing of ours and does no input or output.
package flag

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxKeyBytes is the longest a Key may be.
const MaxKeyBytes = 512

// Key names a flag: segments separated by "/", each starting and ending with a
// letter or digit, with ".", "_" and "-" allowed between them; 1 to 512 bytes.
type Key string

// ParseKey checks a key's grammar. The error is a *Problem that names the place in the text where the grammar breaks.
func ParseKey(text string) (Key, error) {
	refuse := func(found string) (Key, error) {
		return "", invalidf("key", "%s, but a flag key is 1 to %d bytes of segments separated by \"/\", "+
			"each of letters, digits, \".\", \"_\" and \"-\", starting and ending with a letter or digit. "+
			"Write a key like \"checkout/new-cart\".", found, MaxKeyBytes)
	}
	switch {
	case text == "":
		return refuse("is empty")
	case len(text) > MaxKeyBytes:
		return refuse(fmt.Sprintf("has %d bytes", len(text)))
	}
	offset := 0
	for segment := range strings.SplitSeq(text, "/") {
		if segment == "" {
			return refuse(fmt.Sprintf("%q has an empty segment at byte %d", text, offset+1))
		}
		for i := range len(segment) {
			c := segment[i]
			edge := i == 0 || i == len(segment)-1
			if !alphanumeric(c) && (edge || !strings.ContainsRune("._-", rune(c))) {
				r, _ := utf8.DecodeRuneInString(segment[i:]) // a letter of several bytes shows whole
				return refuse(fmt.Sprintf("%q has %q at byte %d", text, r, offset+i+1))
			}
		}
		offset += len(segment) + 1
	}
	return Key(text), nil
}

// Under reports whether the key lies under the prefix, by whole segments: "a/b"
// covers "a/b" and "a/b/c", not "a/bc". The empty prefix covers every key.
func (k Key) Under(prefix Key) bool {
	rest, ok := strings.CutPrefix(string(k), string(prefix))
	return ok && (prefix == "" || rest == "" || rest[0] == '/')
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
