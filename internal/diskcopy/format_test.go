package diskcopy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// What is written is read again, whatever a store may hold.
func TestAnythingIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		c := drawCopy(r)
		var b bytes.Buffer
		if err := write(&b, c); err != nil {
			r.Fatal(err)
		}
		got, err := readBytes(b.Bytes(), c.Snapshot.Environment)
		if err != nil {
			r.Fatal(err)
		}
		if sum(*got) != sum(c) || !got.WrittenAt.Equal(c.WrittenAt) {
			r.Fatalf("read   %s\nwritten %s", sum(*got), sum(c))
		}
	})
}

func drawCopy(r *rapid.T) Copy {
	key := rapid.StringMatching(`[a-z0-9]{1,4}(/[a-z0-9]{1,4}){0,2}`)
	instant := rapid.Custom(func(r *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(r, "time")).UTC()
	})
	stamp := rapid.Custom(func(r *rapid.T) flag.Stamp {
		return flag.Stamp{Revision: rapid.Int64Range(1, 9).Draw(r, "revision"), Actor: key.Draw(r, "actor"), Time: instant.Draw(r, "at"), OwnerID: key.Draw(r, "owner"), Created: 1}
	})
	value := rapid.Custom(func(r *rapid.T) flag.Value {
		text := rapid.String().Draw(r, "text")
		var v flag.Value
		var err error
		switch rapid.SampledFrom([]flag.Type{flag.Bool, flag.String, flag.Int, flag.Double, flag.JSON}).Draw(r, "type") {
		case flag.Bool:
			v = flag.BoolValue(rapid.Bool().Draw(r, "bool"))
		case flag.String:
			v, err = flag.StringValue(text)
		case flag.Int:
			v = flag.IntValue(rapid.Int64().Draw(r, "int"))
		case flag.Double:
			v, err = flag.DoubleValue(rapid.Float64().Draw(r, "double"))
		case flag.JSON:
			v, err = flag.JSONValue(fmt.Sprintf(`{"text":%q,"n":[9007199254740993,1e400,null]}`, rapid.StringMatching(`[a-zä€ ]*`).Draw(r, "json")))
		}
		if err != nil {
			r.Skip(err)
		}
		return v
	})
	state := rapid.SampledFrom([]flag.State{flag.Enabled, flag.Default})
	object := rapid.Custom(func(r *rapid.T) flag.Object {
		k := flag.Key(key.Draw(r, "key"))
		switch rapid.IntRange(1, 3).Draw(r, "kind") {
		case 1:
			f := &flag.Flag{
				Key: k, Default: value.Draw(r, "default"), Value: value.Draw(r, "value"), State: state.Draw(r, "state"), Layer: key.Draw(r, "layer"),
				Description: rapid.String().Draw(r, "description"), Owner: key.Draw(r, "team"), OwnerID: key.Draw(r, "owner"), Changed: stamp.Draw(r, "changed"),
				AllowedValues: rapid.SliceOfN(value, 0, 3).Draw(r, "allowed"), Tags: rapid.SliceOfN(key, 0, 3).Draw(r, "tags"),
			}
			f.Type = f.Default.Type()
			if rapid.Bool().Draw(r, "archived") {
				f.ArchivedState = state.Draw(r, "archived as")
			}
			return f
		case 2:
			return &flag.Override{FlagKey: k, EntityID: rapid.StringMatching(`[^\x00]{1,9}`).Draw(r, "entity"), State: state.Draw(r, "state"), Value: value.Draw(r, "value"), Changed: stamp.Draw(r, "changed")}
		}
		h := &flag.Hold{FlagKey: k, Holder: key.Draw(r, "holder"), Reason: rapid.String().Draw(r, "reason"), Actor: key.Draw(r, "actor"), Since: instant.Draw(r, "since"), Changed: stamp.Draw(r, "changed")}
		if rapid.Bool().Draw(r, "ends") {
			h.ExpiresAt, h.Expired = instant.Draw(r, "expires"), rapid.Bool().Draw(r, "expired")
		}
		return h
	})
	at := flag.Revision{StoreID: rapid.StringMatching(`[A-Z2-7]{1,26}`).Draw(r, "store"), Number: rapid.Int64Min(0).Draw(r, "number")}
	all := rapid.SliceOfN(object, 0, 30).Draw(r, "objects")
	edits := make([]flag.Edit, len(all))
	for i, o := range all {
		edits[i] = flag.Edit{Ref: o.Ref(), Object: o}
	}
	c := Copy{Snapshot: flag.NewSnapshot(key.Draw(r, "environment"), at).With(at, slices.Values(edits)), WrittenAt: instant.Draw(r, "written")}
	for i := range rapid.IntRange(0, 3).Draw(r, "superseded") {
		c.Snapshot.Supersedes = append(c.Snapshot.Supersedes, fmt.Sprint("former-", i))
	}
	for i := range rapid.IntRange(0, 5).Draw(r, "tokens") {
		made := token.Token{ID: strconv.Itoa(i), Name: key.Draw(r, "name"), Scopes: []token.Scope{token.Scope(rapid.Int32Range(1, 5).Draw(r, "scope"))}, Prefix: flag.Key(key.Draw(r, "prefix")), Hash: token.Hash(strconv.Itoa(i)), CreatedAt: instant.Draw(r, "created"), CreatedBy: "admin"}
		if rapid.Bool().Draw(r, "ended") {
			made.ExpiresAt, made.RevokedAt = instant.Draw(r, "expires"), instant.Draw(r, "revoked")
		}
		c.Tokens = append(c.Tokens, made)
	}
	return c
}

// No byte of a copy can be another one, be missing, or be too many.
func TestEveryDamageIsRefused(t *testing.T) {
	t.Parallel()
	content := written(t, filled(3, 9))
	if _, err := readBytes(content, "test"); err != nil {
		t.Fatal(err)
	}
	for i := range content {
		for _, flip := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(content)
			damaged[i] ^= flip
			if _, err := readBytes(damaged, "test"); err == nil {
				t.Errorf("read with the byte %d of %d altered", i, len(content))
			}
		}
		if _, err := readBytes(content[:i], "test"); err == nil {
			t.Errorf("read when cut off after %d of %d bytes", i, len(content))
		}
	}
	if _, err := readBytes(append(bytes.Clone(content), 0), "test"); err == nil {
		t.Error("read with one byte too many")
	}
}

// sealed is content with the checksum that belongs to it.
func sealed(content string) []byte {
	checksum := sha256.Sum256([]byte(content))
	return append([]byte(content), checksum[:]...)
}

func TestWhatIsRefusedIsSaid(t *testing.T) {
	t.Parallel()
	whole := string(written(t, filled(1, 9)))
	for name, c := range map[string]struct{ content, says string }{
		"nothing":             {"", "is empty"},
		"another file":        {"SQLite format 3\x00 and so on and on and on and on and on and on and on", "is no copy that bunting has written"},
		"a newer format":      {string(sealed("bunting snapshot 2\nwho knows")), "is of the format 2, but this bunting reads 1"},
		"no number":           {string(sealed("bunting snapshot one\n")), "is no copy"},
		"cut in the line":     {whole[:10], "is no copy"},
		"cut after the line":  {whole[:30], "is cut off"},
		"cut":                 {whole[:len(whole)-40], "is damaged"},
		"another environment": {whole, `is of the environment "test", but this server is of "production"`},
		"no header":           {string(sealed("bunting snapshot 1\n")), "its header: it ends too soon"},
		"a header of no JSON": {string(sealed("bunting snapshot 1\n\x02{x")), "its header"},
		"no store":            {string(sealed("bunting snapshot 1\n\x1e" + `{"environment":"production"  }`)), "names no store"},
		"objects missing":     {string(sealed("bunting snapshot 1\n\x38" + `{"environment":"production","store_id":"s","objects":2 }`)), "it ends too soon"},
		"a long record":       {string(sealed("bunting snapshot 1\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")), "longer than the rest"},
		"too much":            {string(sealed("bunting snapshot 1\n\x2c" + `{"environment":"production","store_id":"s" }` + "more")), "goes on for 4 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := readBytes([]byte(c.content), "production"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// Nothing that a file may hold, with a checksum that is right, ends the program;
// what is taken is written and read again as it is; and without that checksum
// nothing is taken.
func FuzzRead(f *testing.F) {
	whole := written(f, filled(2, 9))
	first := len(formatName) + len("1\n")
	f.Add(whole[first : len(whole)-sha256.Size])
	f.Add([]byte("\x2a" + `{"environment":"test","store_id":"s"     }`))
	f.Fuzz(func(t *testing.T, body []byte) {
		content := fmt.Appendf(nil, "%s%d\n%s", formatName, format, body)
		if c, err := readBytes(sealed(string(content)), ""); err == nil {
			again, err := readBytes(written(t, *c), "")
			if err != nil || sum(*again) != sum(*c) {
				t.Errorf("read %s, and after writing that %v, %v", sum(*c), again, err)
			}
		}
		if _, err := readBytes(content, ""); err == nil {
			t.Error("read without its checksum")
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	c := filled(10_000, 9)
	f := opened(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Write(c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(written(b, c)))/1e6, "MB")
}

func BenchmarkLoad(b *testing.B) {
	f := opened(b)
	if err := f.Write(filled(10_000, 9)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Load("test"); err != nil {
			b.Fatal(err)
		}
	}
}
