// Package lint holds the lines between the rooms, as tests.
package lint

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/oncemill/oncemill"

// rule says who may import what. Test files are free.
type rule struct {
	imports string // prefix of the import path
	only    []string
	why     string
}

var rules = []rule{
	{"github.com/twmb/franz-go/pkg/kgo", []string{".", "streamtest", "cli", "benchmarks", "kafkatest", "examples", "internal/embedded", "internal/guest", "internal/logtail", "internal/verify", "internal/proof"},
		"Kafka's client is hidden behind the session; the core and the stores are tested without a broker"},
	{"github.com/twmb/franz-go/pkg/kfake", []string{"streamtest", "internal/embedded"},
		"the embedded broker is for development and tests"},
	{"github.com/cockroachdb/pebble", []string{"statestore/pebble", "streamtest", "benchmarks", "internal/crashfs"},
		"everything else knows the engine by its interface"},
	{"github.com/prometheus", []string{"metrics/prometheus"}, "metrics are plain events; exporters are optional"},
	{"github.com/spf13/cobra", []string{"cli", "cmd"}, "the library does not depend on its command line"},
	{module + "/kafkatest", []string{"kafkatest", "cli"}, "what runs a Kafka is for tests and benchmarks"},
	{"github.com/tidwall/btree", []string{"internal/delta", "statestore/memory"}, "one ordered table, one place"},
}

// core may not import these: it has no goroutine, lock, log or client.
var pure = map[string][]string{
	"internal/task": {"sync", "log", "log/slog", "github.com/twmb/franz-go", "os", "net"},
	"dedup":         {"sync", "log", "log/slog", "github.com/twmb/franz-go", "os", "net"},
	"record":        {"sync", "log", "log/slog", "github.com/twmb/franz-go", "os", "net"},
}

// layers lists the rooms from the bottom up; an import may only point down or stay within.
var layers = [][]string{
	{"record", "serde", "metrics", "internal/problem", "internal/invariants", "internal/step", "internal/murmur"},
	{"internal/delta"},
	{"statestore"},
	{"dedup", "internal/host"},
	{"processor"},
	{"internal/graph"},
	{"topology"},
}

func TestImportsPointDown(t *testing.T) {
	level := map[string]int{}
	for i, names := range layers {
		for _, n := range names {
			level[n] = i
		}
	}
	eachImport(t, func(file, room, path string) {
		target, ours := strings.CutPrefix(path, module+"/")
		from, known := level[room]
		to, ranked := level[target]
		if ours && known && ranked && to > from {
			t.Errorf("%s: %s imports %s, which lies above it", file, room, target)
		}
		if ours && known && !ranked && !strings.HasPrefix(target, room) {
			t.Errorf("%s: %s imports %s, which lies above it", file, room, target)
		}
		if path == module && known {
			t.Errorf("%s: %s imports the root package", file, room)
		}
	})
}

func TestClientsStayInTheirRooms(t *testing.T) {
	eachImport(t, func(file, room, path string) {
		for _, r := range rules {
			if !strings.HasPrefix(path, r.imports) {
				continue
			}
			if !slices.ContainsFunc(r.only, func(allowed string) bool { return room == allowed || strings.HasPrefix(room, allowed+"/") }) {
				t.Errorf("%s imports %s: %s", file, path, r.why)
			}
		}
	})
}

func TestTheCoreIsPure(t *testing.T) {
	seen := map[string]bool{}
	eachImport(t, func(file, room, path string) {
		forbidden, core := pure[room]
		seen[room] = seen[room] || core
		for _, f := range forbidden {
			if path == f || strings.HasPrefix(path, f+"/") && strings.Contains(f, ".") {
				t.Errorf("%s imports %s: the core has no clock, goroutine, lock, log or client", file, path)
			}
		}
	})
	for room := range pure {
		if !seen[room] {
			t.Errorf("%s was not looked at", room)
		}
	}
}

func TestTheJudgeSharesNothingWithTheEngine(t *testing.T) {
	const judge = "internal/proof/judge"
	seen := false
	eachImport(t, func(file, room, path string) {
		target, ours := strings.CutPrefix(path, module+"/")
		seen = seen || room == judge
		if room == judge && ours && target != "record" && target != "internal/proof" {
			t.Errorf("%s imports %s: the judge computes and decodes by itself", file, path)
		}
	})
	if !seen {
		t.Errorf("%s was not looked at", judge)
	}
}

func TestNoSleepsSkipsOrUnfinishedWork(t *testing.T) {
	forbidden := []struct {
		pattern   *regexp.Regexp
		testsOnly bool
		why       string
	}{
		{regexp.MustCompile(`time\.` + `Sleep\(`), true, "wait for a condition, or use virtual time"},
		{regexp.MustCompile(`\bt\.` + `Skip(f|Now)?\(`), true, "a test that does not run proves nothing"},
		{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`), false, "finish it, or write an issue"},
	}
	eachFile(t, func(path string) {
		for _, f := range forbidden {
			if f.testsOnly && !strings.HasSuffix(path, "_test.go") {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if at := f.pattern.FindIndex(b); at != nil {
				t.Errorf("%s:%d contains %q: %s", path, 1+strings.Count(string(b[:at[0]]), "\n"), b[at[0]:at[1]], f.why)
			}
		}
	})
}

func TestFilesAreNotTooLong(t *testing.T) {
	const hard = 600
	eachFile(t, func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > hard && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines, more than %d: split it by idea", path, n, hard)
		}
	})
}

const root = "../.."

func eachFile(t *testing.T, fn func(path string)) {
	t.Helper()
	eachNamed(t, ".go", fn)
}

// eachNamed calls fn with each file whose name ends so.
func eachNamed(t *testing.T, suffix string, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && path != root || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, suffix) {
			fn(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func eachImport(t *testing.T, fn func(file, room, path string)) {
	t.Helper()
	files := 0
	eachFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		room, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			fn(path, filepath.ToSlash(room), imported)
		}
	})
	if files < 50 {
		t.Fatalf("only %d files were looked at", files)
	}
}
