package provider

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// ofWorkspace gives a configuration's CLI, with a workspace where one is named,
// and an operator of the same server.
func ofWorkspace(t *testing.T, name string) (*cli, operator) {
	t.Helper()
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	if name != "" {
		c.env = append(c.env, "BUNTING_WORKSPACE="+name)
	}
	return c, newOperator(t, server, "anna")
}

func payFlag(defaultValue, more string) string {
	return fmt.Sprintf("resource \"bunting_flag\" \"f\" {\n  key = \"pay\"\n  default_value = %s\n  %s\n}\n", defaultValue, more)
}

func paySwitch(more string) string {
	return fmt.Sprintf("resource \"bunting_kill_switch\" \"k\" {\n  flag_key = bunting_flag.f.key\n  reason = \"load\"\n  %s\n}\n", more)
}

const createFirst = "lifecycle {\n    create_before_destroy = true\n  }"

// A flag that is deleted and made anew would be switched on, whoever's the hold
// is: the replacement stops, and the hold stands.
func TestReplacementLiftsNoHold(t *testing.T) {
	t.Parallel()
	c, anna := ofWorkspace(t, "w")
	c.config(payFlag("1", `on_destroy = "delete"`) + paySwitch(""))
	c.applies().must(t)
	c.config(payFlag(`"x"`, `on_destroy = "delete"`) + paySwitch(""))
	if got := c.applies().fails(t); !strings.Contains(got.Detail, `held killed by "terraform"`) {
		t.Errorf("got %s", got)
	}
	if holds := anna.seesHolds("pay"); !slices.Equal(holds, []string{"terraform"}) {
		t.Errorf("the holds are %v", holds)
	}
}

// What is protected is the flag, not what a replacement leaves over of it.
func TestReplacementOfWhatIsProtected(t *testing.T) {
	t.Parallel()
	c, anna := ofWorkspace(t, "w")
	c.config(payFlag("1", "deletion_protection = true\n  "+createFirst) + paySwitch(createFirst))
	c.applies().must(t)
	c.applies("-replace=bunting_flag.f", "-replace=bunting_kill_switch.k").must(t)
	c.unchanged()
	if f, holds := anna.sees("pay"), anna.seesHolds("pay"); f.Archived() || !slices.Equal(holds, []string{"terraform"}) {
		t.Errorf("the server has %+v, held by %v", f, holds)
	}
}

// A kept flag's key is not free for a flag of another type.
func TestReplacementOfAKeptFlag(t *testing.T) {
	t.Parallel()
	c, anna := ofWorkspace(t, "w")
	c.config(payFlag("1", `on_destroy = "keep"`))
	c.applies().must(t)
	c.config(payFlag(`"x"`, `on_destroy = "keep"`))
	if got := c.plans().fails(t); got.Summary != `Flag "pay" cannot be replaced` {
		t.Errorf("got %s", got)
	}
	if f := anna.sees("pay"); f.Type != flag.Int || f.Archived() {
		t.Errorf("the server has %+v", f)
	}
}

// A release that meets a hold which the same workspace has rewritten since the
// plan is told, and not taken for done.
func TestReleaseOfARewrittenHold(t *testing.T) {
	t.Parallel()
	c, anna := ofWorkspace(t, "w")
	c.config(payFlag("1", "") + paySwitch(""))
	c.applies().must(t)
	c.config(payFlag("1", "") + paySwitch("engaged = false"))
	c.plans("-out=saved").must(t)
	rewritten := flag.Put(&flag.Hold{FlagKey: "pay", Holder: flag.TerraformHolder, Reason: "another run"})
	rewritten.OwnerID = flag.WorkspaceOwner("w")
	anna.does(rewritten)
	if got := c.run("apply", "-json", "saved").fails(t); !strings.Contains(got.Summary, "Cannot release") || !strings.Contains(got.Detail, "changed by anna") {
		t.Errorf("got %s", got)
	}
	c.applies().must(t)
	if holds := anna.seesHolds("pay"); len(holds) != 0 {
		t.Errorf("the holds are %v", holds)
	}
	c.unchanged()
}

// A destroy that meets a flag which the same workspace has made anew since the
// plan leaves it alone, without a word: it is what took the flag's place. One that
// it has only changed is told: no plan has shown that this would go.
func TestDestroyOfARewrittenFlag(t *testing.T) {
	t.Parallel()
	for name, anew := range map[string]bool{"made anew": true, "changed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, anna := ofWorkspace(t, "w")
			c.config(payFlag("1", ""))
			c.applies().must(t)
			c.plans("-destroy", "-out=saved").must(t)
			rewritten := anna.changes("pay", func(f *flag.Flag) {
				if !anew {
					f.Description = "another run"
				}
			})
			rewritten.OwnerID = flag.WorkspaceOwner("w")
			if anew {
				rewritten.Expected = new(int64)
			}
			anna.does(rewritten)
			o := c.run("apply", "-json", "saved")
			if anew {
				o.must(t)
			} else if got := o.fails(t); got.Summary != `Cannot archive the flag "pay"` || !strings.Contains(got.Detail, "changed by anna") {
				t.Errorf("got %s", got)
			}
			if f := anna.sees("pay"); f.Archived() || f.Changed.Actor != "anna" {
				t.Errorf("the server has %+v", f)
			}
		})
	}
}

// An expiry in the past is told while planning when the switch is thrown with it.
func TestEngagingWithAPastExpiry(t *testing.T) {
	t.Parallel()
	c, _ := ofWorkspace(t, "")
	const past = "expires_at = \"2020-01-01T00:00:00Z\"\n  engaged = "
	c.config(payFlag("1", "") + paySwitch(past+"false"))
	c.applies().must(t)
	c.config(payFlag("1", "") + paySwitch(past+"true"))
	if got := c.plans().fails(t); got.Summary != "Invalid expires_at" {
		t.Errorf("got %s", got)
	}
}

// Without a reference Terraform plans the override before or after its flag, as
// it comes: the same plan gives the layer, so it is no error either way.
func TestLayerAndOverrideInOnePlan(t *testing.T) {
	t.Parallel()
	c, _ := ofWorkspace(t, "")
	var before, after strings.Builder
	for i := range 10 {
		fmt.Fprintf(&before, "resource \"bunting_flag\" \"f%d\" {\n  key = \"f%d\"\n  default_value = 1\n}\n", i, i)
		fmt.Fprintf(&after, "resource \"bunting_flag\" \"f%d\" {\n  key = \"f%d\"\n  default_value = 1\n  layer = \"user\"\n}\n"+
			"resource \"bunting_override\" \"o%d\" {\n  flag_key = \"f%d\"\n  entity_id = \"u\"\n  value = 2\n}\n", i, i, i, i)
	}
	c.config(before.String())
	c.applies().must(t)
	c.config(after.String())
	c.plans().must(t)
}

// An override that says nothing of a flag whose type was changed elsewhere is
// set anew, with a value configured or without.
func TestPassedOverOverrideIsSetAnew(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"without a value": "", "with a value": "value = \"x\""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, anna := ofWorkspace(t, "")
			c.config(payFlag(`"x"`, `layer = "user"`) + "resource \"bunting_override\" \"o\" {\n  flag_key = bunting_flag.f.key\n  entity_id = \"u\"\n  " + value + "\n}\n")
			c.applies().must(t)
			toInt := func(f *flag.Flag) { f.Type, f.Default = flag.Int, flag.IntValue(1) }
			back := anna.changes("pay", func(*flag.Flag) {})
			anna.does(
				anna.changes("pay", toInt),
				flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: flag.IntValue(3)}),
				back,
			)
			c.applies().must(t)
			o := anna.seesOverride("pay", "u")
			if want := flag.Default; value == "" && o.State != want {
				t.Errorf("the server has %+v", o)
			}
			if value != "" && o.Value.Text() != "x" {
				t.Errorf("the server has %+v", o)
			}
			c.unchanged()
		})
	}
}
