package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	module       = "github.com/bunting-flags/terraform-provider-bunting"
	soakVariable = "BUNTING_SOAK"
)

// event is one line of `go test -json`; see `go doc test2json` and `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// testRun is a test that was started.
type testRun struct {
	output      []string
	hasSubtests bool
	failedBelow bool
}

// packageRun is what is known of a package whose tests run. A test that has ended is no longer in running.
type packageRun struct {
	running map[string]*testRun
	output  []string
	passed  int
	failed  int
	skipped int
}

type skip struct {
	pkg, test, reason string
}

// report counts leaves: a test with subtests counts through these.
type report struct {
	out      io.Writer
	packages map[string]*packageRun
	builds   map[string][]string
	passed   int
	failures []string
	skips    []skip
}

func newReport(out io.Writer) *report {
	return &report{out: out, packages: map[string]*packageRun{}, builds: map[string][]string{}}
}

func (r *report) add(e event) {
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
		return
	case "build-fail":
		// Told at once and only once, though every package that imports this one will fail for it.
		r.print(r.builds[e.ImportPath])
		return
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &packageRun{running: map[string]*testRun{}}
		r.packages[e.Package] = p
	}
	if e.Test != "" {
		r.addTest(p, e)
		return
	}
	switch e.Action {
	case "output":
		p.output = append(p.output, e.Output)
	case "pass", "fail", "skip":
		r.endPackage(p, e)
	}
}

func (r *report) addTest(p *packageRun, e event) {
	t := p.running[e.Test]
	if t == nil {
		t = &testRun{}
		p.running[e.Test] = t
		if above := p.parent(e.Test); above != nil {
			above.hasSubtests = true
		}
	}
	switch e.Action {
	case "output":
		t.output = append(t.output, e.Output)
	case "pass":
		if !t.hasSubtests {
			p.passed++
		}
		delete(p.running, e.Test)
	case "skip":
		p.skipped++
		r.skips = append(r.skips, skip{pkg: short(e.Package), test: e.Test, reason: reasonOf(t.output)})
		delete(p.running, e.Test)
	case "fail":
		r.failTest(p, e.Test, t, short(e.Package)+" "+e.Test)
	}
}

func (r *report) failTest(p *packageRun, test string, t *testRun, failure string) {
	if above := p.parent(test); above != nil {
		above.failedBelow = true
	}
	if !t.failedBelow {
		p.failed++
		r.failures = append(r.failures, failure)
	}
	r.print(t.output)
	delete(p.running, test)
}

func (r *report) endPackage(p *packageRun, e event) {
	name := short(e.Package)
	if e.Action == "fail" {
		// What never ended was cut off by a panic, a time limit or os.Exit. Deepest first, so that a test with subtests
		// counts through these.
		unfinished := make([]string, 0, len(p.running))
		for test := range p.running {
			unfinished = append(unfinished, test)
		}
		slices.Sort(unfinished)
		slices.Reverse(unfinished)
		for _, test := range unfinished {
			r.failTest(p, test, p.running[test], name+" "+test+" (did not finish)")
		}
		r.print(p.output)
		if p.failed == 0 {
			p.failed++
			why := "failed outside its tests"
			if e.FailedBuild != "" {
				why = "does not build"
			}
			r.failures = append(r.failures, name+" "+why)
		}
	}
	r.passed += p.passed
	if p.passed+p.failed+p.skipped > 0 {
		word := "ok"
		if p.failed > 0 {
			word = "FAIL"
		}
		cached := ""
		if strings.Contains(strings.Join(p.output, ""), "(cached)") {
			cached = ", cached"
		}
		fmt.Fprintf(r.out, "%s  %s: %d passed, %d failed, %d skipped (%.1f s%s)\n",
			word, name, p.passed, p.failed, p.skipped, e.Elapsed, cached)
	}
	// What it printed can be long, and is of no more use.
	r.packages[e.Package] = &packageRun{running: map[string]*testRun{}}
}

// rules say what a run may leave out.
type rules struct {
	allowed       map[string]bool
	strict        bool
	soaking       bool
	commandFailed bool
}

// leftToSoak tells a skip that make soak will run, where the variable is set and the same skip would fail.
func (r rules) leftToSoak(s skip) bool {
	return !r.soaking && strings.Contains(s.reason, soakVariable)
}

// finish prints the lists and the totals, and says whether all is well.
func (r *report) finish(rules rules) bool {
	if rules.commandFailed && len(r.failures) == 0 {
		r.failures = append(r.failures, "go test itself")
	}
	r.list("failed", r.failures)

	var left, allowed, other []string
	for _, s := range r.skips {
		line := s.pkg + " " + s.test + ": " + s.reason
		switch {
		case rules.leftToSoak(s):
			left = append(left, line)
		case rules.allowed[s.pkg+" "+s.test]:
			allowed = append(allowed, line)
		default:
			other = append(other, line)
		}
	}
	r.list("left to make soak", left)
	r.list("skipped, as allowed-skips.txt says", allowed)
	r.list("skipped", other)

	good := len(r.failures) == 0
	if rules.strict && len(other) > 0 {
		fmt.Fprintln(r.out, "with CI=true nothing may be skipped that allowed-skips.txt does not name")
		good = false
	}
	if rules.strict && r.passed == 0 {
		fmt.Fprintln(r.out, "with CI=true a run without a test is a failure")
		good = false
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, len(r.failures), len(r.skips))
	return good
}

func (r *report) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	slices.Sort(lines)
	fmt.Fprintf(r.out, "%s:\n  %s\n", title, strings.Join(lines, "\n  "))
}

func (r *report) print(output []string) {
	for _, text := range output {
		// A test may end its last line without a newline.
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		fmt.Fprint(r.out, text)
	}
}

// parent finds the running test that the named one is directly under.
func (p *packageRun) parent(test string) *testRun {
	for {
		slash := strings.LastIndexByte(test, '/')
		if slash < 0 {
			return nil
		}
		// A subtest's own name may hold a slash.
		test = test[:slash]
		if t := p.running[test]; t != nil {
			return t
		}
	}
}

// reasonOf finds what a skipped test said of it: its last own line, without the place.
func reasonOf(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, words, found := strings.Cut(line, ".go:"); found {
			if _, words, found = strings.Cut(words, ": "); found {
				return words
			}
		}
		return line
	}
	return "no reason given"
}

func short(pkg string) string {
	if pkg == module {
		return "."
	}
	return strings.TrimPrefix(pkg, module+"/")
}

// parseAllowed reads lines of "package test reason"; a reason is owed.
func parseAllowed(text string) (map[string]bool, error) {
	allowed := map[string]bool{}
	for number, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case len(fields) < 3:
			return nil, fmt.Errorf("allowed-skips.txt:%d: want a package, a test and a reason, found %q", number+1, line)
		default:
			allowed[fields[0]+" "+fields[1]] = true
		}
	}
	return allowed, nil
}
