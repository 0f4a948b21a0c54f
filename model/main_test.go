package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What verifiers said, as recorded.
func TestReportsAreRead(t *testing.T) {
	for name, want := range map[string]report{
		"complete.txt": {States: 6695103, Depth: 75, Megabytes: 1077.961, Complete: true},
		"violated.txt": {States: 3394, Depth: 43, Violated: "I4_restored_state_is_the_committed_one"},
		"cycle.txt":    {Violated: "non-progress cycle"},
		"depth.txt":    {Why: "max search depth too small"},
		"memory.txt":   {Why: "reached -DMEMLIM bound"},
	} {
		got, err := parseReport(read(t, filepath.Join("testdata", name)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Violated != want.Violated || got.Complete != want.Complete || want.States != 0 && got.States != want.States || want.Depth != 0 && got.Depth != want.Depth ||
			want.Megabytes != 0 && got.Megabytes != want.Megabytes || want.Why != "" && got.Why != want.Why {
			t.Errorf("%s is read as %+v, want %+v", name, got, want)
		}
	}
	if _, err := parseReport("Segmentation fault"); err == nil {
		t.Error("something else is read as a report")
	}
	bits := strings.Replace(read(t, "testdata/complete.txt"), "Full statespace search", "Bit statespace search", 1)
	if got, err := parseReport(bits); err != nil || got.Complete {
		t.Errorf("a search that is not full is taken for one: %+v, %v", got, err)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		wrong string
		report
		ok bool
	}{
		{"", report{Complete: true}, true},
		{"", report{Why: "aborting"}, false},
		{"", report{Violated: "I1"}, false},
		{"STORE_FIRST", report{Violated: "I1"}, true},
		{"STORE_FIRST", report{Complete: true}, false},
		{"STORE_FIRST", report{Why: "aborting"}, false},
	} {
		res := result{report: c.report}
		if text, ok := res.verdict(run{wrong: c.wrong}); ok != c.ok {
			t.Errorf("%+v: %q, %v", c, text, ok)
		}
	}
}

// notSwitches are names that the sources test, and that make no protocol wrong.
var notSwitches = []string{"LEMMAS", "STATELESS", "OLD_TRANSACTIONS", "LATE_INGEST", "DECIDED_COMMITTED", "WRONG_STEPS"}

var tested = regexp.MustCompile(`(?m)^#\s*(?:ifdef|ifndef)\s+(\w+)|defined\((\w+)\)`)

func TestEachSwitchHasARunThatMustFail(t *testing.T) {
	var sizes sizes
	known, used := map[string]bool{}, map[string]bool{}
	for _, r := range wrongRuns {
		known[r.wrong] = true
	}
	for _, file := range promela(t) {
		for _, m := range tested.FindAllStringSubmatch(read(t, file), -1) {
			name := m[1] + m[2]
			used[name] = true
			if _, size := sizes.byName()[name]; !size && !known[name] && !slices.Contains(notSwitches, name) {
				t.Errorf("%s tests %s, and no run of the table has it", file, name)
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("the table has %s, which the sources do not know", name)
		}
	}
	for _, name := range notSwitches {
		if !used[name] {
			t.Errorf("%s is not used", name)
		}
	}
	for _, r := range slices.Concat(shortRuns, fullRuns) {
		if r.wrong != "" {
			t.Errorf("%s is not of the right protocol", r.name)
		}
	}
}

var (
	inline = regexp.MustCompile(`(?m)^inline (\w+)\(`)
	row    = regexp.MustCompile("(?m)^\\| `(\\w+)` \\|[^|]*\\| (.*) \\|$")
	code   = regexp.MustCompile("`([^`]+)`")
)

// Each step of a worker and of the store is in the table of docs/model.md, and what it names there exists in the code.
func TestTheMapNamesWhatExists(t *testing.T) {
	functions := functionsIn(t, "..", "../statestore", "../internal/task")
	mapped := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/model.md"), -1) {
		mapped[m[1]] = true
		names := code.FindAllStringSubmatch(m[2], -1)
		if len(names) == 0 {
			t.Errorf("step %s names no function", m[1])
		}
		for _, name := range names {
			if !functions[name[1]] {
				t.Errorf("step %s names %s, which does not exist", m[1], name[1])
			}
		}
	}
	steps := map[string]bool{}
	for _, file := range []string{"worker.pml", "store.pml"} {
		for _, m := range inline.FindAllStringSubmatch(read(t, file), -1) {
			steps[m[1]] = true
			if !mapped[m[1]] {
				t.Errorf("%s: step %s is not in docs/model.md", file, m[1])
			}
		}
	}
	for name := range mapped {
		if !steps[name] {
			t.Errorf("docs/model.md maps %s, which is no step", name)
		}
	}
}

func TestEachRunIsInTheDocument(t *testing.T) {
	text := read(t, "../docs/model.md")
	for _, r := range wrongRuns {
		if !strings.Contains(text, "`"+r.wrong+"`") {
			t.Errorf("docs/model.md does not name %s", r.wrong)
		}
	}
}

// functionsIn are the names of functions and methods, as f and T.f.
func functionsIn(t *testing.T, dirs ...string) map[string]bool {
	names := map[string]bool{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					names[receiver(fn)+fn.Name.Name] = true
				}
			}
		}
	}
	if len(names) < 100 {
		t.Fatalf("only %d functions were found", len(names))
	}
	return names
}

func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if name, ok := typ.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

func promela(t *testing.T) []string {
	files, err := filepath.Glob("*.pml")
	if err != nil || len(files) == 0 {
		t.Fatal("no sources", err)
	}
	return files
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
