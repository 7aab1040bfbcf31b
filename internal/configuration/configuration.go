// Package configuration reads the settings of bunting serve: one table of them,
// each of which can be written in a YAML file, in the environment and on the
// command line.
package configuration

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// Roads are the places where settings are written, the weakest first: a default
// gives way to the file, the file to the environment, the environment to the
// command line.
type Roads struct {
	// File is the YAML file; "": the one that BUNTING_SERVE_CONFIG names, else none.
	File string
	// Environment are the process's variables as os.Environ gives them. An empty
	// variable is as one that is not set.
	Environment []string
	// Flags are the settings given on the command line, by key.
	Flags map[string]string
}

// Names of what says where the file is, which is no setting: it cannot stand in
// the file.
const (
	FileFlag          = "config"
	environmentPrefix = "BUNTING_SERVE_"
	fileVariable      = environmentPrefix + "CONFIG"
	maxFileBytes      = 1 << 20
	serviceLinks      = "Kubernetes sets such variables for a service named bunting-serve: name the service otherwise, or set enableServiceLinks: false"
)

// SettingErrors are all that is wrong with a configuration, each in a sentence
// that names the file and line, the variable or the flag.
type SettingErrors []string

// Error tells one mistake in a line, several in a list.
func (e SettingErrors) Error() string { return yamlfile.Told("the configuration", e) }

// Read gives the settings in force. The error is of the type SettingErrors: everything
// that is wrong, and never a secret.
func Read(roads Roads) (*Settings, error) {
	s := &Settings{written: map[string]written{}}
	variables, problems := readEnvironment(roads.Environment)
	file := roads.File
	if file == "" {
		file = variables[fileVariable]
	}
	if file != "" {
		fromFile, wrong := readFile(file)
		problems = append(wrong, problems...)
		maps.Copy(s.written, fromFile)
	}
	for _, setting := range table {
		if text := variables[setting.Variable()]; text != "" {
			s.written[setting.Key] = written{text, Origin{setting.Variable(), 0}}
		}
		if text, given := roads.Flags[setting.Key]; given {
			s.written[setting.Key] = written{text, Origin{"--" + setting.Flag(), 0}}
		}
	}

	broken := map[string]bool{}
	for _, setting := range table {
		w, given := s.written[setting.Key]
		if !given {
			w = written{text: setting.Default}
			s.written[setting.Key] = w
		}
		if err := setting.read(s, w.text); err != nil {
			broken[setting.Key] = true
			problems = append(problems, fmt.Sprintf("%s is %q, %s", s.Subject(setting.Key), setting.show(w.text), err))
		}
	}
	problems = append(problems, s.contradictions(broken)...)
	if len(problems) > 0 {
		return nil, SettingErrors(problems)
	}
	s.follow()
	return s, nil
}

// readEnvironment picks out our variables, by name.
func readEnvironment(environment []string) (found map[string]string, problems []string) {
	names := map[string]bool{fileVariable: true}
	for _, setting := range table {
		names[setting.Variable()] = true
	}
	found = map[string]string{}
	for _, entry := range environment {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, environmentPrefix) {
			continue
		}
		if names[name] {
			found[name] = text
			continue
		}
		problem := name + " is set in the environment, but there is no such setting"
		if fromKubernetes(name, text) {
			problem += ". " + serviceLinks
		} else {
			problem += yamlfile.DidYouMean(name, slices.Collect(maps.Keys(names)))
		}
		problems = append(problems, problem)
	}
	slices.Sort(problems)
	return found, problems
}

// fromKubernetes recognises the variables that Kubernetes sets in every container
// for each service: NAME_SERVICE_HOST, NAME_SERVICE_PORT…, NAME_PORT….
func fromKubernetes(name, text string) bool {
	rest := strings.TrimPrefix(name, environmentPrefix)
	return rest == "SERVICE_HOST" || strings.HasPrefix(rest, "SERVICE_PORT") ||
		strings.HasPrefix(rest, "PORT_") || rest == "PORT" && strings.Contains(text, "://")
}

// readFile reads the settings of a file, and what is wrong with it.
func readFile(path string) (map[string]written, []string) {
	file := configurationFile(path)
	content, err := file.Content()
	if err != nil {
		return nil, []string{fmt.Sprintf("read the configuration: %v. Name a YAML file that can be read with --%s", err, FileFlag)}
	}
	return parse(path, content)
}
