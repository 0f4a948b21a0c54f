package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// traps are those of the client library's transactional consumer, and those found in implementations of the patterns.
var traps = []string{
	"a commit takes what was polled", "an abort leaves the client ahead of the positions", "an answer that is no proof of an abort",
	"the rest is committed after a failed produce", "a second revocation is not told", "a revocation aborts what stays",
	"the library has no transactional offset commit of its own", "an end inside a callback", "a cancelled context leaves the outcome unknown",
	"nothing is sent for a transaction without a record", "an end that begins the next one commits no offsets",
	"a reader without control records reaches no end", "the transaction timeout of the library",
	"one produce request under way, 10,000 records in the buffer", "brokers before transaction.version 2", "dynamic members",
	"a duplicate is answered from later state", "the current message is marked for another one", "one's own pending id is a duplicate",
	"a scope of ids alone", "staged rows that nobody cleans", "the marker before the handler",
}

// planted are the mistakes that scenario S57 names.
var planted = []string{
	"skip on marker with unrecorded outputs", "derive outputs from current state on a duplicate", "no changelog",
	"apply the local batch before the commit", "local markers only across a move", "rewind and continue on an unknown commit",
	"register after upload", "one fixed path", "mark the current id while finishing a previous one",
}

// seen are the kinds of mistakes that a user would see, which the simulation must find.
var seen = []string{"lost", "doubled", "ghost", "wrong version", "marker without state", "timer twice", "parked record lost at a move", "stale store served"}

// The tables of docs/testing.md leave out no rule, crash point, trap, planted mistake or kind of mistake, and name mutants that exist.
func TestTablesOfMutants(t *testing.T) {
	testing, design := textOf(t, "../docs/testing.md"), textOf(t, "../docs/DESIGN.md")
	for _, mistake := range mistakesIn(testing, design) {
		t.Error(mistake)
	}
	for what, broken := range map[string]string{
		"no mutant is named":   strings.Replace(testing, "`no changelog`", "`no such mutant`", 1),
		"no row of R7":         strings.Replace(testing, "| R7 | `offsets are", "| R70 | `offsets are", 1),
		"no row of a trap":     strings.Replace(testing, "| a commit takes what was polled |", "| a commit |", 1),
		"a row without a word": regexp.MustCompile(`none: there are no documents outside Kafka yet`).ReplaceAllString(testing, "none: x"),
		"no row of a mistake":  strings.Replace(testing, "| timer twice |", "| timer |", 1),
		"no crash point":       strings.ReplaceAll(testing, "| within a restore | `a chunk", "| at times | `a chunk"),
	} {
		if broken == testing || len(mistakesIn(broken, design)) == 0 {
			t.Errorf("%s: it goes unnoticed", what)
		}
	}
}

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mistakesIn holds the tables against the lists of mutants, rules, traps and crash points.
func mistakesIn(testing, design string) (mistakes []string) {
	exists := map[string]bool{}
	for _, m := range all() {
		exists[m.name] = true
	}
	var rules, points []string
	for i := range 12 {
		rules = append(rules, fmt.Sprint("R", i+1))
	}
	for _, row := range rowsOf(design, "One transaction") {
		points = append(points, row[0])
	}
	if len(points) < 12 {
		mistakes = append(mistakes, fmt.Sprintf("the crash table has %d rows", len(points)))
	}
	for chapter, keys := range map[string][]string{"Mutants of the rules": rules, "Mutants of the crash table": points, "Mutants of the traps": traps, "Mutants of S57": planted,
		"Mutants of the simulation": seen} {
		rows := rowsOf(testing, chapter)
		for _, key := range keys {
			if !slices.ContainsFunc(rows, func(row []string) bool { return row[0] == key }) {
				mistakes = append(mistakes, fmt.Sprintf("%s: there is no row %q", chapter, key))
			}
		}
		for _, row := range rows {
			mistakes = append(mistakes, mistakesOf(chapter, row, exists)...)
		}
	}
	return mistakes
}

var quoted = regexp.MustCompile("`([^`]+)`")

// mistakesOf looks at one row: it names mutants, or says why there can be none.
func mistakesOf(chapter string, row []string, exists map[string]bool) (mistakes []string) {
	names := quoted.FindAllStringSubmatch(row[len(row)-1], -1)
	reason, none := strings.CutPrefix(row[len(row)-1], "none: ")
	if len(row) != 2 || len(names) == 0 && len(strings.Fields(reason)) < 5 || !none && len(names) == 0 {
		mistakes = append(mistakes, fmt.Sprintf("%s: the row %q names no mutant and no reason", chapter, row))
	}
	for _, name := range names {
		if !exists[name[1]] {
			mistakes = append(mistakes, fmt.Sprintf("%s: there is no mutant %q", chapter, name[1]))
		}
	}
	return mistakes
}

// rowsOf reads the cells of the tables of one chapter, without their heads.
func rowsOf(text, chapter string) (rows [][]string) {
	in, body := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			in, body = strings.TrimLeft(line, "# ") == chapter, false
		case !strings.HasPrefix(line, "|"):
			body = false
		case strings.HasPrefix(line, "| ---"):
			body = true
		case in && body:
			var row []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
				row = append(row, strings.TrimSpace(cell))
			}
			rows = append(rows, row)
		}
	}
	return rows
}
