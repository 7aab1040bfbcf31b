//go:build unix

package sqlite

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// nobody is a user without rights, as whom the tests go on when they run as
// root, whom file modes do not stop.
const nobody = 65534

func TestFilesArePrivate(t *testing.T) {
	path := newPath(t)
	s := open(t, path, "test")
	apply(t, s, flag.Put(numberedFlag("a", 1)))
	for _, suffix := range []string{"", "-wal", "-shm", "-lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s%s has mode %v (%v), want 0600", path, suffix, info.Mode(), err)
		}
	}
}

// TestReadOnly opens databases that the user may not write, in another process
// without root's rights.
func TestReadOnly(t *testing.T) {
	root, err := os.MkdirTemp("", "bunting-read-only-") //nolint:usetesting // Into t.TempDir nobody but its maker may look.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	program := copyOf(t, itself(t), filepath.Join(root, "program"))
	cases := []struct {
		name         string
		exists       bool
		locked       bool // its lock file is there too
		file, folder os.FileMode
		says         []string
	}{
		{"file", true, false, 0o400, 0o700, []string{"this user may not write to the file"}},
		{"file that cannot be read", true, false, 0o200, 0o700, []string{"this user may not write to the file"}},
		{"folder", true, false, 0o600, 0o500, []string{"cannot be written to", "Let this user write there"}},
		{"folder of an empty place", false, false, 0, 0o500, []string{"cannot be written to", "Let this user write there"}},
		{"folder with a lock in it", true, true, 0o600, 0o500, []string{"the file is read-only", "to its folder"}},
		{"nothing", true, true, 0o600, 0o700, []string{"open"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			folder := filepath.Join(root, strings.ReplaceAll(c.name, " ", "-"))
			path := filepath.Join(folder, "bunting.db")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.exists {
				copyOf(t, made(t), path)
				if err := os.Chmod(path, c.file); err != nil {
					t.Fatal(err)
				}
			}
			if c.locked {
				if err := os.WriteFile(path+"-lock", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if os.Geteuid() == 0 {
				for _, name := range []string{root, folder, path, path + "-lock"} {
					if err := os.Chown(name, nobody, nobody); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
				}
			}
			if err := os.Chmod(folder, c.folder); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(folder, 0o700) })

			cmd := startChild(t.Context(), program, "open", path)
			cmd.Dir = root
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			output, err := cmd.CombinedOutput()
			if c.name != "nothing" && err == nil {
				t.Error("opened")
			}
			for _, part := range c.says {
				if !strings.Contains(string(output), part) {
					t.Errorf("it does not say %q: %s (%v)", part, output, err)
				}
			}
		})
	}
}

// TestALockFileOfAnotherUser begins after somebody ran the server once as
// another user: the database was given to the right one, its lock file was not.
func TestALockFileOfAnotherUser(t *testing.T) {
	for _, mode := range []os.FileMode{0o000, 0o444} {
		folder, err := os.MkdirTemp("", "bunting-lock-") //nolint:usetesting // Into t.TempDir nobody but its maker may look.
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(folder); err != nil {
				t.Error(err)
			}
		})
		program := copyOf(t, itself(t), filepath.Join(folder, "program"))
		path := filepath.Join(folder, "bunting.db")
		copyOf(t, made(t), path)
		if err := os.WriteFile(path+"-lock", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path+"-lock", mode); err != nil {
			t.Fatal(err)
		}
		cmd := startChild(t.Context(), program, "open", path)
		cmd.Dir = folder
		if os.Geteuid() == 0 {
			for _, name := range []string{folder, path} { // the lock file stays root's
				if err := os.Chown(name, nobody, nobody); err != nil {
					t.Fatal(err)
				}
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		output, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "this user may not open its lock file "+path+"-lock") || !strings.Contains(string(output), "start bunting as that user, or give") {
			t.Errorf("mode %o: %s (%v)", mode, output, err)
		}
	}
}

// copyOf copies a file to one that everybody may run.
func copyOf(t *testing.T, from, to string) string {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}
