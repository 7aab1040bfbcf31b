package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"
)

// workspace is a folder with a configuration, its state and the settings that the CLI runs with.
type workspace struct {
	dir string
	env map[string]string
}

// requirements names the provider's address, which a snippet of the documentation leaves out.
const requirements = `terraform {
  required_providers {
    bunting = {
      source = "bunting-flags/bunting"
    }
  }
}
`

// newWorkspace makes a workspace for the server from a configuration without its requirements.
func newWorkspace(t *testing.T, s *server, config string) *workspace {
	t.Helper()
	w := emptyWorkspace(t)
	w.env["BUNTING_ENDPOINT"], w.env["BUNTING_TOKEN"] = s.endpoint, s.token
	w.write(t, "requirements.tf", requirements)
	w.write(t, "main.tf", config)
	return w
}

// emptyWorkspace makes a workspace without a configuration and a server.
func emptyWorkspace(t *testing.T) *workspace {
	t.Helper()
	// The CLI's own settings stand outside of the folder, so that everything in it comes from a run.
	settings := filepath.Join(t.TempDir(), "cli.tfrc")
	plugins := filepath.ToSlash(filepath.Dir(program(t, "terraform-provider-bunting")))
	text := fmt.Sprintf(`provider_installation {
  dev_overrides {
    "registry.terraform.io/bunting-flags/bunting" = %[1]q
    "registry.opentofu.org/bunting-flags/bunting" = %[1]q
  }
  direct {}
}
`, plugins)
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &workspace{dir: t.TempDir(), env: map[string]string{
		"TF_CLI_CONFIG_FILE": settings, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
	}}
}

// exampleWorkspace makes a workspace for the server from a copy of an example.
func exampleWorkspace(t *testing.T, s *server, name string) *workspace {
	t.Helper()
	w := emptyWorkspace(t)
	w.env["BUNTING_ENDPOINT"], w.env["BUNTING_TOKEN"] = s.endpoint, s.token
	if err := os.CopyFS(w.dir, os.DirFS(filepath.Join("..", "examples", name))); err != nil {
		t.Fatal(err)
	}
	return w
}

// write writes a file of the configuration.
func (w *workspace) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// cli gives the path of the Terraform CLI.
func cli(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if path == "" {
		t.Fatal("TF_ACC_TERRAFORM_PATH names no Terraform CLI. Run these tests through tools/with-terraform.sh, as make test does.")
	}
	return path
}

// run runs the CLI: a command, then its arguments.
func (w *workspace) run(t *testing.T, subcommand string, args ...string) output {
	t.Helper()
	all := []string{subcommand}
	switch subcommand {
	case "apply", "destroy":
		all = append(all, "-auto-approve", "-input=false")
	case "plan", "import":
		all = append(all, "-input=false")
	}
	if subcommand != "state" {
		all = append(all, "-no-color")
	}
	return finish(t, command(t, w.dir, w.env, cli(t), append(all, args...)...))
}

// must runs the CLI and fails the test when that does not go well.
func (w *workspace) must(t *testing.T, subcommand string, args ...string) output {
	t.Helper()
	out := w.run(t, subcommand, args...)
	if out.code != 0 {
		t.Fatalf("terraform %s %s ended with %d:\n%s", subcommand, strings.Join(args, " "), out.code, out.text)
	}
	return out
}

// planIsEmpty fails the test when there is something to do.
func (w *workspace) planIsEmpty(t *testing.T, args ...string) {
	t.Helper()
	if out := w.run(t, "plan", append(args, "-detailed-exitcode")...); out.code != 0 {
		t.Fatalf("the plan is not empty (exit code %d):\n%s", out.code, out.text)
	}
}

// plan makes a plan and gives its changes by address, the empty ones left out.
func (w *workspace) plan(t *testing.T, args ...string) map[string]*tfjson.Change {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plan")
	w.must(t, "plan", append(args, "-out="+file)...)
	shown := w.must(t, "show", "-json", file)
	var plan tfjson.Plan
	if err := json.Unmarshal([]byte(shown.stdout), &plan); err != nil {
		t.Fatalf("read the plan: %v\n%s", err, shown.stdout)
	}
	changes := map[string]*tfjson.Change{}
	for _, change := range plan.ResourceChanges {
		if !change.Change.Actions.NoOp() && !change.Change.Actions.Read() {
			changes[change.Address] = change.Change
		}
	}
	return changes
}

// state gives the state file as it is.
func (w *workspace) state(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join(w.dir, "terraform.tfstate"))
}
