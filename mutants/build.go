package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A mutant is one changed file, but the go command compiles every package above it anew, because the bytes of a package decide
// whether those that import it are up to date: of ten seconds of CPU that a mutant took, nine were that. What importers can
// see of a package, its export data, hardly ever changes with a mutant. So this builder compiles the changed package by itself,
// goes on to its importers only if its export data differ, and links. The linker refuses packages that do not fit together.
//
//	packages of the test, from the go command, compiled          once for each tested package
//	compile the changed package; for each importer above it, in order:
//	    compile it if the export data of something that it imports have changed
//	link; run

// target is a tested package with all that its test binary is made of.
type target struct {
	dir      string
	packages []*goPackage // those that others import come first; the last is the main package of the test
}

// goPackage is what "go list -test -deps -export" says of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	Name       string
	ForTest    string
	Export     string // the compiled package
	GoFiles    []string
	Imports    []string // with variants: "path [tested.test]"
	// These make the go command do more than compile.
	CgoFiles, SFiles, EmbedFiles []string
	Standard                     bool
	Module                       *struct{ GoVersion string }
}

// path is what source files call the package: without the name of the test that it was compiled for.
func (p *goPackage) path() string {
	path, _, _ := strings.Cut(p.ImportPath, " [")
	return path
}

// compilerEnv lets the compiler and the linker use memory instead of CPU: they run for a second.
var compilerEnv = append(os.Environ(), "GOGC=400")

// targets has each tested package once; the first mutant that needs one waits for the go command.
type targets struct {
	limits limits
	mu     sync.Mutex
	loaded map[string]func() (*target, error)
}

func newTargets(l limits) *targets {
	return &targets{limits: l, loaded: map[string]func() (*target, error){}}
}

func (ts *targets) load(ctx context.Context, name string) (*target, error) {
	ts.mu.Lock()
	load, known := ts.loaded[name]
	if !known {
		load = sync.OnceValues(func() (*target, error) { return loadTarget(ctx, name) })
		ts.loaded[name] = load
	}
	ts.mu.Unlock()
	return load()
}

func loadTarget(ctx context.Context, name string) (*target, error) {
	args := append([]string{"list", "-test", "-deps", "-export", "-json=ImportPath,Dir,Name,ForTest,Export,GoFiles,Imports,CgoFiles,SFiles,EmbedFiles,Standard,Module"}, strings.Fields(name)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Env = &stderr, compilerEnv
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", name, err, stderr.Bytes())
	}
	return parseTarget(out)
}

func parseTarget(out []byte) (*target, error) {
	t := &target{}
	variants := map[string]bool{} // packages that are compiled anew with their tests
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &goPackage{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		t.packages = append(t.packages, p)
		if p.ImportPath != p.path() {
			variants[p.path()] = true
		}
	}
	t.packages = slices.DeleteFunc(t.packages, func(p *goPackage) bool { return p.ImportPath == p.path() && variants[p.path()] })
	// The main package is last, but for tests without files of their own.
	i := slices.IndexFunc(t.packages, func(p *goPackage) bool { return p.Name == "main" && strings.HasSuffix(p.ImportPath, ".test") })
	if i < 0 {
		return nil, errors.New("the package has no tests")
	}
	main := t.packages[i]
	t.packages = append(slices.Delete(t.packages, i, i+1), main)
	tested := strings.TrimSuffix(main.ImportPath, ".test")
	for _, p := range t.packages {
		if p.path() == tested || p.path() == tested+"_test" {
			t.dir = p.Dir
		}
	}
	return t, nil
}

// build makes the test binary of t in dir, with the file original replaced by changed. It returns errUnusual if the go command
// would do more for a package than compile it.
func (t *target) build(ctx context.Context, dir, original, changed string) (binary string, _ error) {
	archives := map[string]string{} // by path
	for _, p := range t.packages {
		if p.Export != "" {
			archives[p.path()] = p.Export
		}
	}
	visible := map[string]bool{} // paths whose export data have changed
	found := false
	main := t.packages[len(t.packages)-1]
	for i, p := range t.packages {
		mutated := p.has(original)
		if !mutated && !slices.ContainsFunc(p.Imports, func(name string) bool { path, _, _ := strings.Cut(name, " ["); return visible[path] }) {
			continue
		}
		found = found || mutated
		out := filepath.Join(dir, fmt.Sprintf("%d.a", i))
		if err := p.compile(ctx, out, archives, original, changed); err != nil {
			return "", err
		}
		same, err := sameExports(p.Export, out)
		if err != nil {
			return "", err
		}
		archives[p.path()] = out
		visible[p.path()] = !same
	}
	if !found {
		return "", fmt.Errorf("the tests do not depend on %s", original)
	}
	binary = filepath.Join(dir, "mutant.test")
	config, err := importConfig(dir, "link", archives)
	if err != nil {
		return "", err
	}
	return binary, tool(ctx, dir, "link", "-o", binary, "-importcfg", config, "-s", "-w", "-buildmode=exe", "-X", "testing.testBinary=1", archives[main.path()])
}

// errUnusual says that only the go command can build a package.
var errUnusual = errors.New("embedded files, assembly or C")

func (p *goPackage) has(file string) bool {
	return filepath.Dir(file) == p.Dir && slices.Contains(p.GoFiles, filepath.Base(file))
}

func (p *goPackage) compile(ctx context.Context, out string, archives map[string]string, original, changed string) error {
	if p.Standard || len(p.CgoFiles)+len(p.SFiles)+len(p.EmbedFiles) > 0 {
		return fmt.Errorf("%s: %w", p.ImportPath, errUnusual)
	}
	config, err := importConfig(filepath.Dir(out), filepath.Base(out), archives)
	if err != nil {
		return err
	}
	path := p.path()
	if p.Name == "main" {
		path = "main"
	}
	args := []string{"-o", out, "-p", path, "-complete", "-nolocalimports", "-importcfg", config, "-pack", "-trimpath", changed + "=>" + original}
	if p.Module != nil && p.Module.GoVersion != "" {
		args = append(args, "-lang=go"+language(p.Module.GoVersion))
	}
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) { // as that of the generated main package
			name = filepath.Join(p.Dir, name)
		}
		if name == original {
			name = changed
		}
		args = append(args, name)
	}
	return tool(ctx, p.Dir, "compile", args...)
}

// language is the version of the language of a Go version: without the number of the release.
func language(version string) string {
	parts := strings.Split(version, ".")
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func importConfig(dir, name string, archives map[string]string) (string, error) {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(archives)) {
		fmt.Fprintf(&b, "packagefile %s=%s\n", path, archives[path])
	}
	file := filepath.Join(dir, name+".importcfg")
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// errBuild is a mutant that does not compile or link.
var errBuild = errors.New("it does not compile")

func tool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", name}, args...)...)
	cmd.Dir, cmd.Env = dir, compilerEnv
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %w\n%s", errBuild, name, err, out)
	}
	return nil
}

// sameExports compares what importers see of two compiled packages.
func sameExports(a, b string) (bool, error) {
	x, err := exportData(a)
	if err != nil {
		return false, err
	}
	y, err := exportData(b)
	return bytes.Equal(x, y), err
}

// exportData returns the export data of a compiled package: the first entry of the archive, after the lines that name the
// compiler and the build, between two marks.
func exportData(archive string) ([]byte, error) {
	b, err := os.ReadFile(archive)
	if err != nil {
		return nil, err
	}
	_, b, begins := bytes.Cut(b, []byte("\n$$B\n"))
	end := bytes.Index(b, []byte("\n$$\n"))
	if !begins || end < 0 {
		return nil, fmt.Errorf("%s is no compiled package with export data", archive)
	}
	return b[:end], nil
}
