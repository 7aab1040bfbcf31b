//go:build unix

package descriptor

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A shell hands the output of a command over as a pipe: good to read once, but
// who watches it would wait for a writer for ever.
func TestPipes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Watch(WatchOptions{Path: path}); err == nil || !strings.HasSuffix(err.Error(), "it is no plain file, so it cannot be watched. Write the set to a file") {
		t.Errorf("watched: %v", err)
	}
	written := make(chan error, 1)
	content := flags(t, "one")
	go func() { written <- os.WriteFile(path, content, 0o600) }()
	set, err := Load(path)
	if err != nil || set.Len() != 1 {
		t.Errorf("read: %v", err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
