package definitioncache_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/definitioncache/cachetest"
)

func encode(tb testing.TB, received definitioncache.Received) []byte {
	tb.Helper()
	value, err := definitioncache.Encode(received)
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

// sealed gives a value with a right checksum, whatever is in it.
func sealed(content string) []byte {
	return fmt.Appendf(nil, "bunting-definitions 1 %x\n%s", sha256.Sum256([]byte(content)), content)
}

func zipped(tb testing.TB, content []byte) string {
	tb.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if _, err := zip.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

const header = `{"environment":"production","scope":"read","store":"","schema":1,"store_id":"A","revision":3,"fetched_at":"2026-01-02T03:04:05Z","size":%d}`

func TestWhatIsNotOursIsRefusedInWords(t *testing.T) {
	t.Parallel()
	good := encode(t, cachetest.Definitions(3))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	bomb := zipped(t, make([]byte, 2*definitioncache.MaxSize))
	for want, value := range map[string][]byte{
		"was not written by this program":  []byte("hello"),
		"something else uses":              nil,
		`has the format "2"`:               bytes.Replace(good, []byte(" 1 "), []byte(" 2 "), 1),
		"is cut off":                       good[:50],
		"is damaged or cut off":            good[:len(good)-1],
		"its checksum is not":              flipped,
		"has no header":                    sealed("{}"),
		"has a header that cannot be":      sealed("[]\n"),
		"is not what belongs here":         sealed("{}\n"),
		"has another size":                 sealed(fmt.Sprintf(header, 5) + "\n" + bomb),
		"says that it has 50000001 bytes":  sealed(fmt.Sprintf(header, definitioncache.MaxSize+1) + "\n" + bomb),
		"says that it has -1 bytes":        sealed(fmt.Sprintf(header, -1) + "\n"),
		"cannot be decompressed":           sealed(fmt.Sprintf(header, 5) + "\nhello"),
		"at most 51099576 are read":        make([]byte, definitioncache.MaxStored+1),
		"a revision that is not negative":  sealed(strings.Replace(fmt.Sprintf(header, 0), `"revision":3`, `"revision":-3`, 1) + "\n"),
		"and not of {Environment:producti": encode(t, definitioncache.Received{Header: definitioncache.Header{Key: definitioncache.Key{Environment: "staging", Scope: "read", Schema: 1}, Revision: definitioncache.Revision{Store: "A"}}}),
	} {
		if _, err := definitioncache.Decode(value, cachetest.Key); !errors.Is(err, definitioncache.ErrUnusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want one that says %q", err, want)
		}
	}
	for cut := range good {
		if _, err := definitioncache.Decode(good[:cut], cachetest.Key); !errors.Is(err, definitioncache.ErrUnusable) {
			t.Errorf("cut after %d bytes it is read: %v", cut, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, cachetest.Definitions(3)))
	f.Add(encode(f, definitioncache.Received{Header: cachetest.Definitions(0).Header}))
	f.Add(sealed(fmt.Sprintf(header, 5) + "\n" + zipped(f, []byte("hello"))))
	f.Add(sealed("{}\n"))
	f.Add([]byte("bunting-definitions 2 "))
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, v := range [][]byte{value, sealed(string(value))} {
			found, err := definitioncache.Decode(v, cachetest.Key)
			if err != nil {
				if !errors.Is(err, definitioncache.ErrUnusable) || found != nil {
					t.Fatalf("%+v, %v", found, err)
				}
				continue
			}
			again, err := definitioncache.Decode(encode(t, definitioncache.Received{Header: found.Header, Body: found.Body}), cachetest.Key)
			if err != nil || !bytes.Equal(again.Body, found.Body) || again.Revision != found.Revision {
				t.Fatalf("read, written and read again it is %+v, %v; was %+v", again, err, found)
			}
		}
	})
}
