package provider

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// Every diagnostic of the provider stands in one file, for a reviewer who reads
// it from top to bottom: is it one voice, and does each say what was expected,
// what was found, and what to do next? `go test ./internal/provider -run
// TestWording -update` writes it anew. TestWordingIsComplete keeps it whole.
const wordingFile = "testdata/diagnostics.golden"

var update = flag.Bool("update", false, "write "+wordingFile+" anew")

const wordingHead = `Every error and warning that Terraform shows of this provider, each from a real case.
Written by: go test ./internal/provider -run TestWording -update
TIME, URL, FILE and N stand for times, addresses, names of files and numbers. What no case can have: untold, in wording_source_test.go.
`

// wordingSection is a part of the file.
type wordingSection struct {
	title string
	cases []wordingCase
}

// wordingCase is a case in which the provider has something to say.
type wordingCase struct {
	name string
	run  func(s *wordingScene)
}

// entry is a diagnostic as the file has it.
type entry struct{ severity, at, summary, detail string }

func (e entry) String() string {
	at := ""
	if e.at != "" {
		at = " at " + e.at
	}
	return fmt.Sprintf("%s%s: %s\n%s", e.severity, at, e.summary, indented(e.detail))
}

func indented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = "    " + line
		}
	}
	return strings.Join(lines, "\n")
}

// stable puts names in the places of what is another one in every run.
var stable = []struct {
	is   *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`https?://127\.0\.0\.1:([1-79]\d{3}|\d{5})\b`), "URL"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z(\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`(at revision|\(revision|; revision|but revision|revision) \d+`), "$1 N"},
	{regexp.MustCompile(`\b\d+ s ago`), "N s ago"},
	{regexp.MustCompile(`(\b|%3A)[0-9a-f]{32}\b`), "${1}FILE"},
	{regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/[^ :]*/`), "/…/"},
}

func normal(e entry) entry {
	for _, s := range stable {
		e.summary, e.detail = s.is.ReplaceAllString(e.summary, s.name), s.is.ReplaceAllString(e.detail, s.name)
	}
	return e
}

// wordingScene is where a case plays: a server, anna, and Terraform.
type wordingScene struct {
	*testing.T
	server *buntingtest.Server
	anna   operator
	core   *core

	mu   sync.Mutex
	told []entry
}

func newWordingScene(t *testing.T) *wordingScene {
	t.Helper()
	s := &wordingScene{T: t, server: buntingtest.Start(t)}
	s.anna = newOperator(t, s.server, "anna")
	s.core = s.terraform("")
	return s
}

// terraform gives another configuration's Terraform, with a state of its own.
func (s *wordingScene) terraform(workspace string) *core {
	s.Helper()
	c := newCore(s, s.server.Endpoint, s.server.AdminToken, workspace)
	c.setting["retry"] = attempts(1) // or each failure would take its time
	declared, err := providerserver.NewProtocol6(&buntingProvider{})().GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		s.Fatal(err)
	}
	for kind, schema := range declared.DataSourceSchemas {
		c.schemas["data."+kind] = c.schema(schema)
	}
	c.wrap = func(p tfprotov6.ProviderServer) tfprotov6.ProviderServer { return listener{p, s} }
	return c
}

// attempts is the setting retry.
func attempts(n int64) cty.Value {
	return cty.ObjectVal(coreAttrs{"attempts": cty.NumberIntVal(n), "requests_per_second": cty.NullVal(cty.Number)})
}

// hear takes diagnostics up; the same one is told once.
func (s *wordingScene) hear(diags []*tfprotov6.Diagnostic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range diags {
		e := entry{severity: strings.ToLower(d.Severity.String()), summary: d.Summary, detail: d.Detail}
		if d.Attribute != nil {
			e.at = strings.NewReplacer(`AttributeName("`, "", `")`, "").Replace(d.Attribute.String())
		}
		if e = normal(e); !slices.Contains(s.told, e) {
			s.told = append(s.told, e)
		}
	}
}

// hearOf is hear for what a function of ours has added, where no road through the
// protocol leads to it.
func (s *wordingScene) hearOf(diags diag.Diagnostics) {
	var told []*tfprotov6.Diagnostic
	for _, d := range diags {
		severity := tfprotov6.DiagnosticSeverityWarning
		if d.Severity() == diag.SeverityError {
			severity = tfprotov6.DiagnosticSeverityError
		}
		told = append(told, &tfprotov6.Diagnostic{Severity: severity, Summary: d.Summary(), Detail: d.Detail()})
	}
	s.hear(told)
}

// forget drops what was told: it is another case's.
func (s *wordingScene) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = nil
}

// ready brings the configuration about, before the case begins.
func (s *wordingScene) ready(blocks ...coreBlock) {
	s.Helper()
	s.core.applied(s, blocks...)
	s.forget()
}

// applied plans and applies without an error.
func (c *core) applied(s *wordingScene, blocks ...coreBlock) {
	s.Helper()
	plan := c.plan(blocks, coreMode{})
	plan.must(s.T)
	c.apply(plan).must(s.T)
}

// applies plans and, if there is a plan, applies.
func (s *wordingScene) applies(blocks ...coreBlock) { s.Helper(); s.between(func() {}, blocks...) }

// between is applies, with something happening between plan and apply.
func (s *wordingScene) between(meanwhile func(), blocks ...coreBlock) {
	s.Helper()
	if plan := s.core.plan(blocks, coreMode{}); plan.code == 0 {
		meanwhile()
		s.core.apply(plan)
	}
}

func (s *wordingScene) plans(blocks ...coreBlock) { s.Helper(); s.core.plan(blocks, coreMode{}) }

// reads lets a data source be read, or several of its kind within one walk.
func (s *wordingScene) reads(kind string, attributes ...string) {
	s.Helper()
	w, end := s.core.walk(nil)
	defer end()
	schema := s.core.schemas["data."+kind]
	for _, each := range attributes {
		if w.code != 0 {
			return
		}
		config := s.core.wire(schema, s.core.object(schema, attrs(s, each), nil))
		valid, err := w.ValidateDataResourceConfig(context.Background(), &tfprotov6.ValidateDataResourceConfigRequest{TypeName: kind, Config: config})
		s.core.called(err)
		if !w.tell(kind, valid.Diagnostics) {
			return
		}
		_, err = w.ReadDataSource(context.Background(), &tfprotov6.ReadDataSourceRequest{TypeName: kind, Config: config})
		s.core.called(err)
	}
}

// listener hears what the provider tells.
type listener struct {
	tfprotov6.ProviderServer
	s *wordingScene
}

func heard[A any](s *wordingScene, a *A, err error, diags func(*A) []*tfprotov6.Diagnostic) (*A, error) {
	if err == nil {
		s.hear(diags(a))
	}
	return a, err
}

func (l listener) ConfigureProvider(ctx context.Context, r *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	a, err := l.ProviderServer.ConfigureProvider(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ConfigureProviderResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ValidateResourceConfig(ctx context.Context, r *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	a, err := l.ProviderServer.ValidateResourceConfig(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ValidateResourceConfigResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ReadResource(ctx context.Context, r *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	a, err := l.ProviderServer.ReadResource(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ReadResourceResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) PlanResourceChange(ctx context.Context, r *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	a, err := l.ProviderServer.PlanResourceChange(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.PlanResourceChangeResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ApplyResourceChange(ctx context.Context, r *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	a, err := l.ProviderServer.ApplyResourceChange(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ApplyResourceChangeResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ImportResourceState(ctx context.Context, r *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	a, err := l.ProviderServer.ImportResourceState(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ImportResourceStateResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ValidateDataResourceConfig(ctx context.Context, r *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	a, err := l.ProviderServer.ValidateDataResourceConfig(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ValidateDataResourceConfigResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

func (l listener) ReadDataSource(ctx context.Context, r *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	a, err := l.ProviderServer.ReadDataSource(ctx, r)
	return heard(l.s, a, err, func(a *tfprotov6.ReadDataSourceResponse) []*tfprotov6.Diagnostic { return a.Diagnostics })
}

// attrs reads attributes written as a JSON object.
func attrs(t failer, text string) coreAttrs {
	t.Helper()
	typ, err := ctyjson.ImpliedType([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	v, err := ctyjson.Unmarshal([]byte(text), typ)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v.AsValueMap()
}

// block is a block with usual attributes, some of them otherwise.
func block(t failer, address, usual, otherwise string, after ...string) coreBlock {
	t.Helper()
	all := attrs(t, usual)
	if otherwise != "" {
		maps.Copy(all, attrs(t, otherwise))
	}
	return coreBlock{address: address, attrs: all, after: after}
}

func (s *wordingScene) flag(otherwise string) coreBlock {
	return block(s, "bunting_flag.f", `{"key": "pay", "default_value": false, "value": true, "layer": "user"}`, otherwise)
}

func (s *wordingScene) override(otherwise string, after ...string) coreBlock {
	return block(s, "bunting_override.o", `{"flag_key": "pay", "entity_id": "u", "value": false}`, otherwise, after...)
}

func (s *wordingScene) kill(otherwise string, after ...string) coreBlock {
	return block(s, "bunting_kill_switch.k", `{"flag_key": "pay", "reason": "load"}`, otherwise, after...)
}

// later makes an attribute known only during apply.
func later(b coreBlock, name string, value cty.Value) coreBlock {
	b.later = coreAttrs{name: value}
	delete(b.attrs, name)
	return b
}

// wordings lets every case play, and gives the file.
func wordings(t *testing.T) string {
	t.Helper()
	told := make(map[*wordingCase]*wordingScene)
	sections := wordingSections()
	t.Run("cases", func(t *testing.T) {
		for i := range sections {
			for j := range sections[i].cases {
				c := &sections[i].cases[j]
				t.Run(sections[i].title+"/"+c.name, func(t *testing.T) {
					// One after the other: beside tests that run the CLI each would wait for its turn.
					s := newWordingScene(t)
					c.run(s)
					if len(s.told) == 0 {
						t.Error("nothing was told")
					}
					told[c] = s
				})
			}
		}
	})
	var file strings.Builder
	file.WriteString(wordingHead)
	for i := range sections {
		fmt.Fprintf(&file, "\n\n%s\n%s\n", sections[i].title, strings.Repeat("=", len(sections[i].title)))
		for j := range sections[i].cases {
			c := &sections[i].cases[j]
			fmt.Fprintf(&file, "\n-- %s\n", c.name)
			if s := told[c]; s != nil {
				for _, e := range s.told {
					fmt.Fprintln(&file, e)
				}
			}
		}
	}
	return file.String()
}

func TestWording(t *testing.T) {
	t.Parallel()
	got := wordings(t)
	if t.Failed() {
		return
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(wordingFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(wordingFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(wordingFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	is, was := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(is), len(was)) {
		if i >= len(is) || i >= len(was) || is[i] != was[i] {
			t.Fatalf("the wording differs from %s, from line %d on (-update writes it anew):\ngot\n%s\nwant\n%s", wordingFile, i+1,
				strings.Join(is[min(i, len(is)):min(i+6, len(is))], "\n"), strings.Join(was[min(i, len(was)):min(i+6, len(was))], "\n"))
		}
	}
}
