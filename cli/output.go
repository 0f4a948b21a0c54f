package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// Document is what a verb prints on standard output.
type Document struct {
	// Kind and Version name the schema of Data: "version", 1. A field may be added without a new version.
	Kind    string
	Version int
	// Data is printed as json.
	Data any
	// Rows are printed as jsonl, one envelope each. Empty: Data in one line.
	Rows []any
	// Header and Cells are the table. Headers are hyphenated, for awk.
	Header []string
	Cells  [][]string
	// Text is the text format. Empty: the table.
	Text string
}

type envelope struct {
	Kind    string `json:"kind"`
	Version int    `json:"version"`
	Data    any    `json:"data"`
}

// Print writes a document in the format that was asked for.
func (e *Env) Print(d Document) error {
	switch e.Format {
	case "json":
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(envelope{d.Kind, d.Version, d.Data})
	case "jsonl":
		rows := d.Rows
		if len(rows) == 0 {
			rows = []any{d.Data}
		}
		enc := json.NewEncoder(e.Stdout)
		for _, row := range rows {
			if err := enc.Encode(envelope{d.Kind, d.Version, row}); err != nil {
				return err
			}
		}
		return nil
	case "text":
		if d.Text != "" {
			_, err := io.WriteString(e.Stdout, strings.TrimRight(d.Text, "\n")+"\n")
			return err
		}
	}
	return e.printTable(d)
}

func (e *Env) printTable(d Document) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(row(d.Header))
	for _, cells := range d.Cells {
		t.AppendRow(row(cells))
	}
	_, err := fmt.Fprintln(e.Stdout, t.Render())
	return err
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// terminal reports that w is a terminal that a person looks at.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}

// paint colours words, or does not.
type paint bool

// painter colours on a terminal, unless NO_COLOR is set to anything (no-color.org) or the terminal is dumb.
func painter(env *Env, w io.Writer) paint {
	return paint(terminal(w) && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb")
}

func (p paint) in(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) red(s string) string  { return p.in("31;1", s) }
func (p paint) bold(s string) string { return p.in("1", s) }
