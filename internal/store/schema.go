package store

import "fmt"

// Schema is what a database says of itself before it is used.
type Schema struct {
	Version        int64  // 0: it has none yet
	Newest         int64  // that this program knows
	MinimumVersion string // of the bunting that can use it; "": not told
	Environment    string // "": the store is not named yet
}

// Admit says why the database may not be used for the environment: its schema is
// newer than this program, or it holds another environment. With the environment
// "" only the schema is asked.
func (s Schema) Admit(environment string) error {
	switch {
	case s.Version > s.Newest && s.MinimumVersion == "":
		return fmt.Errorf("it was written by a newer version of bunting (schema %d, this program knows %d). Use a newer bunting", s.Version, s.Newest)
	case s.Version > s.Newest:
		return fmt.Errorf("it was written by a newer version of bunting (schema %d, this program knows %d). Use at least bunting %s", s.Version, s.Newest, s.MinimumVersion)
	case environment != "" && s.Environment != "" && s.Environment != environment:
		return fmt.Errorf("it holds the environment %q, but %q was expected. Name the database of %q, or start with --environment %s", s.Environment, environment, environment, s.Environment)
	}
	return nil
}
