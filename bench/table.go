package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// table is what was measured, a row for each aim.
type table struct{ rows []row }

type row struct {
	what, aim, measured string
	ok                  bool
}

// addf adds a row. What was measured is formatted.
func (t *table) addf(what, aim string, ok bool, format string, args ...any) {
	t.rows = append(t.rows, row{what, aim, fmt.Sprintf(format, args...), ok})
}

// print writes the table for people.
func (t *table) print(out io.Writer) error {
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "CASE\tAIM\tMEASURED\t")
	for _, r := range t.rows {
		verdict := "ok"
		if !r.ok {
			verdict = "NOT MET"
		}
		fmt.Fprintf(columns, "%s\t%s\t%s\t%s\n", r.what, r.aim, r.measured, verdict)
	}
	return columns.Flush()
}
