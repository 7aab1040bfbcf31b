package provider

import (
	"maps"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// shop puts flags of every type on the server, with tags, an override, a hold and
// an archived one.
func shop(t *testing.T, server *buntingtest.Server) operator {
	t.Helper()
	anna := newOperator(t, server, "anna")
	put := func(key string, typ flag.Type, value flag.Value, tags ...string) {
		anna.does(flag.Put(&flag.Flag{Key: flag.Key(key), Type: typ, Default: value, State: flag.Enabled, Layer: "user", Tags: tags}))
	}
	put("shop/on", flag.Bool, flag.BoolValue(true), "web", "new")
	put("shop/theme", flag.String, must(flag.StringValue("blue")), "web")
	put("shop/limit", flag.Int, flag.IntValue(9007199254740993), "new")
	put("shop/rate", flag.Double, must(flag.DoubleValue(0.1)))
	put("shop/rule", flag.JSON, must(flag.JSONValue(`{"a":[1,null,"x"]}`)), "web", "new")
	put("shopping", flag.Bool, flag.BoolValue(true))
	anna.does(flag.Put(&flag.Override{FlagKey: "shop/theme", EntityID: "u", State: flag.Enabled, Value: must(flag.StringValue("red"))}),
		kill("shop/on", "anna"), remove(flag.ArchiveFlag, flag.FlagRef("shop/rate")))
	return anna
}

func evaluationsConfig(attributes string) string {
	return "data \"bunting_evaluations\" \"e\" {\n" + attributes + "\n}\n" +
		"output \"e\" {\n  value = [data.bunting_evaluations.e.values, data.bunting_evaluations.e.sources, data.bunting_evaluations.e.stale]\n}\n"
}

func TestEvaluations(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := shop(t, server)
	anna.does(flag.Put(boolFlag("few/a")))
	evaluateToken, few := server.Token(t, "evaluate"), server.NamedToken(t, "few", "few", "evaluate")
	for name, row := range map[string]struct{ attributes, token, want string }{
		"keys": {
			"flag_keys = [\"shop/theme\", \"shop/on\"]\nentity_id = \"u\"", evaluateToken,
			`[{"shop/on":true,"shop/theme":"red"},{"shop/on":"KILLED","shop/theme":"OVERRIDE"},false]`,
		},
		"no keys": {"flag_keys = []", evaluateToken, `[{},{},false]`},
		"prefix": {
			`prefix = "shop"`, evaluateToken,
			`[{"shop/limit":9007199254740993,"shop/on":true,"shop/rate":0.1,"shop/rule":{"a":[1,null,"x"]},"shop/theme":"blue"},` +
				`{"shop/limit":"DEFAULT","shop/on":"KILLED","shop/rate":"DEFAULT","shop/rule":"DEFAULT","shop/theme":"DEFAULT"},false]`,
		},
		"nothing under a prefix": {`prefix = "nothing"`, evaluateToken, `[{},{},false]`},
		"a prefix of the token":  {`prefix = "few"`, few, `[{"few/a":true},{"few/a":"GLOBAL"},false]`},
		"a tag":                  {`tags = ["web"]`, server.AdminToken, `[{"shop/on":true,"shop/rule":{"a":[1,null,"x"]},"shop/theme":"blue"},{"shop/on":"KILLED","shop/rule":"DEFAULT","shop/theme":"DEFAULT"},false]`},
		"all of the tags":        {`tags = ["web", "new"]`, server.AdminToken, `[{"shop/on":true,"shop/rule":{"a":[1,null,"x"]}},{"shop/on":"KILLED","shop/rule":"DEFAULT"},false]`},
		"no such tag":            {`tags = ["old"]`, server.AdminToken, `[{},{},false]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t, server.Endpoint, row.token)
			c.config(evaluationsConfig(row.attributes))
			c.applies().must(t)
			got := strings.TrimSpace(c.run("output", "-json", "e").must(t).text)
			if got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			c.unchanged()
		})
	}
}

func TestEvaluationsRefusals(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	shop(t, server)
	narrow, evaluateToken := server.NamedToken(t, "narrow", "shop", "read"), server.Token(t, "evaluate")
	for name, row := range map[string]struct{ attributes, token, summary, detail string }{
		"none":        {``, "", "Invalid configuration", "Neither flag_keys nor prefix nor tags says which flags are to be evaluated. Set one of flag_keys, prefix and tags."},
		"two":         {"flag_keys = [\"a\"]\ntags = [\"web\"]", "", "Invalid tags", "tags is set, but so is flag_keys, and each chooses the flags by itself."},
		"a bad key":   {`flag_keys = ["a//b", "a"]`, "", "Invalid flag_keys", `"a//b" has an empty segment at byte 3`},
		"a bad way":   {`prefix = "/a"`, "", "Invalid prefix", `"/a" has an empty segment at byte 1`},
		"no tag":      {`tags = []`, "", "Invalid tags", "tags is empty, so it chooses nothing."},
		"missing one": {`flag_keys = ["shop/on", "nowhere"]`, "", `There is no flag "nowhere"`, `flag_keys has "nowhere", but the server has no such flag.`},
		"missing two": {`flag_keys = ["shop/on", "nowhere", "here"]`, "", `There are no flags "here", "nowhere"`, `flag_keys has "here", "nowhere", but the server has no such flags.`},
		"not covered": {`prefix = ""`, narrow, "Cannot evaluate all flags", `The token "narrow" covers only the flags under "shop", so which others there are is not known.`},
		"no scope":    {`tags = ["web"]`, evaluateToken, `Cannot evaluate the flags with the tag "web"`, "scope read"},
		"denied key":  {`flag_keys = ["shop/on", "shopping"]`, narrow, "Cannot evaluate 2 flags", `"shopping"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := row.token
			if token == "" {
				token = server.AdminToken
			}
			c := newCLI(t, server.Endpoint, token)
			c.config(evaluationsConfig(row.attributes))
			if got := c.plans().fails(t); got.Summary != row.summary || !strings.Contains(got.Detail, row.detail) || got.Address != "data.bunting_evaluations.e" {
				t.Errorf("got %s at %s", got, got.Address)
			}
		})
	}
}

// Flags of the same configuration are evaluated after they are made, and what is
// not known while planning waits.
func TestEvaluationsOfOwnFlagsTogether(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken).alone()
	const config = `
resource "bunting_flag" "many" {
  for_each      = toset(["a", "b", "c"])
  key           = "many/${each.key}"
  default_value = each.key
  tags          = ["x"]
}
resource "terraform_data" "entity" { input = "u" }
locals { ids = [for f in bunting_flag.many : f.id] }
data "bunting_evaluations" "keys" {
  flag_keys = local.ids
  entity_id = terraform_data.entity.output
}
data "bunting_evaluations" "prefix" {
  prefix     = "many"
  depends_on = [bunting_flag.many]
}
data "bunting_evaluations" "tags" {
  tags       = ["x"]
  depends_on = [bunting_flag.many]
}
output "e" { value = [for e in [data.bunting_evaluations.keys, data.bunting_evaluations.prefix, data.bunting_evaluations.tags] : e.values["many/b"]] }
`
	is := func(want string) {
		t.Helper()
		c.applies().must(t)
		if got := strings.TrimSpace(c.run("output", "-json", "e").must(t).text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		proxy.fails("", nil)
		c.unchanged()
		if asked, want := proxy.asked(), map[string]int{"GetServer": 1, "GetSnapshot": 1, "BulkEvaluate": 2}; !maps.Equal(asked, want) {
			t.Errorf("requests of a plan: %v, want %v", asked, want)
		}
	}
	c.config(config)
	is(`["b","b","b"]`)
	c.config(strings.Replace(config, "= each.key\n  tags", "= \"${each.key}!\"\n  tags", 1))
	is(`["b!","b!","b!"]`)
	c.destroys().must(t)
}
