package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// The module that is tested: a package for each way in which tests end.
var sources = map[string]string{
	"go.mod": "module fixture\n\ngo 1.26\n",

	"pass/pass_test.go": `package pass
import ("fmt"; "testing")
func TestQuiet(t *testing.T) { fmt.Println("chatter of a test that passes"); t.Log("and its log") }
func TestProof(t *testing.T) { fmt.Print("proof: pass: 3 cases, "); fmt.Println("2 faults"); fmt.Println("not at the begin: proof: of nothing") }
func TestParallel(t *testing.T) {
	for _, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) { t.Parallel(); fmt.Println("proof: pass: parallel " + name) })
	}
}
`,
	"main/main_test.go": `package main
import ("fmt"; "testing")
func TestMain(m *testing.M) { m.Run(); fmt.Println("proof: main: printed by TestMain") }
func TestNothing(t *testing.T) {}
`,
	"bare/bare.go": "package bare\n",

	"fail/fail_test.go": `package fail
import ("fmt"; "testing")
func TestGood(t *testing.T) { fmt.Println("chatter of a good neighbour") }
func TestBad(t *testing.T) {
	fmt.Println("first words of the bad one")
	t.Run("inner", func(t *testing.T) { t.Error("what was wrong") })
	t.Run("fine", func(t *testing.T) { t.Log("a fine inner one") })
}
`,
	"panics/panics_test.go": `package panics
import "testing"
func TestBefore(t *testing.T) { t.Log("passed before") }
func TestPanics(t *testing.T) { panic("the reason of the panic") }
`,
	"exits/exits_test.go": `package exits
import ("fmt"; "os"; "testing")
func TestExits(t *testing.T) { fmt.Println("last words"); os.Exit(3) }
`,
	"hangs/hangs_test.go": `package hangs
import "testing"
func TestHangs(t *testing.T) { select {} }
func init() { go func() { for range make(chan int) {} }() }
`,
	"broken/broken.go":        "package broken\n\nfunc F() int { return missingName }\n",
	"broken/broken_test.go":   "package broken\n\nimport \"testing\"\n\nfunc TestNever(t *testing.T) { F() }\n",
	"vetted/vetted_test.go":   "package vetted\n\nimport (\"fmt\"; \"testing\")\n\nfunc TestVet(t *testing.T) { fmt.Printf(\"%d\\n\", \"a string\") }\n",
	"untidy/untidy_test.go":   "package untidy\n\nimport \"testing\"\n\nfunc TestSyntax(t *testing.T) { this is no Go }\n",
	"missing/missing.go":      "package missing\n\nimport _ \"fixture/nowhere\"\n",
	"missing/empty_test.go":   "package missing\n",
	"skipped/skipped.go":      "package skipped\n",
	"skipped/nothing_test.go": "package skipped\n",
}

// fixture runs go test -json on one package of the module, or on all of them.
func fixture(t *testing.T, pattern string) []byte {
	t.Helper()
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout", "2s", pattern)
	cmd.Dir = module()
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output() // what fails, fails in what it wrote
	if len(out) == 0 {
		t.Fatalf("go test %s wrote nothing: %v", pattern, err)
	}
	return out
}

var module = sync.OnceValue(func() string {
	for name, text := range sources {
		path := filepath.Join(moduleDir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			panic(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	return moduleDir
})

var moduleDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "testsummary")
	if err != nil {
		panic(err)
	}
	moduleDir = dir
	code := leaktest.Run(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

// summarize returns what is printed about an input, and the verdict.
func summarize(input []byte) (string, bool) {
	var out strings.Builder
	s := newSummary(&out)
	err := s.read(bytes.NewReader(input))
	ok := s.verdict(err, 0)
	return out.String(), ok
}

func TestEveryEndOfAPackage(t *testing.T) {
	for name, c := range map[string]struct {
		pattern string
		ok      bool
		has     []string
		not     []string
	}{
		"pass": {"./pass", true,
			[]string{"ok  \tfixture/pass", "\nproof: pass: 3 cases, 2 faults\n", "\nproof: pass: parallel a\n", "proof: pass: parallel c\n", "PASS: 1 packages, 6 tests, 0 failed"},
			[]string{"chatter", "its log", "of nothing", "=== "}},
		"TestMain prints":  {"./main", true, []string{"ok  \tfixture/main", "\nproof: main: printed by TestMain\n"}, nil},
		"no tests":         {"./bare", true, []string{"?   \tfixture/bare"}, nil},
		"no test function": {"./skipped", true, []string{"ok  \tfixture/skipped"}, nil},
		"fail": {"./fail", false,
			[]string{"first words of the bad one", "--- FAIL: TestBad", "--- FAIL: TestBad/inner", "fail_test.go:6: what was wrong", "FAIL\tfixture/fail", "FAIL: 1 packages, 4 tests, 2 failed, in fixture/fail"},
			[]string{"good neighbour", "a fine inner one", "=== "}},
		"panic":   {"./panics", false, []string{"the reason of the panic", "goroutine ", "FAIL\tfixture/panics"}, []string{"passed before"}},
		"exit":    {"./exits", false, []string{"last words", "FAIL\tfixture/exits"}, nil},
		"timeout": {"./hangs", false, []string{"test timed out after 2s", "TestHangs", "FAIL\tfixture/hangs"}, nil},
		"build":   {"./broken", false, []string{"undefined: missingName", "FAIL\tfixture/broken [build failed]"}, nil},
		"vet":     {"./vetted", false, []string{"wrong type string", "FAIL\tfixture/vetted [build failed]"}, nil},
		"syntax":  {"./untidy", false, []string{"untidy_test.go:5", "FAIL\tfixture/untidy"}, nil},
		"import":  {"./missing", false, []string{"fixture/nowhere", "FAIL\tfixture/missing"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := summarize(fixture(t, c.pattern))
			if ok != c.ok {
				t.Errorf("verdict %v, want %v", ok, c.ok)
			}
			for _, text := range c.has {
				if !strings.Contains("\n"+got, text) {
					t.Errorf("%q is missing", text)
				}
			}
			for _, text := range c.not {
				if strings.Contains(got, text) {
					t.Errorf("%q is shown", text)
				}
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}

// One failure among packages that pass decides, and the proofs of the others are shown.
func TestAFailureAmongOthers(t *testing.T) {
	t.Parallel()
	got, ok := summarize(fixture(t, "./..."))
	if ok || !strings.Contains(got, "\nproof: pass: 3 cases, 2 faults\n") || !strings.Contains(got, "\nFAIL: ") {
		t.Errorf("verdict %v:\n%s", ok, got)
	}
}

// An input that was cut, wherever, is no success: the go command may have been killed.
func TestACutInputIsNoSuccess(t *testing.T) {
	t.Parallel()
	input := fixture(t, "./pass")
	end := bytes.LastIndexByte(bytes.TrimSpace(input), '\n') + 1 // the last event is the end of the package
	for i := range end {
		if got, ok := summarize(input[:i]); ok {
			t.Fatalf("cut after %d of %d bytes it passes:\n%s", i, len(input), got)
		}
	}
	if got, ok := summarize(input); !ok {
		t.Errorf("whole, it fails:\n%s", got)
	}
}

func TestLinesThatAreNoEventsAreHandedOn(t *testing.T) {
	t.Parallel()
	got, ok := summarize([]byte("go: warning of some kind\n{\"no\": \"event\"}\n"))
	if ok || !strings.Contains(got, "go: warning of some kind\n{\"no\": \"event\"}\n") || !strings.Contains(got, "nothing was tested") {
		t.Errorf("verdict %v:\n%s", ok, got)
	}
}
