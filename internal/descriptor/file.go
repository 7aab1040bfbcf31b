package descriptor

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Load reads the set that is in a file; a pipe will do. No more is read than a
// set may have. The error names the file.
func Load(path string) (*Set, error) {
	content, err := read(path)
	if err != nil {
		return nil, unusable(path, err)
	}
	set, err := Parse(content)
	if err != nil {
		return nil, unusable(path, err)
	}
	return set, nil
}

func unusable(path string, err error) error {
	return fmt.Errorf("the descriptors in %s cannot be used: %w", path, err)
}

// read gives the content of a file that is not too large.
func read(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, cause(err)
	case info.IsDir():
		return nil, errors.New("it is a folder, but a FileDescriptorSet was expected. Name the file")
	case info.Size() > MaxBytes:
		return nil, errTooLarge
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxBytes+1)) // Parse refuses the one byte more
	if err != nil {
		return nil, cause(err)
	}
	return content, nil
}

// cause leaves out what was done and to which file: unusable says it.
func cause(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}
