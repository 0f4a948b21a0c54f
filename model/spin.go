package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed *.pml
var sources embed.FS

// root is the file that includes the others.
const root = "oncemill.pml"

// memoryLimit bounds one run, in megabytes; two run at a time.
const memoryLimit = 5000

// depthLimit is far above the longest behaviour; one that reaches it is an error of the run.
const depthLimit = 100_000

// result is what a run gave.
type result struct {
	report
	err   error // of the tools
	took  time.Duration
	trace string
}

// verdict says what was found, and whether it had to be.
func (res *result) verdict(r run) (string, bool) {
	switch {
	case res.err != nil:
		return res.err.Error(), false
	case r.wrong == "" && res.Violated != "":
		return "violated: " + res.Violated, false
	case r.wrong == "" && !res.Complete:
		return "not every state was looked at: " + res.Why, false
	case r.wrong == "":
		return "every state", true
	case res.Violated == "":
		return "no counterexample", false
	}
	return "refuted: " + res.Violated, true
}

// check generates, compiles and runs the verifier of a run.
func check(ctx context.Context, r run, trace bool) (res result) {
	began := time.Now()
	defer func() { res.took = time.Since(began) }()
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		return result{err: err}
	}
	defer func() { res.err = errors.Join(res.err, os.RemoveAll(dir)) }()
	if err := unpack(dir); err != nil {
		return result{err: err}
	}
	if _, err := tool(ctx, dir, "spin", append([]string{"-a"}, append(r.defines(), root)...)...); err != nil {
		return result{err: err}
	}
	// Partial order reduction has nothing to reduce in one process. NP adds the search for cycles.
	compile := []string{"-O" + r.optimised(), "-w", "-DNOREDUCE", fmt.Sprintf("-DMEMLIM=%d", memoryLimit), "-o", "pan", "pan.c"}
	search := []string{fmt.Sprintf("-m%d", depthLimit), fmt.Sprintf("-w%d", r.hashBits())}
	if r.progress {
		compile, search = append(compile, "-DNP"), append(search, "-l")
	} else {
		compile = append(compile, "-DSAFETY")
	}
	if _, err := tool(ctx, dir, "gcc", compile...); err != nil {
		return result{err: err}
	}
	out, err := tool(ctx, dir, filepath.Join(dir, "pan"), search...)
	if res.report, res.err = parseReport(out); res.err != nil {
		res.err = errors.Join(res.err, err)
		return res
	}
	if trace && res.Violated != "" {
		res.trace, res.err = replay(ctx, dir, r)
	}
	return res
}

func unpack(dir string) error {
	names, err := fs.Glob(sources, "*.pml")
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := sources.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program in a directory and returns what it said.
func tool(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %.500s", filepath.Base(name), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// replay tells the steps of the counterexample.
func replay(ctx context.Context, dir string, r run) (string, error) {
	out, err := tool(ctx, dir, "spin", append([]string{"-t", "-T", "-B"}, append(r.defines(), root)...)...)
	var steps []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "worker ") || strings.HasPrefix(line, "AN OPERATOR") || strings.HasPrefix(line, "THE CHANGELOG") {
			steps = append(steps, "    "+line)
		}
	}
	if len(steps) == 0 {
		return "", errors.Join(err, fmt.Errorf("the counterexample cannot be replayed: %.500s", out))
	}
	return strings.Join(steps, "\n"), nil // spin ends with an error, since it meets the violation
}
