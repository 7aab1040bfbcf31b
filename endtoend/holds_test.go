package endtoend

import (
	"strings"
	"testing"
)

// TestHoldOutlivesTerraform: what an operator killed stays killed, whatever is applied, until the operator lets go.
func TestHoldOutlivesTerraform(t *testing.T) {
	t.Parallel()
	const flagged = `
resource "bunting_flag" "pay" {
  key           = "shop/pay"
  default_value = "cash"
  value         = "card"
}
`
	engaged := func(engaged, reason string) string {
		return flagged + `
resource "bunting_kill_switch" "pay" {
  flag_key           = bunting_flag.pay.key
  engaged            = ` + engaged + `
  reason             = "` + reason + `"
  release_on_destroy = true
}
`
	}
	const served, killed = "card GLOBAL", "cash KILLED"

	s := startServer(t)
	w := newWorkspace(t, s, engaged("false", "not now"))
	expect := func(when, want string) {
		t.Helper()
		if got := s.evaluate(t, "shop/pay", ""); got != want {
			t.Fatalf("%s: served is %s, expected %s", when, got, want)
		}
	}
	w.must(t, "apply")
	expect("applied", served)

	anna := s.newToken(t, "ops-anna", "SCOPE_KILL")
	s.operate(t, anna, "kill", "shop/pay", "--reason", "double charges")
	expect("killed", killed)

	steps := []struct{ when, config string }{
		{"the same once more", engaged("false", "not now")},
		{"kill switch engaged", engaged("true", "not now")},
		{"kill switch with another reason", engaged("true", "really")},
		{"kill switch disengaged", engaged("false", "really")},
		{"kill switch engaged again", engaged("true", "really")},
		{"kill switch destroyed", flagged},
		{"flag changed", strings.Replace(flagged, `"card"`, `"card!"`, 1)},
		{"flag as before", flagged},
	}
	for _, step := range steps {
		w.write(t, "main.tf", step.config)
		out := w.must(t, "apply")
		expect(step.when, killed)
		if step.when != "flag changed" {
			out.says(t, `Warning: Flag "shop/pay" is held killed by ops-anna`)
		}
		w.planIsEmpty(t)
	}

	s.operate(t, anna, "release", "shop/pay")
	expect("released", served)
	if out := w.must(t, "plan"); strings.Contains(out.text, "held killed") {
		t.Errorf("released, the plan still warns:\n%s", out.text)
	}
}

// TestHoldsAreToldOneByOne: Terraform folds warnings of one summary into one, so each names its flag and holder.
func TestHoldsAreToldOneByOne(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := newWorkspace(t, s, `
resource "bunting_flag" "f" {
  for_each      = toset(["a", "b", "c", "d"])
  key           = "night/${each.key}"
  default_value = false
  value         = true
}
`)
	w.must(t, "apply")
	for key, holder := range map[string]string{"night/a": "ops-anna", "night/b": "ops-anna", "night/c": "ops-bert"} {
		s.operate(t, s.token, "kill", key, "--reason", "it burns", "--holder", holder)
	}
	out := w.must(t, "plan")
	out.says(t, `Warning: Flag "night/a" is held killed by ops-anna`, `Warning: Flag "night/b" is held killed by ops-anna`,
		`Warning: Flag "night/c" is held killed by ops-bert`)
	if got := strings.Count(out.text, "is held killed by"); got != 3 {
		t.Errorf("%d warnings tell of holds, expected 3:\n%s", got, out.text)
	}
}

// TestKilledBetweenPlanAndApply: a saved plan knows nothing of the hold, and applies all the same.
func TestKilledBetweenPlanAndApply(t *testing.T) {
	t.Parallel()
	config := func(value string) string {
		return `
resource "bunting_flag" "pay" {
  key           = "shop/pay"
  default_value = "cash"
  value         = "` + value + `"
}

data "bunting_evaluation" "pay" {
  flag_key = bunting_flag.pay.id
}

output "pay" {
  value = data.bunting_evaluation.pay.source
}
`
	}
	s := startServer(t)
	w := newWorkspace(t, s, config("card"))
	w.must(t, "apply")
	w.write(t, "main.tf", config("coupon"))
	w.must(t, "plan", "-out=saved.tfplan")
	s.operate(t, s.token, "kill", "shop/pay", "--reason", "just now")
	if out := finish(t, command(t, w.dir, w.env, cli(t), "apply", "-no-color", "saved.tfplan")); out.code != 0 {
		t.Fatalf("applying the saved plan ended with %d:\n%s", out.code, out.text)
	}
	if got := s.evaluate(t, "shop/pay", ""); got != "cash KILLED" {
		t.Errorf("served is %s, expected the default, killed", got)
	}
	w.planIsEmpty(t)
	s.operate(t, s.token, "release", "shop/pay")
	if got := s.evaluate(t, "shop/pay", ""); got != "coupon GLOBAL" {
		t.Errorf("released, served is %s, expected the value of the saved plan", got)
	}
}
