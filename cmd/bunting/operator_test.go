package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// operator is somebody at a terminal with a server to ask.
type operator struct {
	t      *testing.T
	server *buntingtest.Server
	env    map[string]string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	t.Chdir(t.TempDir()) // no token lies here
	server := buntingtest.Start(t)
	return &operator{t: t, server: server, env: map[string]string{"BUNTING_ENDPOINT": server.Endpoint, "BUNTING_TOKEN": server.AdminToken}}
}

// as gives the same operator with another token.
func (o *operator) as(name, prefix string, scopes ...string) *operator {
	return o.with("BUNTING_TOKEN", o.server.NamedToken(o.t, name, prefix, scopes...))
}

func (o *operator) with(name, value string) *operator {
	env := map[string]string{name: value}
	for n, v := range o.env {
		if n != name {
			env[n] = v
		}
	}
	return &operator{t: o.t, server: o.server, env: env}
}

var (
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z`)
	spaces    = regexp.MustCompile(`  +`)
	endpoints = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// run runs a command line; times, ports and the width of columns are evened out.
func (o *operator) run(args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: func(name string) string { return o.env[name] }}
	code = a.run(o.t.Context(), args)
	even := func(text string) string {
		return spaces.ReplaceAllString(endpoints.ReplaceAllString(times.ReplaceAllString(text, "TIME"), "SERVER"), "  ")
	}
	for _, secret := range []string{o.server.AdminToken, o.env["BUNTING_TOKEN"]} {
		if secret != "" && strings.Contains(out.String()+errs.String(), secret) {
			o.t.Errorf("bunting %v shows a token", args)
		}
	}
	return code, even(out.String()), even(errs.String())
}

// wants runs a command line and checks everything that it says.
func (o *operator) wants(code int, stdout, stderr string, args ...string) {
	o.t.Helper()
	gotCode, gotOut, gotErr := o.run(args...)
	if gotCode != code || gotOut != stdout || gotErr != stderr {
		o.t.Errorf("bunting %s\n got %d\n%s%s\nwant %d\n%s%s", strings.Join(args, " "), gotCode, gotOut, gotErr, code, stdout, stderr)
	}
}

// has makes objects as they are given, for Terraform where an owner is named.
func (o *operator) has(owner string, objects ...flag.Object) {
	o.t.Helper()
	c, err := client.New(client.Options{Endpoint: o.server.Endpoint, Token: o.server.AdminToken})
	if err != nil {
		o.t.Fatal(err)
	}
	defer c.Close()
	for _, object := range objects {
		change := flag.Put(object)
		change.OwnerID = owner
		if _, err := c.Write(o.t.Context(), change); err != nil {
			o.t.Fatal(err)
		}
	}
}

func boolFlag(key flag.Key) *flag.Flag {
	return &flag.Flag{Key: key, Type: flag.Bool, Default: flag.BoolValue(false), Value: flag.BoolValue(true), State: flag.Enabled}
}

//nolint:dupword // Neighbouring cells of a table may hold the same.
func TestNightOnCall(t *testing.T) {
	o := newOperator(t)
	cart := boolFlag("checkout/new-cart")
	cart.Layer = "user"
	o.has("", cart)
	anna := o.as("ops-anna", "", "kill")
	ben := o.as("ops-ben", "", "kill")

	anna.wants(exitOK, `Killed checkout/new-cart: everybody gets its default value, false.
HOLDER  PLACED BY  SINCE  UNTIL  REASON
ops-anna  ops-anna  TIME  released  orders are lost
Release it with: bunting release checkout/new-cart --holder ops-anna
`, "", "kill", "checkout/new-cart", "--reason", "orders are lost")
	o.has(flag.WorkspaceOwner("payments"), &flag.Hold{FlagKey: cart.Key, Holder: flag.TerraformHolder, Reason: "from the plan"})
	anna.wants(exitOK, `FLAG  VALUE  TYPE  SOURCE  REVISION
checkout/new-cart  false  bool  KILLED  6
The flag is killed. See by whom with: bunting flags checkout/new-cart --killed
`, "", "eval", "checkout/new-cart", "--entity", "user-42")
	anna.wants(exitOK, `KEY  SERVES  HOLDER  PLACED BY  SINCE  UNTIL  REASON
checkout/new-cart  false  ops-anna  ops-anna  TIME  released  orders are lost
checkout/new-cart  false  terraform  admin  TIME  released  from the plan
`, "", "flags", "--killed")

	// Whoever has no hold hears whose there are.
	const both = `checkout/new-cart IS STILL KILLED: everybody gets its default value, false. These holds stand:
HOLDER  PLACED BY  SINCE  UNTIL  REASON
ops-anna  ops-anna  TIME  released  orders are lost
terraform  admin  TIME  released  from the plan
Whoever placed one releases it with --holder; others need a token with the scope admin.
Terraform places its own again with the next apply: set engaged = false in the kill switch instead.
`
	ben.wants(exitKilled, both, "bunting: ops-ben has no hold on \"checkout/new-cart\"\n", "release", "checkout/new-cart")
	code, out, errs := ben.run("release", "checkout/new-cart", "--holder", "ops-anna")
	if code != exitRefused || out != both || !strings.HasPrefix(errs, `bunting: cannot release the hold of ops-anna on "checkout/new-cart": `) {
		t.Errorf("another's hold: %d\n%s%s", code, out, errs)
	}

	anna.wants(exitKilled, `Released checkout/new-cart: the hold of ops-anna.
checkout/new-cart IS STILL KILLED: everybody gets its default value, false. These holds stand:
HOLDER  PLACED BY  SINCE  UNTIL  REASON
terraform  admin  TIME  released  from the plan
Whoever placed one releases it with --holder; others need a token with the scope admin.
Terraform places its own again with the next apply: set engaged = false in the kill switch instead.
`, "", "release", "checkout/new-cart")
	code, _, errs = anna.run("release", "checkout/new-cart", "--all")
	if code != exitRefused || !strings.Contains(errs, "terraform") {
		t.Errorf("all of them without admin: %d, %s", code, errs)
	}
	o.wants(exitOK, `Released checkout/new-cart: the hold of terraform.
checkout/new-cart is not killed any more: everybody gets true (but for entities with an override).
`, "", "release", "checkout/new-cart", "--all")
	anna.wants(exitNotFound, "", "bunting: \"checkout/new-cart\" is not killed: neither ops-anna nor anybody else holds it\n", "release", "checkout/new-cart")
	o.wants(exitNotFound, "", "bunting: \"checkout/new-cart\" is not killed: no hold stands on it\n", "release", "checkout/new-cart", "--all")
	o.wants(exitOK, "", "bunting: no flag is killed\n", "flags", "--killed")
}

func TestJSON(t *testing.T) {
	o := newOperator(t)
	limit := &flag.Flag{Key: "limit", Type: flag.Int, Default: flag.IntValue(1), Value: flag.IntValue(9007199254740993), State: flag.Enabled, Layer: "user"}
	o.has("", limit, &flag.Override{FlagKey: "limit", EntityID: "u1", State: flag.Enabled, Value: flag.IntValue(-2)})
	o.wants(exitOK, "{\n  \"flag_key\": \"limit\",\n  \"value\": 9007199254740993,\n  \"type\": \"int\",\n  \"source\": \"GLOBAL\",\n  \"stale\": false,\n  \"revision\": 3\n}\n", "", "eval", "limit", "--json")

	read := func(args ...string) (code int, got map[string]any) {
		t.Helper()
		code, out, _ := o.run(append(args, "--json")...)
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("bunting %v: %v in %s", args, err, out)
		}
		return code, got
	}
	for _, args := range [][]string{{"--entity", "u1"}, {"--context", "user=u1"}, {"--context", `{"user": "u1", "seats": 3}`, "--entity", "u2"}} {
		if _, got := read(append([]string{"eval", "limit"}, args...)...); got["value"] != -2.0 || got["source"] != "OVERRIDE" {
			t.Errorf("%v: %v", args, got)
		}
	}
	code, got := read("kill", "limit", "--reason", "r", "--holder", "incident-7", "--expires-in", "2d")
	if hold := got["hold"].(map[string]any); code != exitOK || got["killed"] != true || hold["holder"] != "incident-7" || hold["expires_at"] == nil || len(got["holds"].([]any)) != 1 {
		t.Errorf("kill: %d, %v", code, got)
	}
	if code, got = read("release", "limit"); code != exitKilled || got["killed"] != true || len(got["released"].([]any)) != 0 {
		t.Errorf("release: %d, %v", code, got)
	}
	if code, got = read("release", "limit", "--holder", "incident-7"); code != exitOK || got["killed"] != false || got["released"].([]any)[0] != "incident-7" {
		t.Errorf("release: %d, %v", code, got)
	}
	var list []map[string]any
	_, out, _ := o.run("flags", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0]["overrides"] != 1.0 || list[0]["serves"] != 9007199254740993.0 {
		t.Errorf("flags: %v, %v", err, out)
	}
	if _, out, _ := o.run("flags", "nothing/here", "--json"); out != "[]\n" {
		t.Errorf("no flags: %q", out)
	}
	_, out, _ = o.run("audit", "limit", "--json", "--limit", "1")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0]["action"] != "release_hold" || list[0]["before"].(map[string]any)["reason"] != "r" {
		t.Errorf("audit: %v, %v", err, out)
	}
}

func TestFlags(t *testing.T) {
	o := newOperator(t)
	text, err := flag.StringValue("a\x1b[2Jb")
	if err != nil {
		t.Fatal(err)
	}
	spoken := &flag.Flag{Key: "b/spoken", Type: flag.String, Default: text, State: flag.Default, Description: "first\r\nKEY  SERVES\u202e"}
	archived := boolFlag("a/archived")
	o.has("", boolFlag("a/b"), boolFlag("a/b/c"), boolFlag("ab"), archived, spoken)
	c, err := client.New(client.Options{Endpoint: o.server.Endpoint, Token: o.server.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(t.Context(), flag.Change{Op: flag.ArchiveFlag, Ref: archived.Ref()}); err != nil {
		t.Fatal(err)
	}

	const header = "KEY  SERVES  STATE  TYPE  OVERRIDES  DESCRIPTION\n"
	o.wants(exitOK, header+"a/b  true  ENABLED  bool  -  -\na/b/c  true  ENABLED  bool  -  -\nab  true  ENABLED  bool  -  -\nb/spoken  \"a\\u001b[2Jb\"  DEFAULT  string  -  first\\r\n", "", "flags")
	for _, prefix := range []string{"a", "a/"} {
		o.wants(exitOK, header+"a/b  true  ENABLED  bool  -  -\na/b/c  true  ENABLED  bool  -  -\n", "", "flags", prefix)
	}
	o.wants(exitOK, header+"a/archived  true  ARCHIVED  bool  -  -\na/b  true  ENABLED  bool  -  -\na/b/c  true  ENABLED  bool  -  -\n", "", "flags", "a", "--archived")
	o.wants(exitOK, "", "bunting: there is no flag under \"c\" (archived ones are listed with --archived)\n", "flags", "c")
	if code, out, _ := o.run("kill", "ab", "--reason", "see\nHOLDER  PLACED BY\n\u202enobody"); code != exitOK || strings.Count(out, "\n") != 4 || strings.Contains(out, "\u202e") {
		t.Errorf("a reason forged the terminal: %d\n%q", code, out)
	}
}

func TestAudit(t *testing.T) {
	o := newOperator(t)
	a := boolFlag("a")
	o.has("", a)
	changed := *a
	changed.Value = flag.BoolValue(false)
	o.has(flag.WorkspaceOwner("payments"), &changed)
	o.wants(exitOK, `TIME  REVISION  ACTOR  ACTION  OBJECT  CHANGE  NOTE
TIME  3  admin for workspace "payments"  put_flag  a  value: true -> false  -
TIME  2  admin  put_flag  a  default_value=false, enabled=true, type="bool", value=true  -
`, "", "audit", "a")
	o.wants(exitOK, "", "bunting: the audit log has no such entry\n", "audit", "--actor", "nobody", "--since", "7d")
	o.wants(exitOK, "", "bunting: the audit log has no such entry\n", "audit", "--since", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	if _, out, _ := o.run("audit", "--limit", "2"); strings.Count(out, "\n") != 3 {
		t.Errorf("two entries:\n%s", out)
	}
}

//nolint:dupword // Neighbouring cells of a table may hold the same.
func TestTokens(t *testing.T) {
	o := newOperator(t)
	o.has("", boolFlag("a/b"), boolFlag("c"))

	file := filepath.Join(t.TempDir(), "ci.token")
	o.wants(exitOK, "Made the token ci (write, kill). Its secret is in "+file+".\n", "", "token", "create", "ci", "--scope", "write,kill", "--out", file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	o.wants(exitError, "", "bunting: cannot write the secret to "+file+": there is such a file. Name a new one, or remove it first\n", "token", "create", "ci2", "--scope", "read", "--out", file)
	ci := o.with("BUNTING_TOKEN", "")
	if code, _, errs := ci.run("kill", "c", "--reason", "r", "--token-file", file); code != exitOK {
		t.Errorf("the new token does not work: %s", errs)
	}

	code, secret, errs := o.run("token", "create", "reader", "--scope", "read", "--prefix", "a/", "--expires-in", "90d")
	if code != exitOK || !strings.HasPrefix(secret, "bunting_") || strings.Count(secret, "\n") != 1 || errs != "Made the token reader (read). Its secret is shown this once:\n" {
		t.Errorf("%d, %d bytes, %q", code, len(secret), errs)
	}
	reader := o.with("BUNTING_TOKEN", strings.TrimSpace(secret))
	if code, out, _ := reader.run("flags", "a"); code != exitOK || !strings.Contains(out, "a/b") {
		t.Errorf("%d, %s", code, out)
	}
	code, _, errs = o.run("token", "create", "ci", "--scope", "read", "--out", filepath.Join(t.TempDir(), "again"))
	if code != exitRefused || !strings.HasPrefix(errs, `bunting: cannot make the token "ci": name is "ci"`) {
		t.Errorf("%d, %s", code, errs)
	}

	if code, _, errs := reader.run("token", "list"); code != exitRefused || !strings.Contains(errs, "needs admin") {
		t.Errorf("%d, %s", code, errs)
	}
	o.wants(exitOK, "Revoked the token ci: it works no more.\n", "", "token", "revoke", "ci")
	if code, _, errs := ci.run("flags", "--token-file", file); code != exitRefused || !strings.Contains(errs, "was revoked") {
		t.Errorf("%d, %s", code, errs)
	}
	if code, _, errs := o.run("token", "revoke", "ci"); code != exitNotFound || !strings.HasPrefix(errs, `bunting: cannot revoke the token "ci": `) {
		t.Errorf("%d, %s", code, errs)
	}
	o.wants(exitOK, `NAME  SCOPES  PREFIX  CREATED  CREATED BY  STATE
admin  admin  -  TIME  buntingtest  valid
ci  write, kill  -  TIME  admin  revoked TIME
reader  read  a  TIME  admin  expires TIME
`, "", "token", "list")
	if _, out, _ := o.run("token", "list", "--json"); strings.Contains(out, "bunting_") || !json.Valid([]byte(out)) {
		t.Errorf("the list shows a secret: %s", out)
	}
}

// TestExitCodes: one row for each way in which an operator command ends badly.
func TestExitCodes(t *testing.T) {
	o := newOperator(t)
	o.has("", boolFlag("a"))
	const nobody = "http://127.0.0.1:1"
	const usage = "Run the command with --help to see how it is used.\n"
	for _, tc := range []struct {
		who    *operator
		code   int
		stderr string
		args   []string
	}{
		{o, exitUsage, "bunting: bunting kill takes one KEY, but there are 0 arguments\n" + usage, []string{"kill"}},
		{o, exitUsage, "bunting: bunting flags takes one PREFIX at most, but there are 2 arguments\n" + usage, []string{"flags", "a", "b"}},
		{o, exitUsage, "bunting: --reason is empty. Say why the flag is killed: it is what the next person on call reads.\n" + usage, []string{"kill", "a"}},
		{o, exitUsage, "bunting: --expires-in and --expires-at are both given. Leave one of the two out\n" + usage, []string{"kill", "a", "--reason", "r", "--expires-in", "1h", "--expires-at", "x"}},
		{o, exitUsage, "bunting: --expires-in is \"soon\", not a length of time. Write one like \"90m\", \"2h\" or \"7d\"\n" + usage, []string{"kill", "a", "--reason", "r", "--expires-in", "soon"}},
		{o, exitUsage, "bunting: --holder and --all are both given. Leave one of the two out\n" + usage, []string{"release", "a", "--holder", "x", "--all"}},
		{o, exitUsage, "bunting: --holder is \"\", which no holder is called. Leave it out for your own hold\n" + usage, []string{"release", "a", "--holder", ""}},
		{o, exitUsage, "bunting: --context is \"x\", neither NAME=TEXT nor a JSON object. Write one like tenant=acme\n" + usage, []string{"eval", "a", "--context", "x"}},
		{o, exitUsage, "bunting: --context is not a JSON object. Write one like '{\"tenant\": \"acme\"}', or NAME=TEXT\n" + usage, []string{"eval", "a", "--context", "{x"}},
		{o, exitUsage, "bunting: --limit is 0, but it must be 1 or more\n" + usage, []string{"audit", "--limit", "0"}},
		{o, exitUsage, "bunting: --scope is missing. Write one or more of evaluate, read, write, kill and admin.\n" + usage, []string{"token", "create", "x"}},
		{o, exitUsage, "bunting: unknown command \"make\" for \"bunting token\"\n" + usage, []string{"token", "make"}},
		{o, exitUsage, "bunting: cannot use the endpoint \"http//x\": it looks as if \"://\" were mistyped. Write \"http://x\".\n" + usage, []string{"flags", "--endpoint", "http//x"}},
		{o, exitNotFound, "bunting: there is no flag \"nope\" on http://SERVER. See the flags with: bunting flags\n", []string{"kill", "nope", "--reason", "r"}},
		{o, exitNotFound, "bunting: there is no flag \"nope\" on http://SERVER. See the flags with: bunting flags\n", []string{"release", "nope"}},
		{o, exitNotFound, "bunting: there is no flag \"nope\" on http://SERVER. See the flags with: bunting flags\n", []string{"eval", "nope", "--json"}},
		{o, exitRefused, "bunting: cannot kill \"a\": holder is \"terraform\", which is Terraform's: only a kill switch places such holds. Use a name of your own, like \"ops-anna\".\n", []string{"kill", "a", "--reason", "r", "--holder", "terraform"}},
		{o.with("BUNTING_TOKEN", "bunting_wrong"), exitRefused, "bunting: cannot evaluate \"a\": http://SERVER says: this server does not know the token. It may be of another server, or cut off when it was copied.\n", []string{"eval", "a"}},
		{o.with("BUNTING_TOKEN", ""), exitRefused, "bunting: cannot evaluate \"a\": http://SERVER wants a token, and there is none: --token-file is not given, BUNTING_TOKEN is not set, and there is no file ./bunting.token (which only a server on this machine is shown). Give one of them\n", []string{"eval", "a"}},
		{o, exitError, "bunting: THE FLAG MAY NOT BE KILLED. Run the command again, which is safe: cannot place the hold of \"x\" on \"a\": http://SERVER refused the connection. Is the flag server running there? Start it with \"bunting serve\", or correct the endpoint. Tried 4 times. (The endpoint comes from --endpoint.)\n", []string{"kill", "a", "--reason", "r", "--holder", "x", "--endpoint", nobody}},
		{o.with("BUNTING_ENDPOINT", nobody), exitError, "bunting: cannot read all flags: http://SERVER refused the connection. Is the flag server running there? Start it with \"bunting serve\", or correct the endpoint. Tried 4 times. (The endpoint comes from BUNTING_ENDPOINT.)\n", []string{"flags"}},
	} {
		tc.who.wants(tc.code, "", tc.stderr, tc.args...)
	}
	code, _, errs := o.as("reader", "", "read").run("kill", "a", "--reason", "r")
	if code != exitRefused || !strings.HasPrefix(errs, `bunting: cannot place the hold of "reader" on "a": http://SERVER says: the token "reader" has the scope read, but this needs `) {
		t.Errorf("a scope too small: %d, %s", code, errs)
	}
}

// TestTokenFile: the token of the folder is used, for a server of this machine
// alone.
func TestTokenFile(t *testing.T) {
	o := newOperator(t).with("BUNTING_TOKEN", "")
	o.has("", boolFlag("a"))
	if err := os.WriteFile(defaultTokenFile, []byte(o.server.AdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := o.run("flags"); code != exitOK {
		t.Errorf("%d, %s", code, errs)
	}
	a := &app{env: func(string) string { return "" }}
	for endpoint, want := range map[string]string{
		"": o.server.AdminToken, "http://localhost:1": o.server.AdminToken, "http://[::1]:1": o.server.AdminToken,
		"https://flags.example.com": "", "http://10.0.0.1:8980": "", "http://127.0.0.1.example.com": "",
	} {
		if _, token, err := (&remote{endpoint: endpoint}).resolve(a); err != nil || token != want {
			t.Errorf("%q: a token: %t, %v", endpoint, token != "", err)
		}
	}
}

func TestCompletion(t *testing.T) {
	o := newOperator(t)
	o.has("", boolFlag("a/b"), boolFlag("c"), &flag.Hold{FlagKey: "c", Holder: "x", Reason: "r"})
	for want, args := range map[string][]string{
		"a/b\nc\n:4\n": {"kill", ""},
		"c\n:4\n":      {"release", ""},
		":4\n":         {"eval", "a/b", ""},
	} {
		var out string
		for range 5 { // on a busy machine it gives up, as it should
			if _, out, _ = o.run(append([]string{"__complete"}, args...)...); out == want {
				break
			}
		}
		if out != want {
			t.Errorf("%v: %q, want %q", args, out, want)
		}
	}
	code, out, errs := o.with("BUNTING_TOKEN", "bunting_wrong").run("__complete", "eval", "")
	if code != exitOK || out != ":4\n" || strings.Contains(errs, "token") {
		t.Errorf("a failure is told: %d, %q, %q", code, out, errs)
	}
}

// TestBrokenPipe: a table that cannot be written is an error.
func TestBrokenPipe(t *testing.T) {
	o := newOperator(t)
	o.has("", boolFlag("a"))
	for _, args := range [][]string{{"flags"}, {"flags", "--json"}, {"eval", "a"}, {"audit"}} {
		a := &app{stdout: failing{}, stderr: io.Discard, env: func(name string) string { return o.env[name] }}
		if code := a.run(t.Context(), args); code != exitError {
			t.Errorf("%v: %d", args, code)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }
