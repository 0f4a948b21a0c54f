// Package benchmarks measures applications against a loop written by hand on the same client: see README.md for what each
// number means.
//
// A Suite (suite.go) starts every run as a child process (child.go), so that CPU time and peak memory are those of the
// application alone, and reads its output back through an independent client. Runs of the workloads are interleaved: what
// else happens on the machine meets all of them.
package benchmarks
