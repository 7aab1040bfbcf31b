package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamplesAreFormattedAndValid covers every folder with a configuration.
func TestExamplesAreFormattedAndValid(t *testing.T) {
	t.Parallel()
	w := emptyWorkspace(t)
	if out := finish(t, command(t, "../examples", w.env, cli(t), "fmt", "-check", "-recursive", "-diff", "-no-color")); out.code != 0 {
		t.Errorf("not formatted:\n%s", out.text)
	}
	var folders []string
	err := filepath.WalkDir("../examples", func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".tf" {
			if dir := filepath.Dir(path); len(folders) == 0 || folders[len(folders)-1] != dir {
				folders = append(folders, dir)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) < 11 {
		t.Fatalf("found only the examples %q", folders)
	}
	for _, folder := range folders {
		t.Run(strings.TrimPrefix(filepath.ToSlash(folder), "../examples/"), func(t *testing.T) {
			t.Parallel()
			snippetWorkspace(t, folder).must(t, "validate")
		})
	}
}

// TestResourceExamples applies each resource's example to a fresh server with the scopes that the documentation asks
// for, imports by the example's command, and destroys.
func TestResourceExamples(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"bunting_flag", "bunting_override", "bunting_kill_switch"} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			w := snippetWorkspace(t, "../examples/resources/"+resource)
			w.env["BUNTING_ENDPOINT"], w.env["BUNTING_TOKEN"] = s.endpoint, s.newToken(t, "ci", "SCOPE_WRITE", "SCOPE_KILL")
			// Nothing is there to import yet.
			const blockFile = "import-by-string-id.tf"
			block := readFile(t, filepath.Join(w.dir, blockFile))
			w.write(t, blockFile, "")
			w.must(t, "apply")
			w.planIsEmpty(t)

			// The example's command runs as it is written; its `terraform` is the CLI of this run.
			bin := t.TempDir()
			if err := os.Symlink(cli(t), filepath.Join(bin, "terraform")); err != nil {
				t.Fatal(err)
			}
			script := readFile(t, filepath.Join(w.dir, "import.sh"))
			_, arguments, _ := strings.Cut(script, "terraform import ")
			address, _, _ := strings.Cut(arguments, " ")
			w.must(t, "state", "rm", address)
			w.write(t, blockFile, block)
			w.must(t, "apply")
			w.planIsEmpty(t)
			w.write(t, blockFile, "")
			w.must(t, "state", "rm", address)
			importing := command(t, w.dir, w.env, "sh", "import.sh")
			importing.Env = append(importing.Env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			if out := finish(t, importing); out.code != 0 {
				t.Fatalf("import.sh ended with %d:\n%s", out.code, out.text)
			}
			// What the server does not know, like release_on_destroy, is planned again; nothing else is.
			for address, change := range w.plan(t) {
				if !change.Actions.Update() {
					t.Errorf("after the import %s is planned to %v", address, change.Actions)
				}
			}
			w.must(t, "apply")
			w.planIsEmpty(t)

			if resource == "bunting_flag" {
				out := w.run(t, "destroy")
				if out.code != 1 {
					t.Errorf("destroying a protected flag ended with %d, expected 1", out.code)
				}
				out.says(t, "deletion_protection")
				w.write(t, "resource.tf", strings.Replace(readFile(t, filepath.Join(w.dir, "resource.tf")),
					"deletion_protection = true", "deletion_protection = false", 1))
				w.must(t, "apply")
			}
			w.must(t, "destroy")
		})
	}
}

// TestDataSourceExamples applies each data source's example where the flags that it names exist.
func TestDataSourceExamples(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	newWorkspace(t, s, readFile(t, "../examples/resources/bunting_flag/resource.tf")+`
resource "bunting_override" "acme" {
  flag_key  = bunting_flag.theme.key
  entity_id = "acme"
  value     = "dark"
}
`).must(t, "apply")
	evaluate, read := s.newToken(t, "evaluating", "SCOPE_EVALUATE"), s.newToken(t, "reading", "SCOPE_READ")
	for source, test := range map[string]struct {
		token string // of the smallest scope that will do
		says  []string
	}{
		"bunting_evaluation":  {evaluate, []string{`new_cart = true`, `theme_of_acme = "dark (OVERRIDE)"`}},
		"bunting_evaluations": {read, []string{`theme_of_acme = "dark"`, `free_shipping = false`, `killed = []`}},
		"bunting_flag":        {read, []string{`owner_of_new_cart = "team-checkout"`}},
		"bunting_flags":       {read, []string{`held = {}`, `"checkout/new-cart" = true`}},
		"bunting_server":      {evaluate, []string{`environment = "default"`}},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			w := snippetWorkspace(t, "../examples/data-sources/"+source)
			w.env["BUNTING_ENDPOINT"], w.env["BUNTING_TOKEN"] = s.endpoint, test.token
			w.must(t, "apply").says(t, test.says...)
			w.planIsEmpty(t)
		})
	}
}

// TestGettingStarted applies the first example that a newcomer meets, throws its switch and destroys it.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := exampleWorkspace(t, s, "getting-started")
	w.must(t, "apply").says(t, `new_cart = "true (GLOBAL)"`, "max_items = 50", `"acme" = "dark"`, `"everybody" = "blue"`)
	w.planIsEmpty(t)
	w.must(t, "apply", "-var=stop_new_cart=true").says(t, `new_cart = "false (KILLED)"`)
	w.planIsEmpty(t, "-var=stop_new_cart=true")
	w.must(t, "apply").says(t, `new_cart = "true (GLOBAL)"`)
	w.must(t, "apply", "-var=stop_new_cart=true")
	w.must(t, "destroy", "-var=stop_new_cart=true")
	w.must(t, "apply").says(t, `new_cart = "true (GLOBAL)"`)
}

// snippetWorkspace makes a workspace from a copy of the folder, with the requirements that a snippet leaves out.
func snippetWorkspace(t *testing.T, folder string) *workspace {
	t.Helper()
	w := emptyWorkspace(t)
	if err := os.CopyFS(w.dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	// Terraform 1.11 and OpenTofu know no identity in an import block; internal/provider imports by these in process.
	if err := os.RemoveAll(filepath.Join(w.dir, "import-by-identity.tf")); err != nil {
		t.Fatal(err)
	}
	texts, err := filepath.Glob(filepath.Join(w.dir, "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range texts {
		if strings.Contains(readFile(t, path), "required_providers") {
			return w
		}
	}
	w.write(t, "requirements.tf", requirements)
	return w
}
