package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every mutant is a program that compiles: the types of its package are checked without building it.
func TestMutantsCompile(t *testing.T) {
	t.Chdir("..") // where the command runs
	c := newChecker(t)
	for _, m := range all() {
		source, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.check(m.file, strings.Replace(string(source), m.old, m.new, 1)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	source := "package oncemill\n\nfunc unused() { n := 1 }\n"
	if err := c.check("hand.go", source); err == nil {
		t.Error("a variable that is not used goes unnoticed")
	}
}

// checker knows the files of every package, and what each exports.
type checker struct {
	files   map[string][]string // by directory
	exports map[string]string   // by import path: the file
	fset    *token.FileSet
	parsed  map[string]*ast.File
	lookup  types.Importer
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	c := &checker{files: map[string][]string{}, exports: map[string]string{}, fset: token.NewFileSet(), parsed: map[string]*ast.File{}}
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Standard", "./...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c.exports[p.ImportPath] = p.Export
		if !p.Standard {
			c.files[p.Dir] = p.GoFiles
		}
	}
	c.lookup = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(c.exports[path]) })
	return c
}

// check looks at a package of which one file has another text.
func (c *checker) check(changed, text string) error {
	path, err := filepath.Abs(changed)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(c.fset, changed, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	files := []*ast.File{file}
	for _, name := range c.files[filepath.Dir(path)] {
		other := filepath.Join(filepath.Dir(path), name)
		if other == path {
			continue
		}
		if c.parsed[other] == nil {
			if c.parsed[other], err = parser.ParseFile(c.fset, other, nil, parser.SkipObjectResolution); err != nil {
				return err
			}
		}
		files = append(files, c.parsed[other])
	}
	config := types.Config{Importer: c.lookup}
	_, err = config.Check(filepath.Dir(path), c.fset, files, nil)
	return err
}
