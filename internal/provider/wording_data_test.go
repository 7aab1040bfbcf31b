package provider

import (
	"os"
	"path/filepath"

	"github.com/zclconf/go-cty/cty"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

var manyWording = []wordingCase{
	{"bunting_evaluations: a configuration that is none", func(s *wordingScene) {
		for _, config := range []string{`{}`, `{"flag_keys": ["pay"], "prefix": "a"}`, `{"prefix": "a", "tags": ["x"]}`, `{"flag_keys": ["a//b"]}`, `{"prefix": "/a"}`, `{"tags": []}`} {
			s.reads("bunting_evaluations", config)
		}
	}},
	{"bunting_evaluations: flags that are not there", func(s *wordingScene) {
		s.layered()
		s.reads("bunting_evaluations", `{"flag_keys": ["pay", "missing"]}`)
		s.reads("bunting_evaluations", `{"flag_keys": ["pay", "missing", "gone"]}`)
	}},
	{"bunting_evaluations: a token that does not cover them, or may not read tags", func(s *wordingScene) {
		s.layered()
		s.core.setting["token"] = cty.StringVal(s.server.NamedToken(s, "ci", "billing", "evaluate"))
		s.reads("bunting_evaluations", `{"flag_keys": ["pay", "billing/a"]}`)
		s.reads("bunting_evaluations", `{"prefix": ""}`)
		s.reads("bunting_evaluations", `{"prefix": "bill"}`)
		s.reads("bunting_evaluations", `{"tags": ["web", "new"]}`)
	}},
	{"bunting_evaluations: stale answers", func(s *wordingScene) {
		muted := startMuted(s.T, 1)
		muted.mute(s.T, true)
		s.core.setting["endpoint"], s.core.setting["token"] = cty.StringVal(muted.Endpoint), cty.StringVal(muted.AdminToken)
		s.reads("bunting_evaluations", `{"flag_keys": ["pay"]}`)
	}},
	{"bunting_evaluations: an answer without a value", func(s *wordingScene) {
		s.proxy().fails("GetServer", answers(&pbflagsv1.BulkEvaluateResponse{Evaluations: []*pbflagsv1.EvaluateResponse{{FlagId: "pay", ErrorCode: "PARSE_ERROR", Revision: 1, StoreId: "s"}}}))
		s.reads("bunting_evaluations", `{"flag_keys": ["pay"]}`)
	}},
	{"bunting_evaluations: a number that Terraform cannot hold", func(s *wordingScene) {
		s.anna.does(flag.Put(&flag.Flag{Key: "pay", Type: flag.JSON, Default: must(flag.JSONValue(`{"a":1e100000}`))}))
		s.reads("bunting_evaluations", `{"prefix": ""}`)
		s.reads("bunting_flags", `{}`)
	}},
	{"bunting_flags: a prefix that is none, or that the token does not cover", func(s *wordingScene) {
		s.reads("bunting_flags", `{"prefix": "a//b"}`)
		s.core.setting["token"] = cty.StringVal(s.server.NamedToken(s, "ci", "billing", "read"))
		s.reads("bunting_flags", `{"prefix": ""}`)
	}},
	{"a server that has only the evaluator service", func(s *wordingScene) {
		s.core.setting["endpoint"] = cty.StringVal(startPlainEvaluator(s.T))
		delete(s.core.setting, "token")
		s.reads("bunting_flag", `{"key": "pay"}`)
		s.reads("bunting_flags", `{}`)
		s.reads("bunting_evaluations", `{"tags": ["web"]}`)
		s.applies(s.flag(""))
		s.provider("environment", "prod")
	}},
	{"the server is down, and allow_stale is set", func(s *wordingScene) {
		s.layered()
		directory := s.TempDir()
		s.core.setting["cache"] = cacheOf(coreAttrs{"directory": cty.StringVal(directory)})
		s.core.setting["retry"] = cty.ObjectVal(map[string]cty.Value{"attempts": cty.NumberIntVal(1), "requests_per_second": cty.NullVal(cty.Number)})
		s.reads("bunting_evaluation", `{"flag_key": "pay", "allow_stale": true}`)
		s.reads("bunting_evaluations", `{"prefix": "pay", "allow_stale": true}`)
		s.server.Stop()
		s.reads("bunting_evaluation", `{"flag_key": "pay", "allow_stale": true}`)
		s.reads("bunting_evaluations", `{"prefix": "pay", "allow_stale": true}`)
		s.reads("bunting_evaluation", `{"flag_key": "pay", "entity_id": "new", "allow_stale": true}`)
		s.reads("bunting_evaluations", `{"prefix": "", "allow_stale": true}`)
		s.reads("bunting_evaluation", `{"flag_key": "pay"}`)
		if err := os.RemoveAll(filepath.Join(directory, "definitions")); err != nil {
			s.Fatal(err)
		}
		s.reads("bunting_evaluation", `{"flag_key": "other", "allow_stale": true}`)
	}},
	{"the server is down, allow_stale is set, and no definitions are shared", func(s *wordingScene) {
		s.layered()
		s.core.setting["retry"] = attempts(1)
		s.reads("bunting_evaluation", `{"flag_key": "pay", "allow_stale": true}`)
		s.server.Stop()
		s.reads("bunting_evaluation", `{"flag_key": "other", "allow_stale": true}`)
	}},
	{"last known answers in a Redis that is away", func(s *wordingScene) {
		s.layered()
		s.core.setting["cache"] = cacheOf(coreAttrs{"redis": redisOf(coreAttrs{"url": cty.StringVal("unix://" + filepath.Join(s.TempDir(), "redis"))})})
		s.reads("bunting_evaluation", `{"flag_key": "pay", "allow_stale": true}`)
	}},
	{"last known answers that cannot be used", func(s *wordingScene) {
		s.layered()
		directory := filepath.Join(s.TempDir(), "cache")
		s.core.setting["cache"] = cacheOf(coreAttrs{"directory": cty.StringVal(directory)})
		read := func() { s.reads("bunting_evaluation", `{"flag_key": "pay", "allow_stale": true}`) }
		write := func(path, text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				s.Fatal(err)
			}
		}
		write(directory, "")
		read()
		if err := os.Remove(directory); err != nil {
			s.Fatal(err)
		}
		read()
		files, err := filepath.Glob(filepath.Join(directory, "evaluations", "????????????????????????????????"))
		if err != nil || len(files) != 1 {
			s.Fatalf("%v, %v", files, err)
		}
		write(files[0], "hello")
		read()
		write(files[0], "bunting last known 1 \n{}")
		read()
	}},
}
