package descriptor_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor"
	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor/settest"
)

// shop declares one flag of every type, in nested messages too.
const shop = `
enum EntityLayer {
  option (pbflags.layers) = true;
  ENTITY_LAYER_UNSPECIFIED = 0;
  ENTITY_LAYER_GLOBAL = 1;
  ENTITY_LAYER_USER = 2;
  ENTITY_LAYER_BIG_TENANT = 3;
}
message Notifications {
  option (pbflags.feature) = {id: "notifications", description: "What we send", owner: "team-growth"};
  bool email = 1 [(pbflags.flag) = {description: "Send mail", default: {bool_value: {value: true}}, layer: "user"}];
  string theme = 2 [(pbflags.flag) = {default: {string_value: {value: "blue"}}, supported_values: {string_values: ["red", "blue"]}, layer: "big_tenant"}];
  optional int32 retries = 3 [(pbflags.flag) = {default: {int64_value: {value: 3}}, supported_values: {int64_values: [3, 1, 2, 3]}}];
  double share = 4 [(pbflags.flag) = {default: {double_value: {value: 0.25}}, supported_values: {double_values: [0.25, 1]}}];
  uint64 size = 10 [(pbflags.flag) = {default: {int64_value: {value: 9223372036854775807}}, layer: "global"}];
  float factor = 11 [(pbflags.flag) = {description: "Of nothing"}];
  string note = 12;
  Notifications self = 13;
  message Push {
    option (pbflags.feature) = {id: "notifications/push"};
    bool on = 1 [(pbflags.flag) = {}];
    repeated Push more = 2;
    map<string, Notifications> by_name = 3;
  }
}
message Plain { bytes b = 1; }
`

func parse(t *testing.T, content []byte) *descriptor.Set {
	t.Helper()
	set, err := descriptor.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// rebuilt gives the content of a set after an edit.
func rebuilt(tb testing.TB, content []byte, edit func(*descriptorpb.FileDescriptorSet)) []byte {
	tb.Helper()
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(content, &files); err != nil {
		tb.Fatal(err)
	}
	edit(&files)
	content, err := proto.Marshal(&files)
	if err != nil {
		tb.Fatal(err)
	}
	return content
}

// last gives the file that the test wrote: compilers put imports first.
func last(s *descriptorpb.FileDescriptorSet) *descriptorpb.FileDescriptorProto {
	return s.GetFile()[len(s.GetFile())-1]
}

// alone takes the imports out of a set.
func alone(s *descriptorpb.FileDescriptorSet) {
	s.File = []*descriptorpb.FileDescriptorProto{last(s)}
}

func TestWhatMessagesDeclare(t *testing.T) {
	t.Parallel()
	set := parse(t, settest.Flags(t, shop))
	var told strings.Builder
	for _, d := range set.Definitions() {
		f := d.Flag
		fmt.Fprintf(&told, "%s %s %s %v layer=%q owner=%q %q\n", f.Key, f.Type, f.Default, f.AllowedValues, f.Layer, f.Owner, f.Description)
		fmt.Fprintf(&told, "  %s; %s %q\n", d.Place(), d.Feature.ID, d.Feature.Description)
	}
	const want = `notifications/1 bool true [] layer="user" owner="team-growth" "Send mail"
  field "email" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/10 int 9223372036854775807 [] layer="" owner="team-growth" "Notifications.size"
  field "size" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/11 double 0 [] layer="" owner="team-growth" "Of nothing"
  field "factor" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/2 string "blue" ["blue" "red"] layer="big_tenant" owner="team-growth" "Notifications.theme"
  field "theme" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/3 int 3 [1 2 3] layer="" owner="team-growth" "Notifications.retries"
  field "retries" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/4 double 0.25 [0.25 1] layer="" owner="team-growth" "Notifications.share"
  field "share" of message "shop.Notifications" (flags.proto); notifications "What we send"
notifications/push/1 bool false [] layer="" owner="" "Push.on"
  field "on" of message "shop.Notifications.Push" (flags.proto); notifications/push ""
`
	if told.String() != want {
		t.Errorf("got\n%swant\n%s", &told, want)
	}
	if n := len(set.Keys()); n != 7 || set.Len() != n || set.Keys()[0] != "notifications/1" {
		t.Errorf("keys are %v, and there are %d", set.Keys(), set.Len())
	}
	f := set.Flag("notifications/2")
	if f == nil || f.Serves().Text() != "blue" || f.Validate() != nil {
		t.Errorf("notifications/2 is %+v", f)
	}
	if set.Flag("notifications/12") != nil {
		t.Error("a field without the option is a flag")
	}
}

// What builders leave out, put in twice or add must not matter.
func TestSetsAsTheyAreBuilt(t *testing.T) {
	t.Parallel()
	whole := settest.Flags(t, shop)
	want := parse(t, whole)
	edited := func(edit func(*descriptorpb.FileDescriptorSet)) []byte { return rebuilt(t, whole, edit) }
	cases := map[string][]byte{
		"without imports":           edited(alone),
		"the imports last":          edited(func(s *descriptorpb.FileDescriptorSet) { slices.Reverse(s.GetFile()) }),
		"two, one behind the other": bytes.Repeat(whole, 2),
		"two, of which one has comments": append(bytes.Clone(whole), edited(func(s *descriptorpb.FileDescriptorSet) {
			last(s).SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{LeadingComments: new("hm")}}}
		})...),
		"with what buf notes of a file": edited(func(s *descriptorpb.FileDescriptorSet) {
			last(s).ProtoReflect().SetUnknown([]byte{0xd2, 0xf6, 0x03, 0x02, 0x08, 0x01}) // field 8042
		}),
		"files that import each other": edited(func(s *descriptorpb.FileDescriptorSet) {
			for _, f := range s.GetFile() {
				f.Dependency = append(f.Dependency, last(s).GetName(), "not/there.proto")
			}
		}),
	}
	for name, content := range cases {
		set := parse(t, content)
		if d := descriptor.Compare(want, set); !d.Empty() || set.Len() != want.Len() {
			t.Errorf("%s: the flags differ: %+v", name, d)
		}
		if set.Hash() == want.Hash() {
			t.Errorf("%s: the same hash for other content", name)
		}
	}
	none := parse(t, settest.Compile(t, map[string]string{"a.proto": `syntax = "proto3"; message A {}`}))
	if none.Len() != 0 || len(none.Keys()) != 0 {
		t.Errorf("flags from nowhere: %v", none.Keys())
	}
}

func TestMistakesInMessages(t *testing.T) {
	t.Parallel()
	const layers = `enum L { option (pbflags.layers) = true; LAYER_UNSPECIFIED = 0; LAYER_USER = 1; LAYER_TENANT = 2; }`
	message := func(field string) string {
		return `message M { option (pbflags.feature) = {id: "m"}; ` + field + ` } enum E { E_A = 0; }` + layers
	}
	field := `field "f" of message "shop.M" (flags.proto): `
	for name, c := range map[string]struct{ source, want string }{
		"repeated":       {message(`repeated bool f = 1 [(pbflags.flag) = {}];`), field + `it is repeated, but a flag has one value. Make it a field of type bool, string, int64 or double`},
		"map":            {message(`map<string, bool> f = 1 [(pbflags.flag) = {}];`), field + `it is repeated, but a flag has one value. Make it a field of type bool, string, int64 or double`},
		"message":        {message(`M f = 1 [(pbflags.flag) = {}];`), field + `it is of the message "shop.M", which no flag can be. Make it a field of type bool, string, int64 or double`},
		"enum":           {message(`E f = 1 [(pbflags.flag) = {}];`), field + `it is of the enum "shop.E", which no flag can be. Make it a field of type bool, string, int64 or double`},
		"bytes":          {message(`bytes f = 1 [(pbflags.flag) = {}];`), field + `it is of type bytes, which no flag can be. Make it a field of type bool, string, int64 or double`},
		"oneof":          {message(`oneof o { bool f = 1 [(pbflags.flag) = {}]; }`), field + `it is in a oneof, but a flag is there whatever the others are. Take it out of the oneof`},
		"no feature":     {`message M { bool f = 1 [(pbflags.flag) = {}]; }`, `field "f" of message "shop.M" (flags.proto) has the option (pbflags.flag), but its message is no feature. Give the message the option (pbflags.feature) with an id`},
		"no id":          {`message M { option (pbflags.feature) = {}; bool f = 1 [(pbflags.flag) = {}]; }`, `message "shop.M" (flags.proto): the feature's id is empty, but a flag key is 1 to 512 bytes of segments separated by "/", each of letters, digits, ".", "_" and "-", starting and ending with a letter or digit. Write a key like "checkout/new-cart".`},
		"long id":        {`message M { option (pbflags.feature) = {id: "` + strings.Repeat("a", 511) + `"}; bool f = 1 [(pbflags.flag) = {}]; }`, field + `has 513 bytes, but a flag key is 1 to 512 bytes of segments separated by "/", each of letters, digits, ".", "_" and "-", starting and ending with a letter or digit. Write a key like "checkout/new-cart".`},
		"same id":        {`message M { option (pbflags.feature) = {id: "m"}; bool f = 1 [(pbflags.flag) = {}]; } message N { option (pbflags.feature) = {id: "m"}; bool f = 1 [(pbflags.flag) = {}]; }`, `message "shop.N" (flags.proto): the feature's id "m" is that of message "shop.M" too. Give each feature an id of its own`},
		"other default":  {message(`bool f = 1 [(pbflags.flag) = {default: {string_value: {value: "on"}}}];`), field + `default is string ("on"), but the flag is of type bool. Write a value of that type, or change the flag's type.`},
		"double for int": {message(`int64 f = 1 [(pbflags.flag) = {default: {double_value: {value: 1}}}];`), field + `default is double (1), but the flag is of type int. Write a value of that type, or change the flag's type.`},
		"int for double": {message(`double f = 1 [(pbflags.flag) = {default: {int64_value: {value: 1}}}];`), field + `default is int (1), but the flag is of type double. Write a value of that type, or change the flag's type.`},
		"nan":            {message(`double f = 1 [(pbflags.flag) = {default: {double_value: {value: nan}}}];`), field + `default is NaN, not a finite number. A double is a finite 64-bit floating point number.`},
		"int32":          {message(`int32 f = 1 [(pbflags.flag) = {default: {int64_value: {value: 2147483648}}}];`), field + `default is 2147483648, but the field holds -2147483648 to 2147483647. Write a number within, or give the field another type.`},
		"unsigned":       {message(`uint32 f = 1 [(pbflags.flag) = {default: {int64_value: {value: -1}}}];`), field + `default is -1, but the field holds 0 to 4294967295. Write a number within, or give the field another type.`},
		"float":          {message(`float f = 1 [(pbflags.flag) = {default: {double_value: {value: 1e39}}}];`), field + `default is 1e+39, but the field is a float, which holds ±3.4e38. Write a smaller number, or make the field a double.`},
		"not supported":  {message(`string f = 1 [(pbflags.flag) = {supported_values: {string_values: ["a", "b"]}}];`), field + `default is "", which is not among the flag's supported_values: "a", "b". Write one of them, or add it to supported_values.`},
		"supported int":  {message(`int32 f = 1 [(pbflags.flag) = {supported_values: {int64_values: [0, -3000000000]}}];`), field + `supported_values is -3000000000, but the field holds -2147483648 to 2147483647. Write a number within, or give the field another type.`},
		"other list":     {message(`string f = 1 [(pbflags.flag) = {supported_values: {int64_values: [1]}}];`), field + `supported_values lists values of type int, but the flag is of type string. List them under string_values.`},
		"list of a bool": {message(`bool f = 1 [(pbflags.flag) = {supported_values: {string_values: ["true"]}}];`), field + `supported_values lists values of type string, but the flag is of type bool. Leave supported_values out: it has no list for this type.`},
		"too many":       {message(`int64 f = 1 [(pbflags.flag) = {supported_values: {int64_values: [0` + strings.Repeat(", 0", 256) + `]}}];`), field + `supported_values has 257 values, more than the 256 that are allowed. Leave some out, or allow any value.`},
		"description":    {message(`bool f = 1 [(pbflags.flag) = {description: "a\001"}];`), field + `description has a control character. Remove it.`},
		"owner":          {`message M { option (pbflags.feature) = {id: "m", owner: "` + strings.Repeat("a", 257) + `"}; }`, `message "shop.M" (flags.proto): the feature's owner has 257 bytes, more than the 256 that are allowed. Shorten it.`},
		"layer":          {message(`bool f = 1 [(pbflags.flag) = {layer: "LAYER_USER"}];`), field + `its layer is "LAYER_USER", which the enum "shop.L" does not name: write "global", "tenant", "user", or add it there`},
		"no layers":      {`message M { option (pbflags.feature) = {id: "m"}; bool f = 1 [(pbflags.flag) = {layer: "user"}]; }`, field + `its layer is "user", but no enum names the layers. Give the enum that has them, like LAYER_USER for "user", the option (pbflags.layers) = true`},
		"empty layers":   {`enum L { option (pbflags.layers) = true; LAYER_UNSPECIFIED = 0; } message M { option (pbflags.feature) = {id: "m"}; bool f = 1 [(pbflags.flag) = {layer: "user"}]; }`, field + `its layer is "user", but the enum "shop.L" names none. Add it there, or leave layer out`},
		"two layers":     {layers + `message M { enum K { option (pbflags.layers) = true; LAYER_A = 0; } }`, `the enums "shop.L" and "shop.M.K" both have the option (pbflags.layers), but one enum names all layers. Keep one of them`},
		"on extension":   {`import "google/protobuf/descriptor.proto"; extend google.protobuf.FileOptions { bool x = 50001 [(pbflags.flag) = {}]; }`, `the extension "shop.x" has the option (pbflags.flag), but only a field of a message can be a flag. Make it one`},
	} {
		if _, err := descriptor.Parse(settest.Flags(t, c.source)); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

// Everything is told at once, but not without end.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	var fields strings.Builder
	for i := range 12 {
		fmt.Fprintf(&fields, "bytes f%d = %d [(pbflags.flag) = {}];", i, i+1)
	}
	_, err := descriptor.Parse(settest.Flags(t, `message M { option (pbflags.feature) = {id: "m"}; `+fields.String()+` }`))
	if err == nil || !strings.HasPrefix(err.Error(), "it has 12 mistakes:\n- field \"f0\" of message \"shop.M\" (flags.proto): it is of type bytes") ||
		!strings.HasSuffix(err.Error(), "\n- and 2 more") || strings.Count(err.Error(), "\n- ") != 11 {
		t.Errorf("told: %v", err)
	}
}

// What no compiler writes.
func TestSetsThatNoCompilerWrites(t *testing.T) {
	t.Parallel()
	whole := settest.Flags(t, `message M { option (pbflags.feature) = {id: "m"}; bool f = 1 [(pbflags.flag) = {}]; bool g = 2 [(pbflags.flag) = {}]; }`)
	file := func(edit func(*descriptorpb.FileDescriptorProto)) []byte {
		return rebuilt(t, whole, func(s *descriptorpb.FileDescriptorSet) { edit(last(s)) })
	}
	field := func(edit func(*descriptorpb.FieldDescriptorProto)) []byte {
		return file(func(f *descriptorpb.FileDescriptorProto) { edit(f.GetMessageType()[0].GetField()[1]) })
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(whole)
	_ = w.Close()
	deep := &descriptorpb.DescriptorProto{}
	for range 20_000 {
		deep = &descriptorpb.DescriptorProto{Name: new("M"), NestedType: []*descriptorpb.DescriptorProto{deep}}
	}
	const anew = ". Build it anew, for example with: buf build -o flags.binpb"
	for name, c := range map[string]struct {
		content []byte
		want    string // "…" stands for anything
	}{
		"empty":            {nil, "it is empty, but a FileDescriptorSet was expected" + anew},
		"too large":        {make([]byte, 16<<20+1), "it has more than the 16777216 bytes that are allowed. Build only the files that declare flags (buf build --path …), without comments (--exclude-source-info)"},
		"truncated":        {whole[:len(whole)-1], "it is no FileDescriptorSet, or its end is missing (…)" + anew},
		"noise":            {[]byte("flags: none\n"), "it is no FileDescriptorSet, or its end is missing (…)" + anew},
		"gzip":             {zipped.Bytes(), "it is no FileDescriptorSet: it is compressed with gzip (…)" + anew},
		"JSON":             {[]byte(`{"file": []}`), "it is no FileDescriptorSet: it looks like JSON (…)" + anew},
		"source":           {[]byte("syntax = \"proto3\";\n"), "it is no FileDescriptorSet: it looks like the source of a .proto file (…)" + anew},
		"no file":          {[]byte{0x10, 0x01}, "it is no FileDescriptorSet, or one without any file" + anew},
		"nested endlessly": {file(func(f *descriptorpb.FileDescriptorProto) { f.MessageType = append(f.MessageType, deep) }), "it is no FileDescriptorSet, or its end is missing (…)" + anew},
		"two builds":       {append(bytes.Clone(whole), file(func(f *descriptorpb.FileDescriptorProto) { f.MessageType[0].Name = new("N") })...), `the file "flags.proto" is there twice, with different content: the set was put together from different builds. Build it in one`},
		"same number":      {field(func(f *descriptorpb.FieldDescriptorProto) { f.Number = new(int32(1)) }), `field "g" of message "shop.M" (flags.proto): its number is that of field "f" too, so both are the flag "m/1". Give each field a number of its own`},
		"number 0":         {field(func(f *descriptorpb.FieldDescriptorProto) { f.Number = nil }), `field "g" of message "shop.M" (flags.proto): its number is 0, but fields are numbered from 1 to 536870911`},
		"number -1":        {field(func(f *descriptorpb.FieldDescriptorProto) { f.Number = new(int32(-1)) }), `field "g" of message "shop.M" (flags.proto): its number is -1, but fields are numbered from 1 to 536870911`},
		"number 2^29":      {field(func(f *descriptorpb.FieldDescriptorProto) { f.Number = new(int32(1 << 29)) }), `field "g" of message "shop.M" (flags.proto): its number is 536870912, but fields are numbered from 1 to 536870911`},
		"no type":          {field(func(f *descriptorpb.FieldDescriptorProto) { f.Type = nil; f.TypeName = new("Bool") }), `field "g" of message "shop.M" (flags.proto): it is of no known type, which no flag can be. Make it a field of type bool, string, int64 or double`},
		"unknown type":     {field(func(f *descriptorpb.FieldDescriptorProto) { f.Type = descriptorpb.FieldDescriptorProto_Type(99).Enum() }), `field "g" of message "shop.M" (flags.proto): it is of no known type, which no flag can be. Make it a field of type bool, string, int64 or double`},
		"no name":          {field(func(f *descriptorpb.FieldDescriptorProto) { f.Name = nil }), `field "" of message "shop.M" (flags.proto): that is no name of a field. Build the set with buf or protoc`},
		"name of lines":    {field(func(f *descriptorpb.FieldDescriptorProto) { f.Name = new("a\nb") }), `field "a\nb" of message "shop.M" (flags.proto): that is no name of a field. Build the set with buf or protoc`},
		"file of lines":    {file(func(f *descriptorpb.FileDescriptorProto) { f.Name = new("a\nb"); f.MessageType[0].Name = nil }), `message "shop." (a\nb): that is no name of a message. Build the set with buf or protoc`},
		"others' option": {file(func(f *descriptorpb.FileDescriptorProto) {
			f.Extension = []*descriptorpb.FieldDescriptorProto{{Name: new("audited"), Number: new(int32(51001)), Extendee: new(".google.protobuf.FieldOptions")}}
		}), `the option "shop.audited" has the number 51001, which is that of pbflags.flag from pbflags/options.proto. Give it another number`},
	} {
		_, err := descriptor.Parse(c.content)
		before, after, cut := strings.Cut(c.want, "…)")
		switch {
		case err == nil:
			t.Errorf("%s: no error", name)
		case cut && (!strings.HasPrefix(err.Error(), before) || !strings.HasSuffix(err.Error(), ")"+after)):
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		case !cut && err.Error() != c.want:
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	whole := rebuilt(f, settest.Flags(f, shop), alone)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(rebuilt(f, settest.Flags(f, `message M { option (pbflags.feature) = {id: "m"}; bytes f = 1 [(pbflags.flag) = {layer: "x"}]; }`), alone))
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, content []byte) {
		set, err := descriptor.Parse(content)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("the error has control characters: %q", err)
			}
			return
		}
		for i, d := range set.Definitions() {
			if err := d.Flag.Validate(); err != nil {
				t.Errorf("%s is no valid flag: %v", d.Place(), err)
			}
			if set.Keys()[i] != d.Flag.Key || set.Flag(d.Flag.Key) != d.Flag || i > 0 && set.Keys()[i-1] >= d.Flag.Key {
				t.Errorf("keys and flags do not agree: %v", set.Keys())
			}
		}
		if d := descriptor.Compare(set, set); !d.Empty() {
			t.Errorf("it differs from itself: %+v", d)
		}
	})
}
