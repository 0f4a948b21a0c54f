package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// proofMark begins the lines that are shown again at the end.
const proofMark = "proof: "

// event is one line of go test -json; see "go doc test2json" and "go help buildjson".
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	ImportPath  string // of build events
	FailedBuild string
}

// packageRun is a package whose tests have begun.
//
// Invariant: held has the output of the tests that are under way or have failed, and what no test printed, in order.
type packageRun struct {
	held   []event
	failed map[string]bool
	proofs []string
	// line is what a test has printed of a line that it has not ended: go test hands on what is there when a test ends.
	line map[string]string
}

type summary struct {
	out        io.Writer
	writeError error
	running    map[string]*packageRun
	builds     map[string][]string // what the compiler said, by import path
	passed     []string
	failed     []string
	tests      int
	failures   int
	proofs     map[string][]string
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, running: map[string]*packageRun{}, builds: map[string][]string{}, proofs: map[string][]string{}}
}

func (s *summary) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(s.out, format, args...); err != nil && s.writeError == nil {
		s.writeError = err
	}
}

// read takes all events. A line that is no event, as the go command writes some, is handed on as it is.
func (s *summary) read(in io.Reader) error {
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 {
			var e event
			if json.Unmarshal(trimmed, &e) != nil || e.Action == "" {
				s.printf("%s\n", trimmed)
			} else {
				s.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) take(e event) {
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
		return
	case "build-fail":
		for _, text := range s.builds[e.ImportPath] {
			s.printf("%s", text)
		}
		delete(s.builds, e.ImportPath)
		return
	}
	p := s.running[e.Package]
	if p == nil {
		p = &packageRun{failed: map[string]bool{}, line: map[string]string{}}
		s.running[e.Package] = p
	}
	switch {
	case e.Action == "output":
		p.output(e)
	case e.Test != "":
		s.endTest(p, e)
	default:
		s.endPackage(p, e)
	}
}

func (p *packageRun) output(e event) {
	p.held = append(p.held, e)
	whole, ended := strings.CutSuffix(p.line[e.Test]+e.Output, "\n")
	if !ended {
		p.line[e.Test] = whole
		return
	}
	delete(p.line, e.Test)
	if proof, found := strings.CutPrefix(whole, proofMark); found {
		p.proofs = append(p.proofs, proof)
	}
}

// endTest lets the output of a test go that did not fail.
func (s *summary) endTest(p *packageRun, e event) {
	switch e.Action {
	case "fail":
		p.failed[e.Test] = true
		s.tests++
		s.failures++
	case "pass", "skip":
		s.tests++
		p.held = slices.DeleteFunc(p.held, func(o event) bool { return o.Test == e.Test })
	}
}

func (s *summary) endPackage(p *packageRun, e event) {
	switch e.Action {
	case "pass", "skip":
		s.passed = append(s.passed, e.Package)
		s.proofs[e.Package] = p.proofs
		for _, o := range p.held {
			if o.Test == "" && (strings.HasPrefix(o.Output, "ok  \t") || strings.HasPrefix(o.Output, "?   \t")) {
				s.printf("%s", o.Output)
			}
		}
	case "fail":
		s.failed = append(s.failed, e.Package)
		s.show(p)
		if e.FailedBuild != "" && !slices.ContainsFunc(p.held, isVerdictOfPackage) {
			s.printf("FAIL\t%s [build failed]\n", e.Package)
		}
	default:
		return // "start"
	}
	delete(s.running, e.Package)
}

func isVerdictOfPackage(e event) bool {
	return e.Test == "" && strings.HasPrefix(e.Output, "FAIL\t")
}

// show prints what is held of a package that failed: failed tests, those that were under way, and what no test printed.
func (s *summary) show(p *packageRun) {
	for _, o := range p.held {
		// The frames of tests are noise: go test shows them with -v only.
		if !strings.HasPrefix(o.Output, "=== ") {
			s.printf("%s", o.Output)
		}
	}
}

// verdict prints the proofs and the last line, and says whether everything passed.
func (s *summary) verdict(readError error, took time.Duration) bool {
	var wrong []string
	if readError != nil {
		wrong = append(wrong, fmt.Sprintf("the input cannot be read: %v", readError))
	}
	for _, name := range slices.Sorted(maps.Keys(s.running)) {
		s.show(s.running[name])
		wrong = append(wrong, fmt.Sprintf("the input ended before %s did", name))
	}
	for _, name := range slices.Sorted(maps.Keys(s.builds)) {
		for _, text := range s.builds[name] {
			s.printf("%s", text)
		}
	}
	if len(s.passed)+len(s.failed) == 0 {
		wrong = append(wrong, "nothing was tested")
	}
	for _, name := range slices.Sorted(maps.Keys(s.proofs)) {
		for _, proof := range s.proofs[name] {
			s.printf("%s%s\n", proofMark, proof)
		}
	}
	for _, w := range wrong {
		s.printf("testsummary: %s\n", w)
	}
	word := "PASS"
	if len(wrong) > 0 || len(s.failed) > 0 {
		word = "FAIL"
	}
	s.printf("%s: %d packages, %d tests, %d failed", word, len(s.passed)+len(s.failed), s.tests, s.failures)
	if len(s.failed) > 0 {
		s.printf(", in %s", strings.Join(s.failed, " "))
	}
	s.printf(" (%.0f s)\n", took.Seconds())
	return word == "PASS"
}
