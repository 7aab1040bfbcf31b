package provider

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// step is one apply of a story. After it the plan is empty, unless rest is set.
type step struct {
	config  string         // "": the one before
	before  func(operator) // what an operator does first
	forget  string         // what is lost from the state first
	args    []string       // of apply
	planned string         // like "flag.f replace, override.o update"
	refused string         // the errors, as a pattern
	rest    bool           // something is left for the next apply
	has     string         // what the server has in the end
	history string         // what was done last on the flag "pay" and what belongs to it
}

// has tells all that the server has: flags with their type, overrides with their
// value, holds.
func (o operator) has() string {
	o.t.Helper()
	snapshot, err := o.Snapshot(o.t.Context(), "")
	if err != nil {
		o.t.Fatal(err)
	}
	var all []string
	for f := range snapshot.Flags("") {
		text := fmt.Sprintf("%s %s", f.Key, f.Type)
		if f.Archived() {
			text += " archived"
		}
		all = append(all, text)
	}
	for v := range snapshot.Overrides("") {
		all = append(all, fmt.Sprintf("%s %s", v.Ref(), v.Value.JSON()))
	}
	for h := range snapshot.Holds("") {
		all = append(all, "hold "+h.Ref().String())
	}
	return strings.Join(all, ", ")
}

func (o operator) revision() flag.Revision {
	o.t.Helper()
	snapshot, err := o.Snapshot(o.t.Context(), "")
	if err != nil {
		o.t.Fatal(err)
	}
	return snapshot.Revision
}

// history gives the actions on a flag and what belongs to it, oldest first.
func (o operator) history(key string) string {
	o.t.Helper()
	entries, _, err := o.Audit(o.t.Context(), client.AuditFilter{Key: flag.Key(key)})
	if err != nil {
		o.t.Fatal(err)
	}
	var actions []string
	for _, e := range slices.Backward(entries) {
		actions = append(actions, e.Action)
	}
	return strings.Join(actions, ", ")
}

// namedFlag, override and killSwitch give blocks. The key of what belongs to a
// flag is written as it comes: a reference, or a text in quotes.
func namedFlag(name, key, more string) string {
	return fmt.Sprintf("resource \"bunting_flag\" %q {\n  key = %q\n  layer = \"user\"\n  %s\n}\n", name, key, more)
}

func overrideBlock(key, more string) string {
	return fmt.Sprintf("resource \"bunting_override\" \"o\" {\n  flag_key = %s\n  entity_id = \"u\"\n  %s\n}\n", key, more)
}

func switchBlock(name, key, more string) string {
	return fmt.Sprintf("resource \"bunting_kill_switch\" %q {\n  flag_key = %s\n  %s\n}\n", name, key, more)
}

const (
	ofFlag  = "bunting_flag.f.key"
	isInt   = "default_value = 1"
	isText  = `default_value = "x"`
	engaged = `reason = "load"`
)

func moved(from, to string) string {
	return fmt.Sprintf("moved {\n  from = %s\n  to = %s\n}\n", from, to)
}

func removedBlock(from string) string {
	return fmt.Sprintf("removed {\n  from = %s\n  lifecycle {\n    destroy = false\n  }\n}\n", from)
}

// stories are applies one after the other, by what they are about. Of each the
// workspace is "w", unless its name says "without workspace".
var stories = map[string][]step{
	"created first, another type": {
		{config: namedFlag("f", "pay", isInt+"\n  "+createFirst) + overrideBlock(ofFlag, ""), planned: "flag.f create, override.o create", has: "pay int, pay:u null"},
		{config: namedFlag("f", "pay", isText+"\n  "+createFirst) + overrideBlock(ofFlag, ""), planned: "flag.f replace", has: "pay string, pay:u null"},
	},
	"created first, another type, without workspace": {
		{config: namedFlag("f", "pay", isInt+"\n  "+createFirst), planned: "flag.f create", has: "pay int"},
		{config: namedFlag("f", "pay", isText+"\n  "+createFirst), planned: "flag.f replace", refused: `Cannot create the flag "pay": .*setting workspace`, has: "pay int"},
		{config: namedFlag("f", "pay", isText), planned: "flag.f replace", has: "pay string"},
	},
	"created first, another key, without workspace": {
		{config: namedFlag("f", "pay", isInt+"\n  "+createFirst) + overrideBlock(ofFlag, ""), planned: "flag.f create, override.o create", has: "pay int, pay:u null"},
		{config: namedFlag("f", "buy", isInt+"\n  "+createFirst) + overrideBlock(ofFlag, ""), planned: "flag.f replace, override.o replace", has: "buy int, pay int archived, buy:u null"},
	},
	"replaced, to be archived": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2"), planned: "flag.f create, override.o create", has: "pay int, pay:u 2"},
		{config: namedFlag("f", "pay", isText) + overrideBlock(ofFlag, `value = "y"`), planned: "flag.f replace, override.o update", has: "pay string, pay:u \"y\""},
	},
	"replaced, to be deleted": {
		{config: namedFlag("f", "pay", isInt+"\n  on_destroy = \"delete\"") + overrideBlock(ofFlag, ""), planned: "flag.f create, override.o create", has: "pay int, pay:u null"},
		{config: namedFlag("f", "pay", isText+"\n  on_destroy = \"delete\"") + overrideBlock(ofFlag, ""), planned: "flag.f replace", rest: true, has: "pay string"},
		{planned: "override.o create", has: "pay string, pay:u null"},
	},
	"replaced, to be kept": {
		{config: namedFlag("f", "pay", isInt+"\n  on_destroy = \"keep\""), planned: "flag.f create", has: "pay int"},
		{config: namedFlag("f", "buy", isInt+"\n  on_destroy = \"keep\""), planned: "flag.f replace", has: "buy int, pay int"},
	},
	"one target after the other": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2") + switchBlock("k", ofFlag, engaged), args: []string{"-target=bunting_flag.f"}, planned: "flag.f create", rest: true, has: "pay int"},
		{args: []string{"-target=bunting_override.o"}, planned: "override.o create", rest: true, has: "pay int, pay:u 2"},
		{planned: "kill_switch.k create", has: "pay int, pay:u 2, hold pay:terraform"},
	},
	"a target takes along what it refers to": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2"), args: []string{"-target=bunting_override.o"}, planned: "flag.f create, override.o create", has: "pay int, pay:u 2"},
	},
	"a target with a literal key": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(`"pay"`, "value = 2"), args: []string{"-target=bunting_override.o"}, planned: "override.o create", refused: `Cannot set the override .*no such flag.*bunting_flag.NAME.key`, has: ""},
		{args: []string{"-target=bunting_flag.f"}, planned: "flag.f create", rest: true, has: "pay int"},
		{planned: "override.o create", has: "pay int, pay:u 2"},
	},
	"-replace": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2") + switchBlock("k", ofFlag, engaged), planned: "flag.f create, kill_switch.k create, override.o create", has: "pay int, pay:u 2, hold pay:terraform"},
		{args: []string{"-replace=bunting_flag.f"}, planned: "flag.f replace", has: "pay int, pay:u 2, hold pay:terraform"},
		{args: []string{"-replace=bunting_override.o"}, planned: "override.o replace", has: "pay int, pay:u 2, hold pay:terraform"},
		{args: []string{"-replace=bunting_kill_switch.k"}, planned: "kill_switch.k replace", refused: `The kill switch of flag "pay" is engaged: .*engaged = false`, has: "pay int, pay:u 2, hold pay:terraform", history: "archive_flag, put_flag, remove_override, set_override"},
	},
	"-replace, created first": {
		{config: namedFlag("f", "pay", isInt+"\n  "+createFirst) + overrideBlock(ofFlag, "value = 2\n  "+createFirst), planned: "flag.f create, override.o create", has: "pay int, pay:u 2"},
		{args: []string{"-replace=bunting_flag.f", "-replace=bunting_override.o"}, planned: "flag.f replace, override.o replace", has: "pay int, pay:u 2"},
	},
	"a failure in parts": {
		{
			before:  func(anna operator) { anna.does(flag.Put(boolFlag("buy"))) },
			config:  namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2") + namedFlag("g", "buy", isInt) + switchBlock("k", "bunting_flag.g.key", engaged),
			planned: "flag.f create, flag.g create, kill_switch.k create, override.o create", refused: `Cannot create the flag "buy": .*import`, rest: true, has: "buy bool, pay int, pay:u 2",
		},
		{
			before:  func(anna operator) { anna.does(remove(flag.DeleteFlag, flag.FlagRef("buy"))) },
			planned: "flag.g create, kill_switch.k create", has: "buy int, pay int, pay:u 2, hold buy:terraform",
		},
	},
	"declared again": {
		{config: namedFlag("f", "pay", isInt), planned: "flag.f create", has: "pay int"},
		{config: " ", planned: "flag.f delete", has: "pay int archived"},
		{config: namedFlag("g", "pay", isInt), planned: "flag.g create", has: "pay int", history: "put_flag, archive_flag, put_flag"},
	},
	"two kill switches": {
		{
			config:  namedFlag("f", "pay", isInt) + switchBlock("k", ofFlag, engaged) + switchBlock("l", ofFlag, engaged+"\n  holder = \"terraform/two\""),
			planned: "flag.f create, kill_switch.k create, kill_switch.l create", has: "pay int, hold pay:terraform, hold pay:terraform/two",
		},
		{
			config:  namedFlag("f", "pay", isInt) + switchBlock("k", ofFlag, "engaged = false") + switchBlock("l", ofFlag, engaged+"\n  holder = \"terraform/two\""),
			planned: "kill_switch.k update", has: "pay int, hold pay:terraform/two",
		},
		{
			config:  namedFlag("f", "pay", isInt) + switchBlock("k", ofFlag, engaged) + switchBlock("l", ofFlag, "engaged = false\n  holder = \"terraform/two\""),
			planned: "kill_switch.k update, kill_switch.l update", has: "pay int, hold pay:terraform",
		},
	},
	"a kill switch lost from the state": {
		{config: namedFlag("f", "pay", isInt) + switchBlock("k", ofFlag, engaged), planned: "flag.f create, kill_switch.k create", has: "pay int, hold pay:terraform"},
		{config: namedFlag("f", "pay", isInt) + switchBlock("k", ofFlag, "engaged = false"), forget: "bunting_kill_switch.k", planned: "kill_switch.k create", has: "pay int"},
	},
	"a block is gone whose last write the state does not know": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2"), planned: "flag.f create, override.o create", has: "pay int, pay:u 2"},
		{
			before: func(anna operator) {
				written := []flag.Change{anna.changes("pay", func(f *flag.Flag) { f.Description = "lost" }), flag.Put(&flag.Override{FlagKey: "pay", EntityID: "u", State: flag.Enabled, Value: flag.IntValue(3)})}
				for i := range written {
					written[i].OwnerID = flag.WorkspaceOwner("w")
				}
				anna.does(written...)
			},
			config: " ", planned: "flag.f delete, override.o delete", has: "pay int archived",
		},
	},
	"moved": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2") + switchBlock("k", ofFlag, engaged), planned: "flag.f create, kill_switch.k create, override.o create", has: "pay int, pay:u 2, hold pay:terraform"},
		{
			config: namedFlag("g", "pay", isInt) + overrideBlock("bunting_flag.g.key", "value = 2") + switchBlock("l", "bunting_flag.g.key", engaged) +
				moved("bunting_flag.f", "bunting_flag.g") + moved("bunting_kill_switch.k", "bunting_kill_switch.l"),
			planned: "flag.g move, kill_switch.l move", has: "pay int, pay:u 2, hold pay:terraform",
		},
		{
			config: namedFlag("g", "pay", "for_each = toset([\"a\"])\n  "+isInt) + overrideBlock(`bunting_flag.g["a"].key`, "value = 2") + switchBlock("l", `bunting_flag.g["a"].key`, engaged) +
				moved("bunting_flag.g", `bunting_flag.g["a"]`),
			planned: `flag.g["a"] move`, has: "pay int, pay:u 2, hold pay:terraform",
		},
	},
	"removed": {
		{config: namedFlag("f", "pay", isInt) + overrideBlock(ofFlag, "value = 2") + switchBlock("k", ofFlag, engaged), planned: "flag.f create, kill_switch.k create, override.o create", has: "pay int, pay:u 2, hold pay:terraform"},
		{config: removedBlock("bunting_flag.f") + removedBlock("bunting_override.o") + removedBlock("bunting_kill_switch.k"), planned: "flag.f remove, kill_switch.k remove, override.o remove", has: "pay int, pay:u 2, hold pay:terraform"},
	},
	"everything is destroyed": {
		{config: namedFlag("f", "pay", isInt+"\n  on_destroy = \"delete\"") + overrideBlock(ofFlag, "value = 2") + switchBlock("k", ofFlag, engaged+"\n  release_on_destroy = true"), planned: "flag.f create, kill_switch.k create, override.o create", has: "pay int, pay:u 2, hold pay:terraform"},
		{args: []string{"-destroy"}, planned: "flag.f delete, kill_switch.k delete, override.o delete", rest: true, has: ""},
	},
}

// What Terraform can do to a block and its object beside changing it.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	for name, steps := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workspace := "w"
			if strings.HasSuffix(name, "without workspace") {
				workspace = ""
			}
			c, anna := ofWorkspace(t, workspace)
			for i, s := range steps {
				play(t, c, anna, fmt.Sprintf("step %d", i), s)
			}
		})
	}
}

func play(t *testing.T, c *cli, anna operator, name string, s step) {
	t.Helper()
	if s.before != nil {
		s.before(anna)
	}
	if s.config != "" {
		c.config(s.config)
	}
	if s.forget != "" {
		if o := c.run("state", "rm", s.forget); o.code != 0 {
			t.Fatalf("%s: %s", name, o.text)
		}
	}
	before := anna.revision()
	o := c.applies(s.args...)
	var planned []string
	for _, address := range slices.Sorted(maps.Keys(o.actions)) {
		planned = append(planned, strings.TrimPrefix(address, "bunting_")+" "+o.actions[address])
	}
	if got := strings.Join(planned, ", "); got != s.planned {
		t.Errorf("%s: planned %q, want %q", name, got, s.planned)
	}
	if s.refused == "" {
		o.must(t)
	} else if got := o.fails(t); !regexp.MustCompile("(?s)" + s.refused).MatchString(got.Summary + ": " + got.Detail) {
		t.Errorf("%s: got %s", name, got)
	}
	if got := anna.has(); got != s.has {
		t.Errorf("%s: the server has %q, want %q", name, got, s.has)
	}
	if got := anna.history("pay"); !strings.HasSuffix(got, s.history) {
		t.Errorf("%s: %q was done, want %q in the end", name, got, s.history)
	}
	writes := slices.ContainsFunc(planned, func(p string) bool { return !strings.HasSuffix(p, " move") && !strings.HasSuffix(p, " remove") })
	if after := anna.revision(); !writes && after != before {
		t.Errorf("%s: the server is at revision %s, and was at %s", name, after, before)
	}
	if s.refused == "" && !s.rest {
		c.unchanged()
	}
}

// Without references Terraform destroys a flag and what belongs to it in any
// order. Where the flag comes too early it says what holds it, and a second
// destroy ends it.
func TestDestroyOfLiteralKeys(t *testing.T) {
	t.Parallel()
	for _, onDestroy := range []string{destroyArchive, destroyDelete} {
		t.Run(onDestroy, func(t *testing.T) {
			t.Parallel()
			c, anna := ofWorkspace(t, "")
			own := fmt.Sprintf("on_destroy = %q", onDestroy)
			c.config(namedFlag("f", "pay", isInt+"\n  "+own))
			c.applies().must(t)
			c.config(namedFlag("f", "pay", isInt+"\n  "+own) + overrideBlock(`"pay"`, "value = 2") + switchBlock("k", `"pay"`, engaged+"\n  release_on_destroy = true"))
			c.applies().must(t)
			if o := c.destroys(); o.code != 0 {
				if got := o.fails(t); got.Summary != `Cannot delete the flag "pay"` || !strings.Contains(got.Detail, "Have that hold released first") && !strings.Contains(got.Detail, "Remove that there first") {
					t.Errorf("got %s", got)
				}
				c.destroys().must(t)
			}
			if got, want := anna.has(), map[string]string{destroyArchive: "pay int archived"}[onDestroy]; got != want {
				t.Errorf("the server has %q, want %q", got, want)
			}
		})
	}
}

// What a replacement leaves over of a flag may go, also where somebody has changed
// the flag that took its place before that: it is that flag that they changed.
func TestReplacementIsChangedMeanwhile(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	between, anna := newMiddleman(t, server), newOperator(t, server, "anna")
	c := newCLI(t, between.URL, server.AdminToken)
	c.env = append(c.env, "BUNTING_WORKSPACE=w")
	c.config(namedFlag("f", "pay", isInt+"\n  "+createFirst))
	c.applies().must(t)
	c.config(namedFlag("f", "pay", isText+"\n  "+createFirst))
	between.arm(map[flag.Key]intervention{"pay": {
		when: func(a asked) bool { return a.op == flag.ArchiveFlag },
		do: func() {
			f, _, err := anna.Flag(t.Context(), "pay")
			if err != nil {
				t.Error(err)
				return
			}
			altered := *f
			altered.Owner = "anna"
			if _, err := anna.Write(t.Context(), flag.Put(&altered)); err != nil {
				t.Error(err)
			}
		},
	}})
	c.applies().must(t)
	if len(between.waiting()) > 0 {
		t.Error("nobody stepped in")
	}
	if f := anna.sees("pay"); f.Archived() || f.Type != flag.String || f.Owner != "anna" {
		t.Errorf("the server has %+v", f)
	}
	c.applies().must(t) // undoes what the plan shows as changed
	c.unchanged()
}
