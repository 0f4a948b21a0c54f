// Command mutants shows that the suite can fail. A mutant is a changed copy of one source file that the tests are built
// with in the place of the original (build.go says how), so that production code carries no switch. Each must be caught by a test.
//
//	go run ./mutants              all
//	go run ./mutants -run name    those whose name contains "name"
//
// It prints mutant, the test that caught it, and the time to catch, and ends with status 1 if one survives, does not
// compile, or no longer fits the source, or if its tests fail without it, too (baseline.go). Tests that hang have caught a mutant only if
// they hang again when nothing else runs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/scanner"
	"go/token"
	"hash/fnv"
	"math/rand/v2"
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
	// packages and run are given to go test; flags of a package stand before it.
	packages, run string
}

// limits end what hangs. The first run of a mutant's tests may be cut off early, as it says nothing: beside others, slow tests
// that a mutant survives look like tests that hang. What then hangs alone, for longer, is caught. A build that does not end
// is a failure of this program, never a catch.
type limits struct {
	build, tests, alone time.Duration
	grace               time.Duration // for tests that their own timeout does not end
}

var defaultLimits = limits{build: 10 * time.Minute, tests: time.Minute, alone: 90 * time.Second, grace: 20 * time.Second}

type result struct {
	mutant   mutant
	caughtBy string
	// built is the part of took that was spent on the test binary.
	built, took time.Duration
	// hung is the test that did not end, with errHung.
	hung string
	err  error
	left bool // out, for time
}

// all are the lists of mutants, one of each file.
func all() []mutant {
	return slices.Concat(
		mutants,
		verifyMutants,
		restoreMutants,
		soakMutants,
		robustMutants,
		enumerationMutants,
		simulationMutants,
	)
}

// atLeast is how many of the mutants that were asked for must be tried, however little time there is.
const atLeast = 40

func main() {
	run := flag.String("run", "", "only mutants whose name contains this")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "mutants at a time")
	within := flag.Duration("for", 0, "begin no further mutant after this time, which begins when the tests have run without one; 0: all of them")
	order := flag.String("order", "", "with -for: what decides which come first, such as a commit")
	flag.Parse()
	var chosen []mutant
	for _, m := range all() {
		if strings.Contains(m.name, *run) {
			chosen = append(chosen, m)
		}
	}
	if *within > 0 {
		shuffle(chosen, *order)
	}
	started := time.Now()
	plain, err := newBaseline(chosen, *run == "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	began := time.Now()
	fmt.Printf("the tests have run without a mutant, in %.0f s\n", began.Sub(started).Seconds())
	known := newTargets(defaultLimits)
	results := make([]result, len(chosen))
	slots := make(chan struct{}, *parallel)
	var wg sync.WaitGroup
	for i, m := range chosen {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if *within > 0 && time.Since(began) > *within {
				results[i].left = true
				return
			}
			if err := plain.sound(m); err != nil {
				results[i] = result{mutant: m, err: err}
			} else {
				results[i] = known.try(m, known.limits.tests)
			}
			if !errors.Is(results[i].err, errHung) {
				print(results[i])
			}
		})
	}
	wg.Wait()
	for i, m := range chosen {
		if errors.Is(results[i].err, errHung) {
			results[i] = known.tryAlone(m, results[i])
			print(results[i])
		}
	}
	if !conclude(chosen, results, time.Since(began)) {
		os.Exit(1)
	}
}

// conclude sums up, and says whether that is a proof.
func conclude(chosen []mutant, results []result, lasted time.Duration) bool {
	failed := 0
	var built, took time.Duration
	results = slices.DeleteFunc(results, func(r result) bool { return r.left })
	for _, r := range results {
		built += r.built
		took += r.took
		if r.err != nil {
			failed++
		}
	}
	fmt.Printf("%d mutants, %d caught, %d not, in %.0f s; of %.0f s for all, %.0f s were spent on building\n",
		len(results), len(results)-failed, failed, lasted.Seconds(), took.Seconds(), built.Seconds())
	if left := len(chosen) - len(results); left > 0 {
		fmt.Printf("%d others were left out for time: go run ./mutants tries all of them\n", left)
	}
	few := min(atLeast, len(chosen))
	switch {
	case len(chosen) == 0:
		fmt.Println("no mutant has such a name")
	case len(results) < few:
		fmt.Printf("fewer than %d is no proof: raise -for\n", few)
	default:
		return failed == 0
	}
	return false
}

// shuffle brings mutants into an order that the text decides.
func shuffle(list []mutant, text string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	rng := rand.New(rand.NewPCG(h.Sum64(), 0))
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

func print(r result) {
	if r.err != nil {
		fmt.Printf("NOT CAUGHT  %-50s %v\n", r.mutant.name, r.err)
		return
	}
	fmt.Printf("caught      %-50s %6.1f s, built in %4.1f s  %s\n", r.mutant.name, r.took.Seconds(), r.built.Seconds(), r.caughtBy)
}

// tryAlone decides about a mutant whose tests hung beside others. Nothing else may run.
func (ts *targets) tryAlone(m mutant, before result) result {
	r := ts.try(m, ts.limits.alone)
	if errors.Is(r.err, errHung) {
		r.caughtBy, r.err = "(hangs, also alone) "+r.hung, nil
	}
	r.built += before.built
	r.took += before.took
	return r
}

// try runs the tests of one mutant, each package's for no longer than limit.
func (ts *targets) try(m mutant, limit time.Duration) (r result) {
	r.mutant = m
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return result{mutant: m, err: err}
	}
	defer os.RemoveAll(dir)
	original, changed, err := m.write(dir)
	if err != nil {
		return result{mutant: m, err: err}
	}
	for _, name := range m.suites() {
		building := time.Now()
		t, binary, err := ts.build(name, dir, original, changed)
		r.built += time.Since(building)
		if err != nil {
			r.err = err
			return r
		}
		r.caughtBy, r.hung, r.err = t.run(binary, m.run, limit, ts.limits.grace)
		if !errors.Is(r.err, errSurvived) {
			return r
		}
	}
	return r
}

// build makes the test binary of a package with the changed file. Where compiling is not enough, and for what does not compile, it
// is the go command that builds and judges.
func (ts *targets) build(name, dir, original, changed string) (*target, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ts.limits.build)
	defer cancel()
	t, err := ts.load(ctx, name)
	if err != nil {
		return nil, "", err
	}
	binary, err := t.build(ctx, dir, original, changed)
	if err == nil || !errors.Is(err, errUnusual) && !errors.Is(err, errBuild) {
		return t, binary, err
	}
	overlay, err := writeOverlay(dir, original, changed)
	if err != nil {
		return nil, "", err
	}
	binary = filepath.Join(dir, "mutant.test")
	args := append([]string{"test", "-c", "-o", binary, "-overlay", overlay, "-vet=off", "-ldflags=-s -w"}, strings.Fields(name)...)
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return nil, "", fmt.Errorf("its build did not end within %v", ts.limits.build)
	case err != nil:
		return nil, "", fmt.Errorf("it does not compile:\n%s", out)
	}
	return t, binary, nil
}

// run runs the tests whose names match pattern.
func (t *target) run(binary, pattern string, limit, grace time.Duration) (caughtBy, hung string, _ error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit+grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.failfast", "-test.paniconexit0", "-test.timeout", limit.String(), "-test.run", pattern)
	cmd.Dir, cmd.WaitDelay = t.dir, time.Second
	out, err := cmd.CombinedOutput()
	return judge(out, err, ctx.Err())
}

// write puts the changed file into dir.
func (m *mutant) write(dir string) (original, changed string, _ error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", "", err
	}
	if n := bytes.Count(source, []byte(m.old)); n != 1 {
		return "", "", fmt.Errorf("%s holds the text to change %d times, not once: bring the mutant up to date", m.file, n)
	}
	if original, err = filepath.Abs(m.file); err != nil {
		return "", "", err
	}
	changed = filepath.Join(dir, filepath.Base(m.file))
	return original, changed, os.WriteFile(changed, m.apply(source), 0o600)
}

// apply changes the text and keeps the numbers of the lines behind it: they are part of what importers of a package see.
func (m *mutant) apply(source []byte) []byte {
	before, after, _ := bytes.Cut(source, []byte(m.old))
	from := bytes.LastIndexByte(before, '\n') + 1
	changed := slices.Concat(before, []byte(m.new), after)
	to := len(before) + len(m.new)
	if end := bytes.IndexByte(after, '\n'); end >= 0 {
		to += end
	} else {
		to = len(changed)
	}
	region := changed[from:to]
	more := strings.Count(m.new, "\n") - strings.Count(m.old, "\n")
	if more > 0 {
		region = flatten(changed, from, to)
		more = bytes.Count(region, []byte("\n")) - bytes.Count(before[from:], []byte("\n")) - strings.Count(m.old, "\n")
	}
	padding := bytes.Repeat([]byte("\n"), max(0, -more))
	return slices.Concat(changed[:from], region, padding, changed[to:])
}

// flatten writes the lines of a source file between two offsets as one line, with the semicolons that their ends stood for.
func flatten(source []byte, from, to int) []byte {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	var b bytes.Buffer
	for {
		pos, tok, literal := s.Scan()
		at := file.Offset(pos)
		if tok == token.EOF || at > to || at == to && literal != "\n" {
			return b.Bytes()
		}
		if at < from {
			continue
		}
		switch {
		case tok == token.SEMICOLON && at == to: // the end of the last line stands for itself
		case tok == token.SEMICOLON:
			b.WriteString("; ")
		case tok.IsLiteral() || tok.IsKeyword():
			b.WriteString(literal + " ")
		default:
			b.WriteString(tok.String() + " ")
		}
	}
}

// writeOverlay tells the go command to read the changed file in the place of the original.
func writeOverlay(dir, original, changed string) (string, error) {
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

var (
	errSurvived = errors.New("it survived")
	errHung     = errors.New("its tests hang")
)

// judge reads the output of the tests: a test has to fail, or to hang.
func judge(out []byte, err, expired error) (caughtBy, hung string, _ error) {
	text := string(out)
	switch {
	case strings.Contains(text, "no tests to run"):
		return "", "", errors.New("no test matches its pattern")
	case err == nil:
		return "", "", errSurvived
	}
	// A test that failed before another hung has caught the mutant.
	if m := failedTest.FindStringSubmatch(text); m != nil {
		return m[1], "", nil
	}
	if m := hungTest.FindStringSubmatch(text); m != nil {
		return "", m[1], errHung
	}
	if expired != nil {
		return "", "(its timeout did not end it)", errHung
	}
	if i := strings.Index(text, "panic:"); i >= 0 {
		line, _, _ := strings.Cut(text[i:], "\n")
		return line, "", nil
	}
	return "", "", fmt.Errorf("the tests failed without a failing test:\n%s", text)
}
