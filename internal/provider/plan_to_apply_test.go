package provider

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// matrix says what becomes of an object when somebody else does something between
// its last apply and the next one. Of each resource and of each thing that a plan
// does to it, every deed is in one row; it gets a flag of its own. The deeds are
// anna's, an operator, on the flag or, where they name it, on the override
// ("retype" gives the flag another type, "recreate" deletes it and makes it
// anew, "release" lifts an operator's hold or the kill switch's own); "taken over"
// is another workspace's, on the resource's own object. The cells:
//
//	applied           the object is as the plan says, and the deed stands beside it
//	applied as …      the same, after another plan than without the deed
//	nothing to do     the deed did what was planned
//	stopped: …        the diagnostic's summary; the deed stands, and nothing is lost
//	refused           the deed has nothing to be done to, as the server says; else applied
const matrix = `
resource | plan    | somebody else's deed                                                           | before refresh          | after the plan          | at the first call       | at the last write
flag     | create  | update, retype, archive, delete, kill, release, override set, override removed | refused                 | refused                 | refused                 | refused
flag     | create  | recreate, taken over                                                           | stopped: Cannot create  | stopped: Cannot create  | stopped: Cannot create  | stopped: Cannot create
flag     | restore | update, retype, recreate, taken over                                           | stopped: Cannot create  | stopped: Cannot create  | stopped: Cannot create  | stopped: Cannot create
flag     | restore | archive, delete, kill, release, override removed                               | applied                 | applied                 | applied                 | applied
flag     | restore | override set                                                                   | refused                 | refused                 | refused                 | refused
flag     | update  | update, recreate                                                               | applied                 | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
flag     | update  | retype                                                                         | applied as replace      | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
flag     | update  | archive, delete                                                                | applied as create       | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
flag     | update  | kill, release, override set, override removed                                  | applied                 | applied                 | applied                 | applied
flag     | update  | taken over                                                                     | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
flag     | replace | update, retype, recreate                                                       | applied                 | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot create
flag     | replace | archive                                                                        | applied as create       | stopped: Cannot archive | stopped: Cannot archive | applied
flag     | replace | delete                                                                         | applied as create       | applied                 | applied                 | applied
flag     | replace | kill, release, override removed                                                | applied                 | applied                 | applied                 | applied
flag     | replace | override set                                                                   | applied                 | applied                 | applied                 | refused
flag     | replace | taken over                                                                     | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot create
flag     | archive | update, retype, recreate                                                       | applied                 | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot archive
flag     | archive | archive                                                                        | nothing to do           | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot archive
flag     | archive | delete                                                                         | nothing to do           | applied                 | applied                 | applied
flag     | archive | kill, release, override set, override removed                                  | applied                 | applied                 | applied                 | applied
flag     | archive | taken over                                                                     | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot archive | stopped: Cannot archive
flag     | delete  | update, retype, recreate                                                       | applied                 | stopped: Cannot delete  | stopped: Cannot delete  | stopped: Cannot delete
flag     | delete  | archive                                                                        | nothing to do           | stopped: Cannot delete  | stopped: Cannot delete  | stopped: Cannot delete
flag     | delete  | delete                                                                         | nothing to do           | applied                 | applied                 | applied
flag     | delete  | kill, taken over                                                               | stopped: Cannot delete  | stopped: Cannot delete  | stopped: Cannot delete  | stopped: Cannot delete
flag     | delete  | release, override set, override removed                                        | applied                 | applied                 | applied                 | applied
override | create  | update, recreate, kill, release                                                | applied                 | applied                 | applied                 | applied
override | create  | retype                                                                         | stopped: Invalid value  | stopped: Invalid value  | stopped: Invalid value  | stopped: Cannot set
override | create  | archive, delete, override set, taken over                                      | stopped: Cannot set     | stopped: Cannot set     | stopped: Cannot set     | stopped: Cannot set
override | create  | override removed                                                               | refused                 | refused                 | refused                 | refused
override | update  | update, kill, release                                                          | applied                 | applied                 | applied                 | applied
override | update  | retype                                                                         | stopped: Invalid value  | stopped: Invalid value  | stopped: Invalid value  | stopped: Cannot change
override | update  | archive, taken over                                                            | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
override | update  | delete                                                                         | stopped: Cannot set     | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
override | update  | recreate, override removed                                                     | applied as create       | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
override | update  | override set                                                                   | applied                 | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
override | remove  | update, retype, archive, kill, release                                         | applied                 | applied                 | applied                 | applied
override | remove  | delete, recreate, override removed                                             | nothing to do           | applied                 | applied                 | applied
override | remove  | override set                                                                   | applied                 | stopped: Cannot remove  | stopped: Cannot remove  | stopped: Cannot remove
override | remove  | taken over                                                                     | stopped: Cannot remove  | stopped: Cannot remove  | stopped: Cannot remove  | stopped: Cannot remove
switch   | engage  | update, retype, archive, recreate, kill, override set, override removed        | applied                 | applied                 | applied                 | applied
switch   | engage  | delete, taken over                                                             | stopped: Cannot place   | stopped: Cannot place   | stopped: Cannot place   | stopped: Cannot place
switch   | engage  | release                                                                        | refused                 | refused                 | refused                 | refused
switch   | change  | update, retype, archive, kill, override set, override removed                  | applied                 | applied                 | applied                 | applied
switch   | change  | delete, recreate                                                               | refused                 | refused                 | refused                 | refused
switch   | change  | release                                                                        | applied                 | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
switch   | change  | taken over                                                                     | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change  | stopped: Cannot change
switch   | release | update, retype, archive, kill, release, override set, override removed         | applied                 | applied                 | applied                 | applied
switch   | release | delete, recreate                                                               | refused                 | refused                 | refused                 | refused
switch   | release | taken over                                                                     | stopped: Cannot release | stopped: Cannot release | stopped: Cannot release | stopped: Cannot release
switch   | destroy | update, retype, archive, kill, release, override set, override removed         | applied                 | applied                 | applied                 | applied
switch   | destroy | delete, recreate                                                               | refused                 | refused                 | refused                 | refused
switch   | destroy | taken over                                                                     | stopped: Cannot release | stopped: Cannot release | stopped: Cannot release | stopped: Cannot release
`

// moments are the columns of the matrix: before Terraform refreshes; between the
// saved plan and its apply; during apply, before the first call for the object
// arrives; and before the last write does, which in a replacement is the second.
var moments = []string{"before refresh", "after the plan", "at the first call", "at the last write"}

// scene is a deed in the matrix, with a flag of its own.
type scene struct {
	resource, plan, deed string
	expected             map[string]string // by moment
}

// doing is what a plan does to the object.
type doing struct {
	before, after string  // the resource's block; "" for none
	action        string  // as Terraform calls it
	write         flag.Op // the last that it makes
}

var doings = map[string]doing{
	"flag create":     {"", "default_value = 1\n  description = \"planned\"", "create", flag.PutFlag},
	"flag restore":    {"", "default_value = 1\n  description = \"planned\"", "create", flag.PutFlag},
	"flag update":     {"default_value = 1", "default_value = 1\n  description = \"planned\"", "update", flag.PutFlag},
	"flag replace":    {"default_value = 1", "default_value = \"x\"\n  description = \"planned\"", "replace", flag.PutFlag},
	"flag archive":    {"default_value = 1", "", "delete", flag.ArchiveFlag},
	"flag delete":     {"default_value = 1\n  on_destroy = \"delete\"", "", "delete", flag.DeleteFlag},
	"override create": {"", "value = 2", "create", flag.SetOverride},
	"override update": {"value = 1", "value = 2", "update", flag.SetOverride},
	"override remove": {"value = 1", "", "delete", flag.RemoveOverride},
	"switch engage":   {"", "reason = \"planned\"", "create", flag.PlaceHold},
	"switch change":   {"reason = \"load\"", "reason = \"planned\"", "update", flag.PlaceHold},
	"switch release":  {"reason = \"load\"", "engaged = false", "update", flag.ReleaseHold},
	"switch destroy":  {"reason = \"load\"\n  release_on_destroy = true", "", "delete", flag.ReleaseHold},
}

var deeds = []string{"update", "retype", "archive", "delete", "recreate", "kill", "release", "override set", "override removed", "taken over"}

// scenes reads the matrix, which must have no hole.
func scenes(t *testing.T) (all []scene) {
	t.Helper()
	told := map[flag.Key]int{}
	for i, line := range strings.Split(strings.TrimSpace(matrix), "\n") {
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) != 3+len(moments) || i == 0 && !slices.Equal(cells[3:], moments) {
			t.Fatalf("no row of the matrix: %s", line)
		}
		if i == 0 {
			continue
		}
		for deed := range strings.SplitSeq(cells[2], ", ") {
			s := scene{cells[0], cells[1], deed, map[string]string{}}
			for i, moment := range moments {
				s.expected[moment] = cells[3+i]
			}
			all = append(all, s)
			told[s.key()]++
		}
	}
	for plan := range doings {
		for _, deed := range deeds {
			resource, plan, _ := strings.Cut(plan, " ")
			if s := (scene{resource: resource, plan: plan, deed: deed}); told[s.key()] != 1 {
				t.Errorf("%s: %d rows", s.key(), told[s.key()])
			}
		}
	}
	if want := len(doings) * len(deeds); len(all) != want {
		t.Errorf("%d deeds, want %d", len(all), want)
	}
	return all
}

func (s scene) doing() doing { return doings[s.resource+" "+s.plan] }

func (s scene) key() flag.Key {
	return flag.Key(strings.ReplaceAll(s.resource+"/"+s.plan+"/"+s.deed, " ", "-"))
}

func (s scene) name() string {
	return strings.NewReplacer(" ", "_", "/", "_").Replace(s.plan + "_" + s.deed)
}

// ref names the row's object.
func (s scene) ref() flag.Ref {
	return map[string]flag.Ref{"flag": flag.FlagRef(s.key()), "override": flag.OverrideRef(s.key(), "u"), "switch": flag.HoldRef(s.key(), flag.TerraformHolder)}[s.resource]
}

func (s scene) address() string {
	return map[string]string{"flag": "bunting_flag.", "override": "bunting_override.", "switch": "bunting_kill_switch."}[s.resource] + s.name()
}

// block gives the resource's block; "" for none.
func (s scene) block(body string) string {
	if body == "" {
		return ""
	}
	kind, name, _ := strings.Cut(s.address(), ".")
	about := map[string]string{"flag": "key = %q\n  layer = \"user\"", "override": "flag_key = %q\n  entity_id = \"u\"", "switch": "flag_key = %q"}[s.resource]
	return fmt.Sprintf("resource %q %q {\n  "+about+"\n  %s\n}\n", kind, name, s.key(), body)
}

// operators reports whether the flag is the operator's, and not the configuration's.
func (s scene) operators() bool { return s.resource != "flag" || s.plan == "restore" }

// entity is whose override the deeds are about: the configuration's, or one that
// the configuration knows nothing of.
func (s scene) entity() string {
	if s.resource == "override" {
		return "u"
	}
	return "x"
}

func (s scene) flag(defaultValue flag.Value) *flag.Flag {
	return &flag.Flag{Key: s.key(), Type: defaultValue.Type(), Default: defaultValue, State: flag.Enabled, Layer: "user"}
}

func (s scene) override(entity string, value int64) *flag.Override {
	return &flag.Override{FlagKey: s.key(), EntityID: entity, State: flag.Enabled, Value: flag.IntValue(value)}
}

// props gives what the deed needs to be there: a hold to release, an override to remove.
func (s scene) props() []flag.Change {
	switch {
	case s.plan == "create" && s.resource == "flag":
	case s.deed == "release" && s.resource != "switch":
		return []flag.Change{kill(string(s.key()), "ops")}
	case s.deed == "override removed" && s.resource != "override":
		return []flag.Change{flag.Put(s.override("x", 8))}
	}
	return nil
}

// does gives what anna does. present is the flag as it is.
func (s scene) does(present *flag.Flag) []flag.Change {
	if present == nil {
		present = s.flag(flag.IntValue(1))
	}
	altered := *present
	key, anew := flag.FlagRef(s.key()), flag.Put(s.flag(flag.IntValue(7)))
	switch s.deed {
	case "update", "retype":
		if altered.Owner = "anna"; s.deed == "retype" {
			altered.Type, altered.Default = flag.Bool, flag.BoolValue(true)
		}
		change := flag.Put(&altered)
		change.Expected = new(max(1, present.Changed.Revision))
		return []flag.Change{change}
	case "archive":
		return []flag.Change{remove(flag.ArchiveFlag, key)}
	case "delete":
		return []flag.Change{remove(flag.DeleteFlag, key)}
	case "recreate":
		if s.resource == "flag" && s.plan == "create" {
			return []flag.Change{anew}
		}
		return []flag.Change{remove(flag.DeleteFlag, key), anew}
	case "kill":
		return []flag.Change{kill(string(s.key()), "anna")}
	case "release":
		if s.resource == "switch" {
			return []flag.Change{remove(flag.ReleaseHold, s.ref())}
		}
		return []flag.Change{remove(flag.ReleaseHold, flag.HoldRef(s.key(), "ops"))}
	case "override set":
		return []flag.Change{flag.Put(s.override(s.entity(), 9))}
	case "override removed":
		return []flag.Change{remove(flag.RemoveOverride, flag.OverrideRef(s.key(), s.entity()))}
	case "taken over":
		altered.Description = "theirs"
		change := flag.Put(map[string]flag.Object{
			"flag": &altered, "override": s.override("u", 9), "switch": &flag.Hold{FlagKey: s.key(), Holder: flag.TerraformHolder, Reason: "theirs"},
		}[s.resource])
		change.OwnerID, change.TakeOver = flag.WorkspaceOwner("other"), true
		return []flag.Change{change}
	}
	return nil
}

// Between a plan and its apply somebody does something: the object is applied
// safely, or it is stopped, and then it is told who, when and what to do.
func TestPlanToApply(t *testing.T) {
	t.Parallel()
	rows := scenes(t)
	for _, workspace := range []string{"main", ""} {
		if workspace == "" && os.Getenv("BUNTING_SOAK") == "" {
			continue
		}
		for _, moment := range moments {
			t.Run(strings.TrimSpace(workspace+" "+moment), func(t *testing.T) {
				t.Parallel()
				playScenes(t, rows, workspace, moment)
			})
		}
	}
}

func playScenes(t *testing.T, rows []scene, workspace, moment string) {
	t.Helper()
	server := buntingtest.Start(t)
	between := newMiddleman(t, server)
	anna := &tampering{operator: newOperator(t, server, "anna"), refused: map[flag.Key]error{}, left: map[flag.Key]truth{}}
	c := newCLI(t, between.URL, server.AdminToken)
	if workspace != "" {
		c.env = append(c.env, "BUNTING_WORKSPACE="+workspace)
	}
	var before, after strings.Builder
	var first, second []flag.Change
	for _, s := range rows {
		before.WriteString(s.block(s.doing().before))
		after.WriteString(s.block(s.doing().after))
		if !s.operators() {
			second = append(second, s.props()...)
			continue
		}
		first = append(append(first, flag.Put(s.flag(flag.IntValue(1)))), s.props()...)
		if s.plan == "restore" {
			first = append(first, remove(flag.ArchiveFlag, flag.FlagRef(s.key())))
		}
	}
	anna.all(first)
	c.config(before.String())
	c.applies().must(t)
	anna.all(second)
	c.config(after.String())

	var planned, applied outcome
	act, refused := func() {
		for _, s := range rows {
			anna.act(s)
		}
	}, rows[:0:0]
	switch moment {
	case "before refresh":
		act()
		planned = c.plans()
		now := anna.sees()
		for _, s := range rows { // nothing is applied before the plan is accepted
			if _, stop := anna.outcome(s, planned, planned); stop.Summary != "" {
				refused = append(refused, s)
				anna.judge(s, moment, planned, planned, now)
			}
		}
		applied = c.applies()
		planned = applied
	case "after the plan":
		planned = c.plans("-out=saved").must(t)
		act()
		applied = c.run("apply", "-json", "-input=false", "saved")
	default:
		planned = c.plans("-out=saved").must(t)
		steps := map[flag.Key]intervention{}
		for _, s := range rows {
			steps[s.key()] = intervention{
				when: func(a asked) bool { return moment == "at the first call" || a.op == s.doing().write },
				do:   func() { anna.act(s) },
			}
		}
		between.arm(steps)
		applied = c.run("apply", "-json", "-input=false", "saved")
		if keys := between.waiting(); len(keys) > 0 {
			t.Errorf("nobody stepped in at %v", keys)
		}
		for _, s := range rows {
			if ops := between.writes(s.key()); len(ops) > 2 || len(ops) == 2 && s.plan != "replace" {
				t.Errorf("%s was written by %v", s.key(), ops)
			}
		}
	}
	if strings.Contains(applied.text, "inconsistent") {
		t.Errorf("%s", applied.text)
	}
	now := anna.sees()
	for _, s := range rows {
		if !slices.ContainsFunc(refused, func(r scene) bool { return r.key() == s.key() }) {
			anna.judge(s, moment, planned, applied, now)
		}
	}

	c.applies().must(t)
	c.unchanged()
	now = anna.sees()
	for _, s := range rows {
		killed := s.deed == "kill" && anna.refused[s.key()] == nil && s.plan != "delete"
		if has := now.Hold(s.key(), "anna") != nil; !s.done(now) || has != killed {
			t.Errorf("%s, %s, %s: at last the server has %+v, held by anna: %v", s.resource, s.plan, s.deed, now.Flag(s.key()), has)
		}
	}
}
