package provider

import (
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/zclconf/go-cty/cty"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var settingsWording = []wordingCase{
	{"no endpoint", func(s *wordingScene) { s.provider("endpoint", "") }},
	{"an endpoint that is none", func(s *wordingScene) {
		for _, endpoint := range []string{
			"https://flags example.com", "https//flags.example.com", "http://anna:secret@flags.example.com", "http://flags.example.com?env=prod", "http://[::1", "ftp://flags.example.com",
			"http://", "https://flägs.example.com", "http://" + longText(300), "http://flags.example.com:", "http://flags.example.com/../a", "http://flags.example.com:70000",
		} {
			s.provider("endpoint", endpoint)
		}
	}},
	{"a token that cannot be one", func(s *wordingScene) { s.provider("token", "two words") }},
	{"a token file that cannot be read", func(s *wordingScene) {
		var diags diag.Diagnostics
		readSettings(s.Context(), providerModel{Endpoint: types.StringValue("http://flags.example.com")}, func(name string) string {
			return map[string]string{tokenFileVariable: filepath.Join(s.TempDir(), "bunting.token")}[name]
		}, &diags)
		s.hearOf(diags)
	}},
	{"a workspace that is none", func(s *wordingScene) {
		s.provider("workspace", "a\u0007")
		s.provider("workspace", longText(300))
	}},
	{"a request timeout that is none", func(s *wordingScene) { s.provider("request_timeout", "soon") }},
	{"a retry setting that is none", func(s *wordingScene) {
		for _, variable := range []string{"BUNTING_RETRY_ATTEMPTS", "BUNTING_REQUESTS_PER_SECOND"} {
			var diags diag.Diagnostics
			readSettings(s.Context(), providerModel{Endpoint: types.StringValue("http://flags.example.com")}, func(name string) string {
				return map[string]string{variable: "0"}[name]
			}, &diags)
			s.hearOf(diags)
		}
	}},
	{"tls that cannot be used", func(s *wordingScene) {
		certificate := s.certificate()
		for _, tls := range []coreAttrs{
			{"ca": cty.StringVal("ca.pem")},
			{"client_certificate": cty.StringVal(certificate)},
			{"client_key": cty.StringVal("ci.key")},
			{"client_certificate": cty.StringVal("ci.pem"), "client_key": cty.StringVal("ci.key")},
			{"client_certificate": cty.StringVal(certificate), "client_key": cty.StringVal("ci.key")},
		} {
			s.tls("https://flags.example.com", tls)
		}
		s.tls("http://flags.example.com", coreAttrs{"server_name": cty.StringVal("flags.test")})
		var diags diag.Diagnostics
		readSettings(s.Context(), providerModel{Endpoint: types.StringValue("https://flags.example.com")}, func(name string) string {
			return map[string]string{"BUNTING_TLS_CA_FILE": filepath.Join(s.TempDir(), "ca.pem")}[name]
		}, &diags)
		s.hearOf(diags)
	}},
	{"a cache that cannot be used", func(s *wordingScene) {
		text := cty.StringVal
		for _, parts := range []coreAttrs{
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test")}), "directory": text("cache")},
			{"redis": redisOf(nil)},
			{"redis": redisOf(coreAttrs{"url": text("redis.test:6379")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://ci:pa ss@redis.test")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://ci:47#11@redis.test")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test:99999")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test/main")})},
			{"redis": redisOf(coreAttrs{"url": text("rediss://redis.test"), "ca": text("ca.pem")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test"), "ca": text(s.certificate())})},
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test"), "prefix": text("{a}")})},
			{"redis": redisOf(coreAttrs{"url": text("redis://redis.test"), "prefix": text("  ")})},
			{"directory": text("cache"), "max_age": text("soon")},
			{"directory": text("cache"), "max_age": text("-1s")},
			{"max_age": text("30s")},
		} {
			s.core.setting["cache"] = cacheOf(parts)
			_, end := s.core.walk(nil)
			end()
		}
		noPEM := filepath.Join(s.TempDir(), "no.pem")
		if err := os.WriteFile(noPEM, []byte("hello"), 0o600); err != nil {
			s.Fatal(err)
		}
		for _, variables := range []map[string]string{
			{redisURLVariable: "redis://redis.test", redisCAVariable: filepath.Join(s.TempDir(), "ca.pem")},
			{redisURLVariable: "http://redis.test"},
			{redisURLVariable: "rediss://redis.test", redisCAVariable: noPEM},
			{redisURLVariable: "redis://redis.test", redisPrefixVariable: "{a}"},
		} {
			var diags diag.Diagnostics
			readSettings(s.Context(), providerModel{Endpoint: types.StringValue("https://flags.example.com")}, func(name string) string { return variables[name] }, &diags)
			s.hearOf(diags)
		}
	}},
	{"a server of another environment", func(s *wordingScene) { s.provider("environment", "production") }},
	{"an endpoint that is not known while planning", func(s *wordingScene) {
		s.core.setting["endpoint"] = cty.UnknownVal(cty.String)
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
		s.reads("bunting_flag", `{"key": "pay"}`)
		s.reads("bunting_server", `{}`)
	}},
	{"a provider that was never configured", func(s *wordingScene) {
		var none *session
		var diags diag.Diagnostics
		_, _, err := none.flag(s.Context(), "pay")
		operation{doing: `read the flag "pay"`}.failed(&diags, err)
		s.hearOf(diags)
	}},
}

// provider configures the provider with one setting otherwise.
func (s *wordingScene) provider(setting, value string) {
	s.Helper()
	was := s.core.setting[setting]
	s.core.setting[setting] = cty.StringVal(value)
	if value == "" {
		delete(s.core.setting, setting)
	}
	_, end := s.core.walk(nil)
	end()
	s.core.setting[setting] = was
	if was == cty.NilVal {
		delete(s.core.setting, setting)
	}
}

// tls configures the provider with these parts of the setting tls.
func (s *wordingScene) tls(endpoint string, parts coreAttrs) {
	s.Helper()
	whole := coreAttrs{}
	for _, part := range []string{"ca", "client_certificate", "client_key", "server_name"} {
		whole[part] = cty.NullVal(cty.String)
	}
	maps.Copy(whole, parts)
	s.core.setting["tls"] = cty.ObjectVal(whole)
	s.provider("endpoint", endpoint)
	delete(s.core.setting, "tls")
}

// certificate gives one in PEM form.
func (s *wordingScene) certificate() string {
	s.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// cacheOf is the setting cache with these parts.
func cacheOf(parts coreAttrs) cty.Value {
	whole := coreAttrs{"redis": cty.NullVal(redisOf(nil).Type()), "directory": cty.NullVal(cty.String), "max_age": cty.NullVal(cty.String)}
	maps.Copy(whole, parts)
	return cty.ObjectVal(whole)
}

// redisOf is the setting cache.redis with these parts.
func redisOf(parts coreAttrs) cty.Value {
	whole := coreAttrs{}
	for _, part := range []string{"url", "password", "ca", "prefix"} {
		whole[part] = cty.NullVal(cty.String)
	}
	maps.Copy(whole, parts)
	return cty.ObjectVal(whole)
}

var dataWording = []wordingCase{
	{"bunting_flag: a key that is none, and a flag that is not there", func(s *wordingScene) {
		s.reads("bunting_flag", `{"key": "a//b"}`)
		s.reads("bunting_flag", `{"key": "missing"}`)
	}},
	{"bunting_evaluation: a configuration that is none", func(s *wordingScene) {
		s.reads("bunting_evaluation", `{"flag_key": "a//b"}`)
	}},
	{"bunting_evaluation: a flag that is not there", func(s *wordingScene) { s.reads("bunting_evaluation", `{"flag_key": "missing"}`) }},
	{"bunting_evaluation: a default of another type than the flag's", func(s *wordingScene) {
		s.layered()
		s.reads("bunting_evaluation", `{"flag_key": "pay", "default": "on"}`)
	}},
	{"bunting_evaluation: a stale answer", func(s *wordingScene) {
		muted := startMuted(s.T, 1)
		muted.mute(s.T, true)
		s.core.setting["endpoint"], s.core.setting["token"] = cty.StringVal(muted.Endpoint), cty.StringVal(muted.AdminToken)
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
		s.reads("bunting_evaluation", `{"flag_key": "pay", "default": true, "allow_stale": true}`)
	}},
	{"bunting_evaluation: an answer without a value", func(s *wordingScene) {
		s.proxy().fails("GetServer", answers(&pbflagsv1.BulkEvaluateResponse{Evaluations: []*pbflagsv1.EvaluateResponse{{FlagId: "pay", ErrorCode: "PARSE_ERROR"}}}))
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
	}},
	{"bunting_evaluation: a number that Terraform cannot hold", func(s *wordingScene) {
		s.anna.does(flag.Put(&flag.Flag{Key: "pay", Type: flag.JSON, Default: must(flag.JSONValue(`{"a":1e100000}`))}))
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
	}},
	{"values that Terraform itself does not make", func(s *wordingScene) {
		var diags diag.Diagnostics
		_, err := write(s.Context(), types.NumberValue(new(big.Float).SetInf(false)))
		invalid(&diags, flag.In("default_value", err))
		_, err = read(s.Context(), "{")
		operation{doing: `read the flag "pay"`}.failed(&diags, err)
		s.hearOf(diags)
	}},
}

// proxy puts a faulty proxy between Terraform and the server.
func (s *wordingScene) proxy() *faultyProxy {
	s.Helper()
	p := newFaultyProxy(s.T, s.server)
	s.core.setting["endpoint"] = cty.StringVal(p.URL)
	return p
}
