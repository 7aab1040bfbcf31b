package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// factories serve the provider in process to plugin-testing.
func factories(t *testing.T) map[string]func() (tfprotov6.ProviderServer, error) {
	t.Helper()
	var mu sync.Mutex
	var made []*buntingProvider
	t.Cleanup(func() {
		for _, p := range made {
			p.Close()
		}
	})
	return map[string]func() (tfprotov6.ProviderServer, error){
		"bunting": func() (tfprotov6.ProviderServer, error) {
			p := &buntingProvider{version: "0.0.0-test"}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, p)
			return providerserver.NewProtocol6WithError(p)()
		},
	}
}

// configured puts a provider block for the server before a configuration.
func configured(server *buntingtest.Server, settings, body string) string {
	return fmt.Sprintf("provider \"bunting\" {\n  endpoint = %q\n  token = %q\n%s\n}\n%s", server.Endpoint, server.AdminToken, settings, body)
}

// operator is a person with a token of their own.
type operator struct {
	t *testing.T
	*client.Client
}

func newOperator(t *testing.T, server *buntingtest.Server, name string) operator {
	t.Helper()
	return operator{t, newClient(t, server, server.NamedToken(t, name, "", "admin"))}
}

func newClient(t *testing.T, server *buntingtest.Server, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Endpoint: server.Endpoint, Token: token, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// does makes changes, each of which must be accepted.
func (o operator) does(changes ...flag.Change) {
	o.t.Helper()
	for _, change := range changes {
		if _, err := o.Write(context.Background(), change); err != nil {
			o.t.Fatalf("%s %s: %v", change.Op, change.Ref, err)
		}
	}
}

// sees gives a flag as the server has it; nil for none.
func (o operator) sees(key string) *flag.Flag {
	o.t.Helper()
	f, _, err := o.Flag(context.Background(), flag.Key(key))
	if err != nil {
		o.t.Fatal(err)
	}
	return f
}

func (o operator) seesHolds(key string) []string {
	o.t.Helper()
	holds, err := o.Holds(context.Background(), flag.Key(key))
	if err != nil {
		o.t.Fatal(err)
	}
	var holders []string
	for _, h := range holds {
		holders = append(holders, h.Holder)
	}
	return holders
}

func (o operator) seesOverride(key, entity string) *flag.Override {
	o.t.Helper()
	override, err := o.Override(context.Background(), flag.Key(key), entity)
	if err != nil {
		o.t.Fatal(err)
	}
	return override
}

// changes gives the change that alters a flag as an operator does.
func (o operator) changes(key string, alter func(*flag.Flag)) flag.Change {
	o.t.Helper()
	f := *o.sees(key)
	alter(&f)
	return flag.Put(&f)
}

func kill(key, holder string) flag.Change {
	return flag.Put(&flag.Hold{FlagKey: flag.Key(key), Holder: holder, Reason: "it burns"})
}

func remove(op flag.Op, ref flag.Ref) flag.Change { return flag.Change{Op: op, Ref: ref} }

// boolFlag is a flag that serves true while enabled.
func boolFlag(key string) *flag.Flag {
	return &flag.Flag{Key: flag.Key(key), Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled}
}

// cli is a working folder of the Terraform CLI, with the plugin as a program of
// its own, as people run it.
type cli struct {
	t   *testing.T
	dir string
	env []string
}

// pluginFolder holds the built plugin; TestMain removes it.
var pluginFolder string

// plugin builds the plugin once.
var plugin = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bunting-plugin-")
	if err != nil {
		return "", err
	}
	pluginFolder = dir
	_, file, _, _ := runtime.Caller(0)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "terraform-provider-bunting"), ".")
	build.Dir, build.Env = filepath.Join(filepath.Dir(file), "..", ".."), append(os.Environ(), "XDG_CACHE_HOME="+userCache)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the plugin: %w\n%s", err, out)
	}
	return dir, nil
})

func newCLI(t *testing.T, endpoint, token string) *cli {
	t.Helper()
	built, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	c := &cli{t: t, dir: t.TempDir()}
	rc := filepath.Join(c.dir, "cli.tfrc")
	c.file("cli.tfrc", fmt.Sprintf(`provider_installation {
  dev_overrides {
    "registry.terraform.io/bunting-flags/bunting" = %q
    "registry.opentofu.org/bunting-flags/bunting" = %q
  }
  direct {}
}`, built, built))
	c.file("versions.tf", `terraform {
  required_providers {
    bunting = { source = "bunting-flags/bunting" }
  }
}`)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TF_") && !strings.HasPrefix(variable, "BUNTING_") {
			c.env = append(c.env, variable)
		}
	}
	c.env = append(c.env, "TF_CLI_CONFIG_FILE="+rc, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "BUNTING_ENDPOINT="+endpoint, "BUNTING_TOKEN="+token,
		cacheDirectoryVariable+"="+filepath.Join(c.dir, "cache"))
	return c
}

// alone has a CLI share no definitions with its other runs.
func (c *cli) alone() *cli {
	c.env = append(c.env, cacheDirectoryVariable+"=")
	return c
}

func (c *cli) file(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// config writes the configuration.
func (c *cli) config(text string) { c.t.Helper(); c.file("main.tf", text) }

// told is a diagnostic as `-json` gives it.
type told struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	Address  string `json:"address"`
}

func (d told) String() string { return d.Severity + ": " + d.Summary + "\n" + d.Detail }

// outcome is what a run of the CLI came to.
type outcome struct {
	code  int
	text  string // all output
	diags []told
	// Planned actions by address, and what the plan or apply counted.
	actions map[string]string
}

// run runs the CLI; with -json among the arguments its messages are read.
func (c *cli) run(args ...string) outcome {
	c.t.Helper()
	path := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if path == "" {
		var err error
		if path, err = exec.LookPath("terraform"); err != nil {
			c.t.Fatal("no Terraform CLI: set TF_ACC_TERRAFORM_PATH, or run tools/with-terraform.sh go test")
		}
	}
	var out bytes.Buffer
	command := exec.CommandContext(c.t.Context(), path, args...)
	command.Dir, command.Env, command.Stdout, command.Stderr = c.dir, c.env, &out, &out
	err := command.Run()
	o := outcome{code: command.ProcessState.ExitCode(), text: out.String(), actions: map[string]string{}}
	if err != nil && o.code < 0 {
		c.t.Fatalf("%v: %v\n%s", args, err, o.text)
	}
	for line := range strings.SplitSeq(o.text, "\n") {
		var message struct {
			Type       string `json:"type"`
			Diagnostic told   `json:"diagnostic"`
			Change     struct {
				Resource struct {
					Addr string `json:"addr"`
				} `json:"resource"`
				Action string `json:"action"`
			} `json:"change"`
		}
		if json.Unmarshal([]byte(line), &message) != nil {
			continue
		}
		switch message.Type {
		case "diagnostic":
			o.diags = append(o.diags, message.Diagnostic)
		case "planned_change":
			o.actions[message.Change.Resource.Addr] = message.Change.Action
		}
	}
	return o
}

// plans, applies and destroys run the command with -json.
func (c *cli) plans(args ...string) outcome {
	c.t.Helper()
	return c.run(append([]string{"plan", "-json", "-input=false"}, args...)...)
}

func (c *cli) applies(args ...string) outcome {
	c.t.Helper()
	return c.run(append([]string{"apply", "-json", "-auto-approve", "-input=false"}, args...)...)
}

func (c *cli) destroys(args ...string) outcome {
	c.t.Helper()
	return c.applies(append([]string{"-destroy"}, args...)...)
}

// must asks for success.
func (o outcome) must(t *testing.T) outcome {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.text)
	}
	return o
}

// fails asks for one error, and gives it.
func (o outcome) fails(t *testing.T) told {
	t.Helper()
	errors := o.of("error")
	if o.code != 1 || len(errors) != 1 {
		t.Fatalf("exit code %d, want one error\n%s", o.code, o.text)
	}
	return errors[0]
}

// of gives the diagnostics of a severity, without what Terraform says of
// dev_overrides.
func (o outcome) of(severity string) []told {
	return slices.DeleteFunc(slices.Clone(o.diags), func(d told) bool {
		return d.Severity != severity || strings.Contains(d.Summary, "development overrides")
	})
}

// unchanged asks that the plan has nothing to do.
func (c *cli) unchanged() {
	c.t.Helper()
	if o := c.plans("-detailed-exitcode"); o.code != 0 || len(o.actions) > 0 {
		c.t.Fatalf("the plan is not empty (exit code %d)\n%s", o.code, o.text)
	}
}

func (c *cli) state() []byte {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "terraform.tfstate"))
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}
