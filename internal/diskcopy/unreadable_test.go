//go:build unix

package diskcopy

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// Nothing is known to be wrong with a file that cannot be read, or that another
// version has written: it stays where it is.
func TestAnUnreadableFileStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		put  func(path string) error
		says string
	}{
		// Not even root can open a link to itself.
		"cannot be opened": {func(path string) error { return os.Symlink(path, path) }, "cannot be opened"},
		"a newer format":   {func(path string) error { return os.WriteFile(path, sealed("bunting snapshot 2\nwho knows"), 0o600) }, "is of the format 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := opened(t)
			if err := c.put(f.Path()); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(f.Path())
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Load("test")
			if got != nil || err == nil || errors.Is(err, ErrSetAside) || !strings.Contains(err.Error(), f.Path()+" "+c.says) {
				t.Errorf("got %v, %v", got, err)
			}
			if after, err := os.Lstat(f.Path()); err != nil || !os.SameFile(before, after) {
				t.Errorf("it is another file now: %v", err)
			}
		})
	}
}
