// Command testsummary shows what a run of the tests proved. It reads what go test -json writes:
//
//	go test -json ./... | go run ./internal/testsummary
//
// prints the usual line of each package and everything that failed tests printed, then the lines beginning with "proof: "
// that tests printed to their standard output (go test hides the output of packages that pass), and ends with status 1 if a test
// or a build failed, if nothing was tested, or if the input ended before its packages did.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	began := time.Now()
	s := newSummary(os.Stdout)
	err := s.read(os.Stdin)
	if !s.verdict(err, time.Since(began)) {
		os.Exit(1)
	}
	if err := s.writeError; err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
}
