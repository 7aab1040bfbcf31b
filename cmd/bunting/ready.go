package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ready is the content of the ready file.
type ready struct {
	Endpoint string `json:"endpoint"`
	// AdminEndpoint is the base URL of the admin side, when it has its own.
	AdminEndpoint string `json:"admin_endpoint,omitempty"`
	Environment   string `json:"environment"`
	PID           int    `json:"pid"`
	Version       string `json:"version"`
}

// removeReady removes the ready file of a server that was killed: it would tell
// that this one is ready. Any other file with something in it is left alone.
func removeReady(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // The user names the file.
	if errors.Is(err, os.ErrNotExist) {
		if folder, err := os.Stat(filepath.Dir(path)); err != nil || !folder.IsDir() {
			return usagef("--ready-file is %s, but there is no folder %s. Make it, or name a file in one that is there", path, filepath.Dir(path))
		}
		return nil
	}
	var old ready
	if err == nil && len(text) > 0 && (json.Unmarshal(text, &old) != nil || old.Endpoint == "") {
		return usagef("--ready-file is %s, a file that is there and is no ready file. Name one that may be overwritten", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("remove the old ready file: %w", err)
	}
	return nil
}

// writeReady writes the file aside and renames it, so that whoever waits for it
// never reads half of it.
func writeReady(path string, content ready) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	aside, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = aside.Write(append(text, '\n'))
	err = errors.Join(err, aside.Chmod(0o644), aside.Close())
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		_ = os.Remove(aside.Name()) // it is of no use
	}
	return err
}
