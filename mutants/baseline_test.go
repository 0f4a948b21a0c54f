package main

import (
	"errors"
	"strings"
	"testing"
)

// A module with tests that pass, fail, panic, fail below one that passes, and that do not compile.
var half = map[string]string{
	"go.mod": "module half\n\ngo 1.26.0\n",
	"a/a.go": "package a\n\nconst Name = \"a\"\n",
	"a/a_test.go": "package a\n\nimport \"testing\"\n\n" +
		"func TestGreen(t *testing.T) {\n\tfor _, name := range []string{\"one\", \"two\"} {\n\t\tt.Run(name, func(t *testing.T) {})\n\t}\n}\n\n" +
		"func TestRed(t *testing.T) {\n\tt.Error()\n}\n\n" +
		"func TestGroup(t *testing.T) {\n\tt.Run(\"good\", func(t *testing.T) {})\n\tt.Run(\"bad\", func(t *testing.T) { t.Error() })\n}\n\n" +
		"func TestBroken(t *testing.T) {\n\tt.Run(\"good\", func(t *testing.T) {})\n\tt.Error()\n}\n\n" +
		"func TestSkipped(t *testing.T) {\n\tt.Skip()\n}\n",
	"panics/p_test.go":   "package panics\n\nimport \"testing\"\n\nfunc TestFirst(t *testing.T) {}\n\nfunc TestPanics(t *testing.T) { panic(1) }\n\nfunc TestNever(t *testing.T) {}\n",
	"wrong/w_test.go":    "package wrong\n\nimport \"testing\"\n\nfunc TestWrong(t *testing.T) { undefined() }\n",
	"tagged/t.go":        "package tagged\n",
	"tagged/t_test.go":   "package tagged\n\nimport \"testing\"\n\nfunc TestPlain(t *testing.T) {}\n",
	"tagged/tag_test.go": "//go:build extra\n\npackage tagged\n\nimport \"testing\"\n\nfunc TestTagged(t *testing.T) {}\n",
}

// A mutant proves something only if its tests pass without it, whether all tests run or those that are named.
func TestMutantsWhoseTestsFailAnyhowAreTold(t *testing.T) {
	writeModule(t, half)
	cases := map[string]struct{ packages, run, err string }{
		"passes":                             {"./a", "TestGreen", ""},
		"a part passes":                      {"./a", "TestGreen/two", ""},
		"no part of it":                      {"./a", "TestGreen/three", "no test matches"},
		"nothing":                            {"./a", "TestNothing", "no test matches"},
		"fails":                              {"./a", "TestRed", "TestRed fails anyhow"},
		"one of two fails":                   {"./a", "TestGreen|TestRed", "TestRed fails anyhow"},
		"a part fails":                       {"./a", "TestGroup", "fails anyhow"},
		"another part fails":                 {"./a", "TestGroup/good", ""},
		"what is above a part fails":         {"./a", "TestBroken/good", "TestBroken fails anyhow"},
		"is skipped":                         {"./a", "TestSkipped", "no test matches"},
		"panics":                             {"./panics", "TestPanics", "TestPanics fails anyhow"},
		"does not compile":                   {"./wrong", "TestWrong", "undefined: undefined"},
		"one of two packages has nothing":    {"./a ./tagged", "TestGreen", "./tagged: no test matches"},
		"needs a flag":                       {"./tagged", "TestTagged", "no test matches"},
		"has its flag":                       {"-tags=extra ./tagged", "TestTagged", ""},
		"alternatives in brackets are parts": {"./a", "Test(Green|Group)/(one|good)", ""},
	}
	var all []mutant
	for _, c := range cases {
		all = append(all, mutant{packages: c.packages, run: c.run})
	}
	whole, err := newBaseline(all, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		m := mutant{packages: c.packages, run: c.run}
		named, err := newBaseline([]mutant{m}, false)
		if err != nil {
			t.Fatal(err)
		}
		for how, b := range map[string]baseline{"all tests": whole, "its tests": named} {
			err := b.sound(m)
			if (err == nil) != (c.err == "") || err != nil && (!errors.Is(err, errBaseline) || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s, of %s: %v; want %q", name, how, err, c.err)
			}
		}
	}
	if err := (baseline{}).sound(mutant{packages: "./a", run: "("}); err == nil {
		t.Error("a pattern that is none is taken")
	}
}
