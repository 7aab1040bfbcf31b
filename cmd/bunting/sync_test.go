package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor/settest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// declares writes a set of the feature m with these fields to a file.
func declares(t *testing.T, file, fields string) string {
	t.Helper()
	content := settest.Flags(t, `enum L { option (pbflags.layers) = true; LAYER_UNSPECIFIED = 0; LAYER_USER = 1; }
		message M { option (pbflags.feature) = {id: "m", owner: "team-m"}; `+fields+` }`)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sees gives a flag as the server has it; nil for none.
func (o *operator) sees(key flag.Key) *flag.Flag {
	o.t.Helper()
	c, err := client.New(client.Options{Endpoint: o.server.Endpoint, Token: o.server.AdminToken})
	if err != nil {
		o.t.Fatal(err)
	}
	defer c.Close()
	f, _, err := c.Flag(o.t.Context(), key)
	if err != nil {
		o.t.Fatal(err)
	}
	return f
}

const (
	cart  = `bool cart = 1 [(pbflags.flag) = {description: "New cart", layer: "user"}];`
	theme = `string theme = 2 [(pbflags.flag) = {default: {string_value: {value: "blue"}}, supported_values: {string_values: ["blue", "red"]}}];`
	limit = `int64 limit = 3 [(pbflags.flag) = {default: {int64_value: {value: 10}}}];`
	share = `double share = 4 [(pbflags.flag) = {}];`
)

func TestSyncThroughALife(t *testing.T) {
	o := newOperator(t)
	ci := o.as("ci", "", "write")
	file := declares(t, "flags.binpb", cart+theme+limit)
	const made = `ACTION  KEY  NAME  CHANGE
create  m/1  M.cart  type=bool, default=false, layer=user
create  m/2  M.theme  type=string, default="blue"
create  m/3  M.limit  type=int, default=10
`
	// Looking first needs no scope to write.
	o.as("reader", "", "read").wants(exitOK, made+"3 to create, 0 unchanged. Nothing is written (--dry-run).\n", "", "sync", "--descriptors", file, "--dry-run")
	if o.sees("m/1") != nil {
		t.Fatal("the dry run wrote")
	}
	o.as("reader2", "", "read").wants(exitRefused, "", "bunting: cannot apply 3 changes: http://SERVER says: the token \"reader2\" has the scope read, but this needs write. Use a token with that scope, or have an admin make one with \"bunting token create NAME --scope write\".\n", "sync", "--descriptors", file)
	ci.wants(exitOK, made+"3 to create, 0 unchanged. Done at revision 5.\n", "", "sync", "--descriptors", file, "--note", "release 1")
	if f := o.sees("m/1"); f.OwnerID != flag.SyncOwner("default") || f.Layer != "user" || f.Owner != "team-m" || f.Description != "New cart" || !f.Value.IsZero() {
		t.Errorf("made %+v", f)
	}
	ci.wants(exitOK, "Nothing to do: all 3 flags of the set \"default\" are as they are declared.\n", "", "sync", "--descriptors", file)
	ci.wants(exitOK, `TIME  REVISION  ACTOR  ACTION  OBJECT  CHANGE  NOTE
TIME  5  ci for the set "default" of bunting sync  put_flag  m/3  default_value=10, description="M.limit", enabled=true, owner="team-m", type="int"  release 1
`, "", "audit", "m/3")

	// At night somebody gives a flag a value, switches one off, kills one.
	for key, edit := range map[flag.Key]func(*flag.Flag){
		"m/1": func(f *flag.Flag) { f.Value = flag.BoolValue(true); f.Tags = []string{"night"} },
		"m/2": func(f *flag.Flag) { f.State = flag.Default; f.Value = f.AllowedValues[1] },
	} {
		f := *o.sees(key)
		edit(&f)
		o.has("", &f)
	}
	o.has("", &flag.Override{FlagKey: "m/1", EntityID: "u", State: flag.Default}, &flag.Hold{FlagKey: "m/3", Holder: "ops-anna", Reason: "slow"})

	declares(t, file, strings.Replace(cart, "New cart", "Newer cart", 1)+strings.ReplaceAll(theme, `"blue"`, `"green"`)+share)
	ci.wants(exitOK, `ACTION  KEY  NAME  CHANGE
update  m/1  M.cart  description: New cart -> Newer cart
update  m/2  M.theme  default: "blue" -> "green", supported_values: ["blue","red"] -> ["green","red"]
create  m/4  M.share  type=double, default=0
archive  m/3  -  -
1 to create, 2 to update, 1 to archive, 0 unchanged. Done at revision 10.
`, "", "sync", "--descriptors", file)
	if f := o.sees("m/1"); !f.Value.Bool() || f.State != flag.Enabled || len(f.Tags) != 1 || f.Description != "Newer cart" {
		t.Errorf("m/1 is %+v", f)
	}
	if f := o.sees("m/2"); f.State != flag.Default || f.Value.Text() != "red" || f.Default.Text() != "green" {
		t.Errorf("m/2 is %+v", f)
	}
	ci.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nm/1  false  bool  DEFAULT  10\n", "", "eval", "m/1", "--entity", "u")
	ci.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nm/3  10  int  KILLED  10\nThe flag is killed. See by whom with: bunting flags m/3 --killed\n", "", "eval", "m/3")

	// It comes back, still killed.
	declares(t, file, cart+theme+strings.Replace(limit, "10", "20", 1)+share)
	ci.wants(exitOK, `ACTION  KEY  NAME  CHANGE
update  m/1  M.cart  description: Newer cart -> New cart
update  m/2  M.theme  default: "green" -> "blue", supported_values: ["green","red"] -> ["blue","red"]
restore  m/3  M.limit  default: 10 -> 20, serves: 10 -> 20
2 to update, 1 to restore, 1 unchanged. Done at revision 11.
`, "", "sync", "--descriptors", file)
	if f := o.sees("m/3"); f.Archived() || f.OwnerID != flag.SyncOwner("default") {
		t.Errorf("m/3 is %+v", f)
	}
	ci.wants(exitOK, "FLAG  VALUE  TYPE  SOURCE  REVISION\nm/3  20  int  KILLED  11\nThe flag is killed. See by whom with: bunting flags m/3 --killed\n", "", "eval", "m/3")
}

func TestSyncForPrograms(t *testing.T) {
	o := newOperator(t)
	file := declares(t, "flags.binpb", cart)
	for _, args := range [][]string{{"sync", "--descriptors", file, "--json", "--dry-run"}, {"sync", "--descriptors", file, "--json"}} {
		code, stdout, stderr := o.run(args...)
		var told syncJSON
		if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != exitOK || stderr != "" {
			t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
		}
		if len(told.Steps) != 1 || told.Steps[0].Action != "create" || told.Steps[0].FlagKey != "m/1" || told.Steps[0].Name != "M.cart" || told.Set != "default" || told.DryRun != (len(args) == 5) {
			t.Errorf("told %+v", told)
		}
	}
	if _, stdout, _ := o.run("sync", "--descriptors", file, "--json"); !strings.Contains(stdout, `"unchanged": 1`) || !strings.Contains(stdout, `"steps": []`) {
		t.Errorf("told %s", stdout)
	}
}

func TestSyncIsRefused(t *testing.T) {
	o := newOperator(t)
	nobodys := boolFlag("m/1")
	nobodys.Value, nobodys.Layer = flag.Value{}, "user"
	o.has("", nobodys)
	theirs := &flag.Flag{Key: "m/2", Type: flag.String, Default: text(t, "blue"), State: flag.Enabled}
	o.has(flag.WorkspaceOwner("payments"), theirs)
	other := &flag.Flag{Key: "m/3", Type: flag.Double, Default: double(t, 10), State: flag.Enabled}
	o.has("", other)
	unlike := &flag.Flag{Key: "m/4", Type: flag.Double, Default: double(t, 1), State: flag.Enabled}
	o.has("", unlike)
	file := declares(t, "flags.binpb", cart+theme+limit+share)
	const reasons = "bunting: nothing is synced, for these reasons:\n" +
		"- flag \"m/2\" (M.theme) is managed by workspace \"payments\" (last changed by admin at TIME). Have it removed there first, or give the feature another id\n" +
		"- flag \"m/3\" (M.limit) is of type double, but the field is of type int: a flag's type does not change, because programs that run would read a value of the wrong type. Give the field a new number\n"
	for _, args := range [][]string{{}, {"--dry-run"}} {
		o.wants(exitRefused, "", reasons+
			"- flag \"m/4\" (M.share) is there already, managed by nobody (last changed by admin at TIME), and differs: its default is 1, but the set says 0. Have it changed first, or let the sync take it with --adopt\n",
			append([]string{"sync", "--descriptors", file}, args...)...)
	}
	o.wants(exitRefused, "", reasons, "sync", "--descriptors", file, "--adopt")
	if f := o.sees("m/1"); f.OwnerID != "" {
		t.Errorf("m/1 was taken: %+v", f)
	}

	file = declares(t, "flags.binpb", cart+share)
	o.wants(exitOK, `ACTION  KEY  NAME  CHANGE
adopt  m/1  M.cart  description: none -> New cart, owner: none -> team-m
adopt  m/4  M.share  default: 1 -> 0, description: none -> M.share, owner: none -> team-m
2 to adopt, 0 unchanged. Done at revision 6.
`, "", "sync", "--descriptors", file, "--adopt")
	o.wants(exitRefused, "", `bunting: nothing is synced, for these reasons:
- flag "m/1" (M.cart) is managed by the set "default" of bunting sync (last changed by admin at TIME). Have it removed there first, or give the feature another id
- flag "m/4" (M.share) is managed by the set "default" of bunting sync (last changed by admin at TIME). Have it removed there first, or give the feature another id
`, "sync", "--descriptors", file, "--set", "shop")

	// A value that the set no longer allows is for an operator to change.
	declares(t, file, cart+`double share = 4 [(pbflags.flag) = {supported_values: {double_values: [0, 0.5]}}];`)
	f := *o.sees("m/4")
	f.Value = double(t, 0.75)
	o.has("", &f)
	o.wants(exitRefused, "", `bunting: nothing is synced, for these reasons:
- flag "m/4" (M.share) has a value that an operator set and the set does not allow: it is 0.75, which is not among the flag's supported_values: 0, 0.5. Write one of them, or add it to supported_values. Have the value changed first
`, "sync", "--descriptors", file)
}

// A file of which half is missing must not empty the server.
func TestSyncArchivesMostOnlyWhenTold(t *testing.T) {
	o := newOperator(t)
	file := declares(t, "flags.binpb", cart+theme+limit)
	o.wants(exitRefused, "", "bunting: none declares no flag: no field has the option (pbflags.flag). Build the files that declare flags, with their options; if there are to be none any more, give --archive-most\n",
		"sync", "--descriptors", declares(t, "none", ""))
	if code, _, stderr := o.run("sync", "--descriptors", file); code != exitOK {
		t.Fatal(stderr)
	}
	declares(t, file, cart)
	o.wants(exitRefused, "", "bunting: flags.binpb lacks 2 of the 3 flags that earlier syncs of the set \"default\" made, and they would be archived. If it is whole, give --archive-most; if it is that of other programs, give it a --set of its own\n", "sync", "--descriptors", file)
	// Those of another set are no matter of this one.
	declares(t, file, strings.ReplaceAll(cart, "= 1", "= 11"))
	o.wants(exitOK, "ACTION  KEY  NAME  CHANGE\ncreate  m/11  M.cart  type=bool, default=false, layer=user\n1 to create, 0 unchanged. Done at revision 3.\n", "", "sync", "--descriptors", file, "--set", "other")
	declares(t, file, cart+theme)
	o.wants(exitOK, "ACTION  KEY  NAME  CHANGE\narchive  m/3  -  -\n1 to archive, 2 unchanged. Done at revision 4.\n", "", "sync", "--descriptors", file)
	o.wants(exitOK, "ACTION  KEY  NAME  CHANGE\narchive  m/1  -  -\narchive  m/2  -  -\n2 to archive, 0 unchanged. Done at revision 5.\n", "", "sync", "--descriptors", "none", "--archive-most")
	if f := o.sees("m/11"); f.Archived() {
		t.Error("a flag of the other set was archived")
	}
}

// What changes between reading and writing is seen: nobody's change is undone.
func TestSyncMeetsAnotherWriter(t *testing.T) {
	o := newOperator(t)
	file := declares(t, "flags.binpb", cart+theme)
	if code, _, stderr := o.run("sync", "--descriptors", file); code != exitOK {
		t.Fatal(stderr)
	}
	target, err := url.Parse(o.server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	meanwhile := func() {
		f := *o.sees("m/1")
		f.Value = flag.BoolValue(true)
		o.has("", &f, boolFlag("m/3"))
	}
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Apply") {
			meanwhile()
		}
		proxy.ServeHTTP(w, r)
	}))
	defer between.Close()
	declares(t, file, strings.Replace(cart, "New", "Old", 1)+theme+limit)
	o.with("BUNTING_ENDPOINT", between.URL).wants(exitRefused, "", `bunting: nothing is synced, for these reasons:
- flag "m/1" was changed meanwhile by admin at TIME. Run the sync again
- flag "m/3" was changed meanwhile by admin at TIME. Run the sync again
`, "sync", "--descriptors", file)
	if f := o.sees("m/1"); !f.Value.Bool() || f.Description != "New cart" {
		t.Errorf("m/1 is %+v", f)
	}
}

// With a token for some keys only those are seen and written.
func TestSyncWithATokenForSomeKeys(t *testing.T) {
	o := newOperator(t)
	file := declares(t, "flags.binpb", cart+theme)
	o.as("m", "m", "write").wants(exitOK, "ACTION  KEY  NAME  CHANGE\ncreate  m/1  M.cart  type=bool, default=false, layer=user\ncreate  m/2  M.theme  type=string, default=\"blue\"\n2 to create, 0 unchanged. Done at revision 3.\n", "", "sync", "--descriptors", file)
	code, _, stderr := o.as("n", "n", "write").run("sync", "--descriptors", file)
	if code != exitRefused || !strings.Contains(stderr, `- flag "m/1": `) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestSyncAndLintFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	file := declares(t, "flags.binpb", cart)
	if err := os.WriteFile("broken", []byte("flags: none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const help = "Run the command with --help to see how it is used.\n"
	for _, c := range []struct {
		code   int
		stderr string
		args   string
	}{
		{exitUsage, "bunting: --descriptors is not given. Name the file with the FileDescriptorSet\n" + help, "sync"},
		{exitUsage, "bunting: --set is \"\", which cannot name a set. Write a short name, like \"shop\"\n" + help, "sync --descriptors " + file + " --set="},
		{exitUsage, "bunting: unknown command \"flags.binpb\" for \"bunting sync\"\n" + help, "sync " + file},
		{exitError, "bunting: the descriptors in absent cannot be used: no such file or directory\n", "sync --descriptors absent"},
		{exitUsage, "bunting: --descriptors and --against must both be given. Name a file with a FileDescriptorSet by each\n" + help, "lint --descriptors " + file},
		{exitError, "bunting: the descriptors in absent cannot be used: no such file or directory\n", "lint --descriptors " + file + " --against absent"},
	} {
		o.wants(c.code, "", c.stderr, strings.Fields(c.args)...)
	}
	if code, _, stderr := o.run("lint", "--descriptors", "broken", "--against", file); code != exitError || !strings.HasPrefix(stderr, "bunting: the descriptors in broken cannot be used: it is no FileDescriptorSet, or its end is missing (") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestLint(t *testing.T) {
	o := newOperator(t)
	older, newer := declares(t, "older", cart+theme+limit), declares(t, "newer", cart+theme+limit)
	lint := []string{"lint", "--descriptors", newer, "--against", older}
	o.wants(exitOK, "Both declare the same flags.\n", "", lint...)
	declares(t, newer, strings.Replace(cart, "cart", "basket", 1)+strings.Replace(theme, `"blue"}`, `"red"}`, 1)+share)
	o.wants(exitOK, `VERDICT  KEY  NAME  WHAT  BEFORE  AFTER
fine  m/1  M.basket  name  M.cart  M.basket
fine  m/2  M.theme  default  "blue"  "red"
fine  m/3  M.limit  removed  int  -
fine  m/4  M.share  added  -  double
`, "", lint...)
	declares(t, newer, strings.Replace(cart, `, layer: "user"`, "", 1)+strings.Replace(limit, "int64 limit = 3", "int32 limit = 3", 1)+`bool theme = 2 [(pbflags.flag) = {}];`)
	o.wants(exitDifferent, `VERDICT  KEY  NAME  WHAT  BEFORE  AFTER
breaking  m/1  M.cart  layer  user  -
breaking  m/2  M.theme  type  string  bool
fine  m/2  M.theme  default  "blue"  false
fine  m/2  M.theme  supported_values  ["blue","red"]  -
`, "bunting: programs that were built with the former cannot live with this: give each field that changes its type or layer a new number instead\n", lint...)
	code, stdout, _ := o.run(append(lint, "--json")...)
	var told struct {
		Breaking bool `json:"breaking"`
		Changed  []struct {
			FlagKey string `json:"flag_key"`
			Aspect  string `json:"aspect"`
		} `json:"changed"`
	}
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != exitDifferent || !told.Breaking || len(told.Changed) != 4 || told.Changed[0].Aspect != "layer" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
}

func text(t *testing.T, s string) flag.Value {
	t.Helper()
	v, err := flag.StringValue(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func double(t *testing.T, d float64) flag.Value {
	t.Helper()
	v, err := flag.DoubleValue(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
