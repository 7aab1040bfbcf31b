package endtoend

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// varying is what differs from run to run: times, the port, and where the provider lies.
var varying = regexp.MustCompile(`…|\d{4}-\d\d-\d\d|127\.0\.0\.1`)

// TestReadme runs what README.md shows, in its order, and looks for each line that it says comes out.
func TestReadme(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var shown []string // the commands, each with its output
	var w *workspace
	for language, text := range codeBlocks(readFile(t, "../README.md")) {
		switch {
		case language == "terraform" && strings.Contains(text, "required_providers"):
			w = emptyWorkspace(t)
			w.write(t, "main.tf", text)
			w.must(t, "fmt", "-check", "-diff")
		case language == "console":
			shown = append(shown, strings.Split("\n"+strings.TrimPrefix(text, "$ "), "\n$ ")...)
		}
	}
	if w == nil || len(shown) < 8 {
		t.Fatalf("the README has no configuration, or only the commands %q", shown)
	}
	w.env["BUNTING_ENDPOINT"], w.env["BUNTING_TOKEN"] = s.endpoint, s.token
	w.env["TF_CLI_ARGS"], w.env["TF_CLI_ARGS_apply"] = "-no-color", "-auto-approve"
	bin := t.TempDir()
	for name, path := range map[string]string{"terraform": cli(t), "bunting": program(t, "bunting")} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.env["PATH"] = bin + string(filepath.ListSeparator) + os.Getenv("PATH")

	for _, block := range shown {
		line, answer, _ := strings.Cut(strings.TrimPrefix(block, "\n"), "\n")
		switch program, _, _ := strings.Cut(line, " "); {
		case line == "", line == "bunting serve", program == "export":
			continue // the server runs, and its address is set
		case program == "curl":
			_, got := s.post(t, s.token, evaluatorService+"Evaluate", "application/json", []byte(`{"flagId": "shop/theme", "entityId": "acme"}`))
			_, rest, _ := strings.Cut(answer, "\n{")
			before, _, _ := strings.Cut("{"+rest, `,"storeId"`)
			if !strings.HasPrefix(strings.ReplaceAll(string(got), " ", ""), before) {
				t.Errorf("the README shows for curl\n%s\nthe answer is\n%s", before, got)
			}
			continue
		}
		out := finish(t, command(t, w.dir, w.env, "sh", "-c", line))
		if out.code != 0 {
			t.Fatalf("%s ended with %d:\n%s", line, out.code, out.text)
		}
		for expected := range strings.Lines(answer) {
			if !varying.MatchString(expected) {
				out.says(t, expected)
			}
		}
	}
}

// codeBlocks gives the fenced blocks of a Markdown text, each with its language.
func codeBlocks(text string) func(yield func(language, text string) bool) {
	return func(yield func(language, text string) bool) {
		for {
			_, rest, found := strings.Cut(text, "\n```")
			language, rest, _ := strings.Cut(rest, "\n")
			block, after, closed := strings.Cut(rest, "\n```")
			if !found || !closed || !yield(language, block) {
				return
			}
			text = after
		}
	}
}
