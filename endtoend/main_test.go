// Package endtoend proves the whole: both programs as users get them, a real Terraform CLI, real processes and files.
// Its tests want a CLI in TF_ACC_TERRAFORM_PATH, so run them through tools/with-terraform.sh, as make test does.
package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, redistest.Redials(), goleak.Cleanup(func(code int) {
		if builtDir != "" {
			_ = os.RemoveAll(builtDir)
		}
		os.Exit(code)
	}))
}

// builtDir is removed when all tests have ended; "" when nothing was built.
var builtDir string

// build makes both programs, once for all tests and only when one asks, so that listing tests costs nothing.
var build = sync.OnceValues(func() (dir string, err error) {
	if builtDir, err = os.MkdirTemp("", "bunting-endtoend-"); err != nil {
		return "", err
	}
	// Some tests run the server as a user without privilege, who must get at it.
	if err := os.Chmod(builtDir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", builtDir+string(filepath.Separator), ".", "./cmd/bunting")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build both programs: %w\n%s", err, out)
	}
	return builtDir, nil
})

// program gives the path of one of the two programs.
func program(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, name)
}
