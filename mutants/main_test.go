package main

import (
	"slices"
	"testing"
)

// Every mutant still fits the source: a full run takes minutes and would tell it late.
func TestMutantsFitTheSource(t *testing.T) {
	t.Chdir("..") // where the command runs
	names := map[string]bool{}
	for _, m := range slices.Concat(mutants, verifyMutants, restoreMutants) {
		if names[m.name] {
			t.Errorf("two mutants are named %q", m.name)
		}
		names[m.name] = true
		if m.old == m.new {
			t.Errorf("%s changes nothing", m.name)
		}
		if _, err := m.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
