package provider

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// values is the table of representations: whatever a configuration says, the
// plan after it is empty, after a refresh and after an import too. Each row is
// the value of a flag and of an override of it.
var values = map[string]struct {
	value     string // expression
	otherwise string // expression of the default value; "" for the same
	typ       string
	has       string // the value that the server has, in canonical form
}{
	"true":                      {`true`, "", "bool", `true`},
	"false":                     {`false`, "", "bool", `false`},
	"false and true":            {`true`, `false`, "bool", `true`},
	"empty string":              {`""`, "", "string", `""`},
	"text":                      {`"two\nlines, \"quotes\" and 🐦"`, "", "string", `"two\nlines, \"quotes\" and 🐦"`},
	"heredoc":                   {"<<EOT\nif a < b && c > d\n\tthen ${\"$\"}{x} \\ \\n\nEOT\n", "", "string", `"if a < b && c > d\n\tthen ${x} \\ \\n\n"`},
	"string of a number":        {`"0.10"`, "", "string", `"0.10"`},
	"string of a bool":          {`"true"`, "", "string", `"true"`},
	"string of nothing":         {`"null"`, "", "string", `"null"`},
	"jsonencode":                {`jsonencode({ b = 1, a = [0.1] })`, "", "string", `"{\"a\":[0.1],\"b\":1}"`},
	"zero":                      {`0`, "", "int", `0`},
	"minus zero":                {`-0`, "", "int", `0`},
	"minus zero of a double":    {`-0`, `0.5`, "double", `0`},
	"whole, written with point": {`3.0`, "", "int", `3`},
	"whole, a quotient":         {`21/7`, "", "int", `3`},
	"tenth":                     {`0.1`, "", "double", `0.1`},
	"sum of tenths":             {`0.1 + 0.2`, "", "double", `0.3`},
	"hundredths":                {`7/100`, "", "double", `0.07`},
	"third":                     {`1/3`, "", "double", `0.3333333333333333`},
	"minus third":               {`-1/3`, "", "double", `-0.3333333333333333`},
	"0 with 0.5":                {`0.5`, `0`, "double", `0.5`},
	"0.5 with 0":                {`0`, `0.5`, "double", `0`},
	"1e308":                     {`1e308`, "", "double", `1e+308`},
	"smallest double":           {`5e-324`, "", "double", `5e-324`},
	"1e20":                      {`1e20`, "", "double", `100000000000000000000`},
	"1e21":                      {`1e21`, "", "double", `1e+21`},
	"2^53+1":                    {`9007199254740993`, "", "int", `9007199254740993`},
	"2^53+1 of a double":        {`9007199254740993`, `0.5`, "double", `9007199254740992`},
	"2^63-1":                    {`9223372036854775807`, "", "int", `9223372036854775807`},
	"2^63":                      {`9223372036854775808`, "", "double", `9223372036854776000`},
	"-2^63":                     {`-9223372036854775808`, "", "int", `-9223372036854775808`},
	"30 digits":                 {`123456789012345678901234567890`, "", "double", `1.2345678901234568e+29`},
	"tonumber":                  {`tonumber("0.1")`, "", "double", `0.1`},
	"number(variable)":          {`var.number`, "", "double", `0.1`},
	"empty list":                {`[]`, "", "json", `[]`},
	"empty object":              {`{}`, "", "json", `{}`},
	"empty object and nested":   {`{}`, `{ a = { b = {}, c = [[]] } }`, "json", `{}`},
	"list of kinds":             {`[1, "a", true, null, [], {}]`, "", "json", `[1,"a",true,null,[],{}]`},
	"nested with nulls":         {`{ a = null, b = [1, null, { c = 0.1, d = null }], d = 9007199254740993 }`, "", "json", `{"a":null,"b":[1,null,{"c":0.1,"d":null}],"d":9007199254740993}`},
	"exact numbers in json":     {`{ a = 123456789012345678901234567890, b = 1e308, c = -0, d = 0.10 }`, "", "json", `{"a":1.2345678901234567890123456789e+29,"b":1e+308,"c":0,"d":0.1}`},
	"names out of order":        {`{ "é" = 1, "z" = 2, "A" = 3, "a b" = 4, "🐦" = 5 }`, "", "json", `{"A":3,"a b":4,"z":2,"é":1,"🐦":5}`},
	"optional left out":         {`var.optional`, "", "json", `{"a":"x","b":null}`},
	"list(string)":              {`var.strings`, "", "json", `["b","a"]`},
	"set(string)":               {`var.set`, "", "json", `["a","b"]`},
	"map(number)":               {`var.numbers`, "", "json", `{"big":9007199254740993,"tenth":0.1}`},
	"map(any)":                  {`var.any`, "", "json", `{"a":1,"b":2}`},
	"list(any), empty":          {`var.nothing`, "", "json", `[]`},
	"set and list of the same":  {`var.set`, `["a", "b"]`, "json", `["a","b"]`},
	"typed nulls inside":        {`{ a = var.null_text, b = [var.null_list] }`, "", "json", `{"a":null,"b":[null]}`},
	"typed null":                {`var.null_text`, `true`, "bool", `null`},
	"typed null list":           {`var.null_list`, `{}`, "json", `null`},
	"jsondecode":                {`jsondecode("{\"b\": 1e2, \"a\": [0.1]}")`, "", "json", `{"a":[0.1],"b":100}`},
	"unknown until apply":       {`terraform_data.later.output`, "", "string", `"later"`},
	"unknown beside a known":    {`terraform_data.later.output`, `"now"`, "string", `"later"`},
	"unknown number":            {`length(terraform_data.later.output) / 10`, "", "double", `0.5`},
	"object unknown inside":     {`{ a = terraform_data.later.output, b = 1/2 }`, "", "json", `{"a":"later","b":0.5}`},
}

const valueVariables = `
variable "number" {
  type    = number
  default = 0.1
}
variable "optional" {
  type    = object({ a = string, b = optional(number) })
  default = { a = "x" }
}
variable "strings" {
  type    = list(string)
  default = ["b", "a"]
}
variable "set" {
  type    = set(string)
  default = ["b", "a"]
}
variable "numbers" {
  type    = map(number)
  default = { tenth = 0.1, big = 9007199254740993 }
}
variable "any" {
  type    = map(any)
  default = { a = 1, b = 2 }
}
variable "nothing" {
  type    = list(any)
  default = []
}
variable "null_text" {
  type    = string
  default = null
}
variable "null_list" {
  type    = list(string)
  default = null
}
resource "terraform_data" "later" {
  input = "later"
}
`

// declares writes a flag, with a layer where the attributes name none, and an
// override of it; none for "".
func declares(name, attributes, override string) string {
	if !strings.Contains(attributes, "layer") {
		attributes += "\nlayer = \"user\""
	}
	text := fmt.Sprintf("resource \"bunting_flag\" %q {\n  key = %q\n%s\n}\n", name, name, attributes)
	if override != "" {
		text += fmt.Sprintf("resource \"bunting_override\" %q {\n  flag_key = bunting_flag.%s.key\n  entity_id = \"u\"\n  value = %s\n}\n", name, name, override)
	}
	return text
}

// imports writes the block that imports an object.
func imports(to, id string) string { return fmt.Sprintf("import {\n  to = %s\n  id = %q\n}\n", to, id) }

// stands asks that there is nothing to do, with a refresh and without, and that
// a refresh leaves the state as it is, to the byte.
func (c *cli) stands() {
	c.t.Helper()
	c.unchanged()
	if o := c.plans("-refresh=false", "-detailed-exitcode"); o.code != 0 {
		c.t.Fatalf("the plan without a refresh is not empty (exit code %d)\n%s", o.code, o.text)
	}
	before := c.state()
	if o := c.applies("-refresh-only").must(c.t); strings.Contains(o.text, `"type":"resource_drift"`) || !bytes.Equal(c.state(), before) {
		c.t.Fatalf("the refresh finds something new\n%s", o.text)
	}
	c.unchanged()
}

func TestValues(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	var config, blocks strings.Builder
	keys, rows := map[string]string{}, 0
	for name, row := range values {
		key := fmt.Sprintf("f%d", len(keys))
		keys[name] = key
		otherwise := row.otherwise
		if otherwise == "" {
			otherwise = row.value
		}
		config.WriteString("# " + name + "\n" + declares(key, "default_value = "+otherwise+"\nvalue = "+row.value, row.value))
		blocks.WriteString(imports("bunting_flag."+key, key) + imports("bunting_override."+key, key+":u"))
		rows += 2
	}
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(valueVariables + config.String())
	c.applies().must(t)
	anna := newOperator(t, server, "anna")
	for name, row := range values {
		f, o := anna.sees(keys[name]), anna.seesOverride(keys[name], "u")
		if f.Type.String() != row.typ || f.Value.JSON() != row.has || o.Value.JSON() != row.has {
			t.Errorf("%s: the server has the %s %s and for the entity %s, want the %s %s", name, f.Type, f.Value, o.Value, row.typ, row.has)
		}
	}
	c.stands()

	imported := newCLI(t, server.Endpoint, server.AdminToken)
	known := strings.ReplaceAll(config.String(), `terraform_data.later.output`, `"later"`)
	imported.config(valueVariables + known + blocks.String())
	o := imported.applies().must(t)
	for address, action := range o.actions {
		if action != "import" && !strings.HasPrefix(address, "terraform_data") {
			t.Errorf("import plans to %s %s\n%s", action, address, o.text)
		}
	}
	if len(o.actions) != rows+1 {
		t.Errorf("%d of %d rows were imported", len(o.actions)-1, rows)
	}
	imported.stands()
	t.Logf("%d rows: %d values, each of a flag and of an override", rows, len(values))
}

// From one configuration of a flag to another: what is planned, and what the
// server has in the end.
func TestFlagChanges(t *testing.T) {
	t.Parallel()
	table := map[string]struct {
		before, after string // attributes
		override      string // expression of an override's value, before and after; "" for no override
		overrideAfter string
		action        string // planned for the flag; "" for nothing
		typ           string
		has           string // the default value that the server has
		imports       string // what an import plans beside importing: settings that the server does not know
	}{
		"0.5 to 1":                {`default_value = 0.5`, `default_value = 1`, `0.5`, `1`, "update", "double", `1`, ""},
		"0.5 to 1 and back":       {`default_value = 1.0/2`, `default_value = 0.5`, `1/2`, `0.5`, "", "double", `0.5`, ""},
		"1 to 0.5":                {`default_value = 1`, `default_value = 0.5`, "", "", "replace", "double", `0.5`, ""},
		"1, said a double, to .5": {"type = \"double\"\ndefault_value = 1", "type = \"double\"\ndefault_value = 0.5", `1`, `0.5`, "update", "double", `0.5`, ""},
		"0, then with 0.5":        {`default_value = 0`, "default_value = 0\nvalue = 0.5", "", "", "replace", "double", `0`, ""},
		"2^63-1 to 2^63":          {`default_value = 9223372036854775807`, `default_value = 9223372036854775808`, "", "", "replace", "double", `9223372036854776000`, ""},
		"2^53 to 2^53+1":          {`default_value = 9007199254740992`, `default_value = 9007199254740993`, `9007199254740992`, `9007199254740993`, "update", "int", `9007199254740993`, ""},
		"json 2^53 to 2^53+1":     {`default_value = { a = 9007199254740992 }`, `default_value = { a = 9007199254740993 }`, `{ a = 9007199254740992 }`, `{ a = 9007199254740993 }`, "update", "json", `{"a":9007199254740993}`, ""},
		"double 2^53 to 2^53+1":   {"type = \"double\"\ndefault_value = 9007199254740992", "type = \"double\"\ndefault_value = 9007199254740993", `9007199254740992`, `9007199254740993`, "", "double", `9007199254740992`, ""},
		"json order and spaces":   {`default_value = jsondecode("{\"a\":1,\"b\":2}")`, `default_value = jsondecode("{ \"b\": 2.0, \"a\": 1 }")`, `jsondecode("{\"a\":1,\"b\":2}")`, `{ b = 2, a = 1 }`, "", "json", `{"a":1,"b":2}`, ""},
		"json of another order":   {`default_value = ["a", "b"]`, `default_value = ["b", "a"]`, `["a", "b"]`, `["b", "a"]`, "update", "json", `["b","a"]`, ""},
		"list to tuple":           {`default_value = tolist(["a"])`, `default_value = ["a"]`, `toset(["a"])`, `tolist(["a"])`, "", "json", `["a"]`, ""},
		"null to left out":        {`default_value = { a = null }`, `default_value = {}`, `{ a = null }`, `{}`, "update", "json", `{}`, ""},
		"bool to string":          {`default_value = true`, `default_value = "a"`, "", "", "replace", "string", `"a"`, ""},
		"string to json":          {`default_value = "{}"`, `default_value = {}`, "", "", "replace", "json", `{}`, ""},
		"string said to be json":  {`default_value = "a"`, "default_value = \"a\"\ntype = \"json\"", "", "", "replace", "json", `"a"`, ""},
		"int said to be double":   {`default_value = 1`, "default_value = 1\ntype = \"double\"", "", "", "replace", "double", `1`, ""},
		"int said to be int":      {`default_value = 1`, "default_value = 1\ntype = \"int\"", `1`, `1`, "", "int", `1`, ""},
		"disabled":                {`default_value = true`, "default_value = true\nenabled = false", `true`, `true`, "update", "bool", `true`, ""},
		"value taken away":        {"default_value = true\nvalue = false", `default_value = true`, `false`, `null`, "update", "bool", `true`, ""},
		"value given":             {`default_value = true`, "default_value = true\nvalue = false", `null`, `false`, "update", "bool", `true`, ""},
		"null of another kind":    {"default_value = true\nvalue = var.null_text", "default_value = true\nvalue = var.null_list", `var.null_text`, `var.null_list`, "", "bool", `true`, ""},
		"order of allowed":        {"default_value = 1\nallowed_values = [1, 2]", "default_value = 1\nallowed_values = [2, 1, 1]", `2`, `2.0`, "", "int", `1`, ""},
		"more allowed":            {"default_value = 1\nallowed_values = [1, 2]", "default_value = 1\nallowed_values = toset([2, 1, 3])", `2`, `3`, "update", "int", `1`, ""},
		"a description":           {`default_value = true`, "default_value = true\ndescription = \"x\"", `true`, `true`, "update", "bool", `true`, ""},
		"no layer":                {`default_value = true`, "default_value = true\nlayer = null", "", "", "update", "bool", `true`, ""},
		"empty for nothing":       {"default_value = true\ndescription = \"\"\ntags = []\nallowed_values = []", "default_value = true\ndescription = \"\"\ntags = []\nallowed_values = []", "", "", "", "bool", `true`, "update"},
		"a timeout":               {`default_value = true`, "default_value = true\ntimeouts = { read = \"20s\" }", "", "", "update", "bool", `true`, "update"},
		"what happens on destroy": {`default_value = true`, "default_value = true\non_destroy = \"delete\"", "", "", "update", "bool", `true`, "update"},
	}
	server := buntingtest.Start(t)
	c := newCLI(t, server.Endpoint, server.AdminToken)
	var before, after, blocks strings.Builder
	keys, overrides := map[string]string{}, 0
	for name, row := range table {
		key := fmt.Sprintf("f%d", len(keys))
		keys[name] = key
		before.WriteString("# " + name + "\n" + declares(key, row.before, row.override))
		after.WriteString("# " + name + "\n" + declares(key, row.after, row.overrideAfter))
		blocks.WriteString(imports("bunting_flag."+key, key))
		if row.override != "" {
			blocks.WriteString(imports("bunting_override."+key, key+":u"))
			overrides++
		}
	}
	c.config(valueVariables + before.String())
	c.applies().must(t)
	c.stands()
	c.config(valueVariables + after.String())
	o := c.applies().must(t)
	anna := newOperator(t, server, "anna")
	for name, row := range table {
		address := "bunting_flag." + keys[name]
		if got := o.actions[address]; got != row.action {
			t.Errorf("%s: the plan is to %q the flag, want %q", name, got, row.action)
		}
		if f := anna.sees(keys[name]); f.Type.String() != row.typ || f.Default.JSON() != row.has {
			t.Errorf("%s: the server has the %s %s, want the %s %s", name, f.Type, f.Default, row.typ, row.has)
		}
		replaced := strings.Contains(o.text, fmt.Sprintf(`Flag \"%s\" is replaced: its type changes from `, keys[name]))
		if replaced != (row.action == "replace") {
			t.Errorf("%s: told of a replacement: %t", name, replaced)
		}
	}
	c.stands()

	imported := newCLI(t, server.Endpoint, server.AdminToken)
	imported.config(valueVariables + after.String() + blocks.String())
	o = imported.applies().must(t)
	for name, row := range table {
		want := "import"
		if row.imports != "" {
			want = row.imports
		}
		if got := o.actions["bunting_flag."+keys[name]]; got != want {
			t.Errorf("%s: the import plans to %q, want %q", name, got, want)
		}
		if got := o.actions["bunting_override."+keys[name]]; row.override != "" && got != "import" {
			t.Errorf("%s: the import plans to %q the override", name, got)
		}
	}
	imported.stands()
	t.Logf("%d rows: %d changes of flags, %d of overrides", len(table)+overrides, len(table), overrides)
}

// What a type cannot hold is told while planning, at its attribute.
func TestValuesRefused(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	number := boolFlag("number")
	number.Type, number.Default, number.Value, number.Layer = flag.Int, flag.IntValue(1), flag.IntValue(2), "user"
	newOperator(t, server, "anna").does(flag.Put(number))
	table := map[string]struct{ attributes, detail string }{
		"2^63 of int":        {"type = \"int\"\ndefault_value = 9223372036854775808", `default_value is 9223372036854775808, outside what an int can hold`},
		"0.5 of int":         {"type = \"int\"\ndefault_value = 0.5", `default_value is 0.5, not a whole number`},
		"1e400":              {`default_value = 1e400`, `default_value is 1e+400, outside what a double can hold`},
		"value, other kind":  {"default_value = true\nvalue = 1", `value is a number (1), but the flag is of type bool, as its default_value true says. Write true or false, or set type = "int" and a whole number as default_value.`},
		"string of int":      {"type = \"int\"\ndefault_value = \"1\"", `default_value is a string ("1"), but the flag is of type int. Write a whole number.`},
		"list of string":     {"type = \"string\"\ndefault_value = [\"a\"]", `default_value is a list (["a"]), but the flag is of type string.`},
		"allowed, no list":   {"default_value = 1\nallowed_values = 1", `allowed_values is 1, not a list. Write the values in brackets, like [1].`},
		"allowed, other":     {"default_value = 1\nallowed_values = [1, 0.5]", `allowed_values is 0.5, not a whole number`},
		"unknown of no type": {"type = \"number\"\ndefault_value = terraform_data.later.output", `type "number" is not a flag type. Write "bool", "string", "int", "double" or "json".`},
		"unknown beside bad": {"type = \"int\"\ndefault_value = terraform_data.later.output\nvalue = 0.5", `value is 0.5, not a whole number`},
	}
	ofOverrides := map[string]struct{ attributes, detail string }{
		"2^63":   {`value = 9223372036854775808`, `value is 9223372036854775808, outside what an int can hold`},
		"0.5":    {`value = 0.5`, `value is 0.5, not a whole number`},
		"string": {`value = "1"`, `value is a string ("1"), but the flag is of type int. Write a whole number.`},
	}
	refusals := map[string]string{} // by address
	var flags, overrides strings.Builder
	for _, row := range table {
		name := fmt.Sprintf("f%d", len(refusals))
		flags.WriteString(declares(name, row.attributes, ""))
		refusals["bunting_flag."+name] = row.detail
	}
	for _, row := range ofOverrides {
		name := fmt.Sprintf("o%d", len(refusals))
		fmt.Fprintf(&overrides, "resource \"bunting_override\" %q {\n  flag_key = \"number\"\n  entity_id = %q\n%s\n}\n", name, name, row.attributes)
		refusals["bunting_override."+name] = row.detail
	}
	c := newCLI(t, server.Endpoint, server.AdminToken)
	c.config(valueVariables + flags.String())
	o := c.plans()
	// What a configuration says by itself is told by validation, before the server is asked of the flag.
	c.config(overrides.String())
	told := append(o.of("error"), c.plans().of("error")...)
	for _, d := range told {
		want, ok := refusals[d.Address]
		if !ok || !strings.Contains(d.Detail, want) || !strings.HasPrefix(d.Summary, "Invalid ") {
			t.Errorf("%s: got %s, want %s", d.Address, d, want)
		}
		delete(refusals, d.Address)
	}
	if len(refusals) > 0 {
		t.Errorf("not told: %v\n%s", refusals, o.text)
	}
	t.Logf("%d rows", len(told))
}
