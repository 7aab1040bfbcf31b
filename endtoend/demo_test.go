package endtoend

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDemo runs tools/demo.sh, which is what make demo does.
func TestDemo(t *testing.T) {
	t.Parallel()
	env, temp := demoEnvironment(t)
	out := finish(t, command(t, "..", env, "tools/demo.sh"))
	if out.code != 0 {
		t.Fatalf("the demo ended with %d:\n%s", out.code, out.text)
	}
	out.says(t, "Apply complete!", `new_cart = "true (GLOBAL)"`, `Warning: Flag "checkout/new-cart" is held killed by ops-anna`,
		"KILLED", "Destroy complete!")
	if strings.Contains(out.text, "development overrides") {
		t.Errorf("the demo shows what is no part of the story:\n%s", out.text)
	}
	nothingIsLeft(t, temp)
}

// TestDemoFails: a demo that cannot go on says what failed, shows the log and cleans up.
func TestDemoFails(t *testing.T) {
	t.Parallel()
	env, temp := demoEnvironment(t)
	broken := filepath.Join(t.TempDir(), "terraform")
	script := "#!/bin/sh\n[ \"$1\" = version ] && exec \"" + cli(t) + "\" version\necho 'the disk is on fire' >&2\nexit 3\n"
	if err := os.WriteFile(broken, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	env["TF_ACC_TERRAFORM_PATH"] = broken
	out := finish(t, command(t, "..", env, "tools/demo.sh"))
	if out.code != 1 {
		t.Errorf("the demo ended with %d, expected 1", out.code)
	}
	out.says(t, "demo: terraform apply failed", "the disk is on fire")
	nothingIsLeft(t, temp)
}

// TestDemoIsInterrupted: Ctrl-C reaches every process of the terminal, and nothing is left.
func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel()
	env, temp := demoEnvironment(t)
	cmd := command(t, "..", env, "tools/demo.sh")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	interrupted := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "terraform apply") && !interrupted {
			interrupted = true
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if !interrupted || cmd.ProcessState.ExitCode() == 0 {
		t.Errorf("interrupted: %v; the demo ended with %s", interrupted, cmd.ProcessState)
	}
	nothingIsLeft(t, temp)
}

// demoEnvironment gives an environment in which all that the demo makes lies in one folder.
func demoEnvironment(t *testing.T) (env map[string]string, temp string) {
	t.Helper()
	temp = t.TempDir()
	env = map[string]string{
		"TMPDIR": temp, "TF_ACC_TERRAFORM_PATH": cli(t),
		// Settings of the user's own must make no difference.
		"BUNTING_ENDPOINT": "http://127.0.0.1:1", "BUNTING_WORKSPACE": "somebody", "TF_CLI_ARGS": "-nonsense",
	}
	// Go's caches: the demo is quick where something was built before.
	for _, name := range []string{"HOME", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	return env, temp
}

// nothingIsLeft fails the test when a file is in the folder or a process was started from it.
func nothingIsLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range programs {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, temp) {
			t.Errorf("still running: %s (%s)", path, link)
		}
	}
}
