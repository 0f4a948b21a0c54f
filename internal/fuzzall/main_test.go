package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var fixture = map[string]string{
	"go.mod":           "module fixture\n\ngo 1.26.0\n",
	"good/a_test.go":   "package good\n\nimport \"testing\"\n\nfunc FuzzFine(f *testing.F) {\n\tf.Add(1)\n\tf.Fuzz(func(t *testing.T, n int) {})\n}\n",
	"bad/a_test.go":    "package bad\n\nimport \"testing\"\n\nfunc FuzzWrong(f *testing.F) {\n\tf.Add(1)\n\tf.Fuzz(func(t *testing.T, n int) {\n\t\tif n != 1 {\n\t\t\tt.Error(\"not one\")\n\t\t}\n\t})\n}\n",
	"broken/a_test.go": "package broken\n\nimport \"testing\"\n\nfunc FuzzBroken(f *testing.F) { missing() }\n",
}

func TestTargetsAreFoundAndRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range fixture {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	results, err := run(context.Background(), dir, "", time.Second, 2)
	if err != nil || len(results) != 3 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, want := range []string{"not one", "undefined: missing", ""} {
		r := results[i]
		if want == "" && (r.err != nil || r.execs == 0) || want != "" && (r.err == nil || !strings.Contains(r.err.Error(), want)) {
			t.Errorf("%s: %d executions, %v; want %q", r.target.name, r.execs, r.err, want)
		}
	}
	if _, err := run(context.Background(), dir, "Nowhere", time.Second, 2); err == nil {
		t.Error("no target at all is a success")
	}
}
