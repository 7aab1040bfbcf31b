package provider

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// One voice for everything that can go wrong: summary, detail, place.
func TestOperationFailed(t *testing.T) {
	t.Parallel()
	op := operation{`create the flag "pay"`, "bunting_flag", "pay"}
	for name, row := range map[string]struct {
		err    error
		detail string
		at     path.Path
	}{
		"the way": {
			&client.Error{Kind: client.Unavailable, Op: "x", Message: "http://127.0.0.1:1 refused the connection."},
			"http://127.0.0.1:1 refused the connection.", path.Empty(),
		},
		"a rule":     {flag.Invalid("value", "is wrong."), "value is wrong.", path.Root("value")},
		"no place":   {flag.Invalid("", "everything is wrong."), "Everything is wrong.", path.Empty()},
		"state":      {flag.Invalid("state", "is wrong."), "state is wrong.", path.Empty()},
		"conflict":   {&flag.Problem{Kind: flag.ProblemConflict, Message: "it was changed."}, "It was changed.", path.Empty()},
		"gone":       {&flag.Problem{Kind: flag.ProblemNotFound, Message: "it is gone."}, "It is gone.", path.Empty()},
		"its flag":   {&flag.Problem{Kind: flag.ProblemNotFound, Field: "flag_key", Message: "is not there."}, "flag_key is not there.", path.Root("flag_key")},
		"exists":     {&flag.Problem{Kind: flag.ProblemAlreadyExists, Field: "key", Message: "is taken."}, "key is taken.\n\n  import {\n    to = bunting_flag.NAME\n    id = \"pay\"\n  }", path.Root("key")},
		"the unseen": {errors.New("something else"), "Something else.", path.Empty()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var diags diag.Diagnostics
			op.failed(&diags, row.err)
			if len(diags) != 1 || diags[0].Summary() != `Cannot create the flag "pay"` || diags[0].Detail() != row.detail {
				t.Fatalf("got %v", diags)
			}
			at := path.Empty()
			if placed, ok := diags[0].(diag.DiagnosticWithPath); ok {
				at = placed.Path()
			}
			if !at.Equal(row.at) {
				t.Errorf("at %s, want %s", at, row.at)
			}
		})
	}
}

func TestHoldText(t *testing.T) {
	t.Parallel()
	since := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, h := range map[string]*flag.Hold{
		"Reason: it burns\nPlaced by anna at 2030-01-02T03:04:05Z, and standing until 2031-01-02T03:04:05Z. While it stands the flag serves its default value, and no apply changes that. " +
			"anna releases it with: bunting release pay. Others need the scope admin: bunting release pay --holder ops-anna.": {
			FlagKey: "pay", Holder: "ops-anna", Actor: "anna", Reason: "it burns", Since: since, ExpiresAt: since.AddDate(1, 0, 0),
		},
		"Reason: load\nPlaced by ci at 2030-01-02T03:04:05Z, and standing until it is released. While it stands the flag serves its default value, and no apply changes that. " +
			"Its bunting_kill_switch releases it (engaged = false); it is managed by workspace \"a\".": {
			FlagKey: "pay", Holder: "terraform/x", Actor: "ci", Reason: "load", Since: since, OwnerID: flag.WorkspaceOwner("a"),
		},
	} {
		if got := holdText(h); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestTellHolds(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Minute)
	holds := []*flag.Hold{
		{FlagKey: "pay", Holder: "anna"},
		{FlagKey: "pay", Holder: "bob", ExpiresAt: past},
		{FlagKey: "pay", Holder: "carl", Expired: true},
		{FlagKey: "pay", Holder: "terraform"},
	}
	var diags diag.Diagnostics
	tellHolds(&diags, holds, "terraform")
	if len(diags) != 1 || diags.HasError() || diags[0].Summary() != `Flag "pay" is held killed by anna` {
		t.Errorf("got %v", diags)
	}
	if !standing(holds) || standing(holds[1:3]) {
		t.Error("standing counts expired holds")
	}
}

func TestTellChange(t *testing.T) {
	t.Parallel()
	stamp := flag.Stamp{Revision: 7, Actor: "anna", Time: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	f := &flag.Flag{Key: "pay", Changed: stamp}
	ours := &flag.Flag{Key: "pay", Changed: flag.Stamp{Revision: 7, Actor: "anna", OwnerID: "workspace:a"}}
	for name, row := range map[string]struct {
		r       record
		f       *flag.Flag
		differs bool
		told    bool
	}{
		"changed by another": {record{Revision: 6, OwnerID: "workspace:a"}, f, true, true},
		"written, but equal": {record{Revision: 6}, f, false, false},
		"seen before":        {record{Revision: 7}, f, true, false},
		"just imported":      {record{}, f, true, false},
		"under our name":     {record{Revision: 6, OwnerID: "workspace:a"}, ours, true, true},
	} {
		var diags diag.Diagnostics
		tellChange(&diags, row.r, row.f, row.differs)
		if told := len(diags) == 1 && diags[0].Summary() == `Flag "pay" was changed by anna`; told != row.told {
			t.Errorf("%s: got %v", name, diags)
		}
	}
}
