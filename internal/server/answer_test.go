package server

import (
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// A small question must not make an answer that the server's memory does not hold.
func TestASmallQuestionGetsNoHugeAnswer(t *testing.T) {
	t.Parallel()
	h := start(t)
	value, err := flag.StringValue(strings.Repeat("x", flag.MaxValueBytes-100))
	if err != nil {
		t.Fatal(err)
	}
	large := &flag.Flag{Key: "large", Type: flag.String, Default: value, State: flag.Default}
	h.apply(t, flag.Put(large))
	c := h.as(t, h.scoped(t, token.Read))
	const times = maxAnswerBytes/flag.MaxValueBytes + 1
	for name, ask := range map[string]func() error{
		"BulkEvaluate": func() error {
			_, err := c.BulkEvaluate(t.Context(), connect.NewRequest(&pbflagsv1.BulkEvaluateRequest{FlagIds: slices.Repeat([]string{"large"}, times)}))
			return err
		},
		"Get": func() error {
			refs := slices.Repeat([]*buntingv1.Ref{wire.FromRef(large.Ref())}, times)
			_, err := c.Get(t.Context(), connect.NewRequest(&buntingv1.GetRequest{Refs: refs}))
			return err
		},
		"Apply, dry": func() error {
			changes := slices.Repeat([]*buntingv1.Change{wire.FromChange(flag.Change{Op: flag.RestoreFlag, Ref: large.Ref()})}, times)
			_, err := c.Apply(t.Context(), connect.NewRequest(&buntingv1.ApplyRequest{DryRun: true, Changes: changes}))
			return err
		},
	} {
		if err := ask(); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "larger than 128 MB") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}
