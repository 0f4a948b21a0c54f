//go:build !race

package streamtest_test

// raceSample is the share of enumerations that runs: all of it.
const raceSample = 1
