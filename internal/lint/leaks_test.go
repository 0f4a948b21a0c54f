package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every package with tests looks for what they leave behind.
func TestEveryPackageLooksForLeaks(t *testing.T) {
	found := map[string]bool{} // of each directory with tests: whether its TestMain calls leaktest
	eachFile(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		found[dir] = found[dir] || callsLeaktest(t, path, nil)
	})
	if len(found) < 40 {
		t.Fatalf("only %d packages with tests", len(found))
	}
	delete(found, root+"/internal/leaktest")
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		if !found[dir] {
			t.Errorf("%s has tests and no TestMain that looks for leaks: func TestMain(m *testing.M) { leaktest.Main(m) }", dir)
		}
	}
}

// callsLeaktest says whether a file has a TestMain that calls Main or Run of leaktest.
func callsLeaktest(t *testing.T, path string, source any) (calls bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "TestMain" && f.Recv == nil {
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "Main" || s.Sel.Name == "Run") {
					x, ok := s.X.(*ast.Ident)
					calls = calls || ok && x.Name == "leaktest"
				}
				return true
			})
		}
	}
	return calls
}

func TestATestMainWithoutLeaktestIsFound(t *testing.T) {
	for source, want := range map[string]bool{
		"package p; func TestMain(m *testing.M) { leaktest.Main(m) }":          true,
		"package p; func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }":  true,
		"package p; func TestMain(m *testing.M) { os.Exit(m.Run()) }":          false,
		"package p; func TestOther(t *testing.T) { leaktest.Heap(t, 1, nil) }": false,
	} {
		if callsLeaktest(t, "a_test.go", source) != want {
			t.Errorf("%s: want %v", source, want)
		}
	}
}
