package descriptor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

const (
	// DefaultPoll is how often a watched file is read when nobody says otherwise.
	DefaultPoll = 30 * time.Second
	// settle is how long a change in the directory is given to become whole: who
	// replaces a file does more than one thing.
	settle = 200 * time.Millisecond
	// maxNamed is how many flags a line of the log names; the others are counted.
	maxNamed = 20
)

// WatchOptions says what to watch.
type WatchOptions struct {
	Path string
	Poll time.Duration // 0: DefaultPoll
	Log  *slog.Logger  // nil: nothing is logged
}

// Watcher keeps the set of a file that may be replaced while it runs: the last
// good one, when the new content cannot be used or changes the type of a flag.
// Its methods may be called from many goroutines at once; Run is called once.
type Watcher struct {
	path string
	poll time.Duration
	log  *slog.Logger

	present atomic.Pointer[Set]
	asked   chan struct{} // of capacity 1: one look answers all who asked before it

	// Of Run's goroutine alone.
	seen    os.FileInfo // of what was read last; nil: nothing could be
	refused string      // the content (its hash) or the error that was told last; "": none stands
}

// Watch reads the file, which must hold a set with flags. It is watched once Run
// runs.
func Watch(o WatchOptions) (*Watcher, error) {
	w := &Watcher{path: o.Path, poll: o.Poll, log: o.Log, asked: make(chan struct{}, 1)}
	if w.poll == 0 {
		w.poll = DefaultPoll
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.seen = regular(w.path)
	content, err := w.read()
	if err != nil {
		return nil, unusable(w.path, err)
	}
	set, err := w.judge(content)
	if err != nil {
		return nil, unusable(w.path, err)
	}
	w.present.Store(set)
	return w, nil
}

// Present gives the set in force.
func (w *Watcher) Present() *Set { return w.present.Load() }

// Flag finds a flag of the set in force; nil when there is none.
func (w *Watcher) Flag(key flag.Key) *flag.Flag { return w.Present().Flag(key) }

// Keys gives the keys of the set in force, in order. Not to be changed.
func (w *Watcher) Keys() []flag.Key { return w.Present().Keys() }

// Reload has the file read again soon, as SIGHUP asks. It does not wait.
func (w *Watcher) Reload() {
	select {
	case w.asked <- struct{}{}:
	default: // a look that is still to come will do
	}
}

// Run watches the file until the context ends: by the changes that the system
// tells of in its directory, each poll, and when Reload asks.
func (w *Watcher) Run(ctx context.Context) {
	d := openDirectories(w.path, w.log)
	defer d.close()
	w.run(ctx, d)
}

// source tells of changes in directories.
type source struct {
	told   <-chan struct{} // something changed; nil: nothing is ever told
	follow func()          // has the directories watched that the path leads through now
	close  func()
}

// run is Run with the source given. The source is followed before each look, so
// that no change falls between the two.
func (w *Watcher) run(ctx context.Context, s source) {
	polls := time.NewTicker(w.poll)
	defer polls.Stop()
	s.follow()
	w.look(false) // it may have changed since Watch
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.told:
			// The first change starts the time and later ones do not prolong it, so
			// a directory where something always happens is looked at all the same.
			if settled == nil {
				settled = time.After(settle)
			}
			continue
		case <-settled:
			settled = nil
			s.follow()
			if w.touched() {
				w.look(false)
			}
		case <-polls.C:
			s.follow()
			w.look(false)
		case <-w.asked:
			s.follow()
			w.look(true)
		}
	}
}

// touched reports whether the file is another one, or was written to, since it
// was read: most of what happens in a directory is no matter of ours.
func (w *Watcher) touched() bool {
	now := regular(w.path)
	if now == nil || w.seen == nil {
		return now != w.seen
	}
	return !os.SameFile(now, w.seen) || now.Size() != w.seen.Size() || !now.ModTime().Equal(w.seen.ModTime())
}

// regular gives what the path leads to; nil for what is no plain file.
func regular(path string) os.FileInfo {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return info
}

// look reads the file and takes up what it holds, if that is new and good. What
// is bad is told once, and to whoever asked, who also hears that nothing is new.
func (w *Watcher) look(asked bool) {
	w.seen = regular(w.path)
	content, err := w.read()
	var found string
	if err == nil {
		found = hashOf(content)
	} else {
		found = err.Error()
	}
	present := w.Present()
	switch {
	case found == w.refused && !asked:
		return
	case found == present.Hash():
		switch {
		case w.refused != "":
			w.refused = ""
			w.log.Info("the file of the descriptors is again what is in force", "file", w.path)
		case asked:
			w.log.Info("the descriptors are unchanged", "file", w.path, "flags", present.Len())
		}
		return
	}
	var set *Set
	if err == nil {
		set, err = w.judge(content)
	}
	if err != nil {
		w.refused = found
		w.log.Error("the descriptors are refused, the last good ones stay in force", "file", w.path, "reason", err.Error(), "flags", present.Len())
		return
	}
	w.refused = ""
	w.present.Store(set)
	d := Compare(present, set)
	w.log.Info("the descriptors have changed", "file", w.path, "flags", set.Len(), "added", len(d.Added), "removed", len(d.Removed), "changed", len(d.Changed))
	w.tell("flags are added to the descriptors", d.Added)
	w.tell("flags are removed from the descriptors", d.Removed)
}

// read gives the file's content. It does not wait for the writer of a pipe.
func (w *Watcher) read() ([]byte, error) {
	if info, err := os.Stat(w.path); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		return nil, errors.New("it is no plain file, so it cannot be watched. Write the set to a file")
	}
	return read(w.path)
}

// judge gives the set of a content that may take the place of the one in force.
func (w *Watcher) judge(content []byte) (*Set, error) {
	set, err := Parse(content)
	if err != nil {
		return nil, err
	}
	if set.Len() == 0 {
		return nil, errors.New("it declares no flag: no field has the option (pbflags.flag). Build the files that declare flags, with their options")
	}
	present := w.Present()
	if present == nil {
		return set, nil
	}
	changed := Compare(present, set).Of(AspectType)
	if len(changed) == 0 {
		return set, nil
	}
	first, more := changed[0], ""
	if len(changed) > 1 {
		more = fmt.Sprintf(" (one of %d flags that do)", len(changed))
	}
	return nil, fmt.Errorf("the flag %q (%s) changes its type from %s to %s%s: programs that run would read a value of the wrong type. Give the field a new number; or, where none reads it any more, start the server anew",
		first.FlagKey, first.Name, first.Before, first.After, more)
}

// tell logs which flags came or went.
func (w *Watcher) tell(what string, definitions []Definition) {
	if len(definitions) == 0 {
		return
	}
	named := make([]string, 0, maxNamed)
	for _, d := range definitions[:min(len(definitions), maxNamed)] {
		named = append(named, fmt.Sprintf("%s (%s)", d.Flag.Key, d.Title()))
	}
	w.log.Info(what, "flags", named, "more", len(definitions)-len(named)) //nolint:sloglint // one of the two above
}
