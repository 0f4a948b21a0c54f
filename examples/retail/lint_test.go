package retail

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// The judge's answer is worth something only as long as it is a second one: a bug in the business code that the judge
// shared would be invisible to it.
func TestTheJudgeSharesNoCodeWithTheModel(t *testing.T) {
	model := functions(t, "model.go")
	if !model["Book"] || !model["Add"] {
		t.Fatalf("model.go declares %v: the test looks for the wrong functions", model)
	}
	for _, file := range []string{"judge.go", "expect.go", "observe.go", "verdict.go"} {
		ast.Inspect(parse(t, file), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && model[nameOf(call.Fun)] {
				t.Errorf("%s calls %s of model.go", file, nameOf(call.Fun))
			}
			return true
		})
	}
}

// Pattern P1: domain code compiles with no messaging type in scope.
func TestTheModelKnowsNoMessaging(t *testing.T) {
	for _, file := range []string{"model.go", "line.go", "money.go"} {
		for _, imported := range parse(t, file).Imports {
			switch imported.Path.Value {
			case `"errors"`, `"fmt"`, `"strconv"`, `"strings"`:
			default:
				t.Errorf("%s imports %s", file, imported.Path.Value)
			}
		}
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func functions(t *testing.T, file string) map[string]bool {
	names := make(map[string]bool)
	for _, d := range parse(t, file).Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			names[f.Name.Name] = true
		}
	}
	return names
}

func nameOf(called ast.Expr) string {
	switch f := called.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}
