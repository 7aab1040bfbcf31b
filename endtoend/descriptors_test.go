package endtoend

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// bufTool gives the path of buf. make has built it before it runs the tests; without make's help it is built now, once.
var bufTool = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../.tools/buf")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if out, err := exec.Command("make", "-C", "..", ".tools/buf").CombinedOutput(); err != nil {
		return "", errors.New("build .tools/buf, which the example of descriptors needs, with make: " + err.Error() + "\n" + string(out))
	}
	return path, nil
})

// TestDescriptorsExample builds the example with buf, as its page says, in every way in which builders differ, and takes
// it to a server.
func TestDescriptorsExample(t *testing.T) {
	t.Parallel()
	buf, err := bufTool()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../examples/descriptors")); err != nil {
		t.Fatal(err)
	}
	const options = "proto/pbflags/options.proto"
	if readFile(t, filepath.Join(dir, options)) != readFile(t, "../"+options) {
		t.Error("the example's copy of options.proto differs from " + options)
	}
	run := func(program string, args ...string) output { return finish(t, command(t, dir, nil, program, args...)) }
	must := func(program string, args ...string) {
		t.Helper()
		if out := run(program, args...); out.code != 0 {
			t.Fatalf("%s %s ended with %d:\n%s", filepath.Base(program), strings.Join(args, " "), out.code, out.text)
		}
	}
	bunting := program(t, "bunting")
	must(buf, "format", "--diff", "--exit-code")
	must(buf, "lint")
	must(buf, "build", "-o", "flags.binpb")
	for name, args := range map[string][]string{
		"alone.binpb": {"--exclude-imports"},
		"bare.binpb":  {"--exclude-source-info"},
		"plain.binpb": {"--as-file-descriptor-set"},
		"part.binpb":  {"--path", "proto/shop"},
	} {
		must(buf, append([]string{"build", "-o", name}, args...)...)
		out := run(bunting, "lint", "--descriptors", name, "--against", "flags.binpb")
		if out.code != 0 {
			t.Errorf("%v: exit code %d", args, out.code)
		}
		out.says(t, "Both declare the same flags.")
	}

	s := startServer(t)
	file := filepath.Join(dir, "flags.binpb")
	s.operate(t, s.token, "sync", "--descriptors", file, "--dry-run").says(t, "3 to create, 0 unchanged. Nothing is written (--dry-run).")
	s.operate(t, s.token, "sync", "--descriptors", file).says(t,
		"create notifications/1 Notifications.email type=bool, default=true, layer=user",
		"create notifications/2 Notifications.frequency type=string, default=\"daily\", layer=tenant",
		"create notifications/3 Notifications.retries type=int, default=0")
	s.operate(t, s.token, "eval", "notifications/2").says(t, "notifications/2 \"daily\" string DEFAULT 2")

	source := filepath.Join(dir, "proto", "shop", "flags", "v1", "flags.proto")
	changed := strings.Replace(readFile(t, source), "int32 retries", "bool retries", 1)
	if err := os.WriteFile(source, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	must(buf, "build", "-o", "next.binpb")
	out := run(bunting, "lint", "--descriptors", "next.binpb", "--against", "flags.binpb")
	if out.code != 6 {
		t.Errorf("exit code %d", out.code)
	}
	out.says(t, "breaking notifications/3 Notifications.retries type int bool")
	if out := s.bunting(t, s.token, "sync", "--descriptors", filepath.Join(dir, "next.binpb")); out.code != 4 {
		t.Errorf("exit code %d:\n%s", out.code, out.text)
	}
}
