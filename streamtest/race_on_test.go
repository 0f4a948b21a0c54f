//go:build race

package streamtest_test

// raceSample is the share of enumerations that runs under the race detector: one case in so many. A race is one of code, not of cases, and
// each case takes ten times as long.
const raceSample = 4
