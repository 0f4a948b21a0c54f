package oncemill_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func tempDir() (dir string, clean func()) {
	dir, err := os.MkdirTemp("", "oncemill-example")
	if err != nil {
		panic(err)
	}
	return filepath.Join(dir, "state"), func() { _ = os.RemoveAll(dir) }
}

var fence = regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```")

// The program in the README is the one that Example runs.
func TestReadmeProgramIsTheExample(t *testing.T) {
	example := read(t, "example_test.go")
	_, rest, ok1 := strings.Cut(example, "// README begin\n")
	program, _, ok2 := strings.Cut(rest, "\n// README end")
	if !ok1 || !ok2 {
		t.Fatal("example_test.go has lost its marks")
	}
	for _, block := range blocks(t, "go") {
		if strings.TrimSpace(block) != strings.TrimSpace(program) {
			t.Errorf("a Go block of the README differs from example_test.go:\n%s", block)
		}
	}
}

// Commands of the README are run by the gate.
func TestReadmeCommandsAreRun(t *testing.T) {
	ran := read(t, ".ci/run")
	known := []string{"docker compose up --build demo"} // needs a Docker engine: compose_test.go reads its files
	for _, block := range blocks(t, "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
			line = strings.TrimSpace(line)
			if line == "" || slices.Contains(known, line) {
				continue
			}
			if !strings.Contains(ran, strings.TrimPrefix(line, "go run ./cmd/")) {
				t.Errorf("nothing runs this command of the README: %s", line)
			}
		}
	}
}

func blocks(t *testing.T, language string) []string {
	t.Helper()
	var out []string
	for _, m := range fence.FindAllStringSubmatch(read(t, "README.md"), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	if len(out) == 0 {
		t.Fatalf("the README has no %s block", language)
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
