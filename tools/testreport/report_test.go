package main

import (
	"strings"
	"testing"
)

// One line stands for one event: action, package, test (or -), output.
func events(t *testing.T, script string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(script) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(fields) < 3 {
			continue
		}
		b.WriteString(`{"Action":"` + fields[0] + `","Package":"` + module + "/" + fields[1] + `"`)
		if fields[2] != "-" {
			b.WriteString(`,"Test":"` + fields[2] + `"`)
		}
		if len(fields) == 4 {
			b.WriteString(`,"Output":"` + fields[3] + `\n"`)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func TestReport(t *testing.T) {
	t.Parallel()
	const skipped = `
		run a TestOne
		pass a TestOne
		run a TestTwo
		output a TestTwo     two_test.go:7: no postgres here
		output a TestTwo --- SKIP: TestTwo (0.00s)
		skip a TestTwo
		pass a -`
	const soak = `
		run a TestOne
		pass a TestOne
		run a TestLong
		output a TestLong     long_test.go:7: needs BUNTING_SOAK=1
		skip a TestLong
		pass a -`

	for name, tt := range map[string]struct {
		events  string
		rules   rules
		good    bool
		last    string
		has     []string
		hasNone []string
	}{
		"quiet when all is well": {
			events: `
				run a TestOne
				output a TestOne chatter
				pass a TestOne
				output a - ok
				pass a -`,
			good:    true,
			last:    "1 passed, 0 failed, 0 skipped",
			has:     []string{"ok  a: 1 passed"},
			hasNone: []string{"chatter"},
		},
		"a test with subtests counts through these": {
			events: `
				run a TestOne
				run a TestOne/x
				pass a TestOne/x
				run a TestOne/y/z
				pass a TestOne/y/z
				pass a TestOne
				pass a -`,
			good: true,
			last: "2 passed, 0 failed, 0 skipped",
		},
		"a failure shows what it printed": {
			events: `
				run a TestOne
				run a TestOne/x
				output a TestOne/x want 1, got 2
				fail a TestOne/x
				fail a TestOne
				fail a -`,
			last: "0 passed, 1 failed, 0 skipped",
			has:  []string{"want 1, got 2", "FAIL  a: ", "failed:\n  a TestOne/x\n"},
		},
		"a parent that fails by itself counts": {
			events: `
				run a TestOne
				run a TestOne/x
				pass a TestOne/x
				fail a TestOne
				fail a -`,
			last: "1 passed, 1 failed, 0 skipped",
		},
		"a test cut off has failed": {
			events: `
				run a TestOne
				run a TestOne/x
				output a TestOne/x panic: too bad
				fail a -`,
			last: "0 passed, 1 failed, 0 skipped",
			has:  []string{"panic: too bad", "a TestOne/x (did not finish)"},
		},
		"a package may fail outside its tests": {
			events: `
				run a TestOne
				pass a TestOne
				output a - goroutines were left
				fail a -`,
			last: "1 passed, 1 failed, 0 skipped",
			has:  []string{"goroutines were left", "a failed outside its tests"},
		},
		"a build that fails is told": {
			events: `{"ImportPath":"x","Action":"build-output","Output":"a.go:1: undefined: y\n"}
{"ImportPath":"x","Action":"build-fail"}
{"Action":"fail","Package":"` + module + `/a","FailedBuild":"x"}`,
			last: "0 passed, 1 failed, 0 skipped",
			has:  []string{"undefined: y", "a does not build"},
		},
		"a command that fails without a word": {
			rules: rules{commandFailed: true},
			last:  "0 passed, 1 failed, 0 skipped",
			has:   []string{"go test itself"},
		},
		"words that are no event pass through": {
			events: "go: something is wrong\n",
			good:   true,
			last:   "0 passed, 0 failed, 0 skipped",
			has:    []string{"go: something is wrong"},
		},
		"a skip is named with its reason": {
			events: skipped,
			good:   true,
			last:   "1 passed, 0 failed, 1 skipped",
			has:    []string{"skipped:\n  a TestTwo: no postgres here\n"},
		},
		"a skip fails a strict run": {
			events: skipped,
			rules:  rules{strict: true},
			last:   "1 passed, 0 failed, 1 skipped",
			has:    []string{"nothing may be skipped"},
		},
		"a strict run allows what is listed": {
			events: skipped,
			rules:  rules{strict: true, allowed: map[string]bool{"a TestTwo": true}},
			good:   true,
			last:   "1 passed, 0 failed, 1 skipped",
			has:    []string{"as allowed-skips.txt says:\n  a TestTwo"},
		},
		"a strict run leaves long tests to make soak": {
			events: soak,
			rules:  rules{strict: true},
			good:   true,
			last:   "1 passed, 0 failed, 1 skipped",
			has:    []string{"left to make soak:\n  a TestLong: needs BUNTING_SOAK=1\n"},
		},
		"make soak leaves them to nobody": {
			events: soak,
			rules:  rules{strict: true, soaking: true},
			last:   "1 passed, 0 failed, 1 skipped",
		},
		"a strict run without a test fails": {
			rules: rules{strict: true},
			last:  "0 passed, 0 failed, 0 skipped",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := tt.events
			if strings.HasPrefix(text, "\n\t") {
				text = events(t, text)
			}
			var out strings.Builder
			r := newReport(&out)
			if err := follow(strings.NewReader(text), r); err != nil {
				t.Fatal(err)
			}
			if good := r.finish(tt.rules); good != tt.good {
				t.Errorf("good = %v, want %v", good, tt.good)
			}
			if !strings.HasSuffix(out.String(), "\n"+tt.last+"\n") && out.String() != tt.last+"\n" {
				t.Errorf("want the last line %q", tt.last)
			}
			for _, want := range tt.has {
				if !strings.Contains(out.String(), want) {
					t.Errorf("want %q", want)
				}
			}
			for _, no := range tt.hasNone {
				if strings.Contains(out.String(), no) {
					t.Errorf("do not want %q", no)
				}
			}
			if t.Failed() {
				t.Logf("printed:\n%s", out.String())
			}
		})
	}
}

func TestParseAllowed(t *testing.T) {
	t.Parallel()
	allowed, err := parseAllowed("# comment\n\ninternal/x TestY/sub needs a real clock\n")
	if err != nil || !allowed["internal/x TestY/sub"] || len(allowed) != 1 {
		t.Errorf("got %v, %v", allowed, err)
	}
	if _, err := parseAllowed("internal/x TestY\n"); err == nil || !strings.Contains(err.Error(), ":1: ") {
		t.Errorf("an entry without a reason: want an error that names line 1, got %v", err)
	}
}

func TestAllowedSkipsParse(t *testing.T) {
	t.Parallel()
	if _, err := parseAllowed(allowedSkips); err != nil {
		t.Error(err)
	}
}
