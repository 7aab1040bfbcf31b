package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// driver goes through configurations: Terraform core in miniature, or the CLI.
type driver interface {
	// planConfig plans, and keeps the plan for applyPlan.
	planConfig(config []coreBlock) outcome
	applyPlan() outcome
	imports(b coreBlock, id string) outcome
	forget(address string)
	// objects gives the objects of the state, the deposed ones too.
	objects() []stateObject
}

// stateObject is what a state has of an object, as far as walks ask.
type stateObject struct {
	Address            string `json:"-"`
	Key                string `json:"key"`
	FlagKey            string `json:"flag_key"`
	EntityID           string `json:"entity_id"`
	Holder             string `json:"holder"`
	Type               string `json:"type"`
	OnDestroy          string `json:"on_destroy"`
	DeletionProtection bool   `json:"deletion_protection"`
	Engaged            bool   `json:"engaged"`
	ReleaseOnDestroy   bool   `json:"release_on_destroy"`
}

func (o *stateObject) ref() flag.Ref {
	switch coreKind(o.Address) {
	case "bunting_override":
		return flag.OverrideRef(flag.Key(o.FlagKey), o.EntityID)
	case "bunting_kill_switch":
		return flag.HoldRef(flag.Key(o.FlagKey), o.Holder)
	}
	return flag.FlagRef(flag.Key(o.Key))
}

// coreDriver drives core in miniature.
type coreDriver struct {
	*core
	saved *corePlan
}

func (d *coreDriver) planConfig(config []coreBlock) outcome {
	d.saved = d.plan(config, coreMode{})
	return d.saved.outcome
}

func (d *coreDriver) applyPlan() outcome { return d.apply(d.saved) }

func (d *coreDriver) objects() []stateObject {
	var all []stateObject
	for _, key := range d.state.keys() {
		all = append(all, readObject(d.t, key.address, d.state[key].json))
	}
	return all
}

func readObject(t failer, address string, text []byte) stateObject {
	t.Helper()
	o := stateObject{Address: address}
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	return o
}

// cliDriver drives the CLI.
type cliDriver struct {
	*cli
	saved []coreBlock
}

func (d *cliDriver) planConfig(config []coreBlock) outcome {
	d.saved = config
	d.file("main.tf.json", jsonConfig(d.t, config))
	return d.plans("-out=saved")
}

func (d *cliDriver) applyPlan() outcome { return d.run("apply", "-json", "-input=false", "saved") }

// imports takes an object into the configuration that was planned last.
func (d *cliDriver) imports(b coreBlock, id string) outcome {
	d.t.Helper()
	return d.run("import", "-input=false", "-no-color", b.address, id)
}

func (d *cliDriver) forget(address string) { d.run("state", "rm", address).must(d.t) }

func (d *cliDriver) objects() []stateObject {
	d.t.Helper()
	if _, err := os.Stat(filepath.Join(d.dir, "terraform.tfstate")); err != nil {
		return nil // nothing was applied yet
	}
	var state struct {
		Resources []struct {
			Type      string `json:"type"`
			Name      string `json:"name"`
			Instances []struct {
				Attributes json.RawMessage `json:"attributes"`
			} `json:"instances"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(d.state(), &state); err != nil {
		d.t.Fatal(err)
	}
	var all []stateObject
	for _, r := range state.Resources {
		for _, i := range r.Instances {
			all = append(all, readObject(d.t, r.Type+"."+r.Name, i.Attributes))
		}
	}
	return all
}

// jsonConfig writes a configuration in Terraform's JSON syntax.
func jsonConfig(t *testing.T, config []coreBlock) string {
	t.Helper()
	resources := map[string]map[string]map[string]any{}
	for _, b := range config {
		body := map[string]any{"lifecycle": map[string]bool{"create_before_destroy": b.createFirst}}
		for name, v := range b.attrs {
			text, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			body[name] = json.RawMessage(strings.NewReplacer("${", "$${", "%{", "%%{").Replace(string(text)))
		}
		for _, address := range b.after {
			body["flag_key"] = "${" + address + ".key}"
		}
		kind, name, _ := strings.Cut(b.address, ".")
		if resources[kind] == nil {
			resources[kind] = map[string]map[string]any{}
		}
		resources[kind][name] = body
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	document := map[string]any{"resource": resources}
	if len(resources) == 0 {
		document = map[string]any{}
	}
	if err := encoder.Encode(document); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var walkExpiry = time.Date(2199, 1, 2, 3, 4, 5, 0, time.UTC)

// ctyOf reads JSON text as Terraform reads the same literal.
func ctyOf(text string) cty.Value {
	typ, err := ctyjson.ImpliedType([]byte(text))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err)) // the texts stand in this package
	}
	v, err := ctyjson.Unmarshal([]byte(text), typ)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return v
}

func mustValue(typ flag.Type, text string) flag.Value {
	if text == "" {
		return flag.Value{}
	}
	v, err := flag.ParseValue(typ, text)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return v
}
