// Command fuzzall runs every fuzz target of the module for some seconds:
//
//	go run ./internal/fuzzall                 10 s each
//	go run ./internal/fuzzall -each 5m        longer
//	go run ./internal/fuzzall -run Marker     those whose name contains "Marker"
//
// go test fuzzes one target of one package at a time; this builds the tests of each package once and runs as many targets at a time as
// there are processors, each on one. Inputs that fail are kept in testdata/fuzz of the package, as by go test. It ends with status 1 if a
// target fails, or executes nothing.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is a fuzz function.
type target struct{ dir, name string }

type result struct {
	target target
	execs  int
	err    error
}

func main() {
	each := flag.Duration("each", 10*time.Second, "how long each target runs")
	parallel := flag.Int("parallel", runtime.NumCPU(), "targets at a time")
	only := flag.String("run", "", "only targets whose name contains this")
	flag.Parse()
	began := time.Now()
	results, err := run(context.Background(), ".", *only, *each, *parallel)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
	execs, failed := 0, 0
	for _, r := range results {
		execs += r.execs
		if r.err != nil {
			failed++
		}
	}
	fmt.Printf("proof: fuzzing: %d targets, %v each, %d executions, %d failed, in %.0f s\n", len(results), *each, execs, failed, time.Since(began).Seconds())
	if failed > 0 {
		os.Exit(1)
	}
}

// run fuzzes all targets below a directory.
func run(ctx context.Context, root, only string, each time.Duration, parallel int) ([]result, error) {
	targets, err := find(root, only)
	if err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		return nil, errors.New("there is no such target")
	}
	scratch, err := os.MkdirTemp("", "fuzzall")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	binaries := map[string]func() (string, error){}
	for i, t := range targets {
		if binaries[t.dir] == nil {
			out := filepath.Join(scratch, strconv.Itoa(i)+".test")
			binaries[t.dir] = sync.OnceValues(func() (string, error) { return out, build(ctx, t.dir, out) })
		}
	}
	results := make([]result, len(targets))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := &results[i]
			r.target = t
			var binary string
			if binary, r.err = binaries[t.dir](); r.err == nil {
				r.execs, r.err = fuzz(ctx, t, binary, filepath.Join(scratch, "cache", strconv.Itoa(i)), each)
			}
			if r.err != nil {
				fmt.Printf("FAIL  %s in %s: %v\n", t.name, t.dir, r.err)
				return
			}
			fmt.Printf("ok    %-40s %10d executions\n", t.name, r.execs)
		})
	}
	wg.Wait()
	return results, nil
}

// find returns the fuzz functions of all packages below a directory.
func find(root, only string) (targets []target, _ error) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") && strings.Contains(f.Name.Name, only) {
				targets = append(targets, target{filepath.Dir(path), f.Name.Name})
			}
		}
		return nil
	})
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.dir+"/"+a.name, b.dir+"/"+b.name) })
	return targets, err
}

// build compiles the tests of a package, with what guides the search.
func build(ctx context.Context, dir, out string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=.", "-vet=off", "-o", out, ".")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("it does not compile: %w\n%s", err, text)
	}
	return nil
}

var executed = regexp.MustCompile(`execs: (\d+)`)

// fuzz runs one target, and returns how many inputs were executed.
func fuzz(ctx context.Context, t target, binary, cache string, each time.Duration) (execs int, _ error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*each+2*time.Minute)
	defer cancel()
	// Inputs are minimized by executions, not for a time: one that is still being minimized when the time is over fails the target.
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+each.String(),
		"-test.fuzzcachedir="+cache, "-test.parallel=1", "-test.fuzzminimizetime=20x")
	cmd.Dir, cmd.WaitDelay = t.dir, time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, tail(out))
	}
	for _, m := range executed.FindAllSubmatch(out, -1) {
		if execs, err = strconv.Atoi(string(m[1])); err != nil {
			return 0, err
		}
	}
	if execs == 0 {
		return 0, fmt.Errorf("nothing was executed\n%s", tail(out))
	}
	return execs, nil
}

// tail is the end of an output: a failure is told last.
func tail(out []byte) []byte {
	const most = 8 << 10
	return bytes.TrimSpace(out[max(0, len(out)-most):])
}
