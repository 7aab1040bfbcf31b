package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bunting-flags/terraform-provider-bunting"

// arrows says which of our packages each package may import. Arrows point down
// only; a package that is not listed fails the test, so that whoever adds one
// decides its place. Entry points (programs and buntingtest) are the only ones
// that may import provider or server. Tests may import what they need.
var arrows = map[string][]string{
	"":                                {"internal/provider"},
	"cmd/bunting":                     {"definitioncache", "internal/server", "internal/document", "internal/configuration", "internal/telemetry", "internal/diskcopy", "internal/evaluator", "internal/store", "internal/store/sqlite", "internal/store/postgres", "internal/client", "internal/descriptor", "internal/token", "internal/flag"},
	"buntingtest":                     {"internal/server", "internal/evaluator", "internal/store", "internal/store/sqlite", "internal/token", "internal/flag"},
	"tools/providerschema":            {"internal/provider"},
	"tools/testreport":                {},
	"bench":                           {"internal/client", "internal/flag"},
	"bench/nothing":                   {"internal/provider"},
	"internal/provider":               {"internal/client", "internal/flag"},
	"internal/client":                 {"definitioncache", "definitioncache/redis", "internal/wire", "internal/token", "internal/flag", "gen/bunting/v1", "gen/bunting/v1/buntingv1connect", "gen/pbflags/v1", "gen/pbflags/v1/pbflagsv1connect"},
	"internal/telemetry":              {"definitioncache", "internal/store", "internal/token", "internal/flag", "gen/bunting/v1", "gen/bunting/v1/buntingv1connect", "gen/pbflags/v1", "gen/pbflags/v1/pbflagsv1connect"},
	"internal/server":                 {"internal/telemetry", "internal/evaluator", "internal/client", "internal/store", "internal/wire", "internal/token", "internal/flag", "gen/bunting/v1", "gen/bunting/v1/buntingv1connect", "gen/pbflags/v1", "gen/pbflags/v1/pbflagsv1connect"},
	"internal/configuration":          {"internal/client", "internal/yamlfile"},
	"internal/yamlfile":               {},
	"internal/document":               {"internal/yamlfile", "internal/flag"},
	"internal/diskcopy":               {"internal/wire", "internal/token", "internal/flag", "gen/bunting/v1"},
	"internal/evaluator":              {"definitioncache", "internal/store", "internal/client", "internal/wire", "internal/token", "internal/flag"},
	"internal/descriptor":             {"internal/flag", "gen/pbflags"},
	"internal/descriptor/settest":     {"gen/pbflags"},
	"internal/store/sqlite":           {"internal/store", "internal/token", "internal/flag"},
	"internal/store/postgres":         {"internal/store", "internal/token", "internal/flag"},
	"internal/store/postgrestest":     {},
	"internal/store/storetest":        {"internal/store", "internal/token", "internal/flag"},
	"internal/store":                  {"internal/token", "internal/flag"},
	"internal/wire":                   {"definitioncache", "internal/token", "internal/flag", "gen/bunting/v1", "gen/pbflags/v1"},
	"internal/token":                  {"internal/flag"},
	"internal/flag":                   {},
	"definitioncache":                 {},
	"definitioncache/cachetest":       {"definitioncache"},
	"definitioncache/redis":           {"definitioncache"},
	"internal/redistest":              {},
	"gen/bunting/v1":                  {"gen/pbflags/v1"},
	"gen/pbflags":                     {},
	"gen/pbflags/v1":                  {},
	"gen/bunting/v1/buntingv1connect": {"gen/bunting/v1"},
	"gen/pbflags/v1/pbflagsv1connect": {"gen/pbflags/v1"},
	"endtoend":                        {},
}

func TestArrowsPointDown(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := arrows[name]
		if !known {
			t.Errorf("%s has no place in the house: add it to arrows in arrows_test.go, and to CONTRIBUTING.md", p.ImportPath)
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which no arrow allows", p.ImportPath, imported)
			}
		}
	}
}

// The plugin runs in other people's pipelines, once for each walk of each plan:
// it links no database and no server.
func TestThePluginLinksNoServer(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "-deps", ".") {
		for _, banned := range []string{module + "/internal/server", module + "/internal/store", module + "/internal/evaluator", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/lib/pq", "database/sql", module + "/internal/telemetry", "github.com/prometheus", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters"} {
			if p.ImportPath == banned || strings.HasPrefix(p.ImportPath, banned+"/") {
				t.Errorf("the plugin links %s", p.ImportPath)
			}
		}
	}
}

// Only what the standard library and well-known leaf packages give may reach
// the domain: it does no input or output.
func TestTheDomainDoesNoInputOrOutput(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./internal/flag") {
		for _, imported := range p.Imports {
			if slices.Contains([]string{"os", "net", "net/http", "database/sql", "log", "log/slog", "context"}, imported) {
				t.Errorf("internal/flag imports %s", imported)
			}
		}
	}
}

type goPackage struct {
	ImportPath string   `json:"ImportPath"` //nolint:tagliatelle // As go list writes it.
	Imports    []string `json:"Imports"`    //nolint:tagliatelle // As go list writes it.
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, &stderr)
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("read what go list %v prints: %v", args, err)
		}
		packages = append(packages, p)
	}
}
