package streamtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms are where the tests lie that docs/testing.md names.
var rooms = map[string]string{"streamtest": ".", "root": "..", "dedup": "../dedup", "pebble": "../statestore/pebble", "kafkatest": "../kafkatest", "enumeration": "../internal/proof/enumeration",
	"simulation": "../internal/proof/simulation"}

// tableRow is a row of a table of a document: its cells without the surrounding space.
type tableRow []string

// tablesOf reads the rows of all tables of a document, by chapter, without their heads.
func tablesOf(t *testing.T, path string) map[string][]tableRow {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, chapter, body := map[string][]tableRow{}, "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			chapter, body = strings.TrimLeft(line, "# "), false
		case !strings.HasPrefix(line, "|"):
			body = false
		case strings.HasPrefix(line, "| ---"):
			body = true
		case body:
			var row tableRow
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
				row = append(row, strings.TrimSpace(cell))
			}
			rows[chapter] = append(rows[chapter], row)
		}
	}
	return rows
}

// testsIn are the names of the tests in a directory.
func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

var named = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")

// namedIn returns the tests that a cell names. A part of the cell up to a semicolon may begin with a room.
func namedIn(t *testing.T, cell string, exists map[string][]string) (tests []string) {
	t.Helper()
	for part := range strings.SplitSeq(cell, ";") {
		room := "streamtest"
		if before, _, ok := strings.Cut(part, ":"); ok {
			room = strings.TrimSpace(before)
		}
		if exists[room] == nil {
			t.Errorf("%q: there is no room %q", cell, room)
		}
		for _, m := range named.FindAllStringSubmatch(part, -1) {
			if !slices.Contains(exists[room], m[1]) {
				t.Errorf("%s has no test %s", room, m[1])
			}
			tests = append(tests, m[1])
		}
	}
	return tests
}

// covered demands that a chapter has a row whose first cell begins with a key, and that it names a test of that prefix.
func covered(t *testing.T, rows []tableRow, key, prefix string) {
	t.Helper()
	begins := regexp.MustCompile("^" + regexp.QuoteMeta(key) + `\b`)
	of := regexp.MustCompile("`" + prefix + "(?:[A-Z]|`)")
	for _, row := range rows {
		if begins.MatchString(row[0]) && (prefix == "" || of.MatchString(row[1])) {
			return
		}
	}
	t.Errorf("no row %q with a test %s...", key, prefix)
}

// The tables of docs/testing.md name tests that exist, and leave out no rule, crash point, restore or scenario.
func TestTablesOfTheDocumentation(t *testing.T) {
	exists := map[string][]string{}
	for room, dir := range rooms {
		exists[room] = testsIn(t, dir)
	}
	tables := tablesOf(t, "../docs/testing.md")
	checked := 0
	for chapter, rows := range tables {
		if chapter == "Testing" || strings.HasPrefix(chapter, "Mutants") {
			continue // the commands; what a test of mutants reads
		}
		for _, row := range rows {
			if len(row) != 2 || len(namedIn(t, row[1], exists)) == 0 {
				t.Errorf("%s: the row %q names no test", chapter, row)
			}
			checked++
		}
	}
	if checked < 90 {
		t.Errorf("only %d rows were found", checked)
	}
	for i := range 12 {
		rule := "R" + strconv.Itoa(i+1)
		covered(t, tables["Rules"], rule, "Test"+rule)
	}
	for _, s := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 52, 53, 54, 58, 59, 60} {
		scenario := "S" + strconv.Itoa(s)
		covered(t, tables["Scenarios"], scenario, "Test"+scenario)
	}
	for _, row := range tablesOf(t, "../docs/DESIGN.md")["One transaction"] {
		covered(t, tables["The crash table"], row[0], "")
	}
	if a, b := len(tables["The crash table"]), len(tablesOf(t, "../docs/DESIGN.md")["One transaction"]); a != b || a < 12 {
		t.Errorf("%d crash points have tests, docs/DESIGN.md has %d", a, b)
	}
	for _, restore := range []string{"empty changelog", "already caught up", "tail is a commit marker", "tail is an aborted batch",
		"open transaction at the tail", "start offset beyond our position", "tombstone expired", "diverged leader epoch", "kill during restore"} {
		covered(t, tables["A restore"], restore, "")
	}
}

var goTest = regexp.MustCompile("`go test (?:-tags kafka )?(?:-run (\\S+) )?\\./(\\S+?)(?: -run (?:'([^']+)'|([^` ]+)))?`")

// Each guarantee names the command that shows it, each limit the test that shows what happens at it.
func TestGuaranteesAndLimitsAreShown(t *testing.T) {
	exists := map[string][]string{}
	for room, dir := range rooms {
		exists[room] = testsIn(t, dir)
	}
	tables := tablesOf(t, "../docs/guarantees.md")
	for _, row := range tables["Limits"] {
		if len(row) != 2 || len(namedIn(t, row[1], exists)) == 0 {
			t.Errorf("the limit %q names no test", row)
		}
	}
	commands := 0
	for _, row := range tables["The command that shows it"] {
		for _, m := range goTest.FindAllStringSubmatch(row[1], -1) {
			commands++
			tests := testsIn(t, filepath.Join("..", m[2]))
			pattern, err := regexp.Compile(m[1] + m[3] + m[4])
			if err != nil || !slices.ContainsFunc(tests, pattern.MatchString) || strings.Contains(m[0], "|") { // with its escape it is no pattern
				t.Errorf("%s runs no test as it stands here (%v)", m[0], err)
			}
		}
		if !strings.Contains(row[1], "`") {
			t.Errorf("the guarantee %q names no command", row[0])
		}
	}
	if len(tables["Limits"]) < 16 || commands < 8 {
		t.Errorf("only %d limits and %d commands were found", len(tables["Limits"]), commands)
	}
}
