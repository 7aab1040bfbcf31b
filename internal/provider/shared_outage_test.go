//go:build unix

package provider

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// outageRun is a configuration of another folder, of many that share a place.
func outageRun(t *testing.T, endpoint, token string, place ...string) *cli {
	t.Helper()
	c := newCLI(t, endpoint, token).quick()
	c.env = append(c.env, place...)
	return c
}

// asking evaluates a flag for an entity.
func asking(key, entity string, allow bool) string {
	return fmt.Sprintf("data \"bunting_evaluation\" \"e\" {\n  flag_key = %q\n  entity_id = %q\n  allow_stale = %t\n}\n", key, entity, allow) +
		"output \"e\" { value = [data.bunting_evaluation.e.value, data.bunting_evaluation.e.source, data.bunting_evaluation.e.stale] }\n"
}

// answers applies a configuration, and sees to it that one warning has the part, or
// none is told where that is "".
func (c *cli) answers(config, want, warning string) {
	c.t.Helper()
	c.config(config)
	told := c.applies().must(c.t).of("warning")
	if got := c.output("e"); got != want {
		c.t.Errorf("got %s, want %s", got, want)
	}
	if warning == "" && len(told) > 0 || warning != "" && (len(told) != 1 || !strings.Contains(told[0].Detail, warning)) {
		c.t.Errorf("told %v, want %q", told, warning)
	}
}

// refuses plans a configuration that has no answer.
func (c *cli) refuses(config, summary, detail string) {
	c.t.Helper()
	c.config(config)
	if got := c.plans().fails(c.t); got.Summary != summary || !strings.HasSuffix(got.Detail, detail) {
		c.t.Errorf("got %s, want %s: %s", got, summary, detail)
	}
}

// With the server down, the shared definitions answer what nobody has asked before,
// where allow_stale is set; and what was kept before something newer was shared.
func TestSharedDefinitionsWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	const password = "s3cret-of-redis"
	redis := redistest.Start(t, "--requirepass", password)
	folder := t.TempDir()
	for name, row := range map[string]struct {
		place string // as it is named
		env   []string
	}{
		"redis": {"the Redis at " + strings.TrimPrefix(redis.URL(), "unix://"), []string{
			redisURLVariable + "=" + redis.URL(), redisPasswordVariable + "=" + password, redisPrefixVariable + "=bunting-test-" + rand.Text(),
		}},
		"directory": {"the folder " + filepath.Join(folder, "definitions"), []string{cacheDirectoryVariable + "=" + folder}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			anna := shop(t, server)
			token := server.NamedToken(t, "ci", "", "read")
			c := outageRun(t, server.Endpoint, token, row.env...)
			c.answers(asking("shop/theme", "u", true), `["red","OVERRIDE",false]`, "")
			anna.does(kill("shop/theme", "anna"))
			other := outageRun(t, server.Endpoint, server.NamedToken(t, "other-ci", "", "read"), row.env...)
			other.config("data \"bunting_flags\" \"all\" {}\n")
			other.plans().must(t) // which shares what it reads
			evaluates := outageRun(t, server.Endpoint, server.NamedToken(t, "app", "", "evaluate"), row.env...)
			evaluates.answers(asking("shop/limit", "u", true), `[9007199254740993,"DEFAULT",false]`, "")
			server.Stop()

			shared := "this is evaluated from the shared definitions in " + row.place + ", which it confirmed last "
			c.answers(asking("shop/theme", "u", true), `["blue","KILLED",true]`, shared) // though red was kept
			c.answers(asking("shop/limit", "new", true), `[9007199254740993,"CACHED",true]`, shared)
			c.answers("data \"bunting_evaluations\" \"e\" {\n  tags = [\"web\"]\n  allow_stale = true\n}\noutput \"e\" { value = data.bunting_evaluations.e.sources }\n",
				`{"shop/on":"KILLED","shop/rule":"CACHED","shop/theme":"KILLED"}`, shared)
			c.answers("data \"bunting_evaluations\" \"e\" {\n  prefix = \"shop/r\"\n  allow_stale = true\n}\noutput \"e\" { value = data.bunting_evaluations.e.sources }\n", `{}`, shared)
			c.refuses(asking("shop/limit", "new", false), `Cannot evaluate the flag "shop/limit"`, "or correct the endpoint.")
			c.refuses(asking("none", "new", true), `There is no flag "none"`, "set default.")

			evaluates.answers(asking("shop/limit", "u", true), `[9007199254740993,"CACHED",true]`, "this is what it said last, ")
			evaluates.refuses(asking("shop/theme", "u", true), `Cannot evaluate the flag "shop/theme"`,
				"no answer to this was kept from before, or only one from before this run changed the flag, and none is told by the shared definitions in "+row.place+".")
			other.refuses(providerBlock+asking("shop/limit", "u", true), "Cannot greet the flag server", "or correct the endpoint.") // it has kept nothing
		})
	}
}

// What was kept of a later revision than what is shared counts; and resources read
// neither.
func TestKeptAnswersNewerThanSharedDefinitions(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	anna := shop(t, server)
	folder := t.TempDir()
	c := outageRun(t, server.Endpoint, server.AdminToken, cacheDirectoryVariable+"="+folder)
	c.answers(asking("shop/theme", "v", true), `["blue","DEFAULT",false]`, "")
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(filepath.Join(folder, "definitions"))); err != nil {
		t.Fatal(err)
	}
	anna.does(flag.Put(&flag.Override{FlagKey: "shop/theme", EntityID: "v", State: flag.Enabled, Value: must(flag.StringValue("green"))}))
	c.answers(asking("shop/theme", "v", true), `["green","OVERRIDE",false]`, "")
	anna.does(kill("shop/limit", "anna"))
	c.answers(asking("shop/limit", "u", true), `[9007199254740993,"KILLED",false]`, "")
	server.Stop()
	if err := os.RemoveAll(filepath.Join(folder, "definitions")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "definitions"), os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	const said = "this is what it said last, "
	c.answers(asking("shop/theme", "v", true), `["green","CACHED",true]`, said)
	c.answers(asking("shop/limit", "another", true), `[9007199254740993,"KILLED",true]`, said)
	c.answers(asking("shop/rate", "another", true), `[0.1,"CACHED",true]`, "the shared definitions in the folder "+folder)
	c.refuses("data \"bunting_flag\" \"f\" { key = \"shop/rate\" }\n", `Cannot read the flag "shop/rate"`, "or correct the endpoint.")
}
