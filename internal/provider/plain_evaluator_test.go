package provider

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1/pbflagsv1connect"
)

// plainEvaluator is a server of somebody else: FlagEvaluatorService without our
// numbers from 100 on, and nothing else.
type plainEvaluator struct {
	pbflagsv1connect.UnimplementedFlagEvaluatorServiceHandler
}

func (plainEvaluator) Health(context.Context, *connect.Request[pbflagsv1.HealthRequest]) (*connect.Response[pbflagsv1.HealthResponse], error) {
	return connect.NewResponse(&pbflagsv1.HealthResponse{}), nil
}

func (plainEvaluator) BulkEvaluate(_ context.Context, r *connect.Request[pbflagsv1.BulkEvaluateRequest]) (*connect.Response[pbflagsv1.BulkEvaluateResponse], error) {
	ids := r.Msg.GetFlagIds()
	if len(ids) == 0 {
		ids = []string{"billing/1", "billing/2", "other/1"}
	}
	m := &pbflagsv1.BulkEvaluateResponse{}
	for _, id := range ids {
		a := &pbflagsv1.EvaluateResponse{FlagId: id, Source: pbflagsv1.EvaluationSource_EVALUATION_SOURCE_DEFAULT}
		if id != "unknown" {
			a.Source = pbflagsv1.EvaluationSource_EVALUATION_SOURCE_OVERRIDE
			a.Value = &pbflagsv1.FlagValue{Value: &pbflagsv1.FlagValue_StringValue{StringValue: id + " for " + r.Msg.GetEntityId()}}
		}
		m.Evaluations = append(m.Evaluations, a)
	}
	return connect.NewResponse(m), nil
}

func startPlainEvaluator(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(pbflagsv1connect.NewFlagEvaluatorServiceHandler(plainEvaluator{}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// Evaluations work with any server that has the evaluator service.
func TestPlainEvaluator(t *testing.T) {
	t.Parallel()
	c := newCLI(t, startPlainEvaluator(t), "")
	c.config(`
data "bunting_evaluation" "one" {
  flag_key  = "billing/1"
  entity_id = "u"
}
data "bunting_evaluation" "unknown" {
  flag_key = "unknown"
  default  = 3
}
data "bunting_evaluations" "keys" {
  flag_keys = ["billing/2", "other/9"]
  entity_id = "v"
}
data "bunting_evaluations" "prefix" { prefix = "billing" }
output "e" {
  value = [data.bunting_evaluation.one.value, data.bunting_evaluation.one.source, data.bunting_evaluation.unknown.value, data.bunting_evaluations.keys.values, keys(data.bunting_evaluations.prefix.values)]
}`)
	c.applies().must(t)
	if got, want := strings.TrimSpace(c.run("output", "-json", "e").must(t).text),
		`["billing/1 for u","OVERRIDE",3,{"billing/2":"billing/2 for v","other/9":"other/9 for v"},["billing/1","billing/2"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.unchanged()
}

// What it cannot do is one clear error, and nothing is taken for absent.
func TestPlainEvaluatorHasNoDefinitions(t *testing.T) {
	t.Parallel()
	endpoint := startPlainEvaluator(t)
	for name, row := range map[string]struct{ config, settings, summary, detail string }{
		"a resource":  {"resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = 1\n}", "", `Cannot create the flag "f"`, endpoint + " has only the evaluator service"},
		"a flag":      {`data "bunting_flag" "f" { key = "f" }`, "", `Cannot read the flag "f"`, endpoint + " has only the evaluator service"},
		"flags":       {`data "bunting_flags" "f" {}`, "", "Cannot list flags", endpoint + " has only the evaluator service"},
		"by tags":     {`data "bunting_evaluations" "f" { tags = ["x"] }`, "", `Cannot evaluate the flags with the tag "x"`, endpoint + " has only the evaluator service"},
		"the server":  {`data "bunting_server" "s" {}`, "", "Cannot read the flag server", endpoint + " has only the evaluator service"},
		"environment": {`data "bunting_evaluations" "f" { flag_keys = ["x"] }`, `environment = "prod"`, "The flag server does not tell its environment", `environment is "prod", but the server at ` + endpoint},
		"unknown":     {`data "bunting_evaluation" "f" { flag_key = "unknown" }`, "", `There is no flag "unknown"`, "the server has no such flag"},
	} {
		c := newCLI(t, endpoint, "")
		c.config("provider \"bunting\" {\n  " + row.settings + "\n}\n" + row.config)
		if got := c.applies().fails(t); got.Summary != row.summary || !strings.Contains(got.Detail, row.detail) {
			t.Errorf("%s: got %s", name, got)
		}
	}
}
