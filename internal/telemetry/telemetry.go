// Package telemetry is what a flag server tells of itself while it runs: numbers
// for Prometheus, and spans by OTLP where a collector is named. Nothing of it
// names a flag, an entity or a token, and nothing that fails in it is felt by
// a caller.
package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
)

// Telemetry observes one server: its calls (Interceptor, Request), its store
// (Store) and what it asks of its upstream (Transport). Its methods may be called
// from many goroutines at once.
type Telemetry struct {
	registry *prometheus.Registry
	state    *state
	tracing  *Tracing // nil: no spans

	evaluations evaluations
	requests    *histograms
	stores      *histograms
	fetches     *histograms
	readers     prometheus.Gauge
}

// other stands for every path and operation that is not in a list of ours, so
// that no caller makes a name of theirs a label.
const other = "other"

// operations names every procedure of the wire by its path: "Evaluate" for
// "/pbflags.v1.FlagEvaluatorService/Evaluate". The last parts differ.
var operations = func() map[string]string {
	names := map[string]string{}
	for _, file := range []protoreflect.FileDescriptor{pbflagsv1.File_pbflags_v1_evaluator_proto, buntingv1.File_bunting_v1_admin_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				names["/"+string(service.FullName())+"/"+string(method.Name())] = string(method.Name())
			}
		}
	}
	return names
}()

// The paths beside the procedures, as they are told.
var pages = map[string]string{"/healthz": "healthz", "/readyz": "readyz", "/metrics": "metrics"}

const profilesPath, profiles = "/debug/pprof/", "pprof"

// operationOf gives the label of a path.
func operationOf(path string) string {
	if name, ok := operations[path]; ok {
		return name
	}
	if name, ok := pages[path]; ok {
		return name
	}
	if strings.HasPrefix(path, profilesPath) {
		return profiles
	}
	return other
}
