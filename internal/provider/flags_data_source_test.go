package provider

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := shop(t, server)
	anna.does(anna.changes("shop/theme", func(f *flag.Flag) { f.Owner = "web team" }))
	few := server.NamedToken(t, "few", "shop", "read")
	for name, row := range map[string]struct {
		attributes, token string
		keys              []string
	}{
		"all":               {"", server.AdminToken, []string{"shop/limit", "shop/on", "shop/rule", "shop/theme", "shopping"}},
		"all of a token":    {"", few, []string{"shop/limit", "shop/on", "shop/rule", "shop/theme"}},
		"prefix":            {`prefix = "shop"`, server.AdminToken, []string{"shop/limit", "shop/on", "shop/rule", "shop/theme"}},
		"empty prefix":      {`prefix = ""`, server.AdminToken, []string{"shop/limit", "shop/on", "shop/rule", "shop/theme", "shopping"}},
		"archived":          {"prefix = \"shop/rate\"\ninclude_archived = true", server.AdminToken, []string{"shop/rate"}},
		"archived left out": {`prefix = "shop/rate"`, server.AdminToken, []string{}},
		"tags":              {`tags = ["new", "web"]`, server.AdminToken, []string{"shop/on", "shop/rule"}},
		"no tags":           {`tags = []`, few, []string{"shop/limit", "shop/on", "shop/rule", "shop/theme"}},
		"owner":             {`owner = "web team"`, server.AdminToken, []string{"shop/theme"}},
		"nobody's":          {"owner = \"\"\nprefix = \"shop\"\ntags = [\"web\"]", server.AdminToken, []string{"shop/on", "shop/rule"}},
		"another's":         {`owner = "others"`, server.AdminToken, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t, server.Endpoint, row.token)
			c.config("data \"bunting_flags\" \"f\" {\n" + row.attributes + "\n}\n" +
				"output \"f\" {\n  value = [data.bunting_flags.f.keys, [for f in data.bunting_flags.f.flags : f.key], length(toset(data.bunting_flags.f.keys))]\n}\n")
			c.applies().must(t)
			text, err := json.Marshal([]any{row.keys, row.keys, len(row.keys)})
			if got := strings.TrimSpace(c.run("output", "-json", "f").must(t).text); err != nil || got != string(text) {
				t.Errorf("got %s, want %s", got, text)
			}
			c.unchanged()
		})
	}
}

// What a flag is among many is what it is by itself; all of it costs one read.
func TestFlagsAreAsOneByOne(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := shop(t, server)
	anna.does(anna.changes("shop/limit", func(f *flag.Flag) {
		f.Owner, f.Description, f.State, f.AllowedValues = "me", "d", flag.Default, []flag.Value{f.Default, flag.IntValue(1)}
	}))
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken).alone()
	c.config(`
data "bunting_flags" "all" { include_archived = true }
data "bunting_flag" "one" {
  for_each = toset(["shop/limit", "shop/on", "shop/rate", "shop/rule", "shop/theme", "shopping"])
  key      = each.key
}
output "same" { value = [for f in data.bunting_flags.all.flags : f.key if jsonencode(f) == jsonencode(data.bunting_flag.one[f.key])] }
output "killed" { value = [for f in data.bunting_flags.all.flags : f.holders if f.killed] }
`)
	c.applies().must(t)
	if got := strings.TrimSpace(c.run("output", "-json", "same").must(t).text); got != `["shop/limit","shop/on","shop/rate","shop/rule","shop/theme","shopping"]` {
		t.Errorf("the same: %s", got)
	}
	if got := strings.TrimSpace(c.run("output", "-json", "killed").must(t).text); got != `[["anna"]]` {
		t.Errorf("killed: %s", got)
	}
	proxy.fails("", nil)
	c.unchanged()
	if asked, want := proxy.asked(), map[string]int{"GetServer": 1, "GetSnapshot": 1}; !maps.Equal(asked, want) {
		t.Errorf("requests of a plan: %v, want %v", asked, want)
	}
}

func TestFlagsRefusals(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	for name, row := range map[string]struct{ attributes, token, summary, detail string }{
		"a bad prefix": {`prefix = "a//"`, server.AdminToken, "Invalid prefix", `"a//" has an empty segment`},
		"not covered":  {`prefix = ""`, server.NamedToken(t, "few", "shop", "read"), "Cannot list flags", `The token "few" covers only the flags under "shop"`},
		"no scope":     {``, server.Token(t, "evaluate"), "Cannot list flags", "scope read"},
	} {
		c := newCLI(t, server.Endpoint, row.token)
		c.config("data \"bunting_flags\" \"f\" {\n" + row.attributes + "\n}")
		if got := c.plans().fails(t); got.Summary != row.summary || !strings.Contains(got.Detail, row.detail) {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// Flags that are made by the same configuration are listed after that.
func TestFlagsOfTheSameConfiguration(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(`
resource "bunting_flag" "f" {
  for_each      = toset(["b", "a"])
  key           = each.key
  default_value = [each.key]
}
data "bunting_flags" "f" { depends_on = [bunting_flag.f] }
output "f" { value = [for f in data.bunting_flags.f.flags : f.default_value[0]] }
`)
	c.applies().must(t)
	if got := strings.Fields(c.run("output", "-json", "f").must(t).text); !slices.Equal(got, []string{`["a","b"]`}) {
		t.Errorf("got %s", got)
	}
	c.unchanged()
}
