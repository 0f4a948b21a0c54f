package oncemill_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// termInText is a number of a rule, scenario, pattern or fault point, in a document or a comment.
	termInText = regexp.MustCompile(`\b(?:R(?:[1-9]|1[0-9])|S[1-9][0-9]?|P(?:[1-9]|10))\b`)
	// scenarioInName is that of a scenario in the name of a test.
	scenarioInName = regexp.MustCompile(`func \w*Test(S[1-9][0-9]?)[A-Z]`)
	termInList     = regexp.MustCompile(`(?m)\| ([RSPF][0-9]+) \|`)
)

// What comments, tests and documents refer to by a number is explained in docs/guarantees.md.
func TestEveryTermIsExplained(t *testing.T) {
	known := map[string]bool{}
	for _, m := range termInList.FindAllStringSubmatch(read(t, "docs/guarantees.md"), -1) {
		known[m[1]] = true
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return err
		}
		var terms []string
		switch filepath.Ext(path) {
		case ".md":
			terms = termInText.FindAllString(read(t, path), -1)
		case ".go":
			for line := range strings.Lines(read(t, path)) {
				if _, comment, ok := strings.Cut(line, "//"); ok {
					terms = append(terms, termInText.FindAllString(comment, -1)...)
				}
				if m := scenarioInName.FindStringSubmatch(line); m != nil {
					terms = append(terms, m[1])
				}
			}
		}
		for _, term := range terms {
			if !known[term] {
				t.Errorf("%s: %s is not explained in docs/guarantees.md", path, term)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
