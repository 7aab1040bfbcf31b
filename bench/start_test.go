package main

import (
	"path/filepath"
	"testing"
	"time"
)

// buildServer makes the program.
func buildServer(b *testing.B) string {
	b.Helper()
	w := &bench{dir: b.TempDir()}
	if err := w.buildProgram(b.Context(), "bunting", "../cmd/bunting"); err != nil {
		b.Fatal(err)
	}
	return filepath.Join(w.dir, "bunting")
}

// start starts the program in the folder, with the database that is there.
func start(b *testing.B, program, dir string) *server {
	b.Helper()
	s, err := startServer(b.Context(), program, dir)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkStart tells how long bunting serve takes until it answers, on its first start, with nothing. The aim is 200 ms.
func BenchmarkStart(b *testing.B) {
	program := buildServer(b)
	var waited time.Duration
	for b.Loop() {
		dir, began := b.TempDir(), time.Now()
		s := start(b, program, dir)
		waited += time.Since(began)
		if err := s.stop(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(waited.Milliseconds())/float64(b.N), "ms/start")
	b.ReportMetric(0, "ns/op")
}
