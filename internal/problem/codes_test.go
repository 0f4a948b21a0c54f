package problem

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/errors.md anew")

func TestEveryCodeIsExplained(t *testing.T) {
	seen := map[Code]bool{}
	last := Code("")
	for _, e := range All() {
		if e.Title == "" || e.Cure == "" {
			t.Errorf("%s: title %q, cure %q: both are needed", e.Code, e.Title, e.Cure)
		}
		if len(e.Text) < 80 || !strings.Contains(e.Text, "Safe:") {
			t.Errorf("%s: the text must say why it happens and, after \"Safe:\", what is safe; it says %q", e.Code, e.Text)
		}
		if Group(e.Code) == "" {
			t.Errorf("%s: belongs to no group", e.Code)
		}
		if seen[e.Code] || e.Code <= last {
			t.Errorf("%s: registered twice, or not in order after %s", e.Code, last)
		}
		seen[e.Code], last = true, e.Code
	}
	for code := range details {
		if !seen[code] {
			t.Errorf("%s has details, and no entry", code)
		}
	}
}

// The document is made from the registry: go test ./internal/problem -update writes it.
func TestTheErrorsDocumentIsCurrent(t *testing.T) {
	const path = "../../docs/errors.md"
	want := document()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/errors.md is not what the registry says; run: go test ./internal/problem -update")
	}
}

func document() string {
	var b strings.Builder
	b.WriteString("# Errors\n\nMade from internal/problem by `go test ./internal/problem -update`; the same text is printed by " +
		"`oncemill help OMnnn`.\n")
	group := ""
	for _, e := range All() {
		if g := Group(e.Code); g != group {
			group = g
			fmt.Fprintf(&b, "\n## %s\n", g)
		}
		fmt.Fprintf(&b, "\n### %s: %s\n\n%s\n\nCure: %s.\n", e.Code, e.Title, strings.ReplaceAll(e.Text, "\n", "\n\n"),
			strings.TrimSuffix(e.Cure, "."))
	}
	return b.String()
}
