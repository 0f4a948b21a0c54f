package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A test that fails anyhow catches nothing, and neither does a pattern that no test matches. So the tests run once with the source as it is,
// and each mutant must have one that passes then.
//
// For all mutants these are whole packages, by the command of the README: where that was just run, the go command has the results. For
// some they are the tests that their patterns name.

// baseline has what became of the tests of each suite.
type baseline map[string]ended

// ended is what became of each test: "pass", "fail" or "skip"; empty if it did not end. Others says why there are no tests.
type ended struct {
	tests  map[string]string
	others string
}

var errBaseline = errors.New("without the mutant")

// suites are the packages whose tests must notice a mutant, each with the flags before its name: "-tags=x ./a ./b" are "-tags=x ./a" and "./b".
func (m *mutant) suites() (all []string) {
	flags := ""
	for _, word := range strings.Fields(m.packages) {
		if strings.HasPrefix(word, "-") {
			flags += word + " "
			continue
		}
		all = append(all, flags+word)
		flags = ""
	}
	return all
}

// run is one command of a baseline: packages that are tested with the same flags.
type run struct {
	flags  string
	tests  string // a pattern; empty is all
	suites []string
}

// runs are the commands that cover mutants.
func runs(chosen []mutant, everything bool) (all []run) {
	patterns := map[string][]string{}
	var names []string
	for _, m := range chosen {
		for _, name := range m.suites() {
			if patterns[name] == nil {
				names = append(names, name)
			}
			if !slices.Contains(patterns[name], m.run) {
				patterns[name] = append(patterns[name], m.run)
			}
		}
	}
	for _, name := range names {
		words := strings.Fields(name)
		r := run{flags: strings.Join(words[:len(words)-1], " "), suites: []string{name}}
		if !everything || r.flags != "" {
			r.tests = strings.Join(patterns[name], "|")
		}
		if i := slices.IndexFunc(all, func(o run) bool { return o.flags == r.flags && o.tests == r.tests }); i >= 0 {
			all[i].suites = append(all[i].suites, name)
		} else {
			all = append(all, r)
		}
	}
	return all
}

// newBaseline runs the tests of mutants without them.
func newBaseline(chosen []mutant, everything bool) (baseline, error) {
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	b := baseline{}
	for _, r := range runs(chosen, everything) {
		if err := b.take(r, strings.TrimSpace(string(module))); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// baselineLimit bounds one command.
const baselineLimit = 30 * time.Minute

func (b baseline) take(r run, module string) error {
	ctx, cancel := context.WithTimeout(context.Background(), baselineLimit)
	defer cancel()
	args := append([]string{"test", "-json"}, strings.Fields(r.flags)...)
	if r.tests != "" {
		args = append(args, "-run", r.tests)
	}
	of := map[string]string{} // the suite of a package
	for _, name := range r.suites {
		words := strings.Fields(name)
		dir := words[len(words)-1]
		of[path.Join(module, dir)] = name
		b[name] = ended{tests: map[string]string{}}
		args = append(args, dir)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return fmt.Errorf("go %s did not end within %v", strings.Join(args, " "), baselineLimit)
	}
	others, read := b.read(out, of)
	if read != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), errors.Join(err, read), stderr.Bytes())
	}
	for _, name := range r.suites {
		e := b[name]
		e.others = others + stderr.String()
		b[name] = e
	}
	return nil
}

// read takes the events of tests, and returns what builds have said.
func (b baseline) read(out []byte, of map[string]string) (builds string, _ error) {
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var e struct{ Action, Package, Test, Output string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return builds, nil
		} else if err != nil {
			return builds, err
		}
		name, known := of[e.Package]
		switch {
		case e.Action == "build-output":
			builds += e.Output
		case !known || e.Test == "":
		case e.Action == "run":
			b[name].tests[e.Test] = ""
		case e.Action == "pass", e.Action == "fail", e.Action == "skip":
			b[name].tests[e.Test] = e.Action
		}
	}
}

// sound says why the tests of a mutant prove nothing; nil if they do.
func (b baseline) sound(m mutant) error {
	tests, err := parse(m.run)
	if err != nil {
		return err
	}
	for _, name := range m.suites() {
		if err := b[name].sound(tests); err != nil {
			return fmt.Errorf("%w: %s: %w", errBaseline, name, err)
		}
	}
	return nil
}

func (e ended) sound(named pattern) error {
	passed := false
	for test, end := range e.tests {
		switch fits := named.fits(test); {
		case fits && end == "pass":
			passed = true
		case end == "pass" || end == "skip":
		case fits, e.failsItself(test) && e.above(test, named):
			return fmt.Errorf("%s fails anyhow", test)
		}
	}
	if !passed {
		return fmt.Errorf("no test matches its pattern and passes\n%s", e.others)
	}
	return nil
}

// failsItself says that a test did not fail, or did not end, because of one below it.
func (e ended) failsItself(test string) bool {
	for other, end := range e.tests {
		if strings.HasPrefix(other, test+"/") && end != "pass" && end != "skip" {
			return false
		}
	}
	return true
}

// above says that a test has one below it that matches a pattern.
func (e ended) above(test string, named pattern) bool {
	for other := range e.tests {
		if strings.HasPrefix(other, test+"/") && named.fits(other) {
			return true
		}
	}
	return false
}

// pattern is what go test -run takes: alternatives, each with an expression for each part of a name.
type pattern [][]*regexp.Regexp

func parse(text string) (p pattern, _ error) {
	for _, alternative := range split(text, '|') {
		var parts []*regexp.Regexp
		for _, part := range split(alternative, '/') {
			expression, err := regexp.Compile(part)
			if err != nil {
				return nil, err
			}
			parts = append(parts, expression)
		}
		p = append(p, parts)
	}
	return p, nil
}

// fits says that a pattern names a test, or one above it.
func (p pattern) fits(test string) bool {
	names := strings.Split(test, "/")
	return slices.ContainsFunc(p, func(parts []*regexp.Regexp) bool {
		if len(parts) > len(names) {
			return false
		}
		for i, part := range parts {
			if !part.MatchString(names[i]) {
				return false
			}
		}
		return true
	})
}

// split cuts a pattern where a separator stands outside of brackets.
func split(text string, at byte) (parts []string) {
	depth, class, begin := 0, false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == at && depth == 0:
			parts, begin = append(parts, text[begin:i]), i+1
		}
	}
	return append(parts, text[begin:])
}
