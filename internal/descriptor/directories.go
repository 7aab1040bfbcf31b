package descriptor

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// openDirectories watches the directories through which the path leads. Where
// the system cannot do so, polling is left.
func openDirectories(path string, log *slog.Logger) source {
	none := source{follow: func() {}, close: func() {}}
	events, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("the directory of the descriptors cannot be watched, so the file is only polled", "file", path, "reason", err.Error())
		return none
	}
	told, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case _, open := <-events.Events:
				if !open {
					return
				}
			case _, open := <-events.Errors:
				if !open {
					return
				}
				// Events were lost; look, as if there had been one.
			}
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	failed := map[string]bool{} // told once
	return source{
		told: told,
		follow: func() {
			wanted := directories(path)
			for _, watched := range events.WatchList() {
				if !slices.Contains(wanted, watched) {
					_ = events.Remove(watched) // it may be gone
				}
			}
			for _, dir := range wanted {
				if err := events.Add(dir); err != nil && !failed[dir] {
					failed[dir] = true
					log.Warn("a directory of the descriptors cannot be watched, so changes in it are found by polling", "directory", dir, "reason", err.Error())
				} else if err == nil {
					delete(failed, dir)
				}
			}
		},
		close: func() {
			_ = events.Close()
			<-ended
		},
	}
}

// directories gives those in which a change makes the path lead to another
// file, or that file another: its own, where each symbolic link on the way
// stands (Kubernetes replaces ..data beside the file, deployments a link further
// up), and where the file is in the end.
func directories(path string) []string {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return []string{filepath.Dir(path)}
	}
	dirs := []string{filepath.Dir(absolute)}
	for at := absolute; filepath.Dir(at) != at; at = filepath.Dir(at) {
		if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink != 0 {
			dirs = append(dirs, filepath.Dir(at))
		}
	}
	if end, err := filepath.EvalSymlinks(absolute); err == nil {
		dirs = append(dirs, filepath.Dir(end))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
