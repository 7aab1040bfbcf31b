package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// printJSON writes a value for programs.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// table lays out rows for people. What its cells hold came from others, so
// nothing in it can end a cell or a line, or speak to the terminal.
type table struct{ rows [][]string }

func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

func (t *table) add(cells ...string) {
	for i, text := range cells {
		if cells[i] = cell(text); cells[i] == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(w io.Writer) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	return columns.Flush()
}

// maxCell keeps a row readable on a terminal.
const maxCell = 100

// cell makes foreign text fit for a terminal: on one line, every character that
// is not printable written as Go writes it in a string.
func cell(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() > maxCell {
			return b.String() + "…"
		}
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// moment writes a time for people: UTC, to the second.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// until says how long a hold or a token lasts.
func until(expires time.Time, forever string) string {
	if expires.IsZero() {
		return forever
	}
	return moment(expires)
}

// holdTable shows who holds a flag killed, why and since when.
func holdTable(holds []*flag.Hold) *table {
	t := newTable("HOLDER", "PLACED BY", "SINCE", "UNTIL", "REASON")
	for _, h := range holds {
		t.add(h.Holder, h.Actor, moment(h.Since), until(h.ExpiresAt, "released"), h.Reason)
	}
	return t
}

// standing picks the holds that kill now.
func standing(holds []*flag.Hold, now time.Time) []*flag.Hold {
	var stand []*flag.Hold
	for _, h := range holds {
		if h.StandsAt(now) {
			stand = append(stand, h)
		}
	}
	return stand
}

// span reads a length of time: what Go reads, or days ("90d").
func span(name, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, usagef("--%s is %q, not a length of time. Write one like \"90m\", \"2h\" or \"7d\"", name, text)
	}
	return d, nil
}

// instant reads a point in time.
func instant(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--%s is %q, not a point in time. Write one like %q", name, text, time.Now().UTC().Add(time.Hour).Truncate(time.Minute).Format(time.RFC3339))
	}
	return t, nil
}
