package diskcopy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func TestMain(m *testing.M) {
	if os.Getenv(childPath) != "" {
		os.Exit(child(os.Getenv(childPath)))
	}
	goleak.VerifyTestMain(m)
}

// moment is a time as stores keep it.
var moment = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// filled is a copy of so many flags, each tenth one held, and ten times as many
// overrides.
func filled(flags int, number int64) Copy {
	stamp := flag.Stamp{Revision: 7, Actor: "ops-anna", Time: moment, Created: 3}
	edits := make([]flag.Edit, 0, 12*flags)
	add := func(o flag.Object) { edits = append(edits, flag.Edit{Ref: o.Ref(), Object: o}) }
	for i := range flags {
		key := flag.Key(fmt.Sprintf("team-%d/feature-%d", i%50, i))
		add(&flag.Flag{
			Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled,
			Layer: "user", Description: "Shows what is new to those who asked for it", Tags: []string{"web"}, Changed: stamp,
		})
		for entity := range 10 {
			add(&flag.Override{FlagKey: key, EntityID: fmt.Sprintf("user-%d", entity*flags+i), State: flag.Enabled, Value: flag.BoolValue(true), Changed: stamp})
		}
		if i%10 == 0 {
			add(&flag.Hold{FlagKey: key, Holder: "ops-anna", Reason: "it burns", Actor: "ops-anna", Since: moment, Changed: stamp})
		}
	}
	at := flag.Revision{StoreID: "s", Number: number}
	c := Copy{Snapshot: flag.NewSnapshot("test", at).With(at, slices.Values(edits)), WrittenAt: moment}
	c.Snapshot.Supersedes = []string{"former"}
	c.Tokens = []token.Token{
		{ID: "1", Name: "admin", Scopes: []token.Scope{token.Admin}, Hash: token.Hash("a"), CreatedAt: moment, CreatedBy: "bunting-serve"},
		{ID: "2", Name: "web", Scopes: []token.Scope{token.Evaluate, token.Read}, Prefix: "team-1", Hash: token.Hash("b"), CreatedAt: moment, CreatedBy: "admin", ExpiresAt: moment.Add(time.Hour), RevokedAt: moment.Add(time.Minute)},
	}
	return c
}

// written is a copy as its file holds it.
func written(tb testing.TB, c Copy) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := write(&b, c); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func readBytes(content []byte, environment string) (*Copy, error) {
	return read(bytes.NewReader(content), int64(len(content)), environment)
}

// sum tells copies apart by all that they hold but the time of writing.
func sum(c Copy) string {
	digest := sha256.New()
	for o := range c.Snapshot.Objects() {
		flag.Digest(digest, o.Ref(), o)
	}
	return fmt.Sprintf("%s %v %q %x %+v", c.Snapshot.Environment, c.Snapshot.Revision, c.Snapshot.Supersedes, digest.Sum(nil), c.Tokens)
}

// opened is a file in a folder of the test's own.
func opened(tb testing.TB) *File {
	tb.Helper()
	f, err := Open(filepath.Join(tb.TempDir(), "test-snapshot"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}

// files are the names and contents in a file's folder, but for the lock.
func files(tb testing.TB, f *File) map[string]string {
	tb.Helper()
	all, err := os.ReadDir(filepath.Dir(f.Path()))
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range all {
		if entry.Name() == filepath.Base(f.lock.Path()) || entry.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path()), entry.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		found[entry.Name()] = string(text)
	}
	return found
}

func names(of map[string]string) []string { return slices.Sorted(maps.Keys(of)) }
