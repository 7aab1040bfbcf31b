package descriptor

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestAFileThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "flags.binpb")
	write(t, path, flags(t, "one"))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		// Modes do not stop root, so this one thread gives the privilege up; it ends with the goroutine.
		runtime.LockOSThread()
		_ = syscall.Setfsuid(65534)
		_, err := Load(path)
		read <- err
	}()
	if err := <-read; err == nil || !strings.HasSuffix(err.Error(), " cannot be used: permission denied") {
		t.Errorf("read: %v", err)
	}
}
