// Command mutants shows that the suite can fail. A mutant is a changed copy of one source file that the go command puts in the
// place of the original with -overlay, so that production code carries no switch. Each must be caught by a test.
//
//	go run ./mutants              all
//	go run ./mutants -run name    those whose name contains "name"
//
// It prints mutant, the test that caught it, and the time to catch, and ends with status 1 if one survives, does not
// compile, or no longer fits the source.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is one change that the suite has to notice.
type mutant struct {
	name string
	// file is changed: old, which must occur exactly once, becomes new.
	file, old, new string
	// packages and run are given to go test.
	packages, run string
}

// A mutant may make the suite hang, which counts as caught: go test then names the tests that run. limit is for what go test
// itself does not end.
const (
	testLimit = 90 * time.Second
	limit     = 4 * time.Minute
)

type result struct {
	mutant   mutant
	caughtBy string
	took     time.Duration
	err      error
}

func main() {
	run := flag.String("run", "", "only mutants whose name contains this")
	parallel := flag.Int("parallel", runtime.NumCPU(), "mutants at a time")
	flag.Parse()
	var chosen []mutant
	for _, m := range slices.Concat(mutants, verifyMutants, restoreMutants) {
		if strings.Contains(m.name, *run) {
			chosen = append(chosen, m)
		}
	}
	results := make([]result, len(chosen))
	slots := make(chan struct{}, *parallel)
	var wg sync.WaitGroup
	for i, m := range chosen {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = try(m)
			print(results[i])
		})
	}
	wg.Wait()
	failed := 0
	for _, r := range results {
		if r.err != nil {
			failed++
		}
	}
	fmt.Printf("%d mutants, %d caught, %d not\n", len(results), len(results)-failed, failed)
	if failed > 0 || len(results) == 0 {
		os.Exit(1)
	}
}

func print(r result) {
	if r.err != nil {
		fmt.Printf("NOT CAUGHT  %-50s %v\n", r.mutant.name, r.err)
		return
	}
	fmt.Printf("caught      %-50s %6.1f s  %s\n", r.mutant.name, r.took.Seconds(), r.caughtBy)
}

// try runs the tests of one mutant.
func try(m mutant) (r result) {
	r.mutant = m
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return result{mutant: m, err: err}
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir)
	if err != nil {
		return result{mutant: m, err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-count=1", "-failfast", "-vet=off", "-ldflags=-s -w", "-timeout", testLimit.String(), "-run", m.run}, strings.Fields(m.packages)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	r.caughtBy, r.err = judge(out, err, ctx.Err())
	return r
}

// overlay writes the changed file and the overlay that names it.
func (m *mutant) overlay(dir string) (string, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(source, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("%s holds the text to change %d times, not once: bring the mutant up to date", m.file, n)
	}
	changed := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(changed, bytes.Replace(source, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

var (
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	hungTest   = regexp.MustCompile(`panic: test timed out after \S+\s+running tests:\s+(\S+)`)
)

// judge reads the output of go test: a test has to fail, not the build.
func judge(out []byte, err, expired error) (caughtBy string, _ error) {
	text := string(out)
	switch {
	case strings.Contains(text, "[build failed]"), strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("it does not compile:\n%s", text)
	case strings.Contains(text, "no tests to run"):
		return "", errors.New("no test matches its pattern")
	case err == nil:
		return "", errors.New("it survived")
	case expired != nil:
		return fmt.Sprintf("(hangs: %v)", expired), nil
	}
	if m := hungTest.FindStringSubmatch(text); m != nil {
		return "(hangs) " + m[1], nil
	}
	if m := failedTest.FindStringSubmatch(text); m != nil {
		return m[1], nil
	}
	if i := strings.Index(text, "panic:"); i >= 0 {
		line, _, _ := strings.Cut(text[i:], "\n")
		return line, nil
	}
	return "", fmt.Errorf("go test failed without a failing test:\n%s", text)
}
