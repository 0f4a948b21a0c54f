package lint

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// A bar within code ends a cell of a table in Markdown as well, unless it is escaped.
func TestTablesKeepTheirCells(t *testing.T) {
	bar := regexp.MustCompile(`[^\\]\|`)
	checked := 0
	eachNamed(t, ".md", func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cells, fenced := 0, false
		for i, line := range strings.Split(string(b), "\n") {
			fenced = fenced != strings.HasPrefix(line, "```")
			if fenced || !strings.HasPrefix(line, "|") {
				cells = 0
				continue
			}
			n := len(bar.FindAllString(line, -1))
			if cells != 0 && n != cells {
				t.Errorf("%s:%d has %d cells, the row above %d", path, i+1, n, cells)
			}
			if cells == 0 {
				cells = n
			}
			checked++
		}
	})
	if checked < 100 {
		t.Errorf("%d rows were found", checked)
	}
}
