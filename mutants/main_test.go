package main

import (
	"bytes"
	"errors"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every mutant still fits the source: a full run takes minutes and would tell it late. What is compiled is what is written in
// the list, on as many lines as the original has.
func TestMutantsFitTheSource(t *testing.T) {
	t.Chdir("..") // where the command runs
	names := map[string]bool{}
	for _, m := range all() {
		if names[m.name] {
			t.Errorf("two mutants are named %q", m.name)
		}
		names[m.name] = true
		if m.old == m.new {
			t.Errorf("%s changes nothing", m.name)
		}
		original, changed, err := m.write(t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		source, got := read(t, original), read(t, changed)
		if want := bytes.Replace(source, []byte(m.old), []byte(m.new), 1); !slices.Equal(tokens(got), tokens(want)) {
			t.Errorf("%s: another program is compiled than the one that is listed", m.name)
		}
		if got, want := bytes.Count(got, []byte("\n")), bytes.Count(source, []byte("\n")); got != want {
			t.Errorf("%s: the file has %d lines, not %d, so everything that imports the package is compiled anew", m.name, got, want)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tokens are what a compiler sees of a source.
func tokens(source []byte) (all []string) {
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile("", -1, len(source)), source, nil, 0)
	for {
		_, tok, literal := s.Scan()
		switch tok {
		case token.EOF:
			return all
		case token.SEMICOLON: // written or not
			all = append(all, ";")
		default:
			all = append(all, tok.String()+" "+literal)
		}
	}
}

// A module whose lower package is changed; the tests are in the upper one.
var fixture = map[string]string{
	"go.mod":         "module fixture\n\ngo 1.26.0\n",
	"low/low.go":     "package low\n\nconst Limit = 7\n\nfunc Sum(n int) int {\n\tsum := 0\n\tfor i := range n {\n\t\tdefer func() { sum += 0 }()\n\t\tsum += i\n\t}\n\treturn sum\n}\n\ntype Pair struct{ A, B int }\n",
	"mid/mid.go":     "package mid\n\nimport \"fixture/low\"\n\nfunc Limit() int { return low.Limit }\n\nfunc Size(p low.Pair) int { return p.A }\n",
	"up/up.go":       "package up\n\nimport \"fixture/mid\"\n\nfunc Limit() int { return mid.Limit() }\n",
	"up/in_test.go":  "package up\n\nimport \"testing\"\n\nfunc TestInner(t *testing.T) {\n\tif Limit() != 7 {\n\t\tt.Fatal()\n\t}\n}\n",
	"up/up_test.go":  "package up_test\n\nimport (\"testing\"; \"fixture/low\"; \"fixture/up\")\n\nfunc TestLimit(t *testing.T) {\n\tif up.Limit() != low.Limit || low.Limit == 8 {\n\t\tt.Fatal()\n\t}\n}\n\nfunc TestSum(t *testing.T) {\n\tif low.Sum(4) != 6 {\n\t\tt.Fatal()\n\t}\n}\n",
	"data/data.go":   "package data\n\nimport _ \"embed\"\n\n//go:embed text\nvar Text string\n\nfunc Name() string { return \"data\" }\n",
	"data/text":      "text",
	"data/d_test.go": "package data\n\nimport \"testing\"\n\nfunc TestName(t *testing.T) {\n\tif Name() != \"data\" || Text != \"text\" {\n\t\tt.Fatal()\n\t}\n}\n",
}

func writeModule(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestTheRunnerTellsWhatBecameOfAMutant(t *testing.T) {
	writeModule(t, fixture)
	known := newTargets(defaultLimits)
	for name, c := range map[string]struct {
		mutant   mutant
		caughtBy string
		err      string
	}{
		"a body":                {mutant{file: "low/low.go", old: "sum += i", new: "sum -= i", packages: "./up", run: "Test"}, "TestSum", ""},
		"more lines":            {mutant{file: "low/low.go", old: "\t\tsum += i\n", new: "\t\tif i > 2 {\n\t\t\tcontinue\n\t\t}\n\t\tsum += i\n", packages: "./up", run: "Test"}, "TestSum", ""},
		"fewer lines":           {mutant{file: "low/low.go", old: "\t\tdefer func() { sum += 0 }()\n\t\tsum += i\n", new: "", packages: "./up", run: "Test"}, "", "not compile"},
		"what importers see":    {mutant{file: "low/low.go", old: "Limit = 7", new: "Limit = 8", packages: "./up", run: "Test"}, "TestInner", ""},
		"an external test":      {mutant{file: "low/low.go", old: "Limit = 7", new: "Limit = 8", packages: "./up", run: "TestLimit"}, "TestLimit", ""},
		"a package between":     {mutant{file: "mid/mid.go", old: "return low.Limit", new: "return low.Limit + 1", packages: "./up", run: "Test"}, "TestInner", ""},
		"no importer fits":      {mutant{file: "low/low.go", old: "struct{ A, B int }", new: "struct{ B int }", packages: "./up", run: "Test"}, "", "p.A undefined"},
		"survives":              {mutant{file: "low/low.go", old: "sum += 0", new: "sum += 1", packages: "./up", run: "Test"}, "", "survived"},
		"its test does not run": {mutant{file: "low/low.go", old: "sum += i", new: "sum -= i", packages: "./up", run: "TestLimit"}, "", "survived"},
		"no test":               {mutant{file: "low/low.go", old: "sum += i", new: "sum -= i", packages: "./up", run: "TestNothing"}, "", "no test matches"},
		"another package":       {mutant{file: "low/low.go", old: "sum += i", new: "sum -= i", packages: "./data", run: "Test"}, "", "do not depend"},
		"the second package":    {mutant{file: "low/low.go", old: "sum += i", new: "sum -= i", packages: "./low ./up", run: "Test"}, "", "has no tests"},
		"embedded files":        {mutant{file: "data/data.go", old: "return \"data\"", new: "return Text", packages: "./data", run: "Test"}, "TestName", ""},
		"twice":                 {mutant{file: "low/low.go", old: "sum", new: "s", packages: "./up", run: "Test"}, "", "times, not once"},
	} {
		t.Run(name, func(t *testing.T) {
			r := known.try(c.mutant, known.limits.tests)
			if r.caughtBy != c.caughtBy || (r.err == nil) != (c.err == "") || r.err != nil && !strings.Contains(r.err.Error(), c.err) {
				t.Errorf("caught by %q, error %v; want %q, %q", r.caughtBy, r.err, c.caughtBy, c.err)
			}
			if errors.Is(r.err, errBuild) {
				t.Error("what does not compile was not left to the go command to judge")
			}
		})
	}
}

// slow has a test that ends, with a mutant that it survives, one that makes it hang, and one that it fails before it hangs.
var slow = map[string]string{
	"go.mod": "module slow\n\ngo 1.26.0\n",
	"s.go":   "package slow\n\nconst Name = \"a\"\n\nconst More = 0\n",
	"s_test.go": "package slow\n\nimport (\"testing\"; \"time\")\n\n" +
		"func TestFirst(t *testing.T) {\n\tif Name == \"c\" {\n\t\tt.Error()\n\t}\n}\n\n" +
		"func TestSlow(t *testing.T) {\n\tfor began := time.Now(); time.Since(began) < 2*time.Second; began = began.Add(More) {\n\t}\n}\n",
}

// Tests that are cut off beside others say nothing; a build that is cut off never says anything.
func TestOnlyTestsThatHangAloneHaveCaughtAMutant(t *testing.T) {
	writeModule(t, slow)
	known := newTargets(limits{build: time.Minute, tests: 500 * time.Millisecond, alone: 8 * time.Second, grace: time.Second})
	survivor := mutant{file: "s.go", old: `"a"`, new: `"b"`, packages: ".", run: "Test"}
	hanging := mutant{file: "s.go", old: "More = 0", new: "More = 1e9", packages: ".", run: "Test"}
	failing := mutant{file: "s.go", old: `"a"`, new: `"c"`, packages: ".", run: "TestFirst"}
	for name, m := range map[string]mutant{"a survivor": survivor, "hangs": hanging} {
		if r := known.try(m, known.limits.tests); !errors.Is(r.err, errHung) || r.hung != "TestSlow" || r.caughtBy != "" {
			t.Errorf("%s, cut off: hung %q, caught by %q, error %v", name, r.hung, r.caughtBy, r.err)
		}
	}
	if r := known.tryAlone(survivor, result{took: time.Hour}); !errors.Is(r.err, errSurvived) || r.took < time.Hour {
		t.Errorf("the survivor, alone: caught by %q, error %v, took %v", r.caughtBy, r.err, r.took)
	}
	if r := known.tryAlone(hanging, result{}); r.err != nil || r.caughtBy != "(hangs, also alone) TestSlow" {
		t.Errorf("hangs, also alone: caught by %q, error %v", r.caughtBy, r.err)
	}
	if r := known.try(failing, known.limits.tests); r.err != nil || r.caughtBy != "TestFirst" {
		t.Errorf("fails: caught by %q, error %v", r.caughtBy, r.err)
	}
	known.limits.build = time.Millisecond
	if r := known.tryAlone(hanging, result{}); r.err == nil || r.caughtBy != "" || !strings.Contains(r.err.Error(), "build did not end") {
		t.Errorf("a build that is cut off: caught by %q, error %v", r.caughtBy, r.err)
	}
}

// What a test prints before its timeout ends it does not change what became of it.
func TestJudge(t *testing.T) {
	failed, expired := errors.New("exit status 2"), errors.New("deadline")
	timeout := "panic: test timed out after 1m0s\n\trunning tests:\n\t\tTestSlow/case (1m0s)\n"
	for name, c := range map[string]struct {
		out            string
		err, expired   error
		caughtBy, hung string
		want           error
	}{
		"passes":                {"PASS\n", nil, nil, "", "", errSurvived},
		"fails":                 {"--- FAIL: TestA (0.1s)\nFAIL\n", failed, nil, "TestA", "", nil},
		"times out":             {timeout, failed, nil, "", "TestSlow/case", errHung},
		"does not even do that": {"", failed, expired, "", "(its timeout did not end it)", errHung},
		"fails, then times out": {"--- FAIL: TestA (0.1s)\n" + timeout, failed, nil, "TestA", "", nil},
		"panics":                {"panic: broken\n\ngoroutine 1", failed, nil, "panic: broken", "", nil},
	} {
		caughtBy, hung, err := judge([]byte(c.out), c.err, c.expired)
		if caughtBy != c.caughtBy || hung != c.hung || !errors.Is(err, c.want) {
			t.Errorf("%s: caught by %q, hung %q, error %v", name, caughtBy, hung, err)
		}
	}
	if _, _, err := judge(nil, failed, nil); err == nil || errors.Is(err, errHung) || errors.Is(err, errSurvived) {
		t.Errorf("an end without a word: %v", err)
	}
}
