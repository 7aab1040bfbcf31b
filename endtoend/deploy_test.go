package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// scrape gives the metrics of a real server that has answered something, and of a proxy that shares its definitions: the
// labels of each name, as they may be asked for, with _bucket, _count and _sum of a histogram; and apart from them the
// names of ours as they are documented.
func scrape(t *testing.T) (labels map[string]map[string]bool, documented map[string]string) {
	t.Helper()
	s := startServer(t)
	if status, answer := s.call(t, s.token, "bunting.v1.FlagAdminService/Apply", map[string]any{
		"changes": []any{map[string]any{"putFlag": map[string]any{"key": "pay", "type": "FLAG_TYPE_BOOL", "defaultValue": map[string]any{"boolValue": false}}}},
	}); status != http.StatusOK {
		t.Fatalf("apply: %d %v", status, answer)
	}
	s.evaluate(t, "pay", "")
	proxy := newServer(t, []string{"BUNTING_TOKEN=" + s.newToken(t, "proxy", "SCOPE_READ")}, "--upstream", s.endpoint, "--definition-cache-directory", t.TempDir())
	proxy.start(t)
	labels, documented = map[string]map[string]bool{"up": {}}, map[string]string{}
	sample, label := regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `), regexp.MustCompile(`(\w+)="`)
	for line := range strings.Lines(s.metrics(t, s.token) + proxy.metrics(t, s.token)) {
		if name, ok := strings.CutPrefix(line, "# TYPE bunting_"); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(name), " ")
			documented["bunting_"+name] = kind
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if labels[m[1]] == nil {
			labels[m[1]] = map[string]bool{}
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[m[1]][l[1]] = true
		}
	}
	for name := range labels { // what Prometheus adds to each
		labels[name]["job"], labels[name]["instance"] = true, true
	}
	return labels, documented
}

// metrics gives what the server tells Prometheus.
func (s *server) metrics(t *testing.T, token string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.endpoint+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: commandDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%d %v: %s", answer.StatusCode, err, text)
	}
	return string(text)
}

// What an expression is made of, as far as ours are.
var (
	selector  = regexp.MustCompile(`\b((?:bunting|process|go)_[a-z_]+|up)\b(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`^\s*(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"\s*$`)
	grouping  = regexp.MustCompile(`\b(?:by|on|group_left)\s*\(([^)]*)\)`)
	call      = regexp.MustCompile(`\b([a-z_]+)\s*\(`)
	text      = regexp.MustCompile(`"[^"]*"`)
	functions = []string{"sum", "max", "min", "rate", "changes", "histogram_quantile", "time", "label_values", "by", "on", "group_left"}
	ranged    = []string{"rate", "changes"}
	bracketed = regexp.MustCompile(`\b(rate|changes)\(([^()]*)\)`)
	duration  = regexp.MustCompile(`\[(\d+[smh]|\$__rate_interval)\]$`)
)

// checked checks an expression against the metrics that exist, and gives the labels that its answer has.
func checked(expression string, labels map[string]map[string]bool) (has map[string]bool, err error) {
	has = map[string]bool{}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	found := selector.FindAllStringSubmatch(expression, -1)
	if len(found) == 0 {
		problem("no metric is asked for")
	}
	for _, m := range found {
		known := labels[m[1]]
		if known == nil {
			problem("there is no metric %s", m[1])
			continue
		}
		maps.Copy(has, known)
		for one := range strings.SplitSeq(strings.Trim(m[2], "{}"), ", ") {
			if parts := matcher.FindStringSubmatch(one); one != "" && (len(parts) == 0 || !known[parts[1]]) {
				problem("%s has nothing to match %s with", m[1], one)
			}
		}
	}
	bare := text.ReplaceAllString(expression, "")
	for _, pair := range []string{"()", "[]", "{}"} {
		if strings.Count(bare, pair[:1]) != strings.Count(bare, pair[1:]) {
			problem("the brackets %s do not close", pair)
		}
	}
	for _, m := range call.FindAllStringSubmatch(bare, -1) {
		if !slices.Contains(functions, m[1]) && m[1] != "and" {
			problem("%s is no function that is used here", m[1])
		}
	}
	inside := bracketed.FindAllStringSubmatch(bare, -1)
	for _, m := range inside {
		if !duration.MatchString(m[2]) {
			problem("%s(%s) has no range", m[1], m[2])
		}
	}
	if strings.Count(bare, "[") != len(inside) {
		problem("a range stands outside of %v", ranged)
	}
	groups := grouping.FindAllStringSubmatch(bare, -1)
	kept := map[string]bool{}
	for _, m := range groups {
		for l := range strings.SplitSeq(m[1], ",") {
			if l = strings.TrimSpace(l); l != "" && !has[l] {
				problem("nothing has the label %s to group by", l)
			}
			kept[strings.TrimSpace(l)] = true
		}
	}
	if strings.Contains(bare, "sum by") { // what is left after it
		has = kept
	}
	return has, errors.Join(problems...)
}

// TestAlertRules: each asks for metrics that exist, tells of labels that its answer has, and says what to do.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	labels, _ := scrape(t)
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	reading := yaml.NewDecoder(strings.NewReader(readFile(t, "../deploy/prometheus/bunting.rules.yml")))
	reading.KnownFields(true)
	if err := reading.Decode(&file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	told := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			has, err := checked(rule.Expr, labels)
			if err != nil {
				t.Errorf("%s: %v\n%s", rule.Alert, err, rule.Expr)
			}
			for _, l := range told.FindAllStringSubmatch(rule.Annotations["summary"], -1) {
				if !has[l[1]] {
					t.Errorf("%s tells of the label %s, which its answer has not", rule.Alert, l[1])
				}
			}
			if _, err := time.ParseDuration(rule.For); rule.For != "" && err != nil {
				t.Errorf("%s: %v", rule.Alert, err)
			}
			if severity := rule.Labels["severity"]; severity != "page" && severity != "ticket" || len(rule.Labels) != 1 {
				t.Errorf("%s has the labels %v", rule.Alert, rule.Labels)
			}
			if len(rule.Annotations["summary"]) < 20 || len(rule.Annotations["action"]) < 20 || len(rule.Annotations) != 2 {
				t.Errorf("%s does not say what happens and what to do: %v", rule.Alert, rule.Annotations)
			}
			if seen[rule.Alert] || !strings.HasPrefix(rule.Alert, "Bunting") {
				t.Errorf("%q is no name for one alert", rule.Alert)
			}
			seen[rule.Alert] = true
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d alerts were read", len(seen))
	}
}

// TestDashboard: each panel asks for metrics that exist, and stands where no other does.
func TestDashboard(t *testing.T) {
	t.Parallel()
	labels, _ := scrape(t)
	type target struct {
		Expr string `json:"expr"`
	}
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			GridPos struct {
				H int `json:"h"`
				W int `json:"w"`
				X int `json:"x"`
				Y int `json:"y"`
			} `json:"gridPos"` //nolint:tagliatelle // As Grafana writes it.
			Targets []target `json:"targets"`
			Source  struct {
				UID string `json:"uid"`
			} `json:"datasource"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
		Annotations struct {
			List []target `json:"list"`
		} `json:"annotations"`
	}
	if err := json.Unmarshal([]byte(readFile(t, "../deploy/grafana/bunting.json")), &board); err != nil {
		t.Fatal(err)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range board.Templating.List {
		variables[v.Name] = true
		if v.Definition != "" {
			if _, err := checked(v.Definition, labels); err != nil {
				t.Errorf("the variable %s: %v", v.Name, err)
			}
		}
	}
	used := regexp.MustCompile(`\$\{?(\w+)`)
	taken, ids, asked := map[[2]int]string{}, map[int]bool{}, 0
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s has the number of another panel", p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Errorf("%s stands where %q does, or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Source.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s asks nobody, or nothing", p.Title)
		}
		for _, one := range p.Targets {
			asked++
			if _, err := checked(one.Expr, labels); err != nil {
				t.Errorf("%s: %v\n%s", p.Title, err, one.Expr)
			}
			for _, v := range used.FindAllStringSubmatch(one.Expr, -1) {
				if !variables[v[1]] {
					t.Errorf("%s uses $%s, which there is not", p.Title, v[1])
				}
			}
		}
	}
	for _, a := range board.Annotations.List {
		if _, err := checked(a.Expr, labels); err != nil {
			t.Errorf("an annotation: %v", err)
		}
	}
	if asked < 20 {
		t.Errorf("only %d questions were read", asked)
	}
}

// TestCheckedFindsMistakes: the check is no rubber stamp.
func TestCheckedFindsMistakes(t *testing.T) {
	t.Parallel()
	labels := map[string]map[string]bool{"bunting_a_total": {"job": true, "tier": true}, "bunting_b": {"job": true}}
	for _, good := range []string{`sum by (tier) (rate(bunting_a_total{tier=~"x|y", job="$job"}[5m])) > 1`, `bunting_b == 1`, `bunting_b < on (job) group_left () max by (job) (bunting_b offset 1m)`} {
		if _, err := checked(good, labels); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		`bunting_c`, `1 > 0`, `bunting_b{tier="x"}`, `sum by (le) (bunting_b)`, `sum(bunting_b`, `rate(bunting_a_total)`, `bunting_a_total[5m]`, `ratio(bunting_b)`,
		`bunting_b{job=x}`, `sum by (tier) (bunting_b)`,
	} {
		if _, err := checked(bad, labels); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

// TestEveryMetricIsDocumented: the page of deploy/ names each with its kind, and no other.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	_, exist := scrape(t)
	exist["bunting_flag_evaluations_total"] = "counter" // only where it is asked for
	page := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(bunting_[a-z_]+)` \\| (\\w+) \\|").FindAllStringSubmatch(readFile(t, "../deploy/README.md"), -1) {
		page[m[1]] = m[2]
	}
	if !maps.Equal(exist, page) {
		t.Errorf("there are  %v\nthe page has %v", exist, page)
	}
}

// TestThePageNamesEverySetting: as the table of the settings says it, and no other.
func TestThePageNamesEverySetting(t *testing.T) {
	t.Parallel()
	_, page, _ := strings.Cut(readFile(t, "../deploy/README.md"), "\n## Settings\n")
	page, _, _ = strings.Cut(page, "\n## ")
	var want, got []string
	for _, s := range configuration.Table() {
		fallback := "–"
		if s.Default != "" {
			fallback = "`" + s.Default + "`"
		}
		want = append(want, fmt.Sprintf("| %#q | %s | %s | %s |", s.Key, strings.ReplaceAll(s.Kind, "|", `\|`), fallback, s.Help))
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page has\n%s\nthe table says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSystemdUnit: what systemd itself says of it where it is installed; everywhere, that it has no section, no setting
// and no value that nobody meant.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	unit := readFile(t, "../deploy/systemd/bunting.service")
	sections := map[string]map[string][]string{}
	section := ""
	for number, line := range strings.Split(unit, "\n") {
		name, value, isSetting := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.Trim(line, "[]")
			sections[section] = map[string][]string{}
		case !isSetting || section == "" || !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(name) || strings.TrimSpace(value) != value:
			t.Errorf("line %d is no setting: %s", number+1, line)
		default:
			sections[section][name] = append(sections[section][name], value)
		}
	}
	if got := slices.Sorted(maps.Keys(sections)); !slices.Equal(got, []string{"Install", "Service", "Unit"}) {
		t.Errorf("the sections are %v", got)
	}
	for name, want := range map[string]string{
		"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "CapabilityBoundingSet": "",
		"MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "StateDirectory": "bunting", "UMask": "0077", "TimeoutStopSec": "30s",
		"ExecStart": "/usr/bin/bunting serve --config /etc/bunting/bunting.yaml",
	} {
		if got := sections["Service"][name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}

	systemd, err := exec.LookPath("systemd-analyze") //nolint:misspell // Its name.
	if err != nil {
		t.Log("systemd's checker is not installed: the unit's own syntax is what was checked")
		return
	}
	// The program has to be where the unit says.
	copied := filepath.Join(t.TempDir(), "bunting.service")
	writeFile(t, copied, strings.ReplaceAll(unit, "/usr/bin/bunting", program(t, "bunting")), 0o644)
	if err := os.Chmod(filepath.Dir(copied), 0o755); err != nil {
		t.Fatal(err)
	}
	out := finish(t, command(t, t.TempDir(), nil, systemd, "verify", "--man=no", copied))
	if out.code != 0 || strings.Contains(out.text, "bunting.service") {
		t.Errorf("verify ended with %d:\n%s", out.code, out.text)
	}
	// 0 is a service that may do nothing, 100 one that may do all; what is left is the network.
	if out := finish(t, command(t, t.TempDir(), nil, systemd, "security", "--offline=true", "--no-pager", "--threshold=20", copied)); out.code != 0 {
		t.Errorf("security ended with %d:\n%s", out.code, out.text)
	}
}
