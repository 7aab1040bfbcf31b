package definitioncache

import "time"

// WithClock gives the memory a clock.
func (m *Memory) WithClock(now func() time.Time) *Memory {
	m.now = now
	return m
}

// WithClock gives the file a clock in place of the disk's.
func (f *File) WithClock(now func() time.Time) *File {
	f.now = func() (time.Time, error) { return now(), nil }
	return f
}

// Paths names the files of the copy and of the board.
func (f *File) Paths() (copied, board string) { return f.copyPath(), f.boardPath() }
