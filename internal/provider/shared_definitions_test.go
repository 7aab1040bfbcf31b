//go:build unix

package provider

import (
	"crypto/rand"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/zclconf/go-cty/cty"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// sharedBlocks are flags, an override and a kill switch.
func sharedBlocks(t failer, count int) []coreBlock {
	t.Helper()
	var blocks []coreBlock
	for i := range count {
		blocks = append(blocks, coreBlock{address: fmt.Sprintf("bunting_flag.f%d", i), attrs: attrs(t, fmt.Sprintf(`{"key": "f/%d", "default_value": %d, "value": %d, "layer": "user"}`, i, i, i+1))})
	}
	return append(blocks,
		coreBlock{address: "bunting_override.o", attrs: attrs(t, `{"flag_key": "f/1", "entity_id": "u", "value": 7}`), after: []string{"bunting_flag.f1"}},
		coreBlock{address: "bunting_kill_switch.k", attrs: attrs(t, `{"flag_key": "f/2", "reason": "load"}`), after: []string{"bunting_flag.f2"}})
}

// A second plan asks for the handshake and for nothing else, and says just what one
// without a cache says; after somebody's change one more request tells of it.
func TestPlansThatShareDefinitions(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]cty.Value{
		"redis":     cacheOf(coreAttrs{"redis": redisOf(coreAttrs{"url": cty.StringVal(redistest.URL(t)), "prefix": cty.StringVal("bunting-test-" + rand.Text())})}),
		"directory": cacheOf(coreAttrs{"directory": cty.StringVal(t.TempDir())}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			anna := newOperator(t, server, "anna")
			proxy := newFaultyProxy(t, server)
			blocks := sharedBlocks(t, 30)
			c := newCore(t, proxy.URL, server.AdminToken, "")
			first := c.plan(blocks, coreMode{})
			first.must(t)
			c.apply(first).must(t)
			plan := func(want map[string]int) {
				t.Helper()
				delete(c.setting, "cache")
				without := c.plan(blocks, coreMode{})
				c.setting["cache"] = cache
				proxy.fails("", nil)
				with := c.plan(blocks, coreMode{})
				if asked := proxy.asked(); !maps.Equal(asked, want) {
					t.Errorf("requests %v, want %v", asked, want)
				}
				if with.code != without.code || !maps.Equal(with.actions, without.actions) || fmt.Sprint(with.diags) != fmt.Sprint(without.diags) {
					t.Errorf("with the cache\n%+v\nwithout\n%+v", with.diags, without.diags)
				}
			}
			plan(map[string]int{"GetServer": 1, "GetSnapshot": 1})
			plan(map[string]int{"GetServer": 1})
			plan(map[string]int{"GetServer": 1})
			anna.does(kill("f/1", "anna"))
			changed := anna.sees("f/3")
			changed.Description = "by hand"
			anna.does(flag.Put(changed))
			plan(map[string]int{"GetServer": 1, "GetSnapshot": 1})
			plan(map[string]int{"GetServer": 1})
		})
	}
}

// A server that may be stale has no plan, though the copy would do.
func TestAStaleServerAndACopy(t *testing.T) {
	t.Parallel()
	s := startMuted(t, 0)
	c := newCore(t, s.Endpoint, s.AdminToken, "")
	c.setting["cache"] = cacheOf(coreAttrs{"directory": cty.StringVal(t.TempDir())})
	blocks := sharedBlocks(t, 3)
	first := c.plan(blocks, coreMode{})
	first.must(t)
	c.apply(first).must(t)
	c.plan(blocks, coreMode{}).must(t)
	s.mute(t, true)
	if got := c.plan(blocks, coreMode{}).fails(t); !strings.Contains(got.Detail, s.Endpoint+" does not hear its database") {
		t.Errorf("got %s", got)
	}
	s.mute(t, false)
	c.plan(blocks, coreMode{}).must(t)
}

const sharedConfig = `
resource "bunting_flag" "f" {
  count         = 20
  key           = "f/${count.index}"
  default_value = count.index
}
data "bunting_evaluation" "e" { flag_key = "seen" }
data "bunting_evaluations" "p" { prefix = "under" }
output "e" { value = [data.bunting_evaluation.e.value, data.bunting_evaluations.p.values] }
`

// Through Terraform and a Redis with a password: the second plan asks for nothing but
// the handshake, its evaluations too; and the secrets are nowhere.
func TestTerraformSharesDefinitions(t *testing.T) {
	t.Parallel()
	const password = "s3cret-of-redis"
	redis := redistest.Start(t, "--requirepass", password)
	server := buntingtest.Start(t)
	anna := newOperator(t, server, "anna")
	anna.does(flag.Put(boolFlag("seen")), flag.Put(boolFlag("under/a")), flag.Put(boolFlag("under/b")))
	proxy := newFaultyProxy(t, server)
	c := newCLI(t, proxy.URL, server.AdminToken)
	log := filepath.Join(c.dir, "trace.log")
	c.env = append(c.env, "TF_LOG=TRACE", "TF_LOG_PATH="+log, redisPasswordVariable+"="+password)
	cache := func(url string) string {
		return fmt.Sprintf("provider \"bunting\" {\n  cache = {\n    redis = { url = %q }\n    max_age = \"1h\"\n  }\n}\n", url)
	}
	c.config(cache(redis.URL()) + sharedConfig)
	output := c.applies().must(t).text
	const alone = "the definitions are read from the server" // in the log: what Redis has is not used
	used := true
	// plan reports whether Redis was heard in time, where it is meant to be: it may be
	// late on a busy machine, and then the requests say nothing.
	plan := func(want map[string]int) (heard bool) {
		t.Helper()
		before := strings.Count(content(t, log), alone)
		proxy.fails("", nil)
		o := c.plans("-detailed-exitcode")
		output += o.text
		asked := proxy.asked()
		heard = !used || strings.Count(content(t, log), alone) == before
		if !heard {
			asked = want
		}
		if asked["BulkEvaluate"] == 1 && !used {
			delete(asked, "BulkEvaluate") // unless a resource has read the definitions before
		}
		if o.code != 0 || want != nil && !maps.Equal(asked, want) {
			t.Errorf("code %d, requests %v, want %v\n%v", o.code, asked, want, o.diags)
		}
		return heard
	}
	// shares plans with what the plan before has left in Redis.
	shares := func() {
		t.Helper()
		for range 5 {
			if plan(map[string]int{"GetServer": 1}) {
				return
			}
			plan(nil) // may put there what it wants
		}
		t.Error("no plan has heard its Redis in time")
	}
	if !plan(map[string]int{"GetServer": 1, "GetSnapshot": 1}) { // what differs since the plan before the apply
		plan(nil)
	}
	shares()
	shares()
	late := strings.Count(content(t, log), alone)
	output += c.run("plan", "-out=saved.plan", "-no-color").text
	used = false
	thaw := redis.Freeze()
	plan(map[string]int{"GetServer": 1, "GetSnapshot": 1})
	thaw()
	c.env = append(c.env, redisPasswordVariable+"=wr0ng-"+password)
	plan(map[string]int{"GetServer": 1, "GetSnapshot": 1})
	c.config(cache("redis://ci:"+password+"@127.0.0.1:1") + sharedConfig)
	plan(map[string]int{"GetServer": 1, "GetSnapshot": 1})
	logged := content(t, log)
	if n := strings.Count(logged, alone) - late; n != 3 {
		t.Errorf("%d lines say that the shared definitions are not used", n)
	}
	for where, text := range map[string]string{"output": output, "state": string(c.state()), "log": providerLines(logged)} {
		for _, secret := range []string{password, server.AdminToken} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in the %s", where)
			}
		}
	}
}

// The last known answers lie in the Redis too, where there is one: so another machine
// has them while the server is down.
func TestLastKnownAnswersOfAnotherMachine(t *testing.T) {
	t.Parallel()
	s := newWordingScene(t)
	s.anna.does(flag.Put(boolFlag("pay")))
	s.core.setting["cache"] = cacheOf(coreAttrs{"redis": redisOf(coreAttrs{"url": cty.StringVal(redistest.URL(t)), "prefix": cty.StringVal("bunting-test-" + rand.Text())})})
	const asked = `{"flag_key": "pay", "allow_stale": true}`
	s.reads("bunting_evaluation", asked)
	s.server.Stop()
	s.reads("bunting_evaluation", asked)
	if len(s.told) != 1 || s.told[0].summary != `The answer for flag "pay" is stale` || !strings.Contains(s.told[0].detail, "this is what it said last") {
		t.Errorf("told %v", s.told)
	}
	s.forget()
	delete(s.core.setting, "cache")
	s.reads("bunting_evaluation", asked)
	if len(s.told) != 1 || s.told[0].severity != "error" {
		t.Errorf("told %v", s.told)
	}
}

// providerLines gives what of a trace the provider has written: Terraform itself
// writes down what a test puts into a configuration.
func providerLines(log string) string {
	var lines strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, "provider.terraform-provider-bunting") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// The configuration's place goes before the environment's, and what is not known yet
// is done without.
func TestWhereDefinitionsAreShared(t *testing.T) {
	t.Parallel()
	own := t.TempDir()
	redis := func(parts map[string]types.String) map[string]types.String {
		all := map[string]types.String{"url": types.StringNull(), "password": types.StringNull(), "ca": types.StringNull(), "prefix": types.StringNull()}
		maps.Copy(all, parts)
		return all
	}
	text := types.StringValue
	folder := filepath.Join(own, "definitions")
	for name, tc := range map[string]struct {
		set    sharedSetting
		env    map[string]string
		want   client.SharedPlace
		maxAge time.Duration
	}{
		"nothing":                  {},
		"a directory":              {set: sharedSetting{directory: text(own)}, want: client.SharedPlace{Directory: folder}},
		"the environment's":        {env: map[string]string{cacheDirectoryVariable: own}, want: client.SharedPlace{Directory: folder}},
		"a Redis":                  {set: sharedSetting{redis: redis(map[string]types.String{"url": text("redis://a"), "password": text("p")})}, env: map[string]string{redisPrefixVariable: "x"}, want: client.SharedPlace{RedisURL: "redis://a", RedisPassword: "p", RedisPrefix: "x"}},
		"the environment's Redis":  {env: map[string]string{redisURLVariable: "redis://a", redisPasswordVariable: "p"}, want: client.SharedPlace{RedisURL: "redis://a", RedisPassword: "p"}},
		"a Redis and env folder":   {set: sharedSetting{redis: redis(map[string]types.String{"url": text("redis://a")})}, env: map[string]string{cacheDirectoryVariable: own}, want: client.SharedPlace{RedisURL: "redis://a"}},
		"a folder and env Redis":   {set: sharedSetting{directory: text(own), max: text("5s")}, env: map[string]string{redisURLVariable: "redis://a"}, want: client.SharedPlace{Directory: folder}, maxAge: 5 * time.Second},
		"both in the environment":  {env: map[string]string{redisURLVariable: "redis://a", cacheDirectoryVariable: own, cacheMaxAgeVariable: "5s"}, want: client.SharedPlace{RedisURL: "redis://a"}, maxAge: 5 * time.Second},
		"its URL from environment": {set: sharedSetting{redis: redis(map[string]types.String{"prefix": text("x")})}, env: map[string]string{redisURLVariable: "redis://a"}, want: client.SharedPlace{RedisURL: "redis://a", RedisPrefix: "x"}},
		"a Redis not known yet":    {set: sharedSetting{unknown: true, max: text("5s")}, env: map[string]string{cacheDirectoryVariable: own}, maxAge: 5 * time.Second},
		"a URL not known yet":      {set: sharedSetting{redis: redis(map[string]types.String{"url": types.StringUnknown()}), max: text("5s")}, maxAge: 5 * time.Second},
		"a folder not known yet":   {set: sharedSetting{directory: types.StringUnknown()}, env: map[string]string{redisURLVariable: "redis://a"}},
		"an age not known yet":     {set: sharedSetting{directory: text(own), max: types.StringUnknown()}, env: map[string]string{cacheMaxAgeVariable: "5s"}, want: client.SharedPlace{Directory: folder}},
	} {
		if tc.want.RedisURL != "" {
			tc.want.RedisTimeout = redisTimeout
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var diags diag.Diagnostics
			got := readCacheSetting(t.Context(), tc.set.object(t), func(name string) string { return tc.env[name] }, &diags)
			if diags.HasError() || got.shared != tc.want || got.maxAge != tc.maxAge {
				t.Errorf("got %+v, %v, want %+v and %s", got, diags, tc.want, tc.maxAge)
			}
		})
	}
}

// sharedSetting is the setting cache.
type sharedSetting struct {
	redis          map[string]types.String // nil: not set
	unknown        bool                    // the whole of redis
	directory, max types.String
}

func (s sharedSetting) object(t *testing.T) types.Object {
	t.Helper()
	parts := map[string]attr.Type{"url": types.StringType, "password": types.StringType, "ca": types.StringType, "prefix": types.StringType}
	redis := types.ObjectNull(parts)
	if s.redis != nil {
		values := map[string]attr.Value{}
		for name, v := range s.redis {
			values[name] = v
		}
		redis = types.ObjectValueMust(parts, values)
	}
	if s.unknown {
		redis = types.ObjectUnknown(parts)
	}
	return types.ObjectValueMust(map[string]attr.Type{"redis": redis.Type(t.Context()), "directory": types.StringType, "max_age": types.StringType},
		map[string]attr.Value{"redis": redis, "directory": s.directory, "max_age": s.max})
}
