package provider

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// wordingSources are the files whose texts may become diagnostics.
var wordingSources = []string{
	"*.go", "../flag/*.go",
	"../client/call.go", "../client/client.go", "../client/endpoint.go", "../client/definitions.go", "../client/evaluate.go", "../client/evaluations.go", "../client/handshake.go", "../client/read.go", "../client/snapshot.go", "../client/transport.go",
	"../client/breaker.go", "../client/coalesce.go", "../client/retry.go", "../client/tls.go", "../client/walk.go", "../client/write.go",
	"../store/refusal.go", "../store/flags.go", "../store/overrides.go", "../store/holds.go", "../store/judge.go", "../token/token.go", "../server/credential.go",
}

// untold are the texts that stand in no diagnostic, or in none that a case can
// have: why, and a part of each that is in no other.
var untold = map[string][]string{
	"cannot be: kept for what nobody foresees": {
		"a defect of this program stopped", "%d answers for %d questions",
		"use the provider's settings", "The state cannot be written", "it has a part of the type", "read the number",
		"%s cannot be read as a string", "has no known type.", "is neither true nor false.", "%d of store %s",
	},
	"the provider hands on only what Terraform reads: UTF-8, whole JSON, finite numbers that fit into memory": {
		"Encode binary content", "has something after its end", "has the member %q twice", "whose exponent is beyond", "not a finite number", "is not valid UTF-8.",
	},
	"the provider makes whole objects, and the framework and core ask for what is required": {
		"not a state. Write", "is missing. Write \"bool\"", "is missing. Every flag needs one", "is missing. An override is", "is missing. Give the value", "the override serves the default",
		"has %s of type %s, but the flag", "is null. Leave the value out", "Leave the value out instead of writing null.", "the change put_flag comes", "the change set_override comes", "the change place_hold comes",
		"which is none.", "but it names the %s.", "comes without the %s that it is to write", "Send the revision that was read", "there is no owner_id to take",
	},
	"an operator's writes, not Terraform's": {
		"so it cannot be %s. Check the name.", "Read it and change it, or choose another name.", "it was expected not to exist", "is Terraform's: only a kill switch", "Use another holder, or change this hold", "To %s a hold of others", "Read it again, then decide anew.",
	},
	"the audit log of a test reaches back to the beginning": {"%s does not exist, but was expected at revision %d"},
	"making tokens is no business of Terraform": {
		"is %q. Write evaluate, read", "but a token's name is up to", "Write one or more of evaluate", "is not one of evaluate", "together with the scope admin",
	},
	"a header, or what the client says in its own words": {"Bearer realm", "error=\"invalid_token\"", "no token came with the request", "holds no bearer token"},
	"internal/client tells it over TLS, and its tests have it": {
		"the proxy that HTTPS_PROXY or", "does not speak TLS, but", "of an authority that this machine", "shows a certificate for another host", "that has expired or is not valid yet",
		"a certificate that cannot be trusted", "ended the TLS handshake", "may want a client certificate",
	},
	"it takes a network that fails, or more memory than a test should, and the tests of internal/client have it": {
		"names a host that is not known", "names a host that cannot be looked up", "cannot be reached from this network", " cannot be reached: ", "sent an answer of more than %d MB", "it was cancelled before",
	},
	"it takes a server that stops within the moment":           {"the server is stopping. Connect again"},
	"told by a proxy, in its log alone":                        {"too many questions about tokens are under way"},
	"it takes several roots, of which one lags behind":         {"has not heard yet of what this program has written"},
	"looked for in the errors of others":                       {"remote error: tls:", "malformed HTTP", "server closed", "HTTP request to an HTTPS server", "<!doctype html"},
	"a cause, told in other words":                             {"no answer within the request timeout", "the connection was closed before an answer began"},
	"the provider checks it by itself":                         {"the request timeout is ", "but it must be more than 0", "it is empty. ", "user agent", "one outside ASCII. Remove it.", "use the request timeout"},
	"the provider asks otherwise":                              {"sent %d answers to %d questions", "attribute that JSON cannot hold", "read the override of ", "read the killed flags"},
	"who removed an object is left out when it cannot be read": {"sent a stamp that cannot be read"},
	"a test waits no hours for it, and TestAge has it":         {"%d h %d min", "%d days"},
	"a validator's description, which nobody shows":            {"a duration of more than 0, like 30s"},
	"told by the process when it ends":                         {"write the totals"},
	"names of calls, in logs":                                  {"write the flag ", "restore the flag ", "make the change", "read all flags", "read the flags under ", "greet the server", "read an object"},
}

// wordingText is a text of the sources.
type wordingText struct{ at, text string }

// A text of the sources that may become a diagnostic is in the file. So nobody
// adds a diagnostic that no reviewer has read in its place.
func TestWordingIsComplete(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile(wordingFile)
	if err != nil {
		t.Fatal(err)
	}
	var told []string // each diagnostic in one line
	for _, part := range regexp.MustCompile(`(?m)^(error|warning|-- .*)`).Split(string(golden), -1) {
		told = append(told, strings.Join(strings.Fields(part), " "))
	}
	left := map[string]string{}
	for why, parts := range untold {
		for _, part := range parts {
			left[part] = why
		}
	}
	reasons := maps.Clone(left)
	all := 0
	for _, found := range wordingTexts(t) {
		all++
		if slices.ContainsFunc(told, shape(normal(entry{detail: found.text}).detail).MatchString) {
			continue
		}
		excused := false
		for part := range reasons {
			if strings.Contains(found.text, part) {
				delete(left, part)
				excused = true
			}
		}
		if !excused {
			t.Errorf("%s: no case of TestWording tells %q", found.at, found.text)
		}
	}
	for part, why := range left {
		t.Errorf("%q (%s) is in no text that is untold: leave it out", part, why)
	}
	t.Logf("%d texts, %d parts of them untold", all, len(reasons))
}

var verb = regexp.MustCompile(`%(\[\d+\])?[-+# 0-9.*]*[a-zA-Z]`)

// shape finds a text in the file: its verbs stand for anything, white space for
// white space, and it may have become the beginning of a sentence.
func shape(text string) *regexp.Regexp {
	text = strings.TrimSpace(text)
	var pattern strings.Builder
	for i, part := range verb.Split(text, -1) {
		if i > 0 {
			pattern.WriteString(`.+?`)
		}
		part = strings.ReplaceAll(part, "%%", "%")
		for j, word := range strings.Fields(part) {
			if j > 0 || strings.HasPrefix(part, " ") || strings.HasPrefix(part, "\n") {
				pattern.WriteString(`\s`)
			}
			pattern.WriteString(regexp.QuoteMeta(word))
		}
		if strings.HasSuffix(part, " ") {
			pattern.WriteString(`\s`)
		}
	}
	return regexp.MustCompile(`(?i:` + strings.ReplaceAll(pattern.String(), `\s\s`, `\s`) + `)`)
}

// wordingTexts collects the texts: string literals with a space and a word in
// them, but those that are no part of a message. Literals that are added together are one.
func wordingTexts(t *testing.T) []wordingText {
	t.Helper()
	var all []wordingText
	files := token.NewFileSet()
	for _, pattern := range wordingSources {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
			file, err := parser.ParseFile(files, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if silent(n) {
					return false
				}
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				text, whole := literalOf(e)
				if whole && strings.Contains(strings.TrimSpace(text), " ") && regexp.MustCompile(`[a-z]{2}`).MatchString(verb.ReplaceAllString(text, "")) {
					all = append(all, wordingText{files.Position(n.Pos()).String(), text})
				}
				return !whole
			})
		}
	}
	return all
}

// literalOf gives the text of a literal, or of literals that are added together.
func literalOf(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			a, wholeA := literalOf(e.X)
			b, wholeB := literalOf(e.Y)
			return a + b, wholeA && wholeB
		}
	}
	return "", false
}

// silent reports whether nothing in the node is told to anybody: descriptions of
// the schema, tags of fields, imports, logs, and what a call is named by in
// errors whose summary the provider words by itself.
func silent(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec, *ast.Field:
		return true
	case *ast.KeyValueExpr:
		name, ok := n.Key.(*ast.Ident)
		return ok && strings.HasSuffix(name.Name, "Description")
	case *ast.AssignStmt:
		if s, ok := n.Lhs[0].(*ast.SelectorExpr); ok && strings.HasSuffix(s.Sel.Name, "Description") {
			return true
		}
		name, ok := n.Lhs[0].(*ast.Ident)
		return ok && name.Name == "op"
	case *ast.ValueSpec:
		return n.Names[0].Name == "op" || strings.HasSuffix(n.Names[0].Name, "Description")
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok {
			x, ok := f.X.(*ast.Ident)
			return strings.HasPrefix(f.Sel.Name, "ready") || ok && x.Name == "tflog"
		}
	}
	return false
}
